"""A manifest with anything changed for anything is placed, or refused: nothing in it reaches an internal fault."""

import copy
import json
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.pods.tree import Path, at
from support.commands import bastide

NODE_TERMS = [{"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}]
POD: dict[str, object] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "app", "namespace": "ns", "annotations": {"sgx.intel.com/quote-provider": "aesmd"}},
    "spec": {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": NODE_TERMS}}
        },
        "volumes": [{"name": "v", "hostPath": {"path": "/var/log"}}],
        "initContainers": [{"name": "first", "image": "registry.example/a:1", "restartPolicy": "Always"}],
        "containers": [
            {
                "name": "main",
                "image": "registry.example/b:1",
                "args": ["1"],
                "ports": [{"containerPort": 1}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "securityContext": {"privileged": False},
                "resources": {"limits": {"sgx.intel.com/epc": "10Mi", "cpu": "1"}, "requests": {"cpu": "100m"}},
            }
        ],
    },
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {"replicas": 2, "template": {"metadata": {}, "spec": POD["spec"]}},
}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
words = st.sampled_from(["Always", "10Mi", "-1Gi", "1e999", "aesmd", "/dev/sgx/../x", "\x1b[2J", "[red]", "9" * 70])
junk = st.recursive(
    scalars | words, lambda part: st.lists(part, max_size=2) | st.dictionaries(st.text(max_size=6), part, max_size=2)
)


def paths(tree: object, path: Path = ()) -> Iterator[Path]:
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, value in steps:
        yield (*path, step)
        yield from paths(value, (*path, step))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_manifest_ends_in_an_answer(data: st.DataObject) -> None:
    tree = copy.deepcopy(data.draw(st.sampled_from([POD, DEPLOYMENT])))
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(sorted(paths(tree), key=repr)))
        parent = at(tree, tuple(above))
        assert isinstance(parent, dict | list)
        parent[last] = data.draw(junk)
    ran = bastide("lab", "run", "-", "--no-launch", stdin=json.dumps(tree).encode())

    assert ran.code in (0, 2, 3), ran.err
    assert len(ran.err.splitlines()) <= 2
    assert all(one.isprintable() or one == "\n" for one in ran.out + ran.err)
