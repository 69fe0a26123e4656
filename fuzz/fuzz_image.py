"""Fuzz target: container images: the archive, its documents, compressed layers, tar entries, whiteouts and links.

Digests stop most inputs at their documents, so the same bytes are also read as a layer by itself.
"""

import io
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bastide.enclave"]):
    from bastide.enclave.blobs import Archive, WholeFile
    from bastide.enclave.find import DEFAULT_LIMITS, _Budget, _in_image
    from bastide.enclave.found import joined
    from bastide.enclave.layers import unpacked
    from bastide.enclave.oci import ImageStore, RootFileSystem
    from bastide.errors import MalformedError

_HERE = Path("fuzzed")


def test_one_input(data: bytes) -> None:
    """Read it as an archive of images, and as a root file system."""
    try:
        plain = b"".join(unpacked([data], "fuzzed"))
    except MalformedError:
        return
    for make in (
        lambda: ImageStore(Archive(lambda: io.BytesIO(plain), DEFAULT_LIMITS), DEFAULT_LIMITS, None),
        lambda: RootFileSystem(WholeFile(lambda: io.BytesIO(plain)), DEFAULT_LIMITS, None),
    ):
        try:
            store = make()
            for number, image in enumerate(store.images()):
                for found in joined(_in_image(store, image, number, _HERE, _Budget(DEFAULT_LIMITS))):
                    for file in (found, *found.libpals):
                        if ".." in file.path.split("/") or file.size > len(plain):
                            raise AssertionError("a path that climbs, or a file larger than the image")
        except MalformedError:
            continue


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
