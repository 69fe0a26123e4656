from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from bastide.errors import BastideError, UntrustedError
from bastide.sgx.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from bastide.sgx.keys import KeyName, KeyPolicy, KeyRequest
from bastide.sgx.report import Report
from bastide.sgx.secs import PageFlags, PageType, SecInfo, Secs, Tcs, TcsFlags
from bastide.sgx.sigstruct import sign
from bastide.sgx.types import CpuSvn
from bastide.sim.cpu import Cpu
from bastide.sim.enclave import Inside
from bastide.sim.epc import Epc
from bastide.sim.images import EnclaveImage, changed_after_signing
from bastide.units import PAGE_SIZE, Pages
from support.enclaves import REG_R, REG_RW, build, cpu, fuses, image, started, stranger_key
from support.sgx_values import CPU_SVN, signing_key

TCS = SecInfo(page_flags=PageFlags(0), page_type=PageType.TCS)
NONE = AttributeFlags(0)
PAGE = bytes(range(256)) * 16
PLAIN = Attributes(flags=AttributeFlags.MODE64BIT, xfrm=3)
SECS = Secs(size=1 << 16, ssa_frame_size=1, attributes=PLAIN)


def refused(code: str, call: Callable[..., object], *args: object, **kwargs: object) -> None:
    with pytest.raises(BastideError) as raised:
        call(*args, **kwargs)
    assert raised.value.code == code


def with_flags(flags: AttributeFlags, *, xfrm: int = 3) -> Attributes:
    return Attributes(flags=AttributeFlags.MODE64BIT | flags, xfrm=xfrm)


def resigned(built: EnclaveImage, **changes: Any) -> EnclaveImage:
    """The image with other fields in its SIGSTRUCT, under a good signature."""
    return replace(built, sigstruct=sign(replace(built.sigstruct, **changes), signing_key()))


def with_attributes(flags: AttributeFlags, **changes: Any) -> EnclaveImage:
    """An image that is signed for these attributes and created with them."""
    attributes = with_flags(flags)
    built = image()
    return resigned(replace(built, secs=replace(built.secs, attributes=attributes)), attributes=attributes, **changes)


def einit(processor: Cpu, built: EnclaveImage, secs: Secs | None = None) -> int:
    eid = build(processor, built, secs)
    processor.einit(eid, built.sigstruct, launch_key_hash=built.sigstruct.mr_signer)
    return eid


def mac_is_good(target: Inside, report: Report) -> bool:
    """What code inside of the target would find."""
    mac = CMAC(AES(target.get_key(KeyRequest(key_name=KeyName.REPORT, key_id=report.key_id))))
    mac.update(report.mac_input)
    return mac.finalize() == report.mac


# ECREATE


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("ecreate.size", {"size": 3 << 12}),
        ("ecreate.size", {"size": PAGE_SIZE}),
        ("ecreate.size", {"size": 0}),
        ("ecreate.ssa_frame_size", {"ssa_frame_size": 0}),
        ("ecreate.attributes", {"attributes": with_flags(AttributeFlags.INIT)}),
        ("ecreate.attributes", {"attributes": Attributes(flags=NONE, xfrm=3)}),
        ("ecreate.attributes", {"attributes": with_flags(NONE, xfrm=int(Xfrm.X87))}),
        ("ecreate.attributes", {"attributes": with_flags(NONE, xfrm=int(Xfrm.SSE | Xfrm.AVX))}),
        ("ecreate.kss", {"config_id": bytes(63) + b"\1"}),
        ("ecreate.kss", {"config_svn": 1}),
        ("ecreate.cet", {"cet_attributes": 1}),
    ],
)
def test_ecreate_refuses_a_secs_that_hardware_refuses(code: str, changes: dict[str, Any]) -> None:
    processor = cpu()
    refused(code, processor.ecreate, replace(SECS, **changes))
    assert processor.epc.usage().used == 0


