"""What a verification must refuse of documents, platforms and quotes: one table, named by what is wrong."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bastide.sgx.attributes import AttributeFlags
from bastide.sim.intel import (
    Window,
)
from support.quotes import AT, ISSUED, good_world
from support.refusals import (
    DAY,
    Row,
    S,
    assert_refused,
    documents_signed_by_another,
    lower_platform,
    qe_identity,
    tcb_info,
)
from support.sgx_values import attributes

ROWS = {
    # documents
    "documents signed by another key": Row(
        change=documents_signed_by_another,
        check="tcb.signature",
        statuses={"tcb": S.TCB_INFO_INVALID_SIGNATURE, "qe": S.SGX_ENCLAVE_IDENTITY_INVALID_SIGNATURE},
    ),
    "TCB info past its next update": Row(
        change=lambda w: tcb_info(w, window=Window(start=ISSUED, end=AT - timedelta(hours=1))),
        check="appraisal.not-expired",
        statuses={"tcb": S.SGX_TCB_INFO_EXPIRED},
    ),
    "QE identity past its next update": Row(
        change=lambda w: qe_identity(w, window=Window(start=ISSUED, end=AT - timedelta(hours=1))),
        check="appraisal.not-expired",
        statuses={"qe": S.SGX_ENCLAVE_IDENTITY_EXPIRED},
    ),
    "TCB info of the future": Row(
        change=lambda w: tcb_info(w, window=Window(start=AT + DAY, end=AT + 2 * DAY)), check="appraisal.in-force"
    ),
    "QE identity of the future": Row(
        change=lambda w: qe_identity(w, window=Window(start=AT + DAY, end=AT + 2 * DAY)),
        check="appraisal.in-force",
    ),
    "TCB info of version 1": Row(
        change=lambda w: tcb_info(w, version=1),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_INVALID, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "QE identity of version 1": Row(
        change=lambda w: qe_identity(w, version=1),
        check="qe.document",
        statuses={
            "qe": S.SGX_ENCLAVE_IDENTITY_UNSUPPORTED_VERSION,
            "quote": S.UNSUPPORTED_QE_IDENTITY_FORMAT,
        },
    ),
    "TCB info with 15 components": Row(
        change=lambda w: tcb_info(w, levels=(replace(w.tcb_info.levels[0], components=(0,) * 15),)),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_UNSUPPORTED_FORMAT, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "TCB info with a level twice": Row(
        change=lambda w: tcb_info(w, levels=w.tcb_info.levels[:1] * 2),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_INVALID, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "TCB info with an unknown status": Row(
        change=lambda w: tcb_info(w, levels=(replace(w.tcb_info.levels[0], status="Fine"),)),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_INVALID, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "TCB info of another FMSPC": Row(
        change=lambda w: tcb_info(w, fmspc=b"OTHERS"),
        check="quote.tcb-info.fmspc",
        statuses={"quote": S.TCB_INFO_MISMATCH},
    ),
    "TCB info of another PCE": Row(
        change=lambda w: tcb_info(w, pce_id=b"\x01\x00"),
        check="quote.tcb-info.pce-id",
        statuses={"quote": S.TCB_INFO_MISMATCH},
    ),
    "QE identity of the quote verification enclave": Row(
        change=lambda w: qe_identity(w, id="QVE"),
        check="quote.qe-identity.id",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "QE identity of the TD quoting enclave": Row(
        change=lambda w: qe_identity(w, id="TD_QE"),
        check="quote.qe-identity.id",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    # quoting enclave
    "quoting enclave of another signer": Row(
        change=lambda w: replace(w, qe_report=replace(w.qe_report, mr_signer=bytes(32))),
        check="quote.qe-identity.report",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "quoting enclave of another product": Row(
        change=lambda w: replace(w, qe_report=replace(w.qe_report, isv_prod_id=2)),
        check="quote.qe-identity.report",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "quoting enclave with MISCSELECT": Row(
        change=lambda w: replace(w, qe_report=replace(w.qe_report, misc_select=1)),
        check="quote.qe-identity.report",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "quoting enclave in debug mode": Row(
        change=lambda w: replace(
            w,
            qe_report=replace(w.qe_report, attributes=attributes(AttributeFlags.PROVISIONKEY | AttributeFlags.DEBUG)),
        ),
        check="quote.qe-identity.report",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "quoting enclave of no level": Row(
        change=lambda w: replace(w, qe_report=replace(w.qe_report, isv_svn=7)),
        check="quote.qe-level",
        statuses={"quote": S.TCB_NOT_SUPPORTED},
    ),
    # platform
    "platform with only one lower component": Row(
        change=lambda w: lower_platform(w, components=(11, 11, 2, 2, 254, 1, 4, *(0,) * 9)),
        check="quote.tcb-level",
        statuses={"quote": S.TCB_NOT_SUPPORTED},
    ),
    "platform with only a lower PCE": Row(
        change=lambda w: lower_platform(w, pce_svn=12),
        check="quote.tcb-level",
        statuses={"quote": S.TCB_NOT_SUPPORTED},
    ),
    "platform whose last component is lower": Row(
        change=lambda w: tcb_info(w, levels=(replace(w.tcb_info.levels[0], components=(*(0,) * 15, 1)),)),
        check="quote.tcb-level",
        statuses={"quote": S.TCB_NOT_SUPPORTED},
    ),
    # quote
    "quote by another vendor": Row(
        change=lambda w: replace(w, qe_vendor_id=bytes(16)),
        check="quote.qe-vendor",
        statuses={"quote": S.UNSUPPORTED_QUOTE_FORMAT},
    ),
    "QE report not signed by the PCK key": Row(
        change=lambda w: replace(w, pck_key=w.attestation_key),
        check="quote.qe-report.signature",
        statuses={"quote": S.INVALID_QE_REPORT_SIGNATURE},
    ),
    "debug enclave": Row(
        change=lambda w: replace(w, body=replace(w.body, attributes=attributes(AttributeFlags.DEBUG))),
        check="appraisal.debug",
    ),
    **{
        f"certification data of type {kind}": Row(
            change=lambda w, kind=kind: replace(w, certification=replace(w.certification, type=kind)),
            check="pck.chain.format",
            statuses={"pck": S.UNSUPPORTED_CERT_FORMAT, "quote": S.UNSUPPORTED_QE_CERTIFICATION_DATA_TYPE},
        )
        for kind in (1, 2, 3, 4)
    },
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_refuses(row: Row) -> None:
    assert_refused(row)


def test_good_world_is_acceptable() -> None:
    verdict = good_world().verdict()
    assert verdict.refusals == ()
    assert all(check.ok for check in verdict.checks)
    assert verdict.acceptable
