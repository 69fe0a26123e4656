import hashlib
import tracemalloc
from collections.abc import Callable

import pytest

from bastide.errors import MalformedError
from bastide.sgx.measurement import Measurement, SgxsReader, measure_sgxs
from bastide.sgx.sigstruct import SigStruct
from support.vectors import vectors

SIZE = 1 << 24
PAGE = bytes(range(256)) * 16
REG_RW, TCS = 0x203, 0x100


def ecreate(size: int = SIZE, ssa_frame_size: int = 1) -> bytes:
    return b"ECREATE\0" + ssa_frame_size.to_bytes(4, "little") + size.to_bytes(8, "little") + bytes(44)


def eadd(offset: int, flags: int = REG_RW) -> bytes:
    return b"EADD\0\0\0\0" + offset.to_bytes(8, "little") + flags.to_bytes(8, "little") + bytes(40)


def eextend(offset: int, chunk: bytes = PAGE[:256]) -> bytes:
    return b"EEXTEND\0" + offset.to_bytes(8, "little") + bytes(48) + chunk


def whole_page(offset: int, flags: int = REG_RW) -> bytes:
    return eadd(offset, flags) + b"".join(eextend(offset + at, PAGE[at : at + 256]) for at in range(0, 4096, 256))


def begun(size: int = SIZE) -> Measurement:
    measurement = Measurement()
    measurement.ecreate(size, 1)
    return measurement


def test_each_instruction_hashes_its_record() -> None:
    measurement = begun()
    measurement.eadd(0x1000, REG_RW)
    measurement.eextend(0x1100, PAGE[:256])
    assert measurement.digest() == hashlib.sha256(ecreate() + eadd(0x1000) + eextend(0x1100)).digest()


def test_a_whole_page_is_one_eadd_and_sixteen_eextends() -> None:
    measurement = begun()
    measurement.add_page(0x2000, REG_RW, PAGE)
    assert measurement.digest() == hashlib.sha256(ecreate() + whole_page(0x2000)).digest()


@pytest.mark.parametrize("pages", [0, 1, 1023, 1024, 1025, 2500])
def test_an_unmeasured_run_equals_its_pages_one_by_one(pages: int) -> None:
    run, single = begun(), begun()
    run.eadd_unmeasured_run(0x3000, pages, REG_RW)
    for index in range(pages):
        single.eadd(0x3000 + index * 4096, REG_RW)
    assert run.digest() == single.digest()


