import struct
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path
from shutil import which

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.enclave import public_keys
from bastide.enclave.image import EnclaveKind
from bastide.enclave.measure import measure
from bastide.enclave.read import read_enclave
from bastide.enclave.sign import DebugTerm, SigningPlan, Terms, attach, bcd, plan_bare, plan_image
from bastide.errors import MalformedError, UntrustedError
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.sigstruct import SigStruct, sign
from support.enclave_files import SEGMENTS, Blob, Elf, OeFile, Seg, intel_enclave, signed_intel_enclave
from support.enclaves import stranger_key
from support.sgx_values import MR_ENCLAVE, signing_key
from support.vectors import vectors

DAY = date(2026, 11, 23)
TERMS = Terms(date=DAY)


def bare(terms: Terms, existing: SigStruct | None = None) -> SigStruct:
    return plan_bare(EnclaveKind.FORTANIX, MR_ENCLAVE, terms, existing).unsigned


def signed_by_hsm(plan: SigningPlan, key: rsa.RSAPrivateKey) -> bytes:
    return key.sign(plan.unsigned.signing_input, padding.PKCS1v15(), hashes.SHA256())


def is_good(image: bytes, name: str = "") -> bool:
    return all(one.signature_valid and one.matches for one in measure(read_enclave(image, name)))


def code_of(terms: Terms) -> str:
    with pytest.raises(MalformedError) as caught:
        bare(terms)
    return caught.value.code


@pytest.mark.parametrize(
    "image", [intel_enclave(), signed_intel_enclave(), intel_enclave(Blob(), Blob(version=(1, 4))), OeFile().build()]
)
def test_a_signed_file_reads_verifies_and_measures_as_signed(image: bytes) -> None:
    plan = plan_image(image, replace(TERMS, product_id=3, svn=4))
    raw = plan.finish(sign(plan.unsigned, signing_key()))
    assert is_good(raw)
    for block in read_enclave(raw).blocks:
        assert block.sigstruct is not None
        assert (block.sigstruct.isv_prod_id, block.sigstruct.isv_svn) == (3, 4)
        assert block.sigstruct.date_text == "20261123"
    assert len(raw) == len(image)
    assert plan_image(image, replace(TERMS, product_id=3, svn=4)).finish(sign(plan.unsigned, signing_key())) == raw


def test_the_loader_is_told_the_same_terms_as_were_signed() -> None:
    terms = replace(TERMS, product_id=9, svn=8, family_id=b"f" * 16, ext_prod_id=b"e" * 16, provision=True)
    intel = plan_image(intel_enclave(), replace(terms, misc_select=1))
    blob = intel.offsets[0] - 64
    assert intel.image[blob + 32 : blob + 36] == b"\1\0\0\0"
    assert intel.image[blob + 48 : blob + 64] == intel.unsigned.attributes.build()
    oe = plan_image(OeFile().build(), terms)
    info = oe.offsets[0] - 144
    assert oe.image[info + 32 : info + 36] == b"\x09\0\x08\0"
    assert oe.image[info + 40 : info + 80] == b"f" * 16 + b"e" * 16 + oe.unsigned.attributes.build()[:8]
    more = plan_image(OeFile().build(), replace(terms, xfrm=7))
    assert more.image[info + 80 : info + 88] == b"\x07".ljust(8, b"\0")
    assert oe.unsigned.enclave_hash != plan_image(OeFile().build(), TERMS).unsigned.enclave_hash


