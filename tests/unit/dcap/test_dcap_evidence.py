from dataclasses import replace

import pytest

from bastide.dcap.evidence import Evidence, QuoteSignatures
from bastide.pki.ecdsa import load_point
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import QuoteParts
from bastide.sgx.report import ReportBody
from bastide.sgx.td_report import TdAttributes, TdReport
from support.quotes import TEE_TCB_SVN, World, good_world, td_world, world_of
from support.sgx_values import attributes


def evidence_of(world: World) -> Evidence:
    return Evidence.of(QuoteParts.cut(world.quote.build()), world.certification)


def with_body(world: World, **changes: object) -> World:
    return replace(world, body=replace(world.body, **changes))  # type: ignore[arg-type] - named by each test


@pytest.mark.parametrize("field", ["mr_enclave", "mr_signer", "report_data", "config_id", "isv_family_id", "cpu_svn"])
def test_measurements_of_an_enclave_are_no_evidence(field: str) -> None:
    world = good_world()
    size = len(getattr(world.body, field))
    assert evidence_of(with_body(world, **{field: b"\xff" * size})) == evidence_of(world)


def test_attributes_of_an_enclave_are_evidence() -> None:
    debug = with_body(good_world(), attributes=attributes(AttributeFlags.DEBUG))
    assert evidence_of(debug) != evidence_of(good_world())
    assert evidence_of(debug).quote.debug


@pytest.mark.parametrize("field", ["mr_seam", "xfam", "mr_td", "mr_config_id", "rtmr0", "rtmr3", "report_data"])
def test_measurements_of_a_td_are_no_evidence(field: str) -> None:
    world = td_world(current=TEE_TCB_SVN)
    size = len(getattr(world.body, field))
    assert evidence_of(with_body(world, **{field: b"\xff" * size})) == evidence_of(world)


@pytest.mark.parametrize(
    "change",
    [
        {"tee_tcb_svn": bytes(16)},
        {"mr_signer_seam": b"\x01" * 48},
        {"seam_attributes": b"\x01" * 8},
        {"td_attributes": TdAttributes.DEBUG},
    ],
)
def test_what_is_asked_of_a_td_is_evidence(change: dict[str, object]) -> None:
    world = td_world(current=TEE_TCB_SVN)
    changed = evidence_of(with_body(world, **change))
    assert changed != evidence_of(world)
    (name,) = change
    assert getattr(changed.quote.body, name) == change[name]


def test_fields_of_tdx_1_5_are_evidence() -> None:
    world = td_world(current=TEE_TCB_SVN)
    td15 = world.body.td15  # type: ignore[union-attr] - a TD has it
    for change in ({"tee_tcb_svn2": bytes(16)}, {"mr_service_td": b"\x01" * 48}):
        changed = evidence_of(with_body(world, td15=replace(td15, **change)))  # type: ignore[type-var] - of TDX 1.5
        assert changed != evidence_of(world)


def test_the_quote_of_evidence_shows_what_is_asked_about_and_nothing_else() -> None:
    quote = evidence_of(good_world()).quote
    assert isinstance(quote.body, ReportBody)
    assert (quote.body.mr_enclave, quote.body.report_data) == (bytes(32), bytes(64))
    assert (quote.signature, quote.qe_report_signature, quote.header.user_data) == (bytes(64), bytes(64), bytes(20))
    assert quote.qe_report == good_world().quote.qe_report
    td = evidence_of(td_world()).quote
    assert isinstance(td.body, TdReport)
    assert (td.body.mr_td, td.body.rtmr0) == (bytes(48), bytes(48))


@pytest.mark.parametrize("name", ["qe_report", "attestation_key", "qe_auth_data", "header"])
def test_what_certifies_the_attestation_key_is_evidence(name: str) -> None:
    world = good_world()
    others = {
        "qe_report": replace(world, qe_report=replace(world.qe_report, isv_svn=9)),
        "attestation_key": replace(world, attestation_key=world_of(world.pki).attestation_key),
        "qe_auth_data": replace(world, qe_auth_data=b""),
        "header": replace(world, qe_vendor_id=bytes(16)),
    }
    assert getattr(evidence_of(others[name]), name) != getattr(evidence_of(world), name)


def test_certificates_are_evidence() -> None:
    world = good_world()
    certification = replace(world.certification, data=world.certification.data + b"\x00")
    assert evidence_of(replace(world, certification=certification)) != evidence_of(world)


def test_signatures_answer_for_the_right_key_only() -> None:
    quote = good_world().quote
    signatures = QuoteSignatures(QuoteParts.cut(quote.build()))
    attestation_key, pck_key = load_point(b"\x04" + quote.attestation_key), good_world().pck_key.public_key()
    assert attestation_key is not None
    assert (signatures.quote_is_by(attestation_key), signatures.qe_report_is_by(pck_key)) == (True, True)
    assert (signatures.quote_is_by(pck_key), signatures.qe_report_is_by(attestation_key)) == (False, False)
