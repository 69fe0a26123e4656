"""Findings about programs that start others: what an enclave makes of fork and exec depends on its enabler.

What a manifest shows is the command line. Where it names the enabler's launcher (``gramine-sgx``, ``occlum run``), what
follows runs inside of the enclave for certain; where only the image's name speaks of an enabler it is a guess, and said
so. An image's own entrypoint is not seen here.

Source: Gramine v1.9 documentation (every child process is a further enclave of the same size), GSC v1.9 (the entrypoint
starts the enclave), Occlum (spawn in one enclave, no fork), EGo (one process), SCONE (children are enclaves).
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import islice
from typing import Final

from bastide.errors import MalformedError
from bastide.pods.findings import Finding, warn
from bastide.pods.lint_containers import image_of
from bastide.pods.request import ContainerAsk, SgxRequest
from bastide.pods.tree import Path, at, sequence, text


class Enabler(StrEnum):
    """What runs a program in an enclave."""

    GRAMINE = "Gramine"
    OCCLUM = "Occlum"
    EGO = "EGo"
    SCONE = "SCONE"


_CHILDREN: Final = {
    Enabler.GRAMINE: "every child process is one more enclave of full size: a shell and one command take twice the EPC",
    Enabler.OCCLUM: "all processes share one enclave, and fork does not exist there (spawn does): what forks, fails",
    Enabler.EGO: "an enclave holds one process: a program that starts others fails",
    Enabler.SCONE: "every child process is an enclave of its own",
}
_REMEDY: Final = {
    Enabler.GRAMINE: "start the program itself, or ask for the EPC of one enclave times (1 + children at the peak)",
    Enabler.OCCLUM: "start the program itself; build what it starts for spawn",
    Enabler.EGO: "start the program itself, and others in containers of their own",
    Enabler.SCONE: "start the program itself, or ask for EPC for each child",
}
_LAUNCHERS: Final = {
    "gramine-sgx": (Enabler.GRAMINE, ()),
    "graphene-sgx": (Enabler.GRAMINE, ()),
    "occlum": (Enabler.OCCLUM, ("run", "exec")),
    "ego": (Enabler.EGO, ("run",)),
}
_IN_IMAGE_NAMES: Final = {
    "gramine": Enabler.GRAMINE,
    "gramineproject": Enabler.GRAMINE,
    "graphene": Enabler.GRAMINE,
    "gsc": Enabler.GRAMINE,
    "occlum": Enabler.OCCLUM,
    "ego": Enabler.EGO,
    "scone": Enabler.SCONE,
    "scontain": Enabler.SCONE,
    "sconecuratedimages": Enabler.SCONE,
}
_SHELLS: Final = ("sh", "bash", "dash", "ash", "zsh", "ksh", "busybox")
_FORKING: Final = (
    "supervisord",
    "nginx",
    "apache2",
    "httpd",
    "gunicorn",
    "uwsgi",
    "php-fpm",
    "postgres",
)
_WORD: Final = re.compile(r"[^\s;&|()<>'\"`]+")
_NAME_PART: Final = re.compile(r"[a-z0-9]+")
_MOST_WORDS: Final = 2000


def processes(pod: object, request: SgxRequest, known: Mapping[Path, Enabler] | None = None) -> Iterator[Finding]:
    """Command lines that start processes from an enclave, or start none at all.

    Codes: ``process.in-enclave`` (the launcher is in the command line), ``process.in-image`` (the image is known to
    hold an enclave of that enabler), ``process.guess`` (its name says so).

    Args:
        pod: the pod as given.
        request: what it asks of SGX; containers that hold no enclave device are passed over.
        known: enablers of images that were looked into, by path of the container.
    """
    for ask in request.containers:
        if not (ask.epc or ask.enclave):
            continue
        key, words = _command_line(at(pod, ask.path))
        launched = _launched(words)
        if launched is not None:
            yield from _inside(ask, key, *launched)
        elif words and _starts_others(words[0]):
            yield from _outside(pod, ask, key, words, known or {})


def _inside(ask: ContainerAsk, key: str, enabler: Enabler, program: str) -> Iterator[Finding]:
    if _starts_others(program):
        yield warn(
            "process.in-enclave",
            (*ask.path, key),
            f"container {ask.name!r} runs {program!r} inside of an enclave of {enabler}, and it starts processes:"
            f" {_CHILDREN[enabler]}",
            _REMEDY[enabler],
        )


def _outside(
    pod: object, ask: ContainerAsk, key: str, words: list[str], known: Mapping[Path, Enabler]
) -> Iterator[Finding]:
    enabler = known.get(ask.path)
    code, source = "process.in-image", "its image holds an enclave of"
    if enabler is None:
        enabler = _by_image_name(at(pod, ask.path))
        code, source = "process.guess", "by its image's name (a guess) it runs"
    if enabler is None:
        return
    replaced = ""
    if key == "command":
        replaced = "; command also replaces the image's entrypoint, where an image usually starts its enclave"
    yield warn(
        code,
        (*ask.path, key),
        f"container {ask.name!r} is started by {words[0]!r}, and {source} {enabler}: if that runs inside,"
        f" {_CHILDREN[enabler]}{replaced}",
        _REMEDY[enabler],
    )


def _command_line(container: object) -> tuple[str, list[str]]:
    """The field that it begins with, and its words; the text of ``sh -c`` is split too."""
    words: list[str] = []
    first = ""
    for key in ("command", "args"):
        for argument in sequence(at(container, (key,))):
            first = first or key
            found = (match.group() for match in _WORD.finditer(text(argument)))
            words += islice(found, _MOST_WORDS - len(words))
    return first, words


def _launched(words: list[str]) -> tuple[Enabler, str] | None:
    """The enabler whose launcher stands in a command line, and the program that it starts."""
    for place, word in enumerate(words):
        enabler, verbs = _LAUNCHERS.get(_base(word), (None, ()))
        after = words[place + 1 :]
        if enabler is None or (verbs and after[:1] and after[0] not in verbs):
            continue
        program = next((one for one in after[1 if verbs else 0 :] if not one.startswith("-")), "")
        if program:
            return enabler, program
    return None


def _by_image_name(container: object) -> Enabler | None:
    try:
        image = image_of(container)
    except MalformedError:
        return None
    parts = _NAME_PART.findall(f"{image.registry}/{image.repository}".lower())
    return next((_IN_IMAGE_NAMES[part] for part in parts if part in _IN_IMAGE_NAMES), None)


def _starts_others(program: str) -> bool:
    return _base(program) in _SHELLS or _base(program) in _FORKING


def _base(word: str) -> str:
    return word.rpartition("/")[2]
