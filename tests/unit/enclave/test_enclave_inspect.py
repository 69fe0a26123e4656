from dataclasses import replace

import pytest

from bastide.enclave import inspect as module
from bastide.enclave.inspect import Weight, inspect
from bastide.enclave.public_keys import PUBLIC_SIGNERS
from bastide.enclave.read import read_enclave
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.sigstruct import sign
from support.enclave_files import Blob, OeFile, intel_enclave, signed_intel_enclave
from support.sgx_values import ALL_ATTRIBUTES, signing_key, sigstruct, unsigned_sigstruct

MODE = AttributeFlags.MODE64BIT


def codes(raw: bytes, name: str = "") -> list[str]:
    return [remark.code for remark in inspect(read_enclave(raw, name)).remarks]


def attributes(flags: AttributeFlags) -> Attributes:
    return Attributes(flags=MODE | flags, xfrm=3)


def test_tells_signer_sizes_and_epc() -> None:
    info = inspect(read_enclave(signed_intel_enclave(isv_svn=5)))
    (block,) = info.blocks
    assert info.remarks == ()
    assert block.sigstruct is not None
    assert (block.mr_signer, block.signature_valid, block.sigstruct.isv_svn) == (sigstruct().mr_signer, True, 5)
    assert block.epc is not None
    assert (block.epc.loaded, block.epc.pages, block.elrange) == (12, 14, 0x100000)
    assert block.summary is not None
    assert block.summary.threads == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"attributes": attributes(AttributeFlags.DEBUG)}, ["enclave.debug.set"]),
        (
            {"attribute_mask": replace(ALL_ATTRIBUTES, flags=AttributeFlags(2**64 - 3))},
            ["enclave.debug.open"],
        ),
        ({"attributes": attributes(AttributeFlags.PROVISIONKEY)}, ["enclave.provision.wanted"]),
        ({"attributes": attributes(AttributeFlags.EINITTOKENKEY)}, ["enclave.launch.wanted"]),
        ({"date": 0x20261301}, ["enclave.date.malformed"]),
        ({"date": 0x20260100}, ["enclave.date.malformed"]),
        ({"date": 0x2026AB01}, ["enclave.date.malformed"]),
    ],
)
def test_remarks_on_what_was_signed(change: dict[str, object], expected: list[str]) -> None:
    assert codes(signed_intel_enclave(**change)) == expected


def test_a_public_signer_is_to_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PUBLIC_SIGNERS", {sigstruct().mr_signer: "a test's key"})
    (remark,) = inspect(read_enclave(sigstruct().build())).remarks[:1]
    assert (remark.code, remark.weight) == ("enclave.signer.public", Weight.REFUSE)
    assert "a test's key" in remark.message


def test_a_broken_signature_is_to_be_refused() -> None:
    broken = replace(sigstruct(), signature=bytes(383) + b"\1")
    (remark, *_) = inspect(read_enclave(broken.build())).remarks
    assert (remark.code, remark.weight) == ("enclave.signature.invalid", Weight.REFUSE)


def test_an_unsigned_enclave_is_warned_of() -> None:
    assert codes(intel_enclave()) == ["enclave.unsigned"]


@pytest.mark.parametrize("change", [{"isv_svn": 3}, {"isv_prod_id": 3}, {"enclave_hash": bytes(32)}])
def test_blocks_that_disagree_are_to_be_refused(change: dict[str, int]) -> None:
    other = sign(replace(unsigned_sigstruct(), **change), signing_key())  # type: ignore[arg-type]
    raw = intel_enclave(Blob(sigstruct=sigstruct()), Blob(version=(1, 4), sigstruct=other))
    assert codes(raw) == ["enclave.blocks.disagree"]


def test_blocks_that_agree_are_remarked_on_once() -> None:
    raw = intel_enclave(Blob(version=(3, 1)), Blob(version=(3, 1)))
    assert codes(raw) == ["enclave.format.untested", "enclave.unsigned"]
    signed = intel_enclave(Blob(sigstruct=sigstruct()), Blob(version=(1, 4), sigstruct=sigstruct()))
    assert codes(signed) == []


def test_kinds_that_cannot_be_measured_say_so() -> None:
    raw = OeFile(info_size=2064, sigstruct=sigstruct()).build()
    info = inspect(read_enclave(raw))
    assert [remark.code for remark in info.remarks] == ["enclave.measurement.impossible"]
    assert "ego uniqueid" in info.note


def test_settings_of_a_manifest_are_warned_of() -> None:
    text = b"loader.insecure__use_cmdline_argv = true\n[sgx]\n"
    expected = ["enclave.unsigned", "enclave.gramine.insecure"]
    assert codes(text, "x.manifest.sgx") == [*expected, "enclave.libpal.missing"]


def test_the_heaviest_remark_comes_first() -> None:
    raw = signed_intel_enclave(attributes=attributes(AttributeFlags.DEBUG | AttributeFlags.PROVISIONKEY), date=0)
    assert codes(raw) == ["enclave.debug.set", "enclave.date.malformed", "enclave.provision.wanted"]


def test_public_signers_are_named_with_a_source() -> None:
    assert len(PUBLIC_SIGNERS) == 3
    assert all(len(signer) == 32 and "/" in why for signer, why in PUBLIC_SIGNERS.items())