def test_ecreate_takes_identifiers_and_cet_with_their_attributes() -> None:
    attributes = with_flags(AttributeFlags.KSS | AttributeFlags.CET)
    cpu().ecreate(replace(SECS, attributes=attributes, config_id=b"\1" * 64, config_svn=1, cet_attributes=1))


# EADD and EEXTEND


@pytest.mark.parametrize(
    ("code", "offset", "secinfo", "content"),
    [
        ("eadd.content", 0, REG_R, PAGE[:-1]),
        ("eadd.content", 0, REG_R, PAGE + b"\0"),
        ("eadd.offset", 1, REG_R, PAGE),
        ("eadd.offset", -PAGE_SIZE, REG_R, PAGE),
        ("eadd.offset", 1 << 16, REG_R, PAGE),
        ("eadd.page_type", 0, SecInfo(page_flags=PageFlags.R, page_type=PageType.SECS), PAGE),
        ("eadd.page_type", 0, SecInfo(page_flags=PageFlags.R, page_type=PageType.VA), PAGE),
        ("eadd.page_type", 0, SecInfo(page_flags=PageFlags.R, page_type=PageType.TRIM), PAGE),
        ("eadd.permissions", 0, SecInfo(page_flags=PageFlags.W, page_type=PageType.REG), PAGE),
        ("eadd.permissions", 0, SecInfo(page_flags=PageFlags.R | PageFlags.PENDING, page_type=PageType.REG), PAGE),
        ("eadd.permissions", 0, SecInfo(page_flags=PageFlags.MODIFIED, page_type=PageType.REG), PAGE),
        ("eadd.permissions", 0, SecInfo(page_flags=PageFlags.PR, page_type=PageType.REG), PAGE),
        ("sgx.tcs.reserved", 0, TCS, PAGE),
    ],
)
def test_eadd_refuses_a_page_that_hardware_refuses(code: str, offset: int, secinfo: SecInfo, content: bytes) -> None:
    processor = cpu()
    eid = processor.ecreate(SECS)
    used = processor.epc.usage().used
    refused(code, processor.eadd, eid, offset, secinfo, content)
    assert processor.epc.usage().used == used


def test_eadd_refuses_a_page_twice() -> None:
    processor = cpu()
    eid = processor.ecreate(SECS)
    processor.eadd(eid, 0, REG_R, PAGE)
    refused("epcm.page.present", processor.eadd, eid, 0, REG_RW, PAGE)
    refused("epcm.page.present", processor.eadd_zero_pages, eid, 0, 2, REG_RW)


@pytest.mark.parametrize(
    ("code", "offset", "count", "secinfo"),
    [
        ("eadd.offset", 0, 0, REG_RW),
        ("eadd.offset", 0, -1, REG_RW),
        ("eadd.offset", 0, 17, REG_RW),
        ("eadd.offset", PAGE_SIZE, 16, REG_RW),
        ("eadd.page_type", 0, 1, TCS),
        ("eadd.permissions", 0, 1, SecInfo(page_flags=PageFlags.W, page_type=PageType.REG)),
    ],
)
def test_zero_pages_are_refused_as_single_pages_are(code: str, offset: int, count: int, secinfo: SecInfo) -> None:
    processor = cpu()
    refused(code, processor.eadd_zero_pages, processor.ecreate(SECS), offset, count, secinfo)


def test_a_tcs_page_loses_dbgoptin_before_it_is_measured() -> None:
    processor, built = cpu(), image()
    tcs_run = next(run for run in built.runs if run.secinfo.page_type is PageType.TCS)
    opted_in = replace(Tcs.parse(tcs_run.content), flags=TcsFlags.DBGOPTIN).build()
    runs = tuple(replace(run, content=opted_in) if run is tcs_run else run for run in built.runs)
    einit(processor, replace(built, runs=runs))


