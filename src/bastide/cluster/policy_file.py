"""The admission policy's file, read again when it changes; a broken new one leaves the old in force, and says so."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bastide.catalogue.lookup import find_class
from bastide.errors import BastideError, ConfigError
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.units import Bytes

_LARGEST: Final = 1 << 20
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A policy, and the allocatable EPC in bytes of each node class that it names."""

    policy: AdmissionPolicy
    declared_classes: dict[str, Bytes]

    @classmethod
    def of(cls, policy: AdmissionPolicy) -> "InForce":
        """With its node classes looked up.

        Raises:
            ConfigError: ``catalogue.class.unknown``.
        """
        classes = [find_class(name) for name in policy.node_classes]
        return cls(policy=policy, declared_classes={one.name: one.epc_allocatable for one in classes})


class PolicyFile:
    """One policy file.

    Args:
        path: of the file; None: the default policy, for ever.

    Attributes:
        now: what is in force.
        fault: why the file as it is now is not; empty where it is.
        reloads: how often another policy came into force.

    Raises:
        BastideError: the file cannot be read at the start: no server starts under rules that nobody wrote.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._raw = b""
        self.fault = ""
        self.reloads = 0
        self.now = InForce.of(DEFAULT_POLICY)
        if path is not None:
            self._raw = _read(path)
            self.now = _parsed(self._raw, path)

    async def run(self, interval: float = 2.0) -> None:
        """Look at the file until cancelled; ConfigMaps change by a link, so what counts is the content."""
        while self._path is not None:
            await asyncio.sleep(interval)
            self.look()

    def look(self) -> None:
        """Read the file if it has changed."""
        if self._path is None:
            return
        try:
            raw = _read(self._path)
            if raw == self._raw and not self.fault:
                return
            if raw != self._raw:
                self.now = _parsed(raw, self._path)
                self._raw = raw
                self.reloads += 1
                _LOG.info("admission policy loaded again")
        except BastideError as error:
            if self.fault != str(error):
                _LOG.error("the admission policy stays as it was: %s", error)
            self.fault = str(error)
        else:
            self.fault = ""


def _parsed(raw: bytes, path: Path) -> InForce:
    return InForce.of(AdmissionPolicy.parse(raw, str(path)))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError("admission-policy.file", f"cannot read it: {error.strerror}", where=str(path)) from error
    if len(raw) > _LARGEST:
        raise ConfigError("admission-policy.file", f"expected at most {_LARGEST} bytes", where=str(path))
    return raw
