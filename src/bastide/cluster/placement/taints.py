"""Taints, tolerations, and the taint that keeps plain pods off SGX nodes.

Source: Kubernetes documentation, "Taints and Tolerations"; k8s.io/api/core/v1 ``Toleration``.
"""

from dataclasses import dataclass
from enum import StrEnum

from bastide.cluster.placement.fields import mapping_at, text_at
from bastide.errors import MalformedError
from bastide.pods.policy import PlainPods
from bastide.pods.resources import EPC
from bastide.pods.tree import Path, dotted


class Effect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A mark on a node. ``str()`` gives kubectl's form ``key=value:effect``."""

    key: str
    effect: Effect
    value: str = ""

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A pod's permission to ignore taints.

    Attributes:
        key: taint key; empty means every key (only with ``exists``).
        exists: operator Exists (any value) instead of Equal.
        value: taint value for Equal.
        effect: None means every effect.
    """

    key: str = ""
    exists: bool = False
    value: str = ""
    effect: Effect | None = None

    @classmethod
    def parse(cls, raw: object, path: Path = ()) -> "Toleration":
        """Read one entry of ``spec.tolerations``, with the API server's rules.

        Raises:
            MalformedError: ``cluster.pod.shape``, ``cluster.toleration.operator`` (neither Equal nor Exists),
                ``cluster.toleration.key`` (Equal without key), ``cluster.toleration.value`` (Exists with value),
                ``cluster.toleration.effect``.
        """
        fields = mapping_at(raw, path)
        key, value, operator, effect = (
            text_at(fields.get(name), (*path, name)) for name in ("key", "value", "operator", "effect")
        )
        if operator not in ("", "Equal", "Exists"):
            raise _refusal("operator", f"expected Equal or Exists, saw {operator!r}", path)
        exists = operator == "Exists"
        if not key and not exists:
            raise _refusal("key", "a toleration without key needs the operator Exists", path)
        if exists and value:
            raise _refusal("value", f"the operator Exists takes no value, saw {value!r}", path)
        if effect not in ("", *Effect):
            raise _refusal("effect", f"expected {', '.join(Effect)}, saw {effect!r}", path)
        return cls(key=key, exists=exists, value=value, effect=Effect(effect) if effect else None)

    def tolerates(self, taint: Taint) -> bool:
        """Whether this toleration covers ``taint``."""
        return (
            self.effect in (None, taint.effect)
            and self.key in ("", taint.key)
            and (self.exists or self.value == taint.value)
        )


def sgx_node_taints(policy: PlainPods) -> tuple[Taint, ...]:
    """The taints that an SGX node carries under ``policy``; SGX pods tolerate the key ``sgx.intel.com/epc``.

    The key is the resource's name, as Kubernetes' own ExtendedResourceToleration admission expects. It has no value.
    """
    match policy:
        case PlainPods.ALLOW:
            return ()
        case PlainPods.LAST_RESORT:
            return (Taint(key=EPC, effect=Effect.PREFER_NO_SCHEDULE),)
        case PlainPods.DENY:
            return (Taint(key=EPC, effect=Effect.NO_SCHEDULE),)


def _refusal(what: str, message: str, path: Path) -> MalformedError:
    hint = "see `kubectl explain pod.spec.tolerations`"
    return MalformedError(f"cluster.toleration.{what}", message, hint=hint, where=dotted((*path, what)))
