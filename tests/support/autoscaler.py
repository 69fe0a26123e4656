"""Kubernetes' autoscaling algorithm, small: what becomes of a number of replicas when a metric is read again and again.

Source: Kubernetes docs, "Horizontal Pod Autoscaling", "Algorithm details" and "Default behavior": tolerance 0.1,
stabilisation when scaling down, at most a doubling (or four pods) per step upwards.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

_TOLERANCE = 0.1


class Target(Enum):
    VALUE = "the metric is compared as it is; replicas are multiplied"
    AVERAGE_VALUE = "the metric is divided by the target"


@dataclass
class Autoscaler:
    target: float
    kind: Target
    least: int = 1
    most: int = 100
    stabilisation: int = 0
    _wanted: list[int] = field(default_factory=list)

    def desired(self, replicas: int, value: float | None) -> int:
        """The next number of replicas; unchanged where the metric is not known."""
        if value is None:
            return replicas
        if self.kind is Target.VALUE:
            ratio, wanted = value / self.target, math.ceil(replicas * value / self.target)
        else:
            ratio, wanted = value / (self.target * replicas), math.ceil(value / self.target)
        if abs(ratio - 1) <= _TOLERANCE:
            wanted = replicas
        self._wanted = [*self._wanted, wanted][-(self.stabilisation + 1) :]
        wanted = max(wanted, min(max(self._wanted), replicas))
        return max(self.least, min(wanted, self.most, max(2 * replicas, replicas + 4)))

    def run(self, replicas: int, read: Callable[[int], float | None], steps: int) -> list[int]:
        """The replicas of each step; ``read`` gives the metric for a number of replicas."""
        history = [replicas]
        for _ in range(steps):
            history.append(self.desired(history[-1], read(history[-1])))
        return history
