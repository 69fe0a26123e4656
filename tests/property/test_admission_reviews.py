"""Whatever comes, admission answers; what it patches once it patches no more; plain pods are never touched."""

import contextlib
import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.admission.match import GUARDED_PATH, SGX_NAME
from bastide.cluster.admission.review import LONGEST_WARNINGS, Envelope, Review
from bastide.cluster.admission.subject import Subject
from bastide.cluster.resolving import Resolved
from bastide.errors import MalformedError
from bastide.pods.hostpaths import guarded_relation
from bastide.pods.resources import DIALECTS, looks_like_sgx
from support.pods import pod
from support.reviews import (
    DIGEST,
    OTHER_DIGEST,
    FakeResolver,
    gate,
    mutate,
    patched,
    review,
    review_tree,
    validate,
    world,
)

RESOLVER = FakeResolver(default=Resolved(digest=DIGEST))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=12), below, max_size=4),
    max_leaves=20,
)
names = st.sampled_from([dialect.resource for dialect in DIALECTS] + ["cpu", "sgx.intel.com/typo", "example.com/sgx"])
resources = st.fixed_dictionaries(
    {},
    optional={
        kind: st.dictionaries(names, st.sampled_from([1, "10Mi", "64", 0, "1Gi", "x"]))
        for kind in ("limits", "requests")
    },
)
images = st.sampled_from(["a:1", "registry.example/b", f"registry.example/c@{DIGEST}", f"d@{OTHER_DIGEST}"])
containers = st.fixed_dictionaries(
    {"name": st.sampled_from("abc"), "image": images},
    optional={"resources": resources, "restartPolicy": st.just("Always"), "securityContext": json_values},
)
pods = st.builds(
    lambda these, first, annotations, volumes: pod(
        *these, annotations=annotations, **({"initContainers": first} if first else {}), volumes=volumes
    ),
    st.lists(containers, min_size=1, max_size=3),
    st.lists(containers, max_size=2),
    st.dictionaries(st.sampled_from(["sgx.intel.com/quote-provider", "x"]), st.sampled_from(["a", "aesmd"])),
    st.lists(st.sampled_from([{"name": "v", "hostPath": {"path": path}} for path in ("/data", "/dev")]), max_size=1),
)
worlds = st.builds(
    lambda mode, miss: world(gate(mode, on_miss=miss), accepted=[DIGEST], refused=[OTHER_DIGEST]),
    st.sampled_from(["off", "warn", "enforce"]),
    st.sampled_from(["gate", "retry"]),
)


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_envelope_or_malformed(raw):
    with contextlib.suppress(MalformedError):
        assert Envelope.parse(raw).uid


@settings(max_examples=150)
@given(
    json_values,
    st.dictionaries(st.sampled_from(["object", "oldObject", "namespace", "operation", "dryRun"]), json_values),
)
def test_any_tree_is_a_review_or_malformed_and_is_answered(tree, fields):
    raw = json.dumps(review_tree(pod(), **fields) if fields else {"request": {"uid": "u", "object": tree}}).encode()
    try:
        one = Review.of(Envelope.parse(raw))
    except MalformedError:
        return
    for answer in (mutate(one, world(gate()), RESOLVER), validate(one, world(gate()))):
        json.loads(answer.build("u"))


@settings(max_examples=100)
@given(json_values, json_values)
def test_any_metadata_and_spec_are_answered(metadata, spec):
    one = review({"metadata": metadata, "spec": spec})
    for answer in (mutate(one, world(gate()), RESOLVER), validate(one, world(gate()))):
        response = json.loads(answer.build("u"))["response"]
        assert sum(map(len, response.get("warnings", []))) <= LONGEST_WARNINGS


@settings(max_examples=150)
@given(pods, worlds)
def test_a_patch_applies_to_the_letter_and_a_second_review_changes_nothing(tree, the_world):
    before = json.dumps(tree)
    answer = mutate(review(tree), the_world, RESOLVER)
    after = patched(tree, answer)
    assert json.dumps(tree) == before
    if not answer.allowed:
        assert answer.patch == ()
        return
    again = mutate(review(after), the_world, RESOLVER)
    assert again.patch == ()


@settings(max_examples=150)
@given(pods, worlds)
def test_a_pod_that_asks_nothing_of_sgx_is_never_touched(tree, the_world):
    if Subject.of(tree).is_sgx:
        return
    answer = mutate(review(tree), the_world, RESOLVER)
    assert (answer.allowed, answer.patch, answer.warnings) == (True, (), ())


@settings(max_examples=150)
@given(pods, st.sampled_from(["gate", "retry"]))
def test_in_enforce_whatever_validate_lets_through_is_pinned_and_not_refused(tree, miss):
    the_world = world(gate(on_miss=miss), accepted=[DIGEST], refused=[OTHER_DIGEST])
    subject = Subject.of(tree)
    if validate(review(tree), the_world).allowed and subject.is_sgx:
        assert all(one.image.digest == DIGEST for one in subject.images)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            ["dev", "sgx_enclave", "sgx", "isgx", "var", "run", "aesmd", "proc", "1", "root", ".", "", "x", "char"]
        ),
        max_size=7,
    ),
    st.booleans(),
)
def test_every_host_path_to_sgx_is_selected(parts, rooted):
    path = ("/" if rooted else "") + "/".join(parts)
    if path and guarded_relation(path) is not None:
        assert re.search(GUARDED_PATH, path)


@settings(max_examples=200)
@given(st.text(alphabet="abcSGXsgx./-bastidev", max_size=24))
def test_every_name_that_looks_like_sgx_is_selected(name):
    if name == name.strip() and looks_like_sgx(name):
        assert re.search(SGX_NAME, name)
