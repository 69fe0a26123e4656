import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from bastide.errors import UntrustedError
from bastide.pki.chain import load_pem_chain
from bastide.pki.ecdsa import load_point, verify_raw
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import INTEL_QE_VENDOR_ID, Quote
from bastide.sgx.report import Report
from bastide.sim.cpu import Cpu
from bastide.sim.quoting import PCK_CHAIN, QE_PRODUCT_ID, QE_SVN, QuotingEnclave, quoting_image
from support.enclaves import certification, cpu, image, started
from support.sgx_values import signing_key

DATA = bytes(range(64))


def quoting(processor: Cpu) -> QuotingEnclave:
    return QuotingEnclave(processor, quoting_image(signing_key()), certification())


def report(processor: Cpu, target: QuotingEnclave) -> Report:
    return started(processor, image()).report(target.target_info(), DATA)


@cache
def good() -> tuple[Report, Quote]:
    processor = cpu()
    enclave = quoting(processor)
    made = report(processor, enclave)
    return made, enclave.quote(made)


def test_quotes_the_report_as_it_is() -> None:
    made, quote = good()
    assert quote.report_body == made.body
    assert quote.report_body.report_data == DATA
    assert (quote.header.version, quote.header.qe_vendor_id) == (3, INTEL_QE_VENDOR_ID)
    assert (quote.header.qe_svn, quote.header.pce_svn) == (QE_SVN, certification().pce_svn)
    assert Quote.parse(quote.build()) == quote


def test_both_signatures_of_a_quote_are_good() -> None:
    _, quote = good()
    key = load_point(b"\x04" + quote.attestation_key)
    assert key is not None
    assert verify_raw(key, quote.signature, quote.signed_bytes)
    assert verify_raw(certification().pck_key.public_key(), quote.qe_report_signature, quote.qe_report.build())


def test_the_attestation_key_is_bound_by_the_quoting_enclave_s_report() -> None:
    _, quote = good()
    binding = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    assert quote.qe_report.report_data == binding + bytes(32)


def test_the_quoting_enclave_is_the_one_that_its_identity_names() -> None:
    _, quote = good()
    image_of_it = quoting_image(signing_key())
    assert quote.qe_report.mr_signer == image_of_it.sigstruct.mr_signer
    assert quote.qe_report.mr_enclave == image_of_it.sigstruct.enclave_hash
    assert (quote.qe_report.isv_prod_id, quote.qe_report.isv_svn) == (QE_PRODUCT_ID, QE_SVN)
    assert AttributeFlags.PROVISIONKEY in quote.qe_report.attributes.flags
    assert not quote.qe_report.attributes.debug


def test_a_quote_carries_the_pck_chain() -> None:
    _, quote = good()
    assert (quote.certification.type, quote.certification.data) == (PCK_CHAIN, certification().chain)
    leaf = load_pem_chain(quote.certification.data)[0]
    assert leaf.public_key() == certification().pck_key.public_key()


def refuse(enclave: QuotingEnclave, made: Report) -> None:
    with pytest.raises(UntrustedError) as raised:
        enclave.quote(made)
    assert raised.value.code == "quoting.report.mac"


def test_refuses_a_report_of_another_cpu() -> None:
    here = quoting(cpu())
    there = cpu("second")
    refuse(here, started(there, image()).report(here.target_info(), DATA))


def test_refuses_a_report_for_another_enclave() -> None:
    processor = cpu()
    enclave = quoting(processor)
    other = started(processor, image(b"other"))
    refuse(enclave, started(processor, image()).report(processor.identity(other.eid).target_info(), DATA))


@pytest.mark.parametrize(
    "change",
    [
        lambda made: replace(made, body=replace(made.body, mr_signer=bytes(32))),
        lambda made: replace(made, body=replace(made.body, report_data=bytes(64))),
        lambda made: replace(made, mac=bytes([made.mac[0] ^ 1]) + made.mac[1:]),
        lambda made: replace(made, key_id=bytes(32)),
    ],
    ids=["signer", "report data", "mac", "key id"],
)
def test_refuses_a_report_that_was_changed(change: Callable[[Report], Report]) -> None:
    processor = cpu()
    enclave = quoting(processor)
    made = report(processor, enclave)
    enclave.quote(made)
    refuse(enclave, change(made))


def test_quoting_enclaves_do_not_share_their_attestation_keys() -> None:
    processor = cpu()
    one, two = quoting(processor), quoting(processor)
    made = report(processor, one)
    assert one.quote(made).attestation_key != two.quote(made).attestation_key
