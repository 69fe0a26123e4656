"""The node's devices by the Container Device Interface: the kubelet passes names on, the runtime looks them up here.

A file in the runtime's folder says what each name gives. It lists what the node has now, and is written whole or not
at all. An option: by itself the agent answers with device nodes and mounts, which every runtime knows.

Source: CDI specification 0.5 (cncf-tags/container-device-interface, SPEC.md); Kubernetes docs, "Device Plugins".
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bastide.errors import UnavailableError
from bastide.node.devices import DeviceOffer, Grant

KIND = "bastide.dev/sgx"
FILE_NAME = "bastide.dev-sgx.json"
VERSION = "0.5.0"

_MOUNT_OPTIONS = ("rbind", "nosuid", "nodev")


def cdi_name(resource: str) -> str:
    """The name of a resource's devices, such as ``bastide.dev/sgx=enclave``: what a container gets is always alike."""
    return f"{KIND}={_device(resource)}"


def by_cdi(offer: DeviceOffer) -> DeviceOffer:
    """The offer that gives the CDI name in place of what it stands for."""
    return replace(offer, grant=replace(offer.grant, cdi=cdi_name(offer.resource))) if offer.healthy else offer


def cdi_spec(offers: Iterable[DeviceOffer]) -> bytes | None:
    """The file of what is healthy among ``offers``; None where nothing is: CDI knows no file without devices."""
    devices = [
        {"name": _device(offer.resource), "containerEdits": _edits(offer.grant)} for offer in offers if offer.healthy
    ]
    if not devices:
        return None
    return json.dumps({"cdiVersion": VERSION, "kind": KIND, "devices": devices}, indent=2).encode() + b"\n"


def write_spec(folder: Path, spec: bytes) -> None:
    """Put the file into ``folder``, which is made where it is missing; a reader sees the old file or the new one.

    Raises:
        UnavailableError: ``node.cdi.write``.
    """
    file = folder / FILE_NAME
    unfinished = folder / f".{FILE_NAME}.new"  # with this ending no runtime reads it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.read_bytes() == spec:
            return
        unfinished.write_bytes(spec)
        unfinished.chmod(0o644)  # whatever the umask is: the runtime reads it
        unfinished.replace(file)
    except OSError as error:
        raise UnavailableError(
            "node.cdi.write",
            f"cannot write the CDI file: {error.strerror}",
            hint="mount the runtime's CDI folder for writing, or leave --cdi-dir out",
            where=str(file),
        ) from None


def remove_spec(folder: Path) -> bool:
    """Take the file away; whether there was one.

    Raises:
        UnavailableError: ``node.cdi.write``.
    """
    file = folder / FILE_NAME
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnavailableError("node.cdi.write", f"cannot remove it: {error.strerror}", where=str(file)) from None
    return True


def _device(resource: str) -> str:
    return resource.rpartition("/")[2]


def _edits(grant: Grant) -> dict[str, object]:
    edits: dict[str, object] = {
        "env": [f"{name}={value}" for name, value in grant.environment],
        "deviceNodes": [
            {"path": node.container_path, "hostPath": node.host_path, "permissions": node.permissions}
            for node in grant.device_nodes
        ],
        "mounts": [
            {
                "hostPath": mount.host_path,
                "containerPath": mount.container_path,
                "options": [*_MOUNT_OPTIONS, "ro" if mount.read_only else "rw"],
            }
            for mount in grant.mounts
        ],
    }
    return {name: value for name, value in edits.items() if value}