def test_the_epcm_holds_a_tcs_page_without_permissions() -> None:
    processor = cpu()
    eid = processor.ecreate(SECS)
    processor.eadd(eid, 0, replace(TCS, page_flags=PageFlags.R | PageFlags.W), bytes(PAGE_SIZE))
    entry = processor.epc.entry(eid, 0)
    assert entry is not None
    assert entry.flags == TCS.flags


@pytest.mark.parametrize(
    ("code", "offset"),
    [
        ("eextend.page", PAGE_SIZE),
        ("eextend.offset", 128),
        ("eextend.offset", -256),
        ("eextend.offset", 1 << 16),
    ],
)
def test_eextend_refuses_what_is_no_chunk_of_an_added_page(code: str, offset: int) -> None:
    processor = cpu()
    eid = processor.ecreate(SECS)
    processor.eadd(eid, 0, REG_R, PAGE)
    refused(code, processor.eextend, eid, offset)


def test_eextend_measures_zero_pages_as_zero() -> None:
    one, other = cpu(), cpu()
    first, second = one.ecreate(SECS), other.ecreate(SECS)
    one.eadd_zero_pages(first, 0, 2, REG_RW)
    one.eextend(first, PAGE_SIZE)
    for offset in (0, PAGE_SIZE):
        other.eadd(second, offset, REG_RW, bytes(PAGE_SIZE))
    other.eextend(second, PAGE_SIZE)
    assert measured(one, first) == measured(other, second)


def measured(processor: Cpu, eid: int) -> str:
    """MRENCLAVE so far, out of what EINIT says of another one."""
    signed = image().sigstruct
    with pytest.raises(UntrustedError) as raised:
        processor.einit(eid, signed, launch_key_hash=signed.mr_signer)
    return raised.value.message.rpartition(" ")[2]


def test_nothing_can_be_added_or_measured_or_started_after_einit() -> None:
    processor, built = cpu(), image()
    eid = einit(processor, built)
    free = built.secs.size - PAGE_SIZE
    refused("eadd.initialised", processor.eadd, eid, free, REG_RW, PAGE)
    refused("eadd.initialised", processor.eadd_zero_pages, eid, free, 1, REG_RW)
    refused("eextend.initialised", processor.eextend, eid, 0)
    refused("einit.initialised", processor.einit, eid, built.sigstruct, launch_key_hash=built.sigstruct.mr_signer)


def test_a_removed_enclave_is_gone() -> None:
    processor = cpu()
    inside = started(processor, image())
    processor.eremove(inside.eid)
    assert processor.epc.usage().used == 0
    for call in (processor.identity, processor.eremove):
        refused("enclave.unknown", call, inside.eid)
    refused("enclave.unknown", processor.eadd, inside.eid, 0, REG_R, PAGE)
    refused("epcm.page.absent", inside.touch_heap)


def test_an_enclave_says_nothing_of_itself_before_einit() -> None:
    processor = cpu()
    target = started(processor, image(b"target"))
    eid = build(processor, image())
    refused("enclave.not-initialised", processor.identity, eid)
    refused(
        "enclave.not-initialised",
        processor.ereport,
        eid,
        processor.identity(target.eid).target_info(),
        bytes(64),
    )
    refused("enclave.not-initialised", processor.egetkey, eid, KeyRequest(key_name=KeyName.SEAL))
    refused("enclave.not-initialised", processor.seal_key_request, eid, KeyName.SEAL, KeyPolicy.MRSIGNER)


# EINIT


def test_einit_gives_the_identity_that_was_signed() -> None:
    processor, built = cpu(), image()
    identity = processor.identity(einit(processor, built))
    assert identity.mr_enclave == built.sigstruct.enclave_hash
    assert identity.mr_signer == built.sigstruct.mr_signer
    assert (identity.isv_prod_id, identity.isv_svn) == (7, 2)
    assert identity.attributes == with_flags(AttributeFlags.INIT)


def flipped(raw: bytes) -> bytes:
    return bytes([raw[0] ^ 1]) + raw[1:]


