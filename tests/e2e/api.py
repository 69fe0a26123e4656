"""A small client of the box's API server: JSON over TLS, through a socket made in the box's network."""

import ctypes
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from e2e.certs import NODE_ADDRESS

type_of_patch = {kind: f"application/{kind}-patch+json" for kind in ("json", "merge", "strategic-merge")}
_CLONE_NEWNET = 0x40000000
PATIENCE = 240.0
"""Seconds that anything may take: two cores may have other work. Nothing waits so long where it goes well."""


class ApiError(Exception):
    """The API server's refusal: HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Requests as the cluster's administrator, or as whoever ``token`` is of.

    Each is made on a connection of its own, so a restarted server is no matter.

    Attributes:
        warnings: of the last answer, as kubectl prints them.
    """

    def __init__(self, network: Callable[[], Path], pki: Path, token: str = "") -> None:
        self.warnings: list[str] = []
        self._network = network
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        if not token:
            self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def get(self, path: str) -> Any:
        """The object or list at ``path``."""
        return json.loads(self.raw("GET", path))

    def create(self, path: str, value: dict[str, Any]) -> Any:
        """Create ``value`` in the collection at ``path``."""
        return json.loads(self.raw("POST", path, value))

    def patch(self, path: str, changes: object, *, kind: str = "json") -> Any:
        """Change the object at ``path`` by a JSON patch, a merge patch or Kubernetes' own."""
        return json.loads(self.raw("PATCH", path, changes, content=type_of_patch[kind]))

    def delete(self, path: str) -> None:
        """Delete what is at ``path``, a collection's objects included; nothing there is well too."""
        try:
            self.raw("DELETE", path)
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise

    def raw(self, method: str, path: str, value: object = None, *, content: str = "application/json") -> str:
        """One request; the answer's text.

        Raises:
            ApiError: for every status of 400 and more.
        """
        connection = http.client.HTTPSConnection(NODE_ADDRESS, 6443, timeout=60)
        connection.sock = self._tls.wrap_socket(
            connect_in(self._network(), (NODE_ADDRESS, 6443)), server_hostname=NODE_ADDRESS
        )
        try:
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body, {"Content-Type": content, **self._headers})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            self.warnings = response.headers.get_all("Warning", [])
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise ApiError(response.status, text)
        return text


def connect_in(network: Path, address: tuple[str, int]) -> socket.socket:
    """A connection made inside a network namespace: a socket stays where it was made.

    A thread of its own goes there and ends there, so nothing else of this process ever leaves the host's network.
    """

    def connect() -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with network.open() as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {network}: {os.strerror(ctypes.get_errno())}")
        return socket.create_connection(address, timeout=60)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(connect).result()


def eventually(check: Callable[[], Any], *, seconds: float = PATIENCE, every: float = 0.2) -> Any:
    """What ``check`` gives as soon as it neither fails nor finds the network in trouble; its last error otherwise."""
    end = time.monotonic() + seconds
    while True:
        try:
            return check()
        except (AssertionError, ApiError, OSError, http.client.HTTPException):
            if time.monotonic() > end:
                raise
        time.sleep(every)
