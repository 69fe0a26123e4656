"""Reading any tree as a pod gives requirements or a clear refusal, nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from bastide.cluster.placement import Node, Pod, Requirements, place
from bastide.errors import MalformedError

FIELDS = [
    "spec",
    "containers",
    "initContainers",
    "resources",
    "limits",
    "requests",
    "cpu",
    "memory",
    "overhead",
    "nodeSelector",
    "tolerations",
    "key",
    "operator",
    "value",
    "effect",
    "affinity",
    "nodeAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "nodeSelectorTerms",
    "matchExpressions",
    "matchFields",
    "values",
    "nodeName",
    "volumes",
    "ports",
    "hostPort",
    "hostNetwork",
    "sgx.intel.com/epc",
]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["Exists", "In", "10Mi", "", "1"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=20,
)
SPECS = st.dictionaries(st.sampled_from(FIELDS), TREES, max_size=6)


@given(spec=SPECS)
def test_any_tree_gives_requirements_or_a_refusal_and_requirements_can_be_placed(spec):
    ask, refusal = parsed({"spec": spec})
    if refusal is not None:
        assert refusal.code.startswith("cluster.")
        assert refusal.hint
        return
    (placement,) = place([Pod(name="p", requirements=ask)], [Node(name="n", allocatable={"pods": 1})])
    assert placement.node == "n" or placement.reasons[0].text


def parsed(tree):
    try:
        return Requirements.parse(tree), None
    except MalformedError as refusal:
        return Requirements(), refusal
