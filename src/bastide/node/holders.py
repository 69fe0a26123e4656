"""Who holds which devices, as the kubelet remembers it: a value, whoever asked for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Devices of one resource that one container was given; ``devices`` are their IDs."""

    namespace: str
    pod: str
    container: str
    resource: str
    devices: tuple[str, ...]
