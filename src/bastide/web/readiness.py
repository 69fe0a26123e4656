"""Whether a process should get requests: named checks, asked for together, some left out, or one alone.

``/readyz`` answers 200 or 503; ``?verbose`` lists the checks, as every 503 does; ``?exclude=NAME`` (may repeat) leaves
one out, and a name that is not known is noted and changes nothing; ``/readyz/NAME`` is one alone. Unlike Kubernetes
itself this tells why a check fails, and with 503.

Source: Kubernetes docs, "Kubernetes API health endpoints"; k8s.io/apiserver, ``healthz.go`` (form of the list).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

from bastide.errors import BastideError
from bastide.web.pages import Page

PATH = "/readyz"
Check = Callable[[], Awaitable[str]]
"""Why a process is not ready; empty when it is."""

_LONGEST_QUERY = 1024
_MOST_FIELDS = 32


class Readiness:
    """The checks of one process, by name, in the order in which they are told."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)

    async def page(self, path: str, query: str) -> Page:
        """What is answered to ``path``, which is ``/readyz`` or below it."""
        if path == PATH:
            return await self._whole(query)
        check = self._checks.get(path.removeprefix(f"{PATH}/"))
        if check is None:
            return Page(status=HTTPStatus.NOT_FOUND, body=_text(f"no such check; there are {', '.join(self._checks)}"))
        why = await check()
        return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body=_text(why)) if why else Page()

    async def _whole(self, query: str) -> Page:
        try:
            asked = parse_qs(query[:_LONGEST_QUERY], keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return Page(status=HTTPStatus.BAD_REQUEST, body=_text(f"expected at most {_MOST_FIELDS} parameters"))
        left_out = dict.fromkeys(asked.get("exclude", ()))
        faults = await self._faults(left_out)
        lines = [_line(name, faults.get(name)) for name in self._checks]
        if unknown := [name for name in left_out if name not in self._checks]:
            lines.append(f"warn: some health checks cannot be excluded: no matches for {', '.join(map(repr, unknown))}")
        if any(faults.values()):
            return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body=_text(*lines, "readyz check failed"))
        return Page(body=_text(*lines, "readyz check passed")) if "verbose" in asked else Page()

    async def _faults(self, left_out: Mapping[str, None]) -> dict[str, str]:
        """By name, what every check says that is not left out; all are asked at once."""
        asked = {name: check for name, check in self._checks.items() if name not in left_out}
        said = await asyncio.gather(*(check() for check in asked.values()))
        return dict(zip(asked, said, strict=True))


class SlowCheck:
    """A check that asks somebody else: one question at a time, whose answer counts a while, and a bounded wait.

    Args:
        ask: returns when all is well.
        keep: seconds for which an answer counts, so that many probes are one question.
        within: seconds after which whoever waits is told that there is no answer. The question stays open, since giving
            it up may take as long as waiting for it, and nobody asks another meanwhile.
    """

    def __init__(self, ask: Callable[[], Awaitable[None]], *, keep: float = 1.0, within: float = 1.5) -> None:
        self._ask = ask
        self._keep, self._within = keep, within
        self._question: asyncio.Task[str] | None = None
        self._good_until = 0.0

    async def __call__(self) -> str:
        """See ``Check``."""
        question = self._question
        if question is None or (question.done() and time.monotonic() >= self._good_until):
            question = self._question = asyncio.create_task(self._answer())
        answered, _ = await asyncio.wait((question,), timeout=self._within)
        return question.result() if answered else f"no answer within {self._within:g} s"

    async def _answer(self) -> str:
        try:
            await self._ask()
        except BastideError as error:
            return str(error)
        finally:
            self._good_until = time.monotonic() + self._keep
        return ""


def _line(name: str, fault: str | None) -> str:
    if fault is None:
        return f"[+]{name} excluded: ok"
    return f"[-]{name} failed: {fault}" if fault else f"[+]{name} ok"


def _text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
