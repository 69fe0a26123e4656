import pytest

from bastide.pods.policy import AdmissionPolicy, PrivilegedPods, ProvisionRule
from bastide.pods.tree import Path, at
from bastide.units import GIB, MIB, Bytes
from support.pods import EPC, PINNED, Tree, admitted, codes, container, pod

SGX: Tree = {EPC: "10Mi"}
SPEC_CONTAINER: Path = ("spec", "containers", 0)


def host_path(path: str) -> Tree:
    return {"volumes": [{"name": "v", "hostPath": {"path": path}}]}


def affinity(key: str, operator: str, values: list[str]) -> Tree:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    }


def test_has_nothing_to_say_about_a_good_pod() -> None:
    admission = admitted(pod(container(SGX)))
    assert admission.allowed
    assert admission.findings == ()


REFUSED: dict[str, tuple[Tree, str, Path]] = {
    "limits differ from requests": (
        pod(container(resources={"limits": {EPC: "10Mi"}, "requests": {EPC: "6Mi"}})),
        "resources.limits-differ",
        (*SPEC_CONTAINER, "resources", "requests", EPC),
    ),
    "dialects differ": (
        pod(container({EPC: "10Mi", "kubernetes.azure.com/sgx_epc_mem_in_MiB": 11})),
        "epc.dialects-differ",
        (*SPEC_CONTAINER, "resources"),
    ),
    "unparsable quantity": (
        pod(container({EPC: "ten"})),
        "epc.quantity",
        (*SPEC_CONTAINER, "resources", "limits", EPC),
    ),
    "bytes where MiB were meant": (
        pod(container({EPC: 512})),
        "epc.unit-slip",
        (*SPEC_CONTAINER, "resources", "limits", EPC),
    ),
    "an unknown SGX resource": (
        pod(container({"sgx.intel.com/epcs": 1})),
        "resources.unknown",
        (*SPEC_CONTAINER, "resources", "limits", "sgx.intel.com/epcs"),
    ),
    "Windows by os": (pod(container(SGX), os={"name": "windows"}), "os.windows", ("spec", "os", "name")),
    "Windows by nodeSelector": (
        pod(container(SGX), nodeSelector={"kubernetes.io/os": "windows"}),
        "os.windows",
        ("spec", "nodeSelector", "kubernetes.io/os"),
    ),
    "Windows by the old label": (
        pod(container(SGX), nodeSelector={"beta.kubernetes.io/os": "windows"}),
        "os.windows",
        ("spec", "nodeSelector", "beta.kubernetes.io/os"),
    ),
    "Windows by affinity": (
        pod(container(SGX), **affinity("kubernetes.io/os", "In", ["windows"])),
        "os.windows",
        (
            *("spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"),
            *("nodeSelectorTerms", 0, "matchExpressions", 0),
        ),
    ),
    "provision": (
        pod(container({**SGX, "sgx.intel.com/provision": 1})),
        "provision.denied",
        (*SPEC_CONTAINER, "resources", "limits", "sgx.intel.com/provision"),
    ),
    "provision by Intel's quoting resource": (
        pod(container({"sgx.intel.com/qe": 1})),
        "provision.denied",
        (*SPEC_CONTAINER, "resources", "limits", "sgx.intel.com/qe"),
    ),
    "provision by Intel's registration resource": (
        pod(container({"sgx.intel.com/registration": 1})),
        "provision.denied",
        (*SPEC_CONTAINER, "resources", "limits", "sgx.intel.com/registration"),
    ),
    "provision by annotation": (
        pod(container(SGX), annotations={"sgx.intel.com/quote-provider": "app"}),
        "provision.denied",
        ("metadata", "annotations", "sgx.intel.com/quote-provider"),
    ),
    "provision for a quoting daemon in the pod": (
        pod(container(SGX, name="aesmd"), annotations={"sgx.intel.com/quote-provider": "aesmd"}),
        "provision.denied",
        ("metadata", "annotations", "sgx.intel.com/quote-provider"),
    ),
    "quote provider that is no container": (
        pod(container(SGX), annotations={"sgx.intel.com/quote-provider": "appp"}),
        "quote-provider.unknown",
        ("metadata", "annotations", "sgx.intel.com/quote-provider"),
    ),
    "device by hostPath": (
        pod(container(SGX), **host_path("/dev/sgx_enclave")),
        "hostpath.guarded",
        ("spec", "volumes", 0, "hostPath", "path"),
    ),
    "device by hostPath in a pod without SGX": (
        pod(container(), **host_path("/dev")),
        "hostpath.guarded",
        ("spec", "volumes", 0, "hostPath", "path"),
    ),
    "quoting socket by hostPath": (
        pod(container(SGX), **host_path("/var/run/aesmd/")),
        "hostpath.guarded",
        ("spec", "volumes", 0, "hostPath", "path"),
    ),
    "hostPath with dots over a link": (
        pod(container(), **host_path("/var/run/../dev/sgx_enclave")),
        "hostpath.dot-dot",
        ("spec", "volumes", 0, "hostPath", "path"),
    ),
    "block device in a device's place": (
        pod(container(SGX, volumeDevices=[{"name": "v", "devicePath": "/dev/sgx"}])),
        "volume-device.guarded",
        (*SPEC_CONTAINER, "volumeDevices", 0, "devicePath"),
    ),
    "no containers": (pod(), "pod.no-container", ("spec", "containers")),
    "two containers of one name": (
        pod(container(SGX), initContainers=[container()]),
        "container.duplicate-name",
        (*SPEC_CONTAINER, "name"),
    ),
    "image with a space": (
        pod(container(SGX, image="oeciteam/sgx-test: 1.0")),
        "image.space",
        (*SPEC_CONTAINER, "image"),
    ),
    "image missing": (pod(container(SGX, image=None)), "image.missing", (*SPEC_CONTAINER, "image")),
    "image of an init container": (
        pod(container(SGX), initContainers=[container(name="init", image="A B")]),
        "image.space",
        ("spec", "initContainers", 0, "image"),
    ),
    "more EPC than any declared class": (
        pod(container({EPC: "17Gi"})),
        "epc.exceeds-classes",
        SPEC_CONTAINER,
    ),
    "more EPC than any declared class, in two containers": (
        pod(container({EPC: "9Gi"}), container({EPC: "9Gi"}, name="second")),
        "epc.exceeds-classes",
        SPEC_CONTAINER,
    ),
    "SGX in an ephemeral container": (
        pod(container(), ephemeralContainers=[container(SGX, name="debug")]),
        "resources.ephemeral",
        ("spec", "ephemeralContainers", 0, "resources", "limits", EPC),
    ),
    "SGX for the pod as a whole": (
        pod(container(), resources={"limits": SGX}),
        "resources.pod-level",
        ("spec", "resources", "limits", EPC),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    tree, code, path = REFUSED[name]
    admission = admitted(tree)
    assert not admission.allowed
    assert admission.changes == ()
    assert admission.pod == tree
    first = admission.findings[0]
    assert (first.severity.value, first.code, first.path) == ("refuse", code, path)
    assert first.message
    assert first.hint


WARNED: dict[str, tuple[Tree, str, Path]] = {
    "mutable tag": (
        pod(container(SGX, image="registry.example/demo:1")),
        "image.mutable-tag",
        (*SPEC_CONTAINER, "image"),
    ),
    "no tag": (
        pod(container(SGX, image="registry.example/demo")),
        "image.mutable-tag",
        (*SPEC_CONTAINER, "image"),
    ),
    "public image without pull secret": (
        pod(container(SGX, image="oeciteam/sgx-test@sha256:" + "0" * 64)),
        "image.public-without-secret",
        (*SPEC_CONTAINER, "image"),
    ),
    "device count of SCONE's plugin": (
        pod(container({"sgx.k8s.io/sgx": 1})),
        "enclave.device-count",
        (*SPEC_CONTAINER, "resources", "limits", "sgx.k8s.io/sgx"),
    ),
    "enclave device without EPC": (
        pod(container({"sgx.intel.com/enclave": 1})),
        "enclave.without-epc",
        (*SPEC_CONTAINER, "resources", "limits", "sgx.intel.com/enclave"),
    ),
    "toleration of another plugin's taint": (
        pod(container(SGX), tolerations=[{"key": "alibabacloud.com/sgx_epc_MiB", "operator": "Exists"}]),
        "toleration.foreign-key",
        ("spec", "tolerations", 0),
    ),
    "toleration without an ask": (
        pod(container(), tolerations=[{"key": EPC, "operator": "Exists"}]),
        "toleration.without-ask",
        ("spec", "tolerations", 0),
    ),
    "label of another installation": (
        pod(container(SGX), nodeSelector={"sgx.intel.com/capable": "true"}),
        "selector.foreign-label",
        ("spec", "nodeSelector", "sgx.intel.com/capable"),
    ),
    "the device plugin folder by hostPath": (
        pod(container(), **host_path("/var/lib/kubelet//device-plugins/")),
        "hostpath.plugin-folder",
        ("spec", "volumes", 0, "hostPath", "path"),
    ),
    "a socket in the device plugin folder": (
        pod(container(), **host_path("/var/lib/kubelet/device-plugins/kubelet.sock")),
        "hostpath.plugin-folder",
        ("spec", "volumes", 0, "hostPath", "path"),
    ),
    "a folder above the device plugin folder": (
        pod(container(), **host_path("/var/lib")),
        "hostpath.plugin-folder",
        ("spec", "volumes", 0, "hostPath", "path"),
    ),
    "privileged": (
        pod(container(SGX, securityContext={"privileged": True})),
        "container.privileged",
        (*SPEC_CONTAINER, "securityContext", "privileged"),
    ),
    "quote provider without an enclave": (
        pod(container(), annotations={"sgx.intel.com/quote-provider": "app"}),
        "quote-provider.no-enclave",
        ("metadata", "annotations", "sgx.intel.com/quote-provider"),
    ),
    "quotes out of process without a socket": (
        pod(container(SGX, env=[{"name": "MODE", "value": "a"}, {"name": "SGX_AESM_ADDR", "value": "1"}])),
        "quote-provider.missing",
        (*SPEC_CONTAINER, "env", 1, "name"),
    ),
    "quoting service without an enclave": (
        pod(container(), annotations={"sgx.intel.com/quote-provider": "aesmd"}),
        "quote-provider.no-enclave",
        ("metadata", "annotations", "sgx.intel.com/quote-provider"),
    ),
}


_OUT_OF_PROCESS = {"env": [{"name": "SGX_AESM_ADDR", "value": "1"}]}


@pytest.mark.parametrize(
    "tree",
    [
        pod(container(SGX, **_OUT_OF_PROCESS), annotations={"sgx.intel.com/quote-provider": "aesmd"}),
        pod(container({**SGX, "bastide.dev/quote": 1}, **_OUT_OF_PROCESS)),
        pod(
            container(SGX, **_OUT_OF_PROCESS, volumeMounts=[{"name": "own", "mountPath": "/var/run/aesmd/"}]),
            volumes=[{"name": "own", "emptyDir": {}}],
        ),
        pod(container(**_OUT_OF_PROCESS)),
    ],
    ids=["annotated", "resource asked for", "socket of a sidecar", "no enclave"],
)
def test_quotes_out_of_process_with_a_socket_draw_nothing(tree: dict[str, object]) -> None:
    assert "quote-provider.missing" not in {finding.code for finding in admitted(tree).findings}


@pytest.mark.parametrize("name", WARNED)
def test_warns(name: str) -> None:
    tree, code, path = WARNED[name]
    admission = admitted(tree)
    assert admission.allowed
    assert [(finding.severity.value, finding.code, finding.path) for finding in admission.findings] == [
        ("warn", code, path)
    ]
    assert at(tree, path) is not None
    assert admission.findings[0].hint


QUIET: dict[str, Tree] = {
    "a Windows pod without SGX": pod(container(), os={"name": "windows"}),
    "a choice of systems": pod(container(SGX), **affinity("kubernetes.io/os", "In", ["linux", "windows"])),
    "anything but Windows": pod(container(SGX), **affinity("kubernetes.io/os", "NotIn", ["windows"])),
    "a public image with pull secret": pod(
        container(SGX, image="a/b@sha256:" + "0" * 64), imagePullSecrets=[{"name": "s"}]
    ),
    "a host path elsewhere": pod(container(SGX), **host_path("/data")),
    "a neighbour of the device plugin folder": pod(container(), **host_path("/var/lib/kubelet/device-plugins-old")),
    "a block device elsewhere": pod(container(SGX, volumeDevices=[{"name": "v", "devicePath": "/dev/xvda"}])),
    "a label of another installation without SGX": pod(container(), nodeSelector={"agentpool": "a"}),
    "a plain toleration": pod(container(), tolerations=[{"key": "gpu", "operator": "Exists"}]),
}


@pytest.mark.parametrize("name", QUIET)
def test_says_nothing_about(name: str) -> None:
    assert codes(admitted(QUIET[name])) == []


def test_puts_refusals_before_warnings() -> None:
    tree = pod(container({EPC: 512}, image="ubuntu:20.04", securityContext={"privileged": True}))
    assert [severity for severity, _ in codes(admitted(tree))] == ["refuse", "warn", "warn", "warn"]


def test_warns_of_resources_that_only_intels_plugin_offers_where_policy_allows_them() -> None:
    policy = AdmissionPolicy(provision=(ProvisionRule(namespace="default", service_account="default"),))
    admission = admitted(pod(container({**SGX, "sgx.intel.com/qe": 1})), policy)
    assert admission.allowed
    assert codes(admission) == [("warn", "resource.not-offered")]


@pytest.mark.parametrize("account_field", ["serviceAccountName", "serviceAccount"])
def test_provision_is_allowed_by_namespace_service_account_and_image(account_field: str) -> None:
    tree = pod(container({**SGX, "sgx.intel.com/provision": 1}), **{account_field: "quoter"})
    rule = ProvisionRule(namespace="ns", service_account="quoter")
    policy = AdmissionPolicy(provision=(rule,))
    assert admitted(tree, policy, namespace="ns").allowed
    assert not admitted(tree, policy, namespace="other").allowed
    assert not admitted(pod(container({**SGX, "sgx.intel.com/provision": 1})), policy, namespace="ns").allowed


def test_an_unreadable_image_is_covered_by_no_image_rule() -> None:
    tree = pod(container({**SGX, "sgx.intel.com/provision": 1}, image="A B"))
    assert ("refuse", "provision.denied") in codes(admitted(tree))
    assert ("refuse", "image.space") in codes(admitted(tree))


def test_epc_larger_than_any_present_node_is_only_a_warning() -> None:
    admission = admitted(pod(container({EPC: "10Gi"})), present=(Bytes(56 * MIB),))
    assert admission.allowed
    assert codes(admission) == [("warn", "epc.exceeds-present")]


def test_a_present_node_counts_like_a_declared_class() -> None:
    admission = admitted(pod(container({EPC: "20Gi"})), present=(Bytes(32 * GIB),))
    assert codes(admission) == []


def test_without_declared_classes_epc_is_measured_by_present_nodes_only() -> None:
    admission = admitted(pod(container({EPC: "10Gi"})), declared={}, present=())
    assert admission.allowed
    assert codes(admission) == [("warn", "epc.exceeds-present")]


def test_init_containers_and_main_containers_do_not_add_up() -> None:
    tree = pod(container({EPC: "9Gi"}), initContainers=[container({EPC: "9Gi"}, name="init")])
    assert codes(admitted(tree)) == []


def test_policy_says_which_registries_are_public() -> None:
    tree = pod(container(SGX, image=PINNED))
    policy = AdmissionPolicy(public_registries=("registry.example",))
    assert codes(admitted(tree, policy)) == [("warn", "image.public-without-secret")]


PAST_THE_CHECKS = {
    "host path": pod(container(), **host_path("/dev/sgx_enclave")),
    "block device": pod(container(volumeDevices=[{"name": "v", "devicePath": "/dev/sgx_enclave"}])),
    "privileged": pod(container(securityContext={"privileged": True})),
    "plugin folder": pod(container(), **host_path("/var/lib/kubelet/device-plugins")),
    "toleration": pod(container(), tolerations=[{"key": EPC, "operator": "Exists"}]),
}


@pytest.mark.parametrize("tree", PAST_THE_CHECKS.values(), ids=PAST_THE_CHECKS)
def test_equipment_in_an_exempt_namespace_reaches_sgx_without_asking(tree: Tree) -> None:
    policy = AdmissionPolicy(exempt_namespaces=("equipment",))
    assert codes(admitted(tree, policy, namespace="equipment")) == []
    assert codes(admitted(tree, policy, namespace="equipment-evil")) != []


def test_an_exempt_namespace_may_not_provision_by_itself() -> None:
    tree = pod(container({**SGX, "sgx.intel.com/provision": 1}))
    policy = AdmissionPolicy(exempt_namespaces=("equipment",))
    assert codes(admitted(tree, policy, namespace="equipment")) == [("refuse", "provision.denied")]


def test_policy_refuses_privileged_pods() -> None:
    tree = pod(container(securityContext={"privileged": True}))
    assert codes(admitted(tree)) == [("warn", "container.privileged")]
    policy = AdmissionPolicy(privileged_pods=PrivilegedPods.REFUSE)
    assert codes(admitted(tree, policy)) == [("refuse", "container.privileged")]
