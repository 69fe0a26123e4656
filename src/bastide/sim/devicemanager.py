"""The kubelet's book of devices: which there are, which are healthy, and which container holds which.

Source: Kubernetes docs, "Device Plugins"; kubelet device manager (admission error UnexpectedAdmissionError; devices of
init containers go on to the containers after them, as the scheduler counts on).
"""

from collections.abc import Mapping

from bastide.errors import ConflictError


class UnexpectedAdmissionError(ConflictError):
    """The kubelet refuses a pod that the scheduler sent: its devices are not to be had. Named as in pod status."""


class DeviceManager:
    """Devices per resource, and their holders. Holders survive a restart of the kubelet, as its checkpoint does."""

    def __init__(self) -> None:
        self._health: dict[str, dict[str, bool]] = {}
        self._held: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {}
        # What init containers of a pod held and nobody after them took over: resource to IDs, by pod.
        self._left_over: dict[str, dict[str, tuple[str, ...]]] = {}

    def update(self, resource: str, health: Mapping[str, bool]) -> None:
        """``resource`` now has exactly the devices of ``health``: ID to healthy."""
        self._health[resource] = dict(health)

    def lose(self, resource: str) -> None:
        """Nobody serves ``resource`` at present: its devices stay known, none is healthy."""
        self._health[resource] = dict.fromkeys(self._health.get(resource, ()), False)

    def capacity(self) -> dict[str, int]:
        """Devices known per resource."""
        return {resource: len(devices) for resource, devices in sorted(self._health.items())}

    def allocatable(self) -> dict[str, int]:
        """Healthy devices per resource, held ones counted in."""
        return {resource: sum(devices.values()) for resource, devices in sorted(self._health.items())}

    def holds(self, pod: str, container: str) -> bool:
        """Whether the container was given its devices, and its pod has not ended since."""
        return (pod, container) in self._held

    def claim(
        self, pod: str, container: str, amounts: Mapping[str, int], *, is_init: bool = False
    ) -> Mapping[str, tuple[str, ...]]:
        """Give the container its devices, of every resource or of none; a container that holds its own keeps them.

        Args:
            is_init: the container ends before the pod's next one begins, which may then take over its devices.

        Raises:
            UnexpectedAdmissionError: ``sim.kubelet.devices`` when too few are healthy and free.
        """
        if held := self._held.get((pod, container)):
            return held
        claimed = {resource: self._pick(pod, resource, amount) for resource, amount in amounts.items() if amount > 0}
        self._held[pod, container] = claimed
        left_over = self._left_over.setdefault(pod, {})
        for resource, ids in claimed.items():
            left = tuple(device for device in left_over.get(resource, ()) if device not in ids)
            left_over[resource] = (*left, *ids) if is_init else left
        return claimed

    def release(self, pod: str, container: str | None = None) -> None:
        """The pod ended, or one container of it never began: its devices are free again."""
        for holder in [key for key in self._held if key[0] == pod and container in (None, key[1])]:
            del self._held[holder]
        self._left_over.pop(pod, None)

    def _pick(self, pod: str, resource: str, amount: int) -> tuple[str, ...]:
        left_over = self._left_over.get(pod, {}).get(resource, ())
        held = {device for claimed in self._held.values() for device in claimed.get(resource, ())} - {*left_over}
        free = [device for device, healthy in self._health.get(resource, {}).items() if healthy and device not in held]
        free.sort(key=lambda device: device not in left_over)
        if amount > len(free):
            raise UnexpectedAdmissionError(
                "sim.kubelet.devices",
                f"{amount} of {resource} asked, {len(free)} healthy and free",
                hint="see whether the node's agent runs and its devices are healthy",
            )
        return tuple(free[:amount])
