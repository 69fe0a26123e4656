"""A capture: the answers that a node gave when it was asked for facts, without secrets, to be asked again elsewhere.

In a folder (and in a support bundle) it is ``bastide-capture.json`` beside the captured files at their own paths. What
was not asked then is not captured, and counts as unseen.
"""

import errno
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from bastide.errors import MalformedError
from bastide.node.inventory import Ownership
from bastide.node.machine.around import (
    CHECKPOINT,
    CONTAINERD,
    KERNEL_CONFIG,
    QUOTE_PROVIDER,
    kernel_options,
    ownership_setting,
    read_facts,
    registered_resources,
)
from bastide.node.machine.files import CpuidRegisters, FileKind, FileStatus, NodeFiles
from bastide.node.machine.read import CPUINFO, flags_of
from bastide.node.quoteprovider import QuoteProviderConfig

INDEX = "bastide-capture.json"
FORMAT = 1
LARGEST_INDEX = 256 * 1024

_LARGEST_PLAIN = 4096
_PLAIN = re.compile(r"/(?:sys/|proc/sys/kernel/osrelease$)")
_MODEL = re.compile(r"^model name\s*:.{1,200}$", re.MULTILINE)
_Answer = TypeVar("_Answer")
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An ``OSError`` as a value."""

    number: int
    why: str

    def error(self) -> OSError:
        """The error again, of the class that its number has."""
        return OSError(self.number, self.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Every question asked of a node and its answer; keys of ``cpuid`` are (leaf, sub-leaf), others paths."""

    contents: Mapping[str, bytes | Refused] = field(default_factory=dict)
    statuses: Mapping[str, FileStatus | Refused] = field(default_factory=dict)
    folders: Mapping[str, tuple[str, ...] | Refused] = field(default_factory=dict)
    registers: Mapping[tuple[int, int], CpuidRegisters | Refused] = field(default_factory=dict)

    def read(self, path: str) -> bytes:
        """See ``NodeFiles``."""
        return _again(self.contents.get(path))

    def status(self, path: str) -> FileStatus:
        """See ``NodeFiles``."""
        return _again(self.statuses.get(path))

    def names(self, path: str) -> tuple[str, ...]:
        """See ``NodeFiles``."""
        return _again(self.folders.get(path))

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        """See ``NodeFiles``."""
        return _again(self.registers.get((leaf, subleaf)))


class _Recorder:
    """Passes questions on and keeps the answers, cleaned, so that what is captured is what is shown."""

    def __init__(self, files: NodeFiles) -> None:
        self._files = files
        self.contents: dict[str, bytes | Refused] = {}
        self.statuses: dict[str, FileStatus | Refused] = {}
        self.folders: dict[str, tuple[str, ...] | Refused] = {}
        self.registers: dict[tuple[int, int], CpuidRegisters | Refused] = {}

    def read(self, path: str) -> bytes:
        return _kept(self.contents, path, lambda: without_secrets(path, self._files.read(path)))

    def status(self, path: str) -> FileStatus:
        return _kept(self.statuses, path, lambda: self._files.status(path))

    def names(self, path: str) -> tuple[str, ...]:
        return _kept(self.folders, path, lambda: tuple(filter(_is_wanted, self._files.names(path))))

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        return _kept(self.registers, (leaf, subleaf), lambda: self._files.cpuid(leaf, subleaf))


def capture(files: NodeFiles) -> Capture:
    """Ask a node for all facts and keep the answers."""
    recorder = _Recorder(files)
    read_facts(recorder)
    return Capture(
        contents=recorder.contents,
        statuses=recorder.statuses,
        folders=recorder.folders,
        registers=recorder.registers,
    )


def without_secrets(path: str, raw: bytes) -> bytes:
    """What of a file may leave the node: of each file only what facts are made of.

    Raises:
        OSError: of a file for which nobody decided what may leave.
    """
    text = raw.decode("utf-8", "replace")
    if path == CPUINFO:
        model, flags = _MODEL.search(text), flags_of(text)
        lines = [model[0] if model else "", "" if flags is None else f"flags : {' '.join(sorted(flags))}"]
        return "\n".join(lines).encode()
    if path == QUOTE_PROVIDER:
        return _provider_without_secrets(raw)
    if path == CHECKPOINT:
        names = registered_resources(raw)
        return b"" if names is None else json.dumps({"Data": {"RegisteredDevices": dict.fromkeys(names, ())}}).encode()
    if path == CONTAINERD:
        return (ownership_setting(text) or "").encode()
    if path.startswith(KERNEL_CONFIG):
        return "\n".join(f"CONFIG_{option}" for option in kernel_options(text)).encode()
    if _PLAIN.match(path):
        return raw[:_LARGEST_PLAIN]
    raise OSError(errno.EACCES, "never captured")


