"""The change that admission made, as people read changes."""

from collections.abc import Mapping
from difflib import unified_diff

import yaml

# libyaml's emitter, where PyYAML has it, writes the same text in a fifth of the time.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _PlainDumper(_DUMPER):  # type: ignore[misc, valid-type]
    """Writes a value that occurs twice twice: anchors would hide the change from the reader."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the base class decides the signature
        return True


def yaml_diff(before: Mapping[str, object], after: Mapping[str, object], *, name: str) -> str:
    """A unified diff of two manifests written as YAML; empty when they are equal.

    Keys keep their order. ``name`` stands in the diff's head, for example ``job/sgx-test``; what could pass for a
    line of the diff in it is escaped.
    """
    if before == after:
        return ""
    name = name if name.isprintable() else ascii(name)
    lines = unified_diff(
        _lines(before), _lines(after), fromfile=f"{name} (as given)", tofile=f"{name} (as admitted)", lineterm=""
    )
    return "\n".join(lines) + "\n"


def _lines(tree: Mapping[str, object]) -> list[str]:
    text: str = yaml.dump(dict(tree), Dumper=_PlainDumper, sort_keys=False, default_flow_style=False, width=110)
    return text.splitlines()
