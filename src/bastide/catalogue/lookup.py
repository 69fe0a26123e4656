"""Finding a node class by name."""

from collections.abc import Iterable
from difflib import get_close_matches

from bastide.catalogue.alibaba import ALIBABA
from bastide.catalogue.azure import AZURE
from bastide.catalogue.generic import GENERIC
from bastide.catalogue.ibm import IBM
from bastide.catalogue.model import NodeClass
from bastide.errors import ConfigError
from bastide.units import Bytes

ALL_CLASSES: tuple[NodeClass, ...] = (*AZURE, *ALIBABA, *IBM, *GENERIC)

_LONGEST_NAME = 64


def find_class(name: str, classes: Iterable[NodeClass] = ALL_CLASSES) -> NodeClass:
    """The class of that name; case and the prefixes ``Standard_`` and ``ecs.`` do not matter.

    Raises:
        ConfigError: ``catalogue.class.unknown``, with the nearest names as hint, or all of them.
    """
    by_key = {_key(node_class.name): node_class for node_class in classes}
    found = by_key.get(_key(name))
    if found is None:
        near = get_close_matches(_key(name)[:_LONGEST_NAME], by_key, n=3, cutoff=0.5)
        names = [by_key[key].name for key in near]
        every = ", ".join(node_class.name for node_class in by_key.values())
        raise ConfigError(
            "catalogue.class.unknown",
            f"no node class is named {name[:_LONGEST_NAME]!r}",
            hint=f"did you mean {' or '.join(names)}?" if names else f"known are {every}",
        )
    return found


def largest_epc(classes: Iterable[NodeClass] = ALL_CLASSES) -> Bytes:
    """The most EPC, in bytes, that a node of any of ``classes`` offers; 0 when none has SGX."""
    return max((node_class.epc_allocatable for node_class in classes), default=Bytes(0))


def _key(name: str) -> str:
    return name.strip().lower().removeprefix("standard_").removeprefix("ecs.")
