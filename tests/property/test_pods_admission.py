import contextlib
import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.errors import MalformedError
from bastide.pods.images import ImageReference
from bastide.pods.policy import AdmissionPolicy, ProvisionRule
from bastide.pods.resources import DIALECTS
from support.pods import EPC, PINNED, Tree, admitted

POLICY = AdmissionPolicy(provision=(ProvisionRule(namespace="default", service_account="default"),))
NAMES = st.sampled_from([dialect.resource for dialect in DIALECTS] + ["cpu", "sgx.intel.com/unknown"])
KEYS = st.sampled_from(
    [
        "metadata",
        "spec",
        "containers",
        "initContainers",
        "ephemeralContainers",
        "resources",
        "limits",
        "requests",
        "annotations",
        "tolerations",
        "volumes",
        "hostPath",
        "path",
        "volumeDevices",
        "devicePath",
        "image",
        "name",
        "nodeSelector",
        "affinity",
        "nodeAffinity",
        "volumeMounts",
        "mountPath",
        "os",
        "restartPolicy",
        "key",
        "sgx.intel.com/quote-provider",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ]
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("/dev") | st.just("10Mi")
)
TREES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS | NAMES, below, max_size=4), max_leaves=25
)
EPC_QUANTITIES = ((EPC, "10Mi"), ("alibabacloud.com/sgx_epc_MiB", 10), ("intel.com/sgx", "2560"), (EPC, 10485760))
DEVICES = (
    "sgx.intel.com/enclave",
    "sgx.intel.com/provision",
    "sgx.k8s.io/sgx",
    "bastide.dev/quote",
    "sgx.intel.com/qe",
)
AESMD_FOLDER: Tree = {"name": "aesmd", "hostPath": {"path": "/var/run/aesmd"}}
WHERE = st.sampled_from([("limits",), ("requests",), ("limits", "requests")])


@st.composite
def containers(draw: st.DrawFn) -> Tree:
    """A container that asks for 10 MiB of EPC in up to two names, for devices, or for an amount that is none."""
    lists: dict[str, Tree] = {"limits": {"cpu": "1"}, "requests": {}}
    asks = draw(st.lists(st.sampled_from(EPC_QUANTITIES), max_size=2))
    asks += [(name, 1) for name in draw(st.lists(st.sampled_from(DEVICES), max_size=1))]
    asks += draw(st.sampled_from([[], [], [], [(EPC, "x")], [(EPC, 0)], [("intel.com/sgx", None)]]))
    for name, quantity in asks:
        for where in draw(WHERE):
            lists[where][name] = quantity
    name = draw(st.sampled_from(["app", "aesmd", "second"]))
    mounts = draw(st.lists(st.sampled_from(["aesmd", "own"]), max_size=2, unique=True))
    mounted = {"volumeMounts": [{"name": one, "mountPath": f"/var/run/{one}"} for one in mounts]} if mounts else {}
    return {"name": name, "image": PINNED, "resources": lists, "own": draw(LEAVES), **mounted}


@st.composite
def pods(draw: st.DrawFn) -> Tree:
    annotation = draw(st.sampled_from([{}, {"sgx.intel.com/quote-provider": "aesmd"}, {"sgx.intel.com/epc": "1"}]))
    spec: Tree = {kind: draw(st.lists(containers(), max_size=2)) for kind in ("containers", "initContainers")}
    volumes = draw(st.sampled_from([[], [AESMD_FOLDER], [AESMD_FOLDER, {"name": "own", "emptyDir": {}}]]))
    if volumes:
        spec["volumes"] = volumes
    return {"metadata": {"annotations": annotation, "own": draw(LEAVES)}, "spec": {**spec, "own": draw(LEAVES)}}


def without_sgx(tree: object) -> object:
    """``tree`` without all that admission owns, and without what is empty, which it may have filled or emptied."""
    if isinstance(tree, list):
        return [without_sgx(item) for item in tree if not is_aesmd_by_host_path(item)]
    if not isinstance(tree, dict):
        return repr(tree)
    owned = {dialect.resource for dialect in DIALECTS} | {"tolerations"}
    below = {key: without_sgx(value) for key, value in tree.items() if key not in owned}
    return {key: value for key, value in below.items() if value not in ({}, [])}


def is_aesmd_by_host_path(item: object) -> bool:
    """A volume or mount that admission takes away."""
    return (
        isinstance(item, dict) and item.get("name") == "aesmd" and not item.keys().isdisjoint(("hostPath", "mountPath"))
    )


@settings(max_examples=150)
@given(tree=st.dictionaries(KEYS, TREES, max_size=4))
def test_any_tree_is_judged_or_malformed_and_never_touched(tree: Tree) -> None:
    before = copy.deepcopy(tree)
    with contextlib.suppress(MalformedError):
        admitted(tree, POLICY)
    assert repr(tree) == repr(before)


@settings(max_examples=150)
@given(tree=pods())
def test_admission_is_idempotent_and_loses_nothing_of_others(tree: Tree) -> None:
    first = admitted(tree, POLICY)
    assert without_sgx(first.pod) == without_sgx(tree)
    if first.allowed:
        second = admitted(first.pod, POLICY)
        assert second.allowed
        assert second.changes == ()


@settings(max_examples=150)
@given(tree=pods())
def test_admitted_limits_and_requests_are_equal_and_canonical(tree: Tree) -> None:
    admission = admitted(tree, POLICY)
    canonical = {dialect.canonical for dialect in DIALECTS}
    sgx = {dialect.resource for dialect in DIALECTS}
    spec = admission.pod["spec"]
    assert isinstance(spec, dict)
    for container in [*spec["containers"], *spec["initContainers"]] if admission.changes else []:
        lists = [container["resources"].get(where, {}) for where in ("limits", "requests")]
        asked = [{name for name, amount in one.items() if name in sgx and amount != 0} for one in lists]
        assert asked[0] == asked[1] <= canonical
        assert EPC not in asked[0] or "sgx.intel.com/enclave" in asked[0]


@settings(max_examples=150)
@given(text=st.text(max_size=40) | st.from_regex(r"[a-zA-Z0-9./:@_-]{1,40}", fullmatch=True))
def test_image_references_parse_to_what_they_build_or_are_malformed(text: str) -> None:
    try:
        image = ImageReference.parse(text)
    except MalformedError:
        return
    assert ImageReference.parse(image.build()) == image