def unsigned_change(built: EnclaveImage, **changes: Any) -> EnclaveImage:
    return replace(built, sigstruct=replace(built.sigstruct, **changes))


def broken_number(name: str) -> EnclaveImage:
    built = image()
    return unsigned_change(built, **{name: flipped(getattr(built.sigstruct, name))})


@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("invalid_sig_struct", lambda: resigned(image(), vendor=1)),
        ("invalid_sig_struct", lambda: unsigned_change(image(), exponent=65537)),
        ("invalid_signature", lambda: broken_number("signature")),
        ("invalid_signature", lambda: broken_number("q1")),
        ("invalid_signature", lambda: broken_number("q2")),
        ("invalid_signature", lambda: unsigned_change(image(), q1=b"\xff" * 384)),
        ("invalid_signature", lambda: unsigned_change(image(), isv_prod_id=8)),
        ("invalid_signature", lambda: unsigned_change(image(), isv_svn=3)),
        ("invalid_measurement", lambda: changed_after_signing(image())),
        ("invalid_measurement", lambda: resigned(image(), enclave_hash=bytes(32))),
        ("invalid_sig_struct", lambda: resigned(image(), isv_family_id=b"\1" * 16)),
        ("invalid_sig_struct", lambda: resigned(image(), isv_ext_prod_id=b"\1" * 16)),
    ],
    ids=[
        "foreign vendor",
        "exponent of 65537",
        "flipped bit in the signature",
        "flipped bit in q1",
        "flipped bit in q2",
        "q1 above the modulus",
        "product changed after signing",
        "version changed after signing",
        "page changed after signing",
        "signed for another enclave",
        "family id without KSS",
        "extended product id without KSS",
    ],
)
def test_einit_refuses_a_sigstruct_or_an_enclave_with_one_defect(code: str, make: Callable[[], EnclaveImage]) -> None:
    processor, built = cpu(), make()
    eid = build(processor, built)
    refused(f"einit.{code}", processor.einit, eid, built.sigstruct, launch_key_hash=built.sigstruct.mr_signer)
    refused("enclave.not-initialised", processor.identity, eid)


@pytest.mark.parametrize(
    ("mask", "changes"),
    [
        ({}, {"attributes": with_flags(AttributeFlags.DEBUG)}),
        ({}, {"attributes": with_flags(AttributeFlags.PROVISIONKEY)}),
        ({}, {"attributes": with_flags(AttributeFlags(1 << 40))}),
        ({"attribute_mask": Attributes(flags=NONE, xfrm=7)}, {"attributes": with_flags(NONE, xfrm=7)}),
        ({"misc_mask": 1}, {"misc_select": int(MiscSelect.EXINFO)}),
        (
            {"attribute_mask": PLAIN, "cet_attributes_mask": 1},
            {"attributes": with_flags(AttributeFlags.CET), "cet_attributes": 1},
        ),
    ],
    ids=["debug", "provisionkey", "unknown flag", "xfrm", "miscselect", "cet"],
)
def test_einit_refuses_an_enclave_created_with_what_its_signer_forbids(
    mask: dict[str, Any], changes: dict[str, Any]
) -> None:
    processor, built = cpu(), resigned(image(), **mask)
    eid = build(processor, built, replace(built.secs, **changes))
    refused("einit.invalid_attribute", processor.einit, eid, built.sigstruct, launch_key_hash=built.sigstruct.mr_signer)


