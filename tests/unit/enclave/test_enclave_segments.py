import pytest

from bastide.enclave.elf import ElfImage
from bastide.enclave.layout import EnclaveLayout
from bastide.enclave.segments import Patch, segment_runs
from bastide.errors import MalformedError
from support.enclave_files import PAGE, PF_R, PF_W, REG_R, REG_RW, Elf, PlainMeasurer, Seg

BODY = bytes(range(256)) * 64  # four pages


def runs_of(segment: Seg, **options: object) -> EnclaveLayout:
    elf = ElfImage.parse(Elf(segments=(segment,)).build())
    return EnclaveLayout(
        size=1 << 20,
        ssa_frame_size=1,
        runs=tuple(segment_runs(elf, elf.loads[0], **options)),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("lead", [0, 1, 0x100, PAGE - 1])
@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, 4 * PAGE])
@pytest.mark.parametrize("more", [0, 1, PAGE, 3 * PAGE + 5])
def test_pages_hold_the_file_between_zeros(lead: int, size: int, more: int) -> None:
    found = runs_of(Seg(address=PAGE + lead, data=BODY[:size], memory=size + more, flags=PF_R))
    pages = -(-(lead + size + more) // PAGE)
    content = (bytes(lead) + BODY[:size]).ljust(pages * PAGE, b"\0")
    expected = PlainMeasurer(1 << 20)
    if content:
        expected.pages(PAGE, REG_R, content)
    assert found.measure().digest() == expected.digest()


@pytest.mark.parametrize("at", [0, 0xF00 - 3, PAGE, 3 * PAGE - 2, 4 * PAGE - 4, 4 * PAGE + 20])
def test_a_patch_replaces_bytes_wherever_it_lies(at: int) -> None:
    found = runs_of(Seg(address=0x100, data=BODY, memory=5 * PAGE, flags=PF_R), patches=[Patch(at, b"patch")])
    content = bytearray((bytes(0x100) + BODY).ljust(6 * PAGE, b"\0"))
    content[0x100 + at : 0x100 + at + 5] = b"patch"
    assert found.measure().digest() == PlainMeasurer(1 << 20).pages(0, REG_R, bytes(content)).digest()


def test_a_later_patch_wins() -> None:
    found = runs_of(Seg(address=0, data=BODY, flags=PF_R), patches=[Patch(4, b"aaaa"), Patch(6, b"bb")])
    content = BODY[:4] + b"aabb" + BODY[8:]
    assert found.measure().digest() == PlainMeasurer(1 << 20).pages(0, REG_R, content).digest()


def test_a_patch_may_cover_many_pages() -> None:
    new = b"\7" * (2 * PAGE + 10)
    found = runs_of(Seg(address=0, data=BODY, flags=PF_R), patches=[Patch(100, new)])
    content = BODY[:100] + new + BODY[100 + len(new) :]
    assert found.measure().digest() == PlainMeasurer(1 << 20).pages(0, REG_R, content).digest()


@pytest.mark.parametrize("at", [-1, 2 * PAGE])
def test_refuses_a_patch_outside_of_the_segment(at: int) -> None:
    with pytest.raises(MalformedError) as caught:
        runs_of(Seg(address=0, data=BODY[:PAGE], flags=PF_R), patches=[Patch(at, b"patch")])
    assert caught.value.code == "enclave.patch.range"


def test_writable_pages_get_w_only_where_they_hold_bytes_of_the_file() -> None:
    found = runs_of(Seg(address=PAGE, data=BODY[: 2 * PAGE], memory=4 * PAGE, flags=PF_R), writable={0, 2, 4})
    expected = PlainMeasurer(1 << 20).pages(PAGE, REG_R, BODY[:PAGE]).pages(2 * PAGE, REG_RW, BODY[PAGE : 2 * PAGE])
    assert found.measure().digest() == expected.pages(3 * PAGE, REG_R, b"", 2).digest()


def test_whole_pages_are_not_copied() -> None:
    raw = Elf(segments=(Seg(address=0, data=BODY, flags=PF_R | PF_W),)).build()
    elf = ElfImage.parse(raw)
    (run,) = segment_runs(elf, elf.loads[0], base=8 * PAGE)
    assert isinstance(run.content, memoryview)
    assert run.content.obj is raw
    assert run.offset == 8 * PAGE
