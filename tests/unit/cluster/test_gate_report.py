import copy
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.gate.report import (
    LARGEST_REPORT,
    BlockReport,
    EnclaveReport,
    Failure,
    ImageReport,
    ManifestReport,
    object_name,
)
from bastide.enclave.image import EnclaveFile, EnclaveKind
from bastide.enclave.measure import measure
from bastide.enclave.read import read_enclave
from bastide.errors import MalformedError
from bastide.pods.tree import at
from support.enclave_files import expected_intel, signed_intel_enclave
from support.gate import DIGEST, OTHER_DIGEST, SCANNED, Tree, enclave, report
from support.sgx_values import sigstruct

GOOD = report(
    enclave(insecure=("sgx.debug is on",), problem="a word"),
    enclave(path="/none", kind=EnclaveKind.SCONE, blocks=(BlockReport(name="bare"),), epc=None, epc_most=None),
    statements=(b"{}", b"[1]"),
)


def changed(path: tuple[str | int, ...], value: object) -> Tree:
    """The good object with one field set; ``...`` takes it away."""
    tree = copy.deepcopy(GOOD.build())
    parent = at(tree, path[:-1])
    if value is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return tree


def code_of(tree: object) -> str:
    with pytest.raises(MalformedError) as caught:
        ImageReport.parse(tree)
    return caught.value.code


def test_a_report_reads_back_as_built_through_json() -> None:
    assert ImageReport.parse(json.loads(json.dumps(GOOD.build()))) == GOOD


def test_a_failure_reads_back_with_the_manifests_known_by_then() -> None:
    failed = report(failure=Failure(code="scanner.blob.size", message="too large"))
    assert ImageReport.parse(failed.build()) == failed
    bare = replace(failed, manifests=())
    assert ImageReport.parse(bare.build()) == bare


def test_metadata_that_the_api_server_adds_is_passed_over() -> None:
    tree = changed(("metadata", "managedFields"), [{"manager": "x"}])
    assert ImageReport.parse(tree) == GOOD


def test_the_name_is_that_of_the_digest() -> None:
    assert object_name(DIGEST) == "sha256-" + "ab" * 32


@pytest.mark.parametrize("digest", ["", "sha512:" + "ab" * 64, "sha256:" + "AB" * 32, DIGEST + "0", "ab" * 32])
def test_an_object_has_a_name_for_sha256_digests_only(digest: str) -> None:
    with pytest.raises(MalformedError) as caught:
        object_name(digest)
    assert caught.value.code == "enclave-image.digest"


REPORT = ("report",)
MANIFEST = ("report", "manifests", 0)
ENCLAVE = (*MANIFEST, "enclaves", 0)
BLOCK = (*ENCLAVE, "blocks", 0)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("apiVersion",), "bastide.dev/v1", "enclave-image.kind"),
        (("kind",), "TrustedSigner", "enclave-image.kind"),
        (("status",), {}, "enclave-image.field"),
        (("report",), ..., "enclave-image.type"),
        (("report",), [], "enclave-image.type"),
        (("metadata", "name"), object_name(OTHER_DIGEST), "enclave-image.name"),
        (("metadata",), ..., "enclave-image.name"),
        ((*REPORT, "verdict"), "good", "enclave-image.field"),
        ((*REPORT, "digest"), OTHER_DIGEST, "enclave-image.name"),
        ((*REPORT, "digest"), "latest", "enclave-image.value"),
        ((*REPORT, "digest"), ..., "enclave-image.type"),
        ((*REPORT, "scannedAt"), "yesterday", "enclave-image.value"),
        ((*REPORT, "scannedAt"), 5, "enclave-image.type"),
        ((*REPORT, "scanner"), "", "enclave-image.type"),
        ((*REPORT, "manifests"), [], "enclave-image.empty"),
        ((*REPORT, "manifests"), {}, "enclave-image.type"),
        ((*REPORT, "manifests"), [{"digest": DIGEST}] * 17, "enclave-image.count"),
        ((*REPORT, "failure"), {"code": "a", "message": "b"}, "enclave-image.empty"),
        ((*REPORT, "failure"), {"code": "a"}, "enclave-image.type"),
        ((*REPORT, "failure"), None, "enclave-image.type"),
        ((*REPORT, "statements"), ["%"], "enclave-image.value"),
        ((*REPORT, "statements"), ["ä"], "enclave-image.value"),
        ((*REPORT, "statements"), [1], "enclave-image.type"),
        ((*REPORT, "statements"), ["QQ=="] * 9, "enclave-image.count"),
        ((*REPORT, "statements"), ["QUFB" * 22000], "enclave-image.type"),
        ((*MANIFEST, "digest"), "sha256:", "enclave-image.value"),
        ((*MANIFEST, "enclaves"), [{"path": "/a", "kind": "ego"}] * 201, "enclave-image.count"),
        ((*ENCLAVE, "path"), "app/e.so", "enclave-image.value"),
        ((*ENCLAVE, "path"), "/" + "a" * 4096, "enclave-image.type"),
        ((*ENCLAVE, "kind"), "intel", "enclave-image.value"),
        ((*ENCLAVE, "epcBytes"), -1, "enclave-image.value"),
        ((*ENCLAVE, "epcBytes"), True, "enclave-image.value"),
        ((*ENCLAVE, "epcBytesMost"), 1.5, "enclave-image.value"),
        ((*ENCLAVE, "problem"), "a" * 1001, "enclave-image.type"),
        ((*ENCLAVE, "insecure"), "debug", "enclave-image.type"),
        ((*ENCLAVE, "insecure"), [""], "enclave-image.type"),
        ((*ENCLAVE, "blocks"), [{"name": "a"}] * 17, "enclave-image.count"),
        ((*BLOCK, "name"), ..., "enclave-image.type"),
        ((*BLOCK, "sigstruct"), "QUJD", "sgx.sigstruct.size"),
        ((*BLOCK, "sigstruct"), "*", "enclave-image.value"),
        ((*BLOCK, "sigstruct"), None, "enclave-image.type"),
        ((*BLOCK, "mrEnclave"), "ab", "enclave-image.value"),
        ((*BLOCK, "mrEnclave"), "zz" * 32, "enclave-image.value"),
        ((*BLOCK, "trusted"), True, "enclave-image.field"),
    ],
)
def test_a_report_of_another_form_is_refused(path: tuple[str | int, ...], value: object, code: str) -> None:
    assert code_of(changed(path, value)) == code