@pytest.mark.parametrize(
    ("mask", "changes"),
    [
        ({"attribute_mask": PLAIN}, {"attributes": with_flags(AttributeFlags.DEBUG)}),
        ({"attribute_mask": PLAIN}, {"attributes": with_flags(NONE, xfrm=7)}),
        ({"misc_mask": 0}, {"misc_select": int(MiscSelect.EXINFO)}),
        ({"attribute_mask": PLAIN}, {"attributes": with_flags(AttributeFlags.CET), "cet_attributes": 1}),
    ],
    ids=["debug", "xfrm", "miscselect", "cet"],
)
def test_einit_takes_what_the_signer_left_free(mask: dict[str, Any], changes: dict[str, Any]) -> None:
    processor, built = cpu(), resigned(image(), **mask)
    eid = einit(processor, built, replace(built.secs, **changes))
    identity = processor.identity(eid)
    assert identity.attributes.flags & ~AttributeFlags.INIT == changes.get("attributes", PLAIN).flags
    assert identity.misc_select == changes.get("misc_select", 0)
    assert identity.cet_attributes == changes.get("cet_attributes", 0)


def test_einit_takes_identifiers_with_kss_and_reports_them() -> None:
    processor = cpu()
    built = with_attributes(AttributeFlags.KSS, isv_family_id=b"\xfa" * 16, isv_ext_prod_id=b"\xeb" * 16)
    identity = processor.identity(einit(processor, built))
    assert (identity.isv_family_id, identity.isv_ext_prod_id) == (b"\xfa" * 16, b"\xeb" * 16)


def test_einit_refuses_a_signer_that_the_launch_key_register_does_not_name() -> None:
    processor, built = cpu(), image()
    stranger = image(key=stranger_key()).sigstruct.mr_signer
    refused(
        "einit.invalid_einittoken",
        processor.einit,
        build(processor, built),
        built.sigstruct,
        launch_key_hash=stranger,
    )


# EREPORT


def test_the_target_finds_the_mac_of_a_report_good_and_nobody_else_does() -> None:
    processor = cpu()
    reporter, target = started(processor, image()), started(processor, image(b"target"))
    third = started(processor, image(b"third"))
    elsewhere = started(cpu("second"), image(b"target"))
    report = reporter.report(processor.identity(target.eid).target_info(), bytes(range(64)))
    assert report.body.report_data == bytes(range(64))
    assert report.body.mr_enclave == processor.identity(reporter.eid).mr_enclave
    assert report.body.cpu_svn == CPU_SVN
    assert mac_is_good(target, report)
    assert not mac_is_good(third, report)
    assert not mac_is_good(elsewhere, report)


