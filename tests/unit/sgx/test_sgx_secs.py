from dataclasses import replace

import pytest

from bastide.errors import MalformedError
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.secs import EinitToken, PageFlags, PageInfo, PageType, SecInfo, Secs, Tcs, TcsFlags
from support.sgx_values import CPU_SVN, MR_ENCLAVE, MR_SIGNER, attributes

SECS = Secs(
    size=1 << 24,
    base_addr=0x7F00_0000_0000,
    ssa_frame_size=4,
    misc_select=1,
    cet_leg_bitmap_offset=0x1000,
    cet_attributes=2,
    attributes=attributes(),
    mr_enclave=MR_ENCLAVE,
    mr_signer=MR_SIGNER,
    config_id=b"c" * 64,
    isv_prod_id=7,
    isv_svn=2,
    config_svn=4,
)
TCS = Tcs(flags=TcsFlags.AEXNOTIFY, ossa=0x3000, nssa=2, oentry=0x1234, ofs_base=0x5000, ogs_base=0x6000)
TOKEN = EinitToken(
    valid=True,
    attributes=attributes(),
    mr_enclave=MR_ENCLAVE,
    mr_signer=MR_SIGNER,
    cpu_svn_le=CPU_SVN,
    isv_prod_id_le=1,
    isv_svn_le=2,
    masked_misc_select_le=3,
    masked_attributes_le=attributes(AttributeFlags.EINITTOKENKEY),
    key_id=b"k" * 32,
    mac=b"m" * 16,
)


def flipped(raw: bytes, offset: int) -> bytes:
    return raw[:offset] + bytes([raw[offset] ^ 0x80]) + raw[offset + 1 :]


def test_every_field_of_the_secs_lies_where_the_manual_says() -> None:
    raw = SECS.build()
    assert len(raw) == 4096
    assert raw[:33].hex() == "000000010000000000000000007f00000400000001000000001000000000000002"
    assert raw[48:64] == attributes().build()
    assert (raw[64:96], raw[128:160], raw[192:256]) == (MR_ENCLAVE, MR_SIGNER, b"c" * 64)
    assert raw[256:262] == bytes([7, 0, 2, 0, 4, 0])
    assert Secs.parse(raw) == SECS


@pytest.mark.parametrize("offset", [33, 47, 96, 160, 191, 262, 4095])
def test_refuses_a_secs_with_a_reserved_byte_set(offset: int) -> None:
    with pytest.raises(MalformedError) as error:
        Secs.parse(flipped(SECS.build(), offset))
    assert error.value.code == "sgx.secs.reserved"


def test_every_field_of_the_tcs_lies_where_the_manual_says() -> None:
    full = replace(TCS, stage=1, cssa=1, aep=9, ocet_ssa=0x7000, prev_ssp=0x8000, fs_limit=0xFFF)
    raw = full.build()
    words = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, 96, 8)]
    assert words == [
        1, 2, 0x3000, 2 << 32 | 1, 0x1234, 9, 0x5000, 0x6000, 0xFFFF_FFFF_0000_0FFF, 0x7000, 0x8000, 0,
    ]  # fmt: skip
    assert len(raw) == 4096
    assert Tcs.parse(raw) == full


@pytest.mark.parametrize("offset", [88, 4095])
def test_refuses_a_tcs_with_a_reserved_byte_set(offset: int) -> None:
    with pytest.raises(MalformedError) as error:
        Tcs.parse(flipped(TCS.build(), offset))
    assert error.value.code == "sgx.tcs.reserved"


def test_secinfo_flags_hold_the_page_type_above_the_permissions() -> None:
    assert SecInfo(page_flags=PageFlags.R | PageFlags.W, page_type=PageType.REG).flags == 0x203
    assert SecInfo(page_flags=PageFlags(0), page_type=PageType.TCS).flags == 0x100
    assert SecInfo.parse(b"\x05\x02" + bytes(62)).page_flags == PageFlags.R | PageFlags.X


@pytest.mark.parametrize("flags", [0x240, 0x280, 0x1_0203, 1 << 63, -1])
def test_refuses_reserved_secinfo_flags(flags: int) -> None:
    with pytest.raises(MalformedError) as error:
        SecInfo.of_flags(flags)
    assert error.value.code == "sgx.secinfo.flags"


def test_refuses_an_unknown_page_type() -> None:
    with pytest.raises(MalformedError) as error:
        SecInfo.parse(b"\x03\x07" + bytes(62))
    assert error.value.code == "sgx.secinfo.page_type"


@pytest.mark.parametrize("offset", [8, 63])
def test_refuses_a_secinfo_with_a_reserved_byte_set(offset: int) -> None:
    with pytest.raises(MalformedError) as error:
        SecInfo.parse(flipped(b"\x03\x02" + bytes(62), offset))
    assert error.value.code == "sgx.secinfo.reserved"


def test_pageinfo_is_four_addresses() -> None:
    info = PageInfo(lin_addr=1, src_pge=2, secinfo=3, secs=4)
    assert info.build() == b"".join(value.to_bytes(8, "little") for value in (1, 2, 3, 4))
    assert PageInfo.parse(info.build()) == info


def test_every_field_of_the_einittoken_lies_where_the_manual_says() -> None:
    raw = TOKEN.build()
    assert len(raw) == 304
    assert raw[:4] == b"\x01\0\0\0"
    assert raw[48:64] == attributes().build()
    assert (raw[64:96], raw[128:160], raw[192:208]) == (MR_ENCLAVE, MR_SIGNER, CPU_SVN)
    assert raw[208:212] == b"\x01\0\x02\0"
    assert raw[236:240] == b"\x03\0\0\0"
    assert raw[240:256] == TOKEN.masked_attributes_le.build()
    assert raw[256:] == b"k" * 32 + b"m" * 16
    assert TOKEN.mac_input == raw[:192]
    assert EinitToken.parse(raw) == TOKEN


def test_an_all_zero_einittoken_is_read_as_not_valid() -> None:
    assert not EinitToken.parse(bytes(304)).valid


@pytest.mark.parametrize("offset", [4, 47, 96, 160, 191, 212, 235])
def test_refuses_an_einittoken_with_a_reserved_byte_set(offset: int) -> None:
    with pytest.raises(MalformedError) as error:
        EinitToken.parse(flipped(TOKEN.build(), offset))
    assert error.value.code == "sgx.einittoken.reserved"


def test_refuses_an_einittoken_whose_reserved_valid_bits_are_set() -> None:
    with pytest.raises(MalformedError) as error:
        EinitToken.parse(flipped(TOKEN.build(), 0))
    assert error.value.code == "sgx.einittoken.valid"
