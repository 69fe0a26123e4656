from bastide.sgx.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from support.sgx_values import attributes


def test_reads_the_attributes_of_a_provisioning_enclave() -> None:
    parsed = Attributes.parse(bytes.fromhex("15000000000000000300000000000000"))
    assert parsed.flags == AttributeFlags.INIT | AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY
    assert parsed.xfrm == Xfrm.X87 | Xfrm.SSE


def test_keeps_bits_without_a_name() -> None:
    raw = b"\xff" * 16
    assert Attributes.parse(raw).build() == raw
    assert MiscSelect(1 << 31 | 1) == 0x8000_0001


def test_debug_is_told() -> None:
    assert attributes(AttributeFlags.DEBUG).debug
    assert not attributes().debug


def test_a_mask_leaves_only_its_bits() -> None:
    mask = Attributes(flags=AttributeFlags.DEBUG | AttributeFlags.INIT, xfrm=1)
    assert attributes().masked(mask) == Attributes(flags=AttributeFlags.INIT, xfrm=1)
