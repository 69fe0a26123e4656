"""Reading the pages of node agents: what each pod has mapped and holds.

An agent is a pod of our own namespace, found by the watch; it is asked by plain HTTP, within bounds, and believed about
pods of its own node only.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from bastide.cluster.metrics.model import NodeReading
from bastide.errors import MalformedError, UnavailableError

_LOG = logging.getLogger(__name__)
LARGEST_PAGE: Final = 4 << 20
"""Bytes of an agent's page: it tells of at most some hundred pods."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
_MOST_PODS: Final = 2048
_LARGEST: Final = 1 << 62
_GIVEN: Final = re.compile(rb"^# TYPE bastide_epc_(mapped|resident)_bytes gauge$", re.MULTILINE)
_SAMPLE: Final = re.compile(
    rb'^bastide_epc_(requested|mapped|resident)_bytes\{namespace="([a-z0-9-]{1,63})",pod="([a-z0-9.-]{1,253})"\} '
    rb"(\d{1,19}(?:\.\d{1,17})?(?:e\+?\d{1,3})?)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeSettings:
    """Bounds; times in seconds.

    Attributes:
        port: of the agents.
        interval: between two readings of one agent, where the rate allows it.
        rate: agents asked per second at most.
        at_once: agents asked at the same time at most.
        timeout: of one question.
    """

    port: int = 9109
    interval: float = 15.0
    rate: float = 100.0
    at_once: int = 32
    timeout: float = 3.0


def read_page(page: bytes, at: float) -> NodeReading:
    """What an agent's page tells of pods. A signal that the page does not name at all is None.

    Raises:
        MalformedError: ``cluster.metrics.agent``: it is not such a page, or tells of more pods than a node has.
    """
    if b"# TYPE bastide_epc_offered_bytes gauge" not in page:
        raise MalformedError("cluster.metrics.agent", "expected the metrics of a node agent")
    signals = (b"requested", *_GIVEN.findall(page))
    found: dict[bytes, dict[tuple[str, str], int]] = {name: {} for name in signals}
    for signal, namespace, pod, value in _SAMPLE.findall(page):
        amount = float(value)
        if signal not in found or amount > _LARGEST or len(found[signal]) >= _MOST_PODS:
            raise MalformedError("cluster.metrics.agent", "expected bytes of the pods of one node")
        found[signal][namespace.decode(), pod.decode()] = int(amount)
    pods = frozenset(chain.from_iterable(found.values()))
    return NodeReading(at=at, pods=pods, mapped=found.get(b"mapped"), resident=found.get(b"resident"))


async def fetch(address: str, port: int) -> bytes:
    """The page of the agent at an IP address.

    Raises:
        UnavailableError: ``cluster.metrics.agent_down``.
        MalformedError: ``cluster.metrics.agent``.
    """
    where = f"{address}:{port}"
    try:
        reader, writer = await asyncio.open_connection(address, port)
        try:
            host = f"[{address}]" if ":" in address else address
            writer.write(f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            return await reader.readexactly(_length(head, where))
        finally:
            writer.transport.abort()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        message = f"the agent does not answer: {str(error)[:200] or type(error).__name__}"
        raise UnavailableError("cluster.metrics.agent_down", message, where=where) from error


def _length(head: bytes, where: str) -> int:
    """Bytes of the page. It must be said: of a page that breaks off, the pods below would seem to use nothing."""
    lengths = _LENGTH.findall(head)
    if head.split(b" ", 2)[1:2] != [b"200"] or b"transfer-encoding" in head.lower() or len(lengths) != 1:
        raise MalformedError(
            "cluster.metrics.agent", f"expected a page and its length, seen {head[:40]!r}", where=where
        )
    if int(lengths[0]) > LARGEST_PAGE:
        message = f"expected a page of at most {LARGEST_PAGE >> 20} MiB"
        raise MalformedError("cluster.metrics.agent", message, where=where)
    return int(lengths[0])


class Scraper:
    """Asks every agent in turn.

    Args:
        agents: IP address by node, at this moment.
        readings: where what they say is put, by node.
        clock: seconds since 1970.
        chance: random numbers in [0, 1).
        settings: see there.

    Attributes:
        rounds: how often all agents were asked.
        period: seconds between two readings of an agent: more than the interval where there are many.
        faults: why an agent's page could not be read, by node.
    """

    def __init__(
        self,
        agents: Callable[[], Mapping[str, str]],
        readings: MutableMapping[str, NodeReading],
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        settings: ScrapeSettings,
    ) -> None:
        self._agents = agents
        self._readings = readings
        self._clock = clock
        self._chance = chance
        self._settings = settings
        self._room = asyncio.Semaphore(settings.at_once)
        self.rounds = 0
        self.period = settings.interval
        self.faults: dict[str, str] = {}

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            began = asyncio.get_running_loop().time()
            await self.round()
            spent = asyncio.get_running_loop().time() - began
            self.period = max(spent, self._settings.interval)
            interval = self._settings.interval * (0.9 + self._chance() / 10)
            await asyncio.sleep(max(interval - spent, 0.1))

    async def round(self) -> None:
        """Ask every agent once, evenly over the time that the rate asks for."""
        agents = dict(self._agents())
        for gone in self._readings.keys() - agents.keys():
            self._readings.pop(gone, None)
        self.faults = {node: fault for node, fault in self.faults.items() if node in agents}
        async with asyncio.TaskGroup() as tasks:
            for node, address in agents.items():
                await self._room.acquire()
                tasks.create_task(self._ask(node, address))
                await asyncio.sleep(1 / self._settings.rate)
        self.rounds += 1

    async def _ask(self, node: str, address: str) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout):
                at = self._clock()  # before it is read: what began later is not in it
                page = await fetch(address, self._settings.port)
            self._readings[node] = read_page(page, at)
            self.faults.pop(node, None)
        except TimeoutError:
            self._fault(node, f"the agent of {node} does not answer within {self._settings.timeout:g} s")
        except (UnavailableError, MalformedError) as error:
            self._fault(node, str(error))
        finally:
            self._room.release()

    def _fault(self, node: str, fault: str) -> None:
        if node not in self.faults:
            _LOG.warning("EPC use on %s is not known: %s", node, fault)
        self.faults[node] = fault
