from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.errors import MalformedError
from bastide.pki import der
from bastide.pki.chain import extensions_of
from bastide.pki.pck import SGX_EXTENSIONS_OID, TCB_OID, SgxExtensions, SgxType, sgx_extensions
from bastide.sgx.types import CpuSvn
from bastide.sim.intel import Pki, issue_pck, platform
from support.real_pki import real_chains

AT = datetime(2026, 1, 1, tzinfo=UTC)
Tree = tuple[der.Value, ...]


def entries_of(extensions: SgxExtensions) -> Tree:
    tree = der.decode(extensions.build())
    assert isinstance(tree, tuple)
    return tree


def with_value(tree: Tree, index: int, change: Callable[[der.Value], der.Value]) -> Tree:
    entry = tree[index]
    assert isinstance(entry, tuple)
    return (*tree[:index], (entry[0], change(entry[1])), *tree[index + 1 :])


def code_of(tree: der.Value) -> str:
    with pytest.raises(MalformedError) as caught:
        SgxExtensions.parse(der.encode(tree))
    return caught.value.code


def test_reads_all_seven_parts_of_a_platform_ca_certificate() -> None:
    extensions = SgxExtensions.parse(platform().build())
    assert extensions.fmspc == b"SIMULA"
    assert extensions.tcb.components[4] == 255
    assert extensions.tcb.pce_svn == 13
    assert extensions.sgx_type is SgxType.SCALABLE
    assert (extensions.dynamic_platform, extensions.cached_keys, extensions.smt_enabled) == (True, True, True)


def test_reads_the_five_parts_of_a_processor_ca_certificate() -> None:
    extensions = SgxExtensions.parse(platform(platform_ca=False).build())
    assert extensions.platform_instance_id is None
    assert extensions.smt_enabled is None


def test_keeps_the_cpu_svn_apart_from_the_components() -> None:
    extensions = platform(components=(200, *(0,) * 15), cpu_svn=CpuSvn(bytes(range(16))))
    assert SgxExtensions.parse(extensions.build()).tcb == extensions.tcb


@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_refuses_any_other_count_of_parts_than_five_or_seven(count: int) -> None:
    assert code_of(entries_of(platform())[:count]) == "pki.pck.parts"


def test_refuses_an_eighth_part() -> None:
    assert code_of((*entries_of(platform()), (f"{SGX_EXTENSIONS_OID}.8", 1))) == "pki.pck.parts"


def test_refuses_an_entry_that_is_no_pair_among_the_parts() -> None:
    assert code_of((*entries_of(platform(platform_ca=False)), ("1.2", 1, 1))) == "pki.pck.parts"


def test_refuses_parts_out_of_order() -> None:
    first, second, *rest = entries_of(platform())
    assert code_of((second, first, *rest)) == "pki.pck.parts"


@pytest.mark.parametrize("tree", [b"", 5, ((),), (1, 2, 3, 4, 5), (("1.2",),) * 5, (("1.2", 1, 1),) * 5])
def test_refuses_what_is_no_sequence_of_pairs(tree: der.Value) -> None:
    assert code_of(tree) == "pki.pck.parts"


@pytest.mark.parametrize("count", [0, 16, 17])
def test_refuses_fewer_than_eighteen_tcb_parts(count: int) -> None:
    tree = with_value(entries_of(platform()), 1, lambda tcb: tcb[:count] if isinstance(tcb, tuple) else tcb)
    assert code_of(tree) == "pki.pck.parts"


def test_refuses_a_nineteenth_tcb_part() -> None:
    extra = (f"{TCB_OID}.19", 0)
    tree = with_value(entries_of(platform()), 1, lambda tcb: (*tcb, extra) if isinstance(tcb, tuple) else tcb)
    assert code_of(tree) == "pki.pck.parts"


def test_refuses_a_tcb_part_given_twice() -> None:
    tree = with_value(entries_of(platform()), 1, lambda tcb: (tcb[0], *tcb[:17]) if isinstance(tcb, tuple) else tcb)
    assert code_of(tree) == "pki.pck.parts"


@pytest.mark.parametrize(("part", "value"), [(0, 256), (15, True), (3, b"\x01"), (16, 65536), (17, bytes(15))])
def test_refuses_tcb_values_out_of_range_or_of_another_type(part: int, value: der.Value) -> None:
    def change(tcb: der.Value) -> der.Value:
        assert isinstance(tcb, tuple)
        return with_value(tcb, part, lambda _: value)

    assert code_of(with_value(entries_of(platform()), 1, change)) == "pki.pck.value"


@pytest.mark.parametrize(
    ("part", "value"),
    [(0, bytes(17)), (2, bytes(1)), (3, bytes(7)), (3, 5), (4, 1), (4, der.Enumerated(value=3)), (5, b"")],
)
def test_refuses_values_of_another_type_or_size(part: int, value: der.Value) -> None:
    assert code_of(with_value(entries_of(platform()), part, lambda _: value)) == "pki.pck.value"


def test_refuses_a_configuration_of_numbers() -> None:
    def change(configuration: der.Value) -> der.Value:
        assert isinstance(configuration, tuple)
        return with_value(configuration, 0, lambda _: 1)

    assert code_of(with_value(entries_of(platform()), 6, change)) == "pki.pck.value"


def test_refuses_a_negative_component() -> None:
    raw = platform(components=(128, *(0,) * 15)).build()
    assert raw.count(b"\x02\x02\x00\x80") == 1
    # The way a careless writer encodes 128: one octet, which DER reads as -128.
    broken = raw.replace(b"\x02\x02\x00\x80", b"\x02\x01\x80")
    with pytest.raises(MalformedError):
        SgxExtensions.parse(broken)


def test_refuses_a_certificate_without_the_extension() -> None:
    with pytest.raises(MalformedError, match="has none"):
        sgx_extensions(Pki.create(AT).root.certificate)


def test_finds_the_extension_in_a_pck_certificate() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sgx = replace(platform(), ppid=b"P" * 16)
    assert sgx_extensions(issue_pck(Pki.create(AT), key.public_key(), sgx, AT)) == sgx


def test_real_sgx_extensions_from_vectors_are_built_back_byte_for_byte() -> None:
    for name, (leaf, *_) in real_chains().items():
        raw = next(e.value.value for e in extensions_of(leaf) if e.oid.dotted_string == SGX_EXTENSIONS_OID)
        assert sgx_extensions(leaf).build() == raw, name