def test_the_openssl_command_accepts_our_signature(tmp_path: Path) -> None:
    signed = sign(bare(TERMS), signing_key())
    signature = signed.signature[::-1]
    public = signing_key().public_key()
    public.verify(signature, signed.signing_input, padding.PKCS1v15(), hashes.SHA256())
    openssl = which("openssl")
    if openssl is None:
        return  # the library has checked the same above
    (tmp_path / "pub.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "input").write_bytes(signed.signing_input)
    (tmp_path / "signature").write_bytes(signature)
    ran = subprocess.run(
        [openssl, "dgst", "-sha256", "-verify", "pub.pem", "-signature", "signature", "input"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "Verified OK")


def test_two_steps_give_the_same_bytes_as_one() -> None:
    plan = plan_image(OeFile().build(), TERMS)
    assert len(plan.unsigned.signing_input) == 256
    attached = attach(plan.unsigned, signed_by_hsm(plan, signing_key()), signing_key().public_key())
    assert plan.finish(attached) == plan.finish(sign(plan.unsigned, signing_key()))


@pytest.mark.parametrize("size", [0, 383, 385, 512])
def test_a_signature_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedError) as caught:
        attach(bare(TERMS), bytes(size), signing_key().public_key())
    assert caught.value.code == "enclave.sign.signature-size"


def test_a_signature_of_another_key_file_or_date_is_refused() -> None:
    plan = plan_bare(EnclaveKind.FORTANIX, MR_ENCLAVE, TERMS)
    good = signed_by_hsm(plan, signing_key())
    other_day = replace(plan.unsigned, date=bcd(date(2026, 11, 24)))
    public = signing_key().public_key()
    cases = (
        (plan.unsigned, good, stranger_key().public_key()),
        (other_day, good, public),
        (plan.unsigned, b"\xff" * 384, public),
    )
    for unsigned, signature, key in cases:
        with pytest.raises(UntrustedError) as caught:
            attach(unsigned, signature, key)
        assert caught.value.code == "enclave.sign.signature"


def test_a_key_that_the_processor_does_not_take_is_refused() -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    with pytest.raises(MalformedError) as caught:
        attach(bare(TERMS), bytes(384), small)
    assert caught.value.code == "enclave.sign.key"


def test_a_plan_takes_its_own_signature_only() -> None:
    plan = plan_bare(EnclaveKind.FORTANIX, MR_ENCLAVE, TERMS)
    foreign = sign(replace(plan.unsigned, isv_svn=1), signing_key())
    broken = replace(sign(plan.unsigned, signing_key()), q1=bytes(384))
    for signed in (foreign, broken, plan.unsigned):
        with pytest.raises(UntrustedError) as caught:
            plan.finish(signed)
        assert caught.value.code == "enclave.sign.signature"


def test_a_public_key_signs_only_when_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_bare(EnclaveKind.FORTANIX, MR_ENCLAVE, TERMS)
    signed = sign(plan.unsigned, signing_key())
    monkeypatch.setattr("bastide.enclave.sign.PUBLIC_SIGNERS", {signed.mr_signer: "a sample"})
    with pytest.raises(UntrustedError) as caught:
        plan.finish(signed)
    assert caught.value.code == "enclave.sign.public-key"
    assert plan.finish(signed, allow_public_key=True) == signed.build()
    assert public_keys.PUBLIC_SIGNERS


def test_debug_is_forbidden_by_attribute_and_mask_unless_told() -> None:
    debug = {term: bare(replace(TERMS, debug=term)) for term in DebugTerm}
    shown = {term: (one.attributes.debug, one.attribute_mask.debug) for term, one in debug.items()}
    assert shown == {
        DebugTerm.FORBID: (False, True),
        DebugTerm.ALLOW: (False, False),
        DebugTerm.REQUIRE: (True, True),
    }
    again = bare(TERMS, existing=debug[DebugTerm.ALLOW])
    assert (again.attributes.debug, again.attribute_mask.debug) == (False, True)
    assert bare(TERMS, existing=debug[DebugTerm.REQUIRE]).attributes.debug is False


def test_terms_that_are_not_given_stay_as_they_were_signed() -> None:
    terms = Terms(
        date=DAY,
        product_id=7,
        svn=8,
        provision=True,
        flags_mask=0xFF,
        xfrm=7,
        xfrm_mask=0xF,
        misc_select=1,
        misc_mask=3,
        family_id=b"f" * 16,
        ext_prod_id=b"e" * 16,
    )
    first = bare(terms)
    assert bare(TERMS, existing=first) == first
    assert AttributeFlags.KSS in first.attributes.flags
    assert AttributeFlags.PROVISIONKEY not in bare(replace(TERMS, provision=False), existing=first).attributes.flags


def test_the_default_leaves_vector_instructions_open_and_forces_the_rest() -> None:
    unsigned = bare(TERMS)
    assert (int(unsigned.attributes.flags), unsigned.attributes.xfrm) == (4, 3)
    assert (int(unsigned.attribute_mask.flags), unsigned.attribute_mask.xfrm) == (2**64 - 1, 2**64 - 1 - 0xE4)
    assert (unsigned.misc_select, unsigned.misc_mask) == (0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    "change", [{"product_id": 1 << 16}, {"svn": -1}, {"family_id": b"short"}, {"misc_select": 1 << 32}]
)
def test_terms_that_do_not_fit_are_refused(change: dict[str, int]) -> None:
    assert code_of(replace(TERMS, **change)) == "enclave.sign.terms"


def test_blocks_of_different_measurement_are_not_signed_by_one_signature() -> None:
    with pytest.raises(MalformedError) as caught:
        plan_image(intel_enclave(Blob(), Blob(version=(1, 4), size=0x200000)), TERMS)
    assert caught.value.code == "enclave.sign.blocks"


def test_metadata_inside_a_loaded_segment_is_not_signed() -> None:
    whole = bytearray(intel_enclave(segments=(*SEGMENTS, Seg(address=0x8000, data=b"data"))))
    third = 64 + 2 * 56
    (offset,) = struct.unpack_from("<Q", whole, third + 8)
    struct.pack_into("<QQ", whole, third + 32, len(whole) - offset, len(whole) - offset)
    with pytest.raises(MalformedError) as caught:
        plan_image(bytes(whole), TERMS)
    assert caught.value.code == "enclave.sign.blocks"


def test_a_file_that_no_sdk_has_laid_out_is_not_signed() -> None:
    with pytest.raises(MalformedError) as caught:
        plan_image(Elf(segments=SEGMENTS).build(), TERMS)
    assert caught.value.code == "enclave.sign.kind"


def test_real_enclaves_are_signed_again_and_keep_their_measurement() -> None:
    folder = vectors("enclave") / "intel-sdk"
    for path in folder.iterdir():
        image = path.read_bytes()
        plan = plan_image(image, TERMS)
        (old, *_) = read_enclave(image).blocks
        assert old.sigstruct is not None
        assert plan.unsigned.enclave_hash == old.sigstruct.enclave_hash
        assert is_good(plan.finish(sign(plan.unsigned, signing_key())))


def test_a_real_open_enclave_file_is_signed_again() -> None:
    (path,) = (vectors("enclave") / "oe").iterdir()
    plan = plan_image(path.read_bytes(), TERMS)
    assert plan.unsigned.enclave_hash.hex() == path.name.split("-")[2].removesuffix(".signed")
    assert is_good(plan.finish(sign(plan.unsigned, signing_key())))


def test_a_day_is_stored_as_decimal_digits() -> None:
    assert bcd(DAY) == 0x20261123
