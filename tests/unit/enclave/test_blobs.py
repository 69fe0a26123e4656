"""Files that are opened once and for all."""

from pathlib import Path

from bastide.enclave.blobs import OpenFiles


def test_files_that_are_open_are_read_again_and_again_after_their_names_are_gone(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "one").write_bytes(b"0123456789")
    files = OpenFiles(tmp_path)
    (tmp_path / "blobs" / "one").unlink()
    for _ in range(2):
        opened = files.open("blobs/one")
        assert opened is not None
        with opened[0] as file:
            assert opened[1] == 10
            assert (file.read(4), file.read()) == (b"0123", b"456789")
    assert files.open("blobs") is None
    assert files.open("blobs/two") is None


def test_links_are_not_followed_to_files_that_somebody_else_chose(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"secret")
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "token").write_bytes(b"secret")
    folder = tmp_path / "layout"
    folder.mkdir()
    (folder / "file").symlink_to(tmp_path / "token")
    (folder / "folder").symlink_to(tmp_path / "away")
    files = OpenFiles(folder)
    assert [files.open(name) for name in ("file", "folder/token")] == [None, None]
