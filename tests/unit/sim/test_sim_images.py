import pytest

from bastide.catalogue.epc import epc_need
from bastide.errors import MalformedError
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.secs import PageFlags, PageType, Tcs
from bastide.sim.images import SSA_FRAMES, changed_after_signing, heap_within, with_broken_signature
from bastide.units import MIB, PAGE_SIZE
from support.enclaves import image, stranger_key


@pytest.mark.parametrize(("size", "pages"), [(0, 1), (1, 1), (PAGE_SIZE, 1), (PAGE_SIZE + 1, 2)])
def test_code_takes_whole_pages(size: int, pages: int) -> None:
    code = image(b"x" * size).runs[0]
    assert len(code.content) == pages * PAGE_SIZE
    assert code.content.startswith(b"x" * size)
    assert code.secinfo.page_flags == PageFlags.R | PageFlags.X


def test_runs_do_not_overlap_and_the_stack_has_a_guard_below_it() -> None:
    built = image(heap_pages=5)
    ends = [run.offset + len(run.content) + run.zero_pages * PAGE_SIZE for run in built.runs]
    starts = [run.offset for run in built.runs]
    assert starts == sorted(starts)
    assert [start - end for start, end in zip(starts[1:], ends, strict=False)] == [0, PAGE_SIZE, 0, 0]
    assert built.secs.size >= ends[-1] > built.secs.size // 2
    assert built.secs.size & (built.secs.size - 1) == 0


def test_the_thread_finds_its_frames_behind_it() -> None:
    built = image()
    tcs_run, frames = built.runs[-2:]
    tcs = Tcs.parse(tcs_run.content)
    assert tcs_run.secinfo.page_type is PageType.TCS
    assert (tcs.ossa, tcs.nssa) == (frames.offset, SSA_FRAMES)
    assert len(frames.content) == SSA_FRAMES * built.secs.ssa_frame_size * PAGE_SIZE


def test_an_image_without_heap_has_no_run_for_it() -> None:
    built = image(heap_pages=0)
    assert all(run.content for run in built.runs)
    assert (built.heap_pages, len(built.runs)) == (0, 4)


def test_epc_of_an_image_counts_each_page_once() -> None:
    built = image(heap_pages=100)
    assert built.epc == epc_need(1 + 100 + 4 + 1 + SSA_FRAMES)


@pytest.mark.parametrize(
    "changes", [{"code": b"other"}, {"heap_pages": 5}, {"code": b"code" + bytes(PAGE_SIZE)}], ids=str
)
def test_another_program_or_another_size_is_another_mrenclave(changes: dict[str, object]) -> None:
    assert image(**changes).sigstruct.enclave_hash != image().sigstruct.enclave_hash


def test_the_signer_is_not_part_of_mrenclave() -> None:
    mine, theirs = image().sigstruct, image(key=stranger_key()).sigstruct
    assert mine.enclave_hash == theirs.enclave_hash
    assert mine.mr_signer != theirs.mr_signer


@pytest.mark.parametrize(
    ("signing", "flags"),
    [
        ({}, AttributeFlags(0)),
        ({"debug": True}, AttributeFlags.DEBUG),
        ({"provision": True}, AttributeFlags.PROVISIONKEY),
    ],
    ids=["plain", "debug", "provision"],
)
def test_attributes_are_signed_and_forced(signing: dict[str, bool], flags: AttributeFlags) -> None:
    built = image(**signing)
    assert built.secs.attributes == built.sigstruct.attributes
    assert built.secs.attributes.flags == AttributeFlags.MODE64BIT | flags
    assert int(built.sigstruct.attribute_mask.flags) == 2**64 - 1 - AttributeFlags.INIT


def test_a_good_image_is_signed_well_and_a_broken_one_is_not() -> None:
    assert image().sigstruct.signature_is_valid()
    assert not with_broken_signature(image()).sigstruct.signature_is_valid()


def test_a_change_after_signing_leaves_the_signature_alone() -> None:
    good, changed = image(), changed_after_signing(image())
    assert changed.sigstruct == good.sigstruct
    assert changed.runs[0].content != good.runs[0].content
    assert changed.runs[1:] == good.runs[1:]


@pytest.mark.parametrize("pages", [*range(11, 30), *range(519, 530), *range(1030, 1040), 2560, 262_660, 1 << 24])
def test_the_heap_within_a_budget_is_the_largest_that_fits(pages: int) -> None:
    fixed = 1 + 4 + 1 + SSA_FRAMES
    heap = heap_within("x", b"code", pages * PAGE_SIZE + PAGE_SIZE - 1)
    assert epc_need(fixed + heap).pages <= pages < epc_need(fixed + heap + 1).pages


@pytest.mark.parametrize("size", [0, 1, 9 * PAGE_SIZE, 11 * PAGE_SIZE - 1])
def test_refuses_a_budget_that_holds_no_enclave(size: int) -> None:
    with pytest.raises(MalformedError) as raised:
        heap_within("x", b"code", size)
    assert raised.value.code == "image.epc.small"
    assert raised.value.hint == "ask for at least 1Mi"


def test_an_image_of_the_heap_that_fits_takes_what_was_asked() -> None:
    heap = heap_within("x", b"code", 4 * MIB)
    assert image(heap_pages=heap).epc.size <= 4 * MIB < image(heap_pages=heap + 1).epc.size
