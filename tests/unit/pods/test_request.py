import pytest

from bastide.pods.request import QUOTE_PROVIDER, ContainerAsk, Role, SgxRequest, sgx_request
from bastide.units import MIB

EPC = "sgx.intel.com/epc"
AZURE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
ENCLAVE = "sgx.intel.com/enclave"

Tree = dict[str, object]


def container(name: str = "main", limits: object = None, requests: object = None, **fields: object) -> Tree:
    resources = {key: value for key, value in (("limits", limits), ("requests", requests)) if value is not None}
    return {"name": name, "resources": resources, **fields}


def request(*containers: Tree, annotations: object = None, **spec: object) -> SgxRequest:
    return sgx_request({"metadata": {"annotations": annotations}, "spec": {"containers": list(containers), **spec}})


def only(*containers: Tree) -> ContainerAsk:
    seen = request(*containers)
    assert seen.problems == ()
    (ask,) = seen.containers
    return ask


def codes(seen: SgxRequest) -> list[str]:
    return [problem.code for problem in seen.problems]


def mib(count: int) -> Tree:
    return {EPC: f"{count}Mi"}


@pytest.mark.parametrize(
    ("limits", "requests"),
    [
        ({EPC: "10Mi"}, None),
        (None, {EPC: "10Mi"}),
        ({EPC: "10Mi"}, {EPC: 10485760}),
        ({AZURE: 10}, {AZURE: "10"}),
        ({AZURE: 10}, {EPC: "10Mi"}),
        ({EPC: "10Mi", AZURE: 10}, None),
        ({"intel.com/sgx": 2560}, None),
    ],
)
def test_reads_the_same_amount_in_any_dialect_from_limits_or_requests(limits: object, requests: object) -> None:
    assert only(container(limits=limits, requests=requests)).epc == 10 * MIB


def test_reads_device_counts() -> None:
    names = ("enclave", "provision", "qe", "registration")
    ask = only(
        container(limits={f"sgx.intel.com/{name}": 1 for name in names} | {"bastide.dev/quote": "1", "cpu": "2"})
    )

    assert (ask.enclave, ask.provision, ask.qe, ask.registration, ask.quote, ask.epc) == (1, 1, 1, 1, 1, 0)
    assert len(ask.asks) == 5


def test_counts_the_scone_device_as_an_enclave_without_epc() -> None:
    ask = only(container(limits={"sgx.k8s.io/sgx": 1}))

    assert (ask.enclave, ask.epc, ask.wants_sgx) == (1, 0, True)


def test_keeps_the_quantity_and_the_place_of_every_ask() -> None:
    (ask,) = only(container(limits={AZURE: "10"})).asks

    assert (ask.resource, ask.where, ask.quantity) == (AZURE, "limits", "10")
    assert ask.path == ("spec", "containers", 0, "resources", "limits", AZURE)


def test_a_plain_pod_asks_for_nothing() -> None:
    seen = request(container(limits={"cpu": "1"}))

    assert not seen.wants_sgx
    assert (seen.epc, seen.quote_provider, seen.volumes, seen.problems) == (0, None, (), ())


def test_asking_for_zero_is_asking_for_nothing() -> None:
    assert not only(container(limits={EPC: 0, ENCLAVE: 0})).wants_sgx