def test_an_unmeasured_run_needs_little_memory() -> None:
    measurement = begun(1 << 32)
    tracemalloc.start()
    measurement.eadd_unmeasured_run(0, 1 << 17, REG_RW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


@pytest.mark.parametrize(
    "add",
    [
        lambda measurement, flags: measurement.eadd(0, flags),
        lambda measurement, flags: measurement.add_page(0, flags, PAGE),
        lambda measurement, flags: measurement.eadd_unmeasured_run(0, 2, flags),
    ],
)
def test_a_tcs_page_is_measured_without_permissions(add: Callable[[Measurement, int], None]) -> None:
    plain, with_permissions = begun(), begun()
    add(plain, TCS)
    add(with_permissions, TCS | 7)
    assert plain.digest() == with_permissions.digest()


def test_measuring_goes_on_after_a_digest() -> None:
    measurement = begun()
    first = measurement.digest()
    measurement.eadd(0, REG_RW)
    assert measurement.digest() == hashlib.sha256(ecreate() + eadd(0)).digest() != first


@pytest.mark.parametrize(
    ("code", "act"),
    [
        ("measurement.order", lambda m: m.ecreate(SIZE, 1)),
        ("measurement.offset", lambda m: m.eadd(1, REG_RW)),
        ("measurement.offset", lambda m: m.eadd(-4096, REG_RW)),
        ("measurement.offset", lambda m: m.eadd(SIZE, REG_RW)),
        ("measurement.offset", lambda m: m.add_page(256, REG_RW, PAGE)),
        ("measurement.offset", lambda m: m.add_page(SIZE, REG_RW, PAGE)),
        ("measurement.offset", lambda m: m.eextend(128, PAGE[:256])),
        ("measurement.offset", lambda m: m.eextend(SIZE, PAGE[:256])),
        ("measurement.offset", lambda m: m.eadd_unmeasured_run(4096, SIZE // 4096, REG_RW)),
        ("measurement.offset", lambda m: m.eadd_unmeasured_run(0, -1, REG_RW)),
        ("measurement.data", lambda m: m.add_page(0, REG_RW, PAGE[:-1])),
        ("measurement.data", lambda m: m.eextend(0, PAGE[:255])),
        ("measurement.flags", lambda m: m.eadd(0, 1 << 64)),
        ("measurement.flags", lambda m: m.eadd(0, -1)),
    ],
)
def test_refuses_what_hardware_could_not_build(code: str, act: Callable[[Measurement], None]) -> None:
    with pytest.raises(MalformedError) as error:
        act(begun())
    assert error.value.code == code


@pytest.mark.parametrize(
    "act",
    [
        lambda m: m.eadd(0, REG_RW),
        lambda m: m.eextend(0, PAGE[:256]),
        lambda m: m.add_page(0, REG_RW, PAGE),
        lambda m: m.eadd_unmeasured_run(0, 0, REG_RW),
        lambda m: m.digest(),
    ],
)
def test_nothing_comes_before_ecreate(act: Callable[[Measurement], object]) -> None:
    with pytest.raises(MalformedError) as error:
        act(Measurement())
    assert error.value.code == "measurement.order"


@pytest.mark.parametrize(("size", "ssa"), [(0, 1), (4096, 1), (12288, 1), (1 << 64, 1), (SIZE, 0), (SIZE, 1 << 32)])
def test_refuses_an_ecreate_that_hardware_refuses(size: int, ssa: int) -> None:
    with pytest.raises(MalformedError) as error:
        Measurement().ecreate(size, ssa)
    assert error.value.code == "measurement.ecreate"


STREAM = ecreate() + whole_page(0) + eadd(0x1000) + whole_page(0x2000, TCS)


@pytest.mark.parametrize("step", [1, 7, 64, 320, 4096, len(STREAM)])
def test_a_stream_measures_the_same_in_pieces_of_any_size(step: int) -> None:
    pieces = [STREAM[at : at + step] for at in range(0, len(STREAM), step)]
    assert measure_sgxs(pieces) == (hashlib.sha256(STREAM).digest(), 3)


@pytest.mark.parametrize(
    ("code", "stream"),
    [
        ("measurement.order", b""),
        ("measurement.order", eadd(0)),
        ("measurement.order", ecreate() + ecreate()),
        ("measurement.offset", ecreate() + eadd(SIZE)),
        ("measurement.offset", ecreate() + eadd(0) + eextend(1)),
        ("measurement.ecreate", ecreate(size=12288)),
        ("sgxs.truncated", STREAM[:-1]),
        ("sgxs.truncated", STREAM + b"E"),
        ("sgxs.record", STREAM + b"UNSIZED\0"),
        ("sgxs.record", b"\x7fELF\x02\x01\x01\0"),
        ("sgxs.order", ecreate() + eextend(0)),
        ("sgxs.order", ecreate() + eadd(0x1000) + eadd(0x1000)),
        ("sgxs.order", ecreate() + eadd(0x2000) + eadd(0x1000)),
        ("sgxs.order", ecreate() + eadd(0) + eextend(0) + eextend(0)),
        ("sgxs.order", ecreate() + eadd(0) + eextend(0x1000)),
        ("sgxs.order", ecreate() + eadd(0) + eadd(0x1000) + eextend(0)),
        ("sgxs.flags", ecreate() + eadd(0, TCS | 1)),
        ("sgxs.padding", ecreate()[:-1] + b"\x01"),
        ("sgxs.padding", ecreate() + eadd(0)[:-1] + b"\x01"),
        ("sgxs.padding", ecreate() + eadd(0) + b"EEXTEND\0" + bytes(8) + b"\x01" + bytes(47) + PAGE[:256]),
    ],
)
def test_refuses_a_stream_that_is_not_canonical(code: str, stream: bytes) -> None:
    with pytest.raises(MalformedError) as error:
        measure_sgxs([stream])
    assert error.value.code == code


def test_a_reader_counts_pages_as_it_goes() -> None:
    reader = SgxsReader()
    reader.feed(ecreate() + eadd(0))
    assert reader.eadd_count == 1


def test_the_real_stream_measures_to_what_its_signer_signed() -> None:
    folder = vectors("enclave") / "sgxs"
    stream = (folder / "test_enclave.sgxs").read_bytes()
    signed = SigStruct.parse((folder / "test_enclave.sig").read_bytes())
    assert measure_sgxs([stream]) == (signed.enclave_hash, 9)
    assert signed.enclave_hash == hashlib.sha256(stream).digest()
