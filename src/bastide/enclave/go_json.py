"""Keys of JSON as the programs of container runtimes read them, which are written in Go.

Go takes a key for a field whatever its case, and folds letters beyond ASCII too: of ``layers`` and ``Layers`` in one
object the last one counts. What another reader takes for an unknown key would be the image that runs.

Source: Go ``encoding/json``, "Unmarshal" (case-insensitive match of keys).
"""

from collections.abc import Collection
from typing import Final

from bastide.errors import MalformedError

DOCUMENT: Final = (
    "mediaType",
    "artifactType",
    "manifests",
    "layers",
    "config",
    "subject",
    "rootfs",
    "os",
    "architecture",
)
"""Fields of an index, a manifest or a config that say what the image is."""
DESCRIPTOR: Final = ("mediaType", "artifactType", "digest", "size", "platform")
PLATFORM: Final = ("os", "architecture", "variant")
ROOT_FS: Final = ("diff_ids",)


def one_reading(tree: dict[str, object], fields: Collection[str], where: str) -> dict[str, object]:
    """``tree`` itself, if each of its keys that Go takes for one of ``fields`` is that field as it is written.

    Raises:
        MalformedError: ``enclave.image.key``.
    """
    folded = {field.casefold() for field in fields}
    for key in tree:
        if key not in fields and key.casefold() in folded:
            message = f"expected keys as the specification writes them, seen {key[:80]!r}"
            hint = "runtimes read it as the same field: do not trust this image"
            raise MalformedError("enclave.image.key", message, hint=hint, where=where)
    return tree
