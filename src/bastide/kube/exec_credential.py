"""Credentials from a plugin that a kubeconfig names (``exec``): a program is run, and says who we are.

Only for commands that a person runs: the program is the person's own, may ask at the terminal, and writes there. It is
started without a shell, within bounds of time and output; of what it says nothing is repeated in messages.

Source: Kubernetes docs "Authenticating", section "client-go credential plugins"; API ``client.authentication.k8s.io``
v1 and v1beta1 (ExecCredential).
"""

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bastide.errors import ConfigError, UnavailableError
from bastide.pods.tree import at, mapping, sequence, text

SECONDS: Final = 60.0
"""How long a plugin may take; a person may have to answer it."""

LARGEST_OUTPUT: Final = 1 << 20
"""Bytes that a plugin may write to its standard output."""

_GROUP: Final = "client.authentication.k8s.io"
_VERSIONS: Final = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1")
_MODES: Final = ("Never", "IfAvailable", "Always")
_EARLY: Final = timedelta(seconds=30)
_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a plugin said.

    Attributes:
        token: of ``Authorization: Bearer``; empty: none.
        certificate: PEM of the client certificate; empty: none.
        key: PEM of its key.
        ends: when it is of no use any more; None: it does not say.
    """

    token: str = field(default="", repr=False)
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    ends: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A program to ask, as the kubeconfig has it.

    Attributes:
        version: ``apiVersion`` in which it is asked and has to answer.
        command: name to be found in ``PATH``, or a path.
        arguments: after it.
        environment: added to ours.
        mode: of standard input: ``Never``, ``IfAvailable`` or ``Always``.
        cluster: ``spec.cluster`` of the question; None where the plugin is not to know it.
        hint: of the kubeconfig, where the program is not there.
        where: the kubeconfig.
    """

    version: str
    command: str
    arguments: tuple[str, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    mode: str = "IfAvailable"
    cluster: Mapping[str, object] | None = field(default=None, repr=False)
    hint: str = ""
    where: str = ""

    @classmethod
    def parse(cls, tree: object, cluster: Mapping[str, object], path: Path) -> "Plugin":
        """Read ``users[].user.exec``.

        Args:
            tree: the mapping.
            cluster: what the plugin is told where ``provideClusterInfo`` is true.
            path: of the kubeconfig; a command with a slash is relative to its folder.

        Raises:
            ConfigError: ``kube.exec.config``.
        """
        version, command = text(at(tree, ("apiVersion",))), text(at(tree, ("command",)))
        mode = text(at(tree, ("interactiveMode",))) or "IfAvailable"
        arguments, environment = sequence(at(tree, ("args",))), sequence(at(tree, ("env",)))
        if version not in _VERSIONS:
            raise _wrong(path, f"exec.apiVersion: expected {' or '.join(_VERSIONS)}, seen {version[:80]!r}")
        if not command or "\0" in command:
            raise _wrong(path, "exec.command: expected the name or path of a program")
        if mode not in _MODES:
            raise _wrong(path, f"exec.interactiveMode: expected one of {', '.join(_MODES)}, seen {mode[:40]!r}")
        if not all(isinstance(one, str) and "\0" not in one for one in arguments):
            raise _wrong(path, "exec.args: expected a list of texts")
        pairs = {text(at(one, ("name",))): text(at(one, ("value",))) for one in environment}
        if any(not name or "=" in name or "\0" in name + value for name, value in pairs.items()):
            raise _wrong(path, "exec.env: expected a list of {name, value}")
        return cls(
            version=version,
            command=str((path.parent / command).absolute()) if "/" in command else command,
            arguments=tuple(map(text, arguments)),
            environment=pairs,
            mode=mode,
            cluster=cluster if at(tree, ("provideClusterInfo",)) is True else None,
            hint=text(at(tree, ("installHint",)))[:400].strip(),
            where=str(path),
        )

    def ask(self, *, seconds: float = SECONDS) -> Credential:
        """Run the program and read what it says.

        Raises:
            ConfigError: ``kube.exec.command`` (not there, not to be run), ``kube.exec.interactive``,
                ``kube.exec.answer``.
            UnavailableError: ``kube.exec.failed``, ``kube.exec.timeout``.
        """
        return _credential(self, _output(self, seconds))


class Credentials:
    """What the plugin says, asked for again when it ends. To be used from several threads.

    Args:
        plugin: whom to ask.
        now: the time.
    """

    def __init__(self, plugin: Plugin, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._plugin = plugin
        self._now = now
        self._lock = threading.Lock()
        self._known: Credential | None = None

    def current(self) -> Credential:
        """The credential of this moment; errors as ``Plugin.ask``."""
        with self._lock:
            known = self._known
            if known is None or (known.ends is not None and self._now() >= known.ends - _EARLY):
                known = self._known = self._plugin.ask()
            return known

    def token(self) -> str:
        """Its token; errors as ``Plugin.ask``."""
        return self.current().token


def _wrong(path: Path, message: str) -> ConfigError:
    return ConfigError("kube.exec.config", message, where=str(path))


def _output(plugin: Plugin, seconds: float) -> bytes:
    """Standard output of the program; its standard error goes where ours goes."""
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    if plugin.mode == "Always" and not at_terminal:
        message = f"the plugin {plugin.command} wants to ask a person, and standard input is no terminal"
        raise ConfigError("kube.exec.interactive", message, where=plugin.where)
    interactive = at_terminal and plugin.mode != "Never"
    spec = {"interactive": interactive, **({"cluster": plugin.cluster} if plugin.cluster is not None else {})}
    question = {"apiVersion": plugin.version, "kind": "ExecCredential", "spec": spec}
    environment = {**os.environ, **plugin.environment, "KUBERNETES_EXEC_INFO": json.dumps(question)}
    try:
        process = subprocess.Popen(  # noqa: S603 - the person's own program, by their own kubeconfig, no shell
            [plugin.command, *plugin.arguments],
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        message = f"cannot run the plugin {plugin.command}: {error.strerror}"
        hint = plugin.hint or "install it, or correct users[].user.exec.command"
        raise ConfigError("kube.exec.command", message, hint=hint, where=plugin.where) from None
    try:
        return _read(process, plugin, time.monotonic() + seconds)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _read(process: "subprocess.Popen[bytes]", plugin: Plugin, deadline: float) -> bytes:
    parts: list[bytes] = []
    room = LARGEST_OUTPUT
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout or -1, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise _late(plugin)
            part = os.read(process.stdout.fileno(), _CHUNK) if process.stdout else b""
            if not part:
                break
            room -= len(part)
            if room < 0:
                raise _bad_answer(plugin, f"expected at most {LARGEST_OUTPUT} bytes")
            parts.append(part)
    try:
        status = process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _late(plugin) from None
    if status != 0:
        message = f"the plugin {plugin.command} ended with status {status}"
        raise UnavailableError("kube.exec.failed", message, hint="it may have said why on standard error")
    return b"".join(parts)


def _late(plugin: Plugin) -> UnavailableError:
    message = f"the plugin {plugin.command} did not end in time"
    return UnavailableError("kube.exec.timeout", message, hint="run it by hand once, and log in where it asks to")


def _bad_answer(plugin: Plugin, expected: str) -> ConfigError:
    """What was seen is not said: it may be a secret."""
    return ConfigError("kube.exec.answer", f"the plugin {plugin.command}: {expected}", where=plugin.where)


def _credential(plugin: Plugin, raw: bytes) -> Credential:
    try:
        tree: object = json.loads(raw)
    except (ValueError, RecursionError):
        tree = None
    if (at(tree, ("kind",)), at(tree, ("apiVersion",))) != ("ExecCredential", plugin.version):
        raise _bad_answer(plugin, f"expected an ExecCredential of {plugin.version} in JSON")
    status = mapping(at(tree, ("status",)))
    token = text(status.get("token"))
    certificate, key = text(status.get("clientCertificateData")), text(status.get("clientKeyData"))
    if bool(certificate) != bool(key) or not (token or certificate):
        raise _bad_answer(plugin, "expected status.token, or clientCertificateData and clientKeyData")
    if not (token.isascii() and token.isprintable()):
        raise _bad_answer(plugin, "expected status.token in printable ASCII")
    ends = status.get("expirationTimestamp")
    return Credential(
        token=token,
        certificate=certificate.encode("utf-8", "replace"),
        key=key.encode("utf-8", "replace"),
        ends=None if ends is None else _time(plugin, text(ends)),
    )


def _time(plugin: Plugin, written: str) -> datetime:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _bad_answer(plugin, "expected status.expirationTimestamp as in RFC 3339")
    return moment