@pytest.mark.parametrize(
    "changes",
    [{"isv_svn": 3}, {"mr_enclave": bytes(32)}, {"report_data": bytes(64)}, {"attributes": with_flags(NONE)}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_report_body_has_no_good_mac(changes: dict[str, Any]) -> None:
    processor = cpu()
    reporter, target = started(processor, image()), started(processor, image(b"target"))
    report = reporter.report(processor.identity(target.eid).target_info(), bytes(range(64)))
    assert not mac_is_good(target, replace(report, body=replace(report.body, **changes)))


def test_report_keys_differ_from_one_start_of_the_processor_to_the_next() -> None:
    first, second = started(cpu(), image()), started(cpu(), image())
    target = first.cpu.identity(first.eid).target_info()
    assert first.report(target, bytes(64)).key_id != second.report(target, bytes(64)).key_id


def test_ereport_refuses_report_data_of_another_length() -> None:
    inside = started(cpu(), image())
    refused("sgx.report_body.field", inside.report, inside.cpu.identity(inside.eid).target_info(), bytes(63))


# EGETKEY


def seal_request(**changes: Any) -> KeyRequest:
    fields: dict[str, Any] = {"key_policy": KeyPolicy.MRSIGNER, "isv_svn": 2, "cpu_svn": CPU_SVN, "key_id": b"\7" * 32}
    return KeyRequest(key_name=KeyName.SEAL, **{**fields, **changes})


def test_a_key_is_the_same_for_the_same_enclave_cpu_and_request() -> None:
    request = seal_request()
    key = started(cpu(), image()).get_key(request)
    assert key == started(cpu(), image()).get_key(request)
    assert len(key) == 16


@pytest.mark.parametrize(
    "other",
    [
        lambda: started(cpu(), image(key=stranger_key())).get_key(seal_request()),
        lambda: started(cpu(), image(product_id=8)).get_key(seal_request()),
        lambda: started(cpu("second"), image()).get_key(seal_request()),
        lambda: started(cpu(), image(debug=True)).get_key(seal_request()),
        lambda: started(cpu(), image()).get_key(seal_request(key_id=b"\6" * 32)),
        lambda: started(cpu(), image()).get_key(seal_request(isv_svn=1)),
        lambda: started(cpu(), image()).get_key(seal_request(cpu_svn=CpuSvn(bytes(16)))),
        lambda: started(cpu(), image()).get_key(seal_request(key_policy=KeyPolicy.MRENCLAVE)),
        lambda: started(cpu(), image()).get_key(replace(seal_request(), key_name=KeyName.REPORT)),
    ],
    ids=["signer", "product", "cpu", "debug", "keyid", "isvsvn", "cpusvn", "policy", "name"],
)
def test_a_key_differs_by(other: Callable[[], bytes]) -> None:
    assert other() != started(cpu(), image()).get_key(seal_request())


def test_a_key_by_signer_is_shared_by_his_enclaves_and_one_by_enclave_is_not() -> None:
    processor = cpu()
    one, two = started(processor, image(b"one")), started(processor, image(b"two"))
    assert one.get_key(seal_request()) == two.get_key(seal_request())
    own = seal_request(key_policy=KeyPolicy.MRENCLAVE)
    assert one.get_key(own) != two.get_key(own)


def test_a_newer_version_gets_the_keys_of_an_older_one_and_not_the_other_way_round() -> None:
    processor = cpu()
    old, new = started(processor, image(svn=2)), started(processor, image(svn=3))
    assert new.get_key(seal_request()) == old.get_key(seal_request())
    refused("egetkey.invalid_isvsvn", old.get_key, seal_request(isv_svn=3))


def test_egetkey_refuses_a_higher_cpusvn() -> None:
    higher = CpuSvn(bytes([CPU_SVN[0] + 1]) + CPU_SVN[1:])
    refused("egetkey.invalid_cpusvn", started(cpu(), image()).get_key, seal_request(cpu_svn=higher))


@pytest.mark.parametrize("name", [KeyName.PROVISION, KeyName.PROVISION_SEAL, KeyName.EINITTOKEN])
def test_egetkey_refuses_a_key_that_needs_an_attribute_the_enclave_lacks(name: KeyName) -> None:
    request = replace(seal_request(), key_name=name, key_policy=KeyPolicy(0))
    refused("egetkey.invalid_attribute", started(cpu(), image()).get_key, request)


@pytest.mark.parametrize(("name", "root"), [(KeyName.PROVISION, "provisioning_root"), (KeyName.SEAL, "root")])
def test_provisioning_keys_come_from_a_root_of_their_own(name: KeyName, root: str) -> None:
    request = KeyRequest(key_name=name, cpu_svn=CPU_SVN)
    keys = {
        changed: started(
            Cpu(fuses=replace(fuses(), **{changed: bytes(16)}), epc=Epc(Pages(1000))), image(provision=True)
        ).get_key(request)
        for changed in ("provisioning_root", "root")
    }
    usual = started(cpu(), image(provision=True)).get_key(request)
    assert {changed for changed, key in keys.items() if key != usual} == {root}


def test_egetkey_refuses_an_unknown_key_name() -> None:
    refused("egetkey.invalid_keyname", started(cpu(), image()).get_key, KeyRequest(key_name=5))


def test_a_request_for_sealing_is_bound_to_debug_and_fresh() -> None:
    inside = started(cpu(), image())
    one, two = inside.seal_key_request(), inside.seal_key_request()
    assert AttributeFlags.DEBUG in one.attribute_mask.flags
    assert (one.isv_svn, one.cpu_svn, one.key_policy) == (2, CPU_SVN, KeyPolicy.MRSIGNER)
    assert one.key_id != two.key_id