def test_too_many_enclaves_in_all_manifests_together_are_refused() -> None:
    entry = {"path": "/a", "kind": "ego"}
    tree = changed(
        (*REPORT, "manifests"),
        [{"digest": DIGEST, "enclaves": [entry] * 150}, {"digest": DIGEST, "enclaves": [entry] * 51}],
    )
    assert code_of(tree) == "enclave-image.count"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = [REPORT, (*REPORT, "digest"), (*REPORT, "manifests"), MANIFEST, ENCLAVE, BLOCK, (*BLOCK, "sigstruct")]


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(PATHS), value=JSON)
def test_any_tree_is_read_or_refused_as_malformed(path: tuple[str | int, ...], value: object) -> None:
    with suppress(MalformedError):
        ImageReport.parse(changed(path, value))


def test_what_parse_takes_is_bounded_to_itself() -> None:
    assert GOOD.bounded() == GOOD


def test_too_many_enclaves_become_a_failure_that_keeps_digests_and_statements() -> None:
    many = report(*[enclave()] * 201, statements=(b"{}",)).bounded()
    assert many.failure is not None
    assert many.failure.code == "enclave-image.count"
    assert many.statements == (b"{}",)
    assert many.manifests == (ManifestReport(digest=DIGEST),)
    assert ImageReport.parse(many.build()) == many


def test_facts_that_etcd_would_not_take_become_a_failure() -> None:
    large = report(*(enclave(path=f"/{index}" + "a" * 4000) for index in range(200)))
    assert len(json.dumps(large.build())) > LARGEST_REPORT
    bounded = large.bounded()
    assert bounded.failure is not None
    assert bounded.failure.code == "enclave-image.size"
    assert len(json.dumps(bounded.build())) < 2000


def test_an_enclave_file_gives_its_facts() -> None:
    file = read_enclave(signed_intel_enclave(), "e.so")
    facts = EnclaveReport.of("/app/e.so", file, measure(file))
    assert facts.measured == (expected_intel().digest(),)
    assert facts.blocks[0].sigstruct == file.blocks[0].sigstruct
    assert facts.kind is EnclaveKind.INTEL_SDK
    assert facts.epc is not None
    assert facts.epc_most is not None
    assert 0 < facts.epc <= facts.epc_most
    assert facts.file.blocks[0].sigstruct == file.blocks[0].sigstruct


def test_an_enclave_that_was_not_measured_says_why() -> None:
    file = read_enclave(signed_intel_enclave(), "e.so")
    facts = EnclaveReport.of("/app/e.so", file, (), problem="too much to hash")
    assert facts.measured == (None,)
    assert facts.problem == "too much to hash"


def test_an_enclave_without_blocks_has_no_size() -> None:
    facts = EnclaveReport.of("/bin/scone", EnclaveFile(kind=EnclaveKind.SCONE, blocks=()), ())
    assert (facts.epc, facts.epc_most, facts.blocks) == (None, None, ())


def test_times_are_written_in_utc() -> None:
    from datetime import timedelta, timezone

    east = SCANNED.astimezone(timezone(timedelta(hours=5)))
    assert at(replace(GOOD, scanned_at=east).build(), ("report", "scannedAt")) == "2026-11-23T17:00:00Z"
    assert ImageReport.parse(GOOD.build()).scanned_at == datetime(2026, 11, 23, 17, tzinfo=UTC)


def test_the_sigstruct_keeps_every_byte() -> None:
    assert GOOD.enclaves[0].blocks[0].sigstruct is not None
    again = ImageReport.parse(GOOD.build()).enclaves[0].blocks[0].sigstruct
    assert again is not None
    assert again.build() == sigstruct().build()
