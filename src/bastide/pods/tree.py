"""Narrowing of a YAML or JSON tree: the one place that asks "is this a mapping?".

A tree is made of ``dict`` (text keys), ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``, as in JSON. The
readers below answer with an empty value where something else stands, so that code that only looks stays short;
``request.py`` is the module that reports wrong shapes.
"""

Path = tuple[str | int, ...]
"""Where a value stands in a tree: keys and 0-based list indices from the root."""


def mapping(value: object) -> dict[str, object]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[object]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """``value`` if it is text, else the empty string."""
    return value if isinstance(value, str) else ""


def at(tree: object, path: Path) -> object:
    """The value at ``path``, or ``None`` where the path does not exist."""
    for step in path:
        if isinstance(tree, dict) and isinstance(step, str):
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int) and 0 <= step < len(tree):
            tree = tree[step]
        else:
            return None
    return tree


def shape_of(value: object) -> str:
    """What ``value`` is, in words for a message: ``a mapping``, ``a list``, ``text``, ``nothing``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    for kind, words in ((dict, "a mapping"), (list, "a list"), (str, "text")):
        if isinstance(value, kind):
            return words
    return "a number"


def dotted(path: Path) -> str:
    """``path`` as people write it: ``spec.containers[0].resources``; keys with dots stand in brackets."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int) or "." in step or "/" in step:
            parts.append(f"[{step}]")
        else:
            parts.append(f".{step}" if parts else step)
    return "".join(parts)
