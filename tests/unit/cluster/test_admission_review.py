import json

import pytest

from bastide.cluster.admission.review import (
    LARGEST_REVIEW,
    LONGEST_WARNING,
    LONGEST_WARNINGS,
    Answer,
    Envelope,
    Refusal,
    Refused,
    Review,
    Verb,
    shortened,
)
from bastide.errors import MalformedError
from support.pods import pod
from support.reviews import review, review_tree


def _raw(tree):
    return json.dumps(tree).encode()


def _refused(raw):
    with pytest.raises(MalformedError) as caught:
        Review.of(Envelope.parse(raw))
    return caught.value.code


def test_a_review_is_read_with_its_namespace_taken_from_the_request():
    tree = pod()
    tree["metadata"] = {"namespace": "elsewhere"}
    one = review(tree, dryRun=True)
    assert (one.verb, one.resource, one.subresource, one.namespace, one.dry_run) == (
        Verb.CREATE,
        "pods",
        "",
        "shop",
        True,
    )
    assert one.new == tree
    assert one.old == {}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "admission.review.syntax"),
        (b"\xff", "admission.review.syntax"),
        (b"[1]", "admission.review.uid"),
        (b"{}", "admission.review.uid"),
        (b'{"request": {"uid": 7}}', "admission.review.uid"),
        (b'{"request": {"uid": ""}}', "admission.review.uid"),
        (_raw({"request": {"uid": "u" * 129}}), "admission.review.uid"),
        (b'{"request": {"uid": "a", "uid": "b"}}', "admission.review.syntax"),
        (b'{"request": {"uid": "a", "x": NaN}}', "admission.review.syntax"),
        (b'{"request": {"uid": "a", "x": 1e999}}', "admission.review.syntax"),
        (b'{"request": {"uid": "a", "x": ' + b"9" * 5000 + b"}}", "admission.review.syntax"),
        (b'{"x":' * 70 + b"1" + b"}" * 70, "admission.review.depth"),
        (b"[" * 100_000, "admission.review.depth"),
        (b" " * (LARGEST_REVIEW + 1), "admission.review.size"),
    ],
)
def test_what_has_no_uid_to_echo_is_refused_as_a_request(raw, code):
    with pytest.raises(MalformedError) as caught:
        Envelope.parse(raw)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"namespace": ""}, "admission.review.namespace"),
        ({"namespace": None}, "admission.review.namespace"),
        ({"namespace": ["shop"]}, "admission.review.type"),
        ({"operation": "PATCH"}, "admission.review.verb"),
        ({"operation": None}, "admission.review.verb"),
        ({"object": None}, "admission.review.object"),
        ({"object": []}, "admission.review.object"),
        ({"operation": "UPDATE", "oldObject": None}, "admission.review.object"),
        ({"dryRun": "yes"}, "admission.review.type"),
        ({"userInfo": {"username": 7}}, "admission.review.type"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_uid(change, code):
    assert _refused(_raw(review_tree(pod(), **change))) == code


@pytest.mark.parametrize("change", [{"apiVersion": "admission.k8s.io/v1beta1"}, {"apiVersion": 1}, {"kind": "Pod"}])
def test_other_versions_are_refused(change):
    assert _refused(_raw({**review_tree(pod()), **change})) == "admission.review.version"


def test_an_allowed_review_echoes_the_uid():
    built = json.loads(Answer().build("u-1"))
    assert built == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }


def test_a_refusal_says_why_and_whether_to_come_again():
    refusal = Refusal(code="x", message="first\nsecond\x1b[31m")
    status = json.loads(Answer(refusal=refusal).build("u"))["response"]["status"]
    assert status == {"status": "Failure", "code": 403, "reason": "Forbidden", "message": "first\nsecond [31m"}
    later = Refusal(code="x", message="later", kind=Refused.RETRY)
    status = json.loads(Answer(refusal=later).build("u"))["response"]["status"]
    assert (status["code"], status["details"]) == (503, {"retryAfterSeconds": 2})


def test_a_long_refusal_is_cut():
    status = json.loads(Answer(refusal=Refusal(code="x", message="y" * 9999)).build("u"))["response"]["status"]
    assert len(status["message"]) == 4096


def test_warnings_keep_within_the_limits_of_the_api_server():
    many = shortened([f"{number} {'w' * 300}" for number in range(100)])
    assert max(map(len, many)) == LONGEST_WARNING
    assert sum(map(len, many)) <= LONGEST_WARNINGS
    assert many[-1] == f"and {100 - len(many) + 1} more: see `bastide cluster lint`"
    assert shortened(["same", "same", "a\nb"]) == ("same", "a b")


def test_what_is_cut_keeps_its_code():
    (cut,) = shortened([f"{'w' * 300} [gate.refused]"])
    assert cut.endswith("w… [gate.refused]")
    assert len(cut) == LONGEST_WARNING
    (other,) = shortened([f"{'w' * 200} [{'c' * 300}]"])
    assert other.endswith("c…")
    assert len(other) == LONGEST_WARNING
