"""Gramine's layout against a plain re-statement of it: self-made vectors, for no public ones exist."""

from dataclasses import replace

import pytest

from bastide.enclave.elf import ElfImage
from bastide.enclave.gramine import MAX_MANIFEST, Manifest, blocks
from bastide.enclave.layout import EnclaveLayout
from bastide.errors import MalformedError
from support.enclave_files import PAGE, SEGMENTS, TEXT, Elf, Seg
from support.gramine_files import LIBPAL, expected, manifest_text


def layout(text: bytes) -> EnclaveLayout:
    (block,) = blocks(Manifest.parse(text), ElfImage.parse(LIBPAL))
    assert block.layout is not None
    return block.layout


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("edmm", [False, True])
def test_areas_lie_from_the_top_downwards_and_the_rest_is_heap(threads: int, edmm: bool) -> None:
    text = manifest_text(threads, edmm)
    assert layout(text).measure().digest() == expected(text, threads, edmm=edmm).digest()


def test_a_manifest_that_fills_its_pages_gets_one_more_for_its_end() -> None:
    text = manifest_text().ljust(PAGE, b"\n")
    assert layout(text).measure().digest() == expected(text, 2, edmm=False).digest()


@pytest.mark.parametrize("edmm", [False, True])
def test_with_edmm_the_heap_comes_later(edmm: bool) -> None:
    (block,) = blocks(Manifest.parse(manifest_text(edmm=edmm)), ElfImage.parse(LIBPAL))
    assert block.summary is not None
    assert block.layout is not None
    most = block.summary.heap_pages_most
    assert most > 3000
    assert (block.summary.heap_pages, block.summary.dynamic_pages) == ((0, most) if edmm else (most, 0))


def test_without_libpal_there_is_no_layout() -> None:
    (block,) = blocks(Manifest.parse(manifest_text()), None)
    assert block.layout is None
    assert block.summary is None


def test_reads_sizes_past_tables_of_files() -> None:
    many = "".join(f'[[sgx.trusted_files]]\nuri = "file:/{i}"\nsha256 = "{i:064x}"\n\n' for i in range(100))
    found = Manifest.parse((many + '[sgx]\nenclave_size = "1G"\nmax_threads = 9\n').encode())
    assert (found.enclave_size, found.threads, found.edmm) == (1 << 30, 9, False)


def test_reads_manifests_whose_file_tables_are_not_plain() -> None:
    text = '[[sgx.trusted_files]]\nuri = [\n"a"\n]\n[sgx.x]\ny = """\n[[sgx.trusted_files]]\n"""\n'
    found = Manifest.parse(("[sgx]\nmax_threads = 5\n" + text).encode())
    assert found.threads == 5
    plain = '[sgx]\nmax_threads = 5\n[[sgx.trusted_files]]\nuri = [\n"a",\n"b" ]\n'
    assert Manifest.parse(plain.encode()).threads == 5


@pytest.mark.parametrize(
    ("value", "size"), [('"256M"', 1 << 28), ('"0x10000000"', 1 << 28), ("268435456", 1 << 28), ('"64K"', 1 << 16)]
)
def test_reads_sizes_as_gramine_writes_them(value: str, size: int) -> None:
    assert Manifest.parse(f"[sgx]\nenclave_size = {value}\n".encode()).enclave_size == size


def test_defaults_are_those_of_gramine() -> None:
    found = Manifest.parse(b"[sgx]\n")
    assert (found.enclave_size, found.threads, found.edmm) == (1 << 28, 4, False)


def test_names_settings_that_give_up_a_protection() -> None:
    text = (
        "loader.insecure__use_cmdline_argv = true\nloader.insecure__disable_aslr = false\n[sgx]\ndebug = true\n"
        'file_check_policy = "allow_all_but_log"\nallowed_files = ["file:/tmp/"]\n'
    )
    found = " ".join(Manifest.parse(text.encode()).insecure)
    assert "insecure__use_cmdline_argv" in found
    assert "disable_aslr" not in found
    assert all(word in found for word in ("sgx.debug", "allow_all_but_log", "allowed_files: 1 "))
    assert Manifest.parse(manifest_text()).insecure == ()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "enclave.manifest.value"),
        (b"sgx = 1", "enclave.manifest.value"),
        (b"[sgx", "enclave.manifest.syntax"),
        (b"\xff\xfe", "enclave.manifest.syntax"),
        (b"x = " + b"[" * 5000, "enclave.manifest.syntax"),
        (b"x = " + b"9" * 5000, "enclave.manifest.syntax"),
        (b"a." * 65 + b"a = 1", "enclave.manifest.syntax"),
        (b"a." * 1_000_000 + b"a = 1", "enclave.manifest.syntax"),
        (b"[sgx]\nenclave_size = '3M'", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = '4K'", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = '-1'", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = '99999999999G'", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = true", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = [1]", "enclave.manifest.value"),
        (b"[sgx]\nmax_threads = 0", "enclave.manifest.value"),
        (b"[sgx]\nmax_threads = 5000", "enclave.manifest.value"),
        (b"[sgx]\nmax_threads = true", "enclave.manifest.value"),
        (b"[sgx]\nmax_threads = '4'", "enclave.manifest.value"),
        (b" " * (MAX_MANIFEST + 1), "enclave.manifest.size"),
    ],
)
def test_refuses_manifests_that_cannot_be(text: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Manifest.parse(text)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("segments", "code"),
    [
        ((), "enclave.gramine.libpal"),
        ((Seg(address=0x10000, data=TEXT),), "enclave.gramine.libpal"),
        ((replace(SEGMENTS[0], memory=1 << 30),), "enclave.gramine.size"),
    ],
)
def test_refuses_a_libpal_that_does_not_fit(segments: tuple[Seg, ...], code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        blocks(Manifest.parse(manifest_text()), ElfImage.parse(Elf(segments=segments).build()))
    assert caught.value.code == code


def test_refuses_more_threads_than_fit() -> None:
    with pytest.raises(MalformedError) as caught:
        layout(manifest_text(threads=100))
    assert caught.value.code == "enclave.gramine.size"


def test_refuses_more_toml_than_a_manifest_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.gramine.MAX_PARSED", 1000)
    tables = b'[[sgx.trusted_files]]\nuri = "file:x"\n' * 1000
    assert Manifest.parse(b"[sgx]\n" + tables).threads == 4
    with pytest.raises(MalformedError) as caught:
        Manifest.parse(b"[sgx]\n" + b"".join(b"k%d = 1\n" % number for number in range(1000)))
    assert caught.value.code == "enclave.manifest.size"