def build_index(taken: Capture) -> bytes:
    """``bastide-capture.json`` of a capture: everything but the contents of files."""
    return json.dumps(
        {
            "bastide_capture": FORMAT,
            "files": sorted(path for path, answer in taken.contents.items() if isinstance(answer, bytes)),
            "cpuid": {f"{leaf:x}.{sub:x}": _built(answer, list) for (leaf, sub), answer in taken.registers.items()},
            "status": {path: _built(answer, _status_tree) for path, answer in taken.statuses.items()},
            "names": {path: _built(answer, list) for path, answer in taken.folders.items()},
            "unread": {
                path: _built(answer, list) for path, answer in taken.contents.items() if isinstance(answer, Refused)
            },
        },
        indent=1,
        sort_keys=True,
    ).encode()


def parse_capture(index: bytes, read: Callable[[str], bytes]) -> Capture:
    """The capture of an index and the files beside it.

    Args:
        index: the bytes of ``bastide-capture.json``.
        read: the content of a captured file, by its path on the node; ``OSError`` where it is not there.

    Raises:
        MalformedError: ``node.capture.format`` for another version, ``node.capture.syntax``.
    """
    try:
        tree: object = json.loads(index)
        if not isinstance(tree, dict) or tree.get("bastide_capture") != FORMAT:
            raise MalformedError(
                "node.capture.format", f"expected a capture of format {FORMAT}", hint="was it made by `node doctor`?"
            )
        return Capture(
            contents=_contents(tree["files"], read) | {path: _refused(one) for path, one in tree["unread"].items()},
            statuses={path: _parsed(answer, _parse_status) for path, answer in tree["status"].items()},
            folders={path: _parsed(answer, _parse_names) for path, answer in tree["names"].items()},
            registers={_parse_leaf(key): _parsed(answer, _parse_registers) for key, answer in tree["cpuid"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MalformedError("node.capture.syntax", f"this is no index of a capture: {str(error)[:120]}") from None


def _contents(paths: object, read: Callable[[str], bytes]) -> dict[str, bytes | Refused]:
    if not isinstance(paths, list) or not all(isinstance(path, str) and path.startswith("/") for path in paths):
        raise TypeError("expected a list of absolute paths")
    contents: dict[str, bytes | Refused] = {}
    for path in paths:
        with suppress(OSError):
            _kept(contents, path, partial(read, path))
    return contents


def _provider_without_secrets(raw: bytes) -> bytes:
    try:
        return QuoteProviderConfig.parse(raw).build()
    except MalformedError:
        return b"{ left out: it could not be read"


def _is_wanted(name: str) -> bool:
    return name.endswith(".sock") or re.fullmatch(r"node\d+", name) is not None


def _kept(record: dict[_Key, _Answer | Refused], key: _Key, question: Callable[[], _Answer]) -> _Answer:
    try:
        answer = question()
    except OSError as error:
        record[key] = Refused(number=error.errno or errno.EIO, why=error.strerror or str(error))
        raise
    record[key] = answer
    return answer


def _again(answer: _Answer | Refused | None) -> _Answer:
    if answer is None:
        raise OSError(errno.ENODATA, "not captured")
    if isinstance(answer, Refused):
        raise answer.error()
    return answer


def _built(answer: _Answer | Refused, build: Callable[[_Answer], object]) -> object:
    return {"errno": answer.number, "why": answer.why} if isinstance(answer, Refused) else build(answer)


def _status_tree(status: FileStatus) -> dict[str, object]:
    owner = status.ownership
    return {
        "kind": str(status.kind),
        "uid": owner.uid,
        "gid": owner.gid,
        "mode": f"{owner.mode:04o}",
        "number": status.number,
    }


def _parsed(tree: object, parse: Callable[[object], _Answer]) -> _Answer | Refused:
    return _refused(tree) if isinstance(tree, dict) and "errno" in tree else parse(tree)


def _refused(tree: object) -> Refused:
    if not isinstance(tree, dict):
        raise TypeError("expected errno and why")
    return Refused(number=_whole(tree["errno"]), why=str(tree["why"])[:_LARGEST_PLAIN])


def _parse_status(tree: object) -> FileStatus:
    if not isinstance(tree, dict):
        raise TypeError("expected a file's status")
    numbers = tree["number"]
    return FileStatus(
        kind=FileKind(tree["kind"]),
        ownership=Ownership(uid=_whole(tree["uid"]), gid=_whole(tree["gid"]), mode=int(str(tree["mode"]), 8)),
        number=None if numbers is None else (_whole(numbers[0]), _whole(numbers[1])),
    )


def _parse_names(tree: object) -> tuple[str, ...]:
    if not isinstance(tree, list):
        raise TypeError("expected a list of names")
    return tuple(str(name) for name in tree)


def _parse_registers(tree: object) -> CpuidRegisters:
    if not isinstance(tree, list):
        raise TypeError("expected four registers")
    eax, ebx, ecx, edx = (_whole(each) for each in tree)
    return (eax, ebx, ecx, edx)


def _parse_leaf(key: str) -> tuple[int, int]:
    leaf, _, subleaf = key.partition(".")
    return (int(leaf, 16), int(subleaf, 16))


def _whole(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ValueError(f"expected a number of 32 bits, seen {str(value)[:40]}")
    return value