def test_tells_the_roles_of_containers_apart() -> None:
    seen = request(
        container("main", mib(1), securityContext={"privileged": True}),
        initContainers=[container("init", mib(2)), container("side", mib(3), restartPolicy="Always")],
        ephemeralContainers=[container("debug")],
    )

    assert [(ask.name, ask.role, ask.epc // MIB, ask.privileged) for ask in seen.containers] == [
        ("init", Role.INIT, 2, False),
        ("side", Role.SIDECAR, 3, False),
        ("main", Role.MAIN, 1, True),
        ("debug", Role.EPHEMERAL, 0, False),
    ]
    assert seen.containers[1].path == ("spec", "initContainers", 1)


@pytest.mark.parametrize(
    ("init", "main", "total"),
    [
        ([], [1, 2], 3),
        (["5"], [1, 2], 5),
        (["2", "2"], [1, 2], 3),
        (["2+"], [1], 3),
        (["2+", "4"], [1], 6),
        (["4", "2+"], [1], 4),
        (["4", "2+", "3+"], [1], 6),
    ],
)
def test_counts_the_epc_of_a_pod_as_the_scheduler_does(init: list[str], main: list[int], total: int) -> None:
    """A plus marks a sidecar; numbers are MiB."""
    init_containers = [
        container(f"i{index}", mib(int(size.rstrip("+"))), restartPolicy="Always" if size.endswith("+") else None)
        for index, size in enumerate(init)
    ]
    main_containers = [container(f"m{index}", mib(size)) for index, size in enumerate(main)]
    seen = request(*main_containers, initContainers=init_containers)

    assert seen.epc == total * MIB


def test_refuses_a_request_that_differs_from_its_limit() -> None:
    seen = request(container(limits={EPC: "10Gi", ENCLAVE: 2}, requests={EPC: "6Gi", ENCLAVE: 1}))

    assert codes(seen) == ["resources.limits-differ"] * 2
    assert seen.problems[0].path == ("spec", "containers", 0, "resources", "requests", EPC)


def test_refuses_different_amounts_in_two_dialects() -> None:
    assert codes(request(container(limits={EPC: "10Mi", AZURE: 20}))) == ["epc.dialects-differ"]


def test_names_an_unparsable_quantity_at_its_field() -> None:
    (problem,) = request(container(limits={EPC: 512})).problems

    assert problem.code == "epc.unit-slip"
    assert problem.path[-1] == EPC
    assert "512Mi" in problem.hint


def test_names_the_resource_that_a_misspelt_one_is_like() -> None:
    (problem,) = request(container(limits={"sgx.intel.com/ecp": "10Mi"})).problems

    assert problem.code == "resources.unknown"
    assert problem.hint == f"write {EPC}"


def test_refuses_sgx_resources_of_ephemeral_containers() -> None:
    assert codes(request(container(), ephemeralContainers=[container("debug", mib(1))])) == ["resources.ephemeral"]


def test_refuses_sgx_resources_for_a_pod_as_a_whole() -> None:
    assert codes(request(container(), resources={"limits": {EPC: "1Mi", "cpu": 1}})) == ["resources.pod-level"]


@pytest.mark.parametrize("provider", ["aesmd", "main"])
def test_reads_the_quote_provider(provider: str) -> None:
    seen = request(container(), annotations={QUOTE_PROVIDER: provider})

    assert seen.quote_provider == provider
    assert seen.problems == ()


def test_refuses_a_quote_provider_that_is_no_container() -> None:
    (problem,) = request(container(), annotations={QUOTE_PROVIDER: "other"}).problems

    assert problem.code == "quote-provider.unknown"
    assert problem.path == ("metadata", "annotations", QUOTE_PROVIDER)
    assert "main" in problem.message


def test_finds_host_volumes_that_lead_to_devices_or_the_quoting_daemon() -> None:
    volumes = [
        {"name": "dev", "hostPath": {"path": "/dev/sgx/", "type": "Directory"}},
        {"name": "aesm", "hostPath": {"path": "/var/run/aesmd/aesm.socket"}},
        {"name": "logs", "hostPath": {"path": "/var/log"}},
        {"name": "cache", "emptyDir": {}},
    ]
    seen = request(container(), volumes=volumes)

    assert [(found.name, found.host_path, found.host_path_type, found.is_aesmd) for found in seen.volumes] == [
        ("dev", "/dev/sgx/", "Directory", False),
        ("aesm", "/var/run/aesmd/aesm.socket", None, True),
    ]
    assert seen.volumes[1].path == ("spec", "volumes", 1)


@pytest.mark.parametrize(
    ("pod", "path"),
    [
        ({"spec": []}, ("spec",)),
        ({"metadata": "a"}, ("metadata",)),
        ({"metadata": {"annotations": []}}, ("metadata", "annotations")),
        ({"metadata": {"annotations": {QUOTE_PROVIDER: 1}}}, ("metadata", "annotations", QUOTE_PROVIDER)),
        ({"spec": {"containers": {}}}, ("spec", "containers")),
        ({"spec": {"volumes": ["a"]}}, ("spec", "volumes", 0)),
        ({"spec": {"volumes": [{"hostPath": "/dev"}]}}, ("spec", "volumes", 0, "hostPath")),
        ({"spec": {"containers": [{"name": {"NAME": None}}]}}, ("spec", "containers", 0, "name")),
        ({"spec": {"containers": [{"name": "a", "resources": 1}]}}, ("spec", "containers", 0, "resources")),
        (
            {"spec": {"containers": [{"name": "a", "resources": {"limits": [EPC]}}]}},
            ("spec", "containers", 0, "resources", "limits"),
        ),
    ],
)
def test_reports_a_wrong_shape_once_at_its_field(pod: Tree, path: tuple[str | int, ...]) -> None:
    assert [(problem.code, problem.path) for problem in sgx_request(pod).problems] == [("pod.shape", path)]
