import struct
from dataclasses import replace

import pytest

from bastide.enclave.elf import ElfImage
from bastide.enclave.image import EnclaveBlock
from bastide.enclave.open_enclave import MAX_THREADS, blocks
from bastide.errors import MalformedError
from bastide.sgx.sigstruct import sign
from support.enclave_files import PAGE, SEGMENTS, Elf, OeFile, Sec, Seg, expected_oe
from support.sgx_values import signing_key, unsigned_sigstruct


def read(raw: bytes) -> EnclaveBlock:
    (block,) = blocks(ElfImage.parse(raw))
    return block


def code_of(raw: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        read(raw)
    return caught.value.code


@pytest.mark.parametrize(
    "file",
    [OeFile(), OeFile(heap=0), OeFile(stack=0), OeFile(threads=0), OeFile(heap=70, stack=300, threads=5)],
)
def test_loads_patched_segments_relocations_heap_and_threads(file: OeFile) -> None:
    block = read(file.build())
    assert block.layout is not None
    assert block.layout.measure().digest() == expected_oe(file).digest()
    assert block.summary is not None
    assert (block.summary.heap_pages, block.summary.stack_pages, block.summary.threads) == (
        file.heap,
        file.stack,
        file.threads,
    )


def test_the_signature_is_read_and_not_measured() -> None:
    file = OeFile(sigstruct=sign(unsigned_sigstruct(), signing_key()))
    raw = file.build()
    block = read(raw)
    assert block.sigstruct == file.sigstruct
    assert block.sigstruct_offset is not None
    assert raw[block.sigstruct_offset :].startswith(block.sigstruct.build() if block.sigstruct else b"?")
    assert block.layout is not None
    assert block.layout.measure().digest() == expected_oe(file).digest()


def test_without_relocations_the_heap_follows_the_image() -> None:
    block = read(OeFile(relocations=b"", symbols=()).build())
    assert block.layout is not None
    heap = next(run for run in block.layout.runs if run.zero_pages)
    assert heap.offset == 0x7000


@pytest.mark.parametrize(("file", "word"), [(OeFile(flags=2), "zero-base"), (OeFile(needed=True), "modules")])
def test_variants_without_public_files_are_named_and_not_measured(file: OeFile, word: str) -> None:
    block = read(file.build())
    assert block.layout is None
    assert word in block.untested


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (OeFile(info_size=1959), "enclave.oeinfo.size"),
        (OeFile(info_size=2**32 - 1), "enclave.oeinfo.size"),
        (OeFile(threads=MAX_THREADS + 1), "enclave.oeinfo.limits"),
        (OeFile(heap=2**64 - 1), "enclave.oeinfo.limits"),
        (OeFile(stack=2**64 - 1), "enclave.oeinfo.limits"),
        (OeFile(stack=1 << 34), "enclave.layout.work"),
        (OeFile(tbss=1 << 44, threads=1), "enclave.layout.work"),
        (OeFile(tbss=1 << 63, threads=4096), "enclave.oeinfo.limits"),
        (OeFile(relocations=struct.pack("<QQq", 0, 99 << 32 | 18, 0)), "elf.range"),
    ],
)
def test_refuses_sizes_that_cannot_be(file: OeFile, code: str) -> None:
    assert code_of(file.build()) == code


def test_refuses_a_file_without_the_section() -> None:
    assert code_of(Elf(segments=SEGMENTS).build()) == "enclave.part.missing"


def test_refuses_an_image_that_does_not_start_at_zero() -> None:
    info = OeFile().info()
    segments = (Seg(address=0x3000, data=info),)
    raw = Elf(segments=segments, sections=(Sec(name=".oeinfo", address=0x3000, size=1960),)).build()
    assert code_of(raw) == "enclave.oeinfo.segments"


def test_a_symbol_outside_of_the_image_is_not_written() -> None:
    raw = OeFile().build()
    at = raw.index(struct.pack("<Q", OeFile().symbol_address("_reloc_rva")))
    moved = raw[:at] + struct.pack("<Q", 1 << 62) + raw[at + 8 :]
    found, usual = read(moved).layout, read(raw).layout
    assert found is not None
    assert usual is not None
    assert found.pages == usual.pages


def test_thread_local_storage_takes_pages_of_each_thread() -> None:
    small, large = (read(OeFile(tbss=size).build()).layout for size in (100, 100 + 3 * PAGE))
    assert small is not None
    assert large is not None
    assert large.pages - small.pages == 2 * 3


def test_the_size_is_the_next_power_of_two_with_all_guards() -> None:
    sizes = []
    for heap in range(60, 120, 10):
        layout = read(replace(OeFile(), heap=heap).build()).layout
        assert layout is not None
        sizes.append((layout.size, max(run.end for run in layout.runs)))
    assert all(end <= size < 2 * (end + PAGE) for size, end in sizes)
