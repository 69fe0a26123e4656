"""EPC by pod, as far as the machine tells: mapped and resident, which are different things.

Mapped is the size of enclave mappings: address space, of which any part may have no EPC behind it (an upper bound).
Resident is what the misc controller accounts. Where a signal is not there it is None, never zero.

Source: Linux man-pages, proc(5) (maps, cgroup), pid_namespaces(7); Linux Documentation/admin-guide/cgroup-v2.rst
(misc.current); Kubernetes, pkg/kubelet/cm (names of pod cgroups).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from bastide.units import Bytes

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")
_ENCLAVE_MAPPING = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) .* (?:/dev/sgx_enclave|/dev/sgx/enclave|/dev/isgx)$", re.MULTILINE
)
_RESIDENT = re.compile(r"^sgx_epc (\d{1,18})$", re.MULTILINE | re.ASCII)
_HIERARCHIES = ("", "unified", "misc")
"""Where the misc controller may be mounted: the only hierarchy (v2), or one of several (v1, hybrid)."""
_LARGEST_MAPS = 16 << 20
_MOST_FOLDERS = 20_000
_DEEPEST = 4
_MOST_COUNTERS = 32
_LONGEST_NUMBER = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class EpcUsage:
    """Bytes by the UID of a pod; None where the machine does not tell.

    Attributes:
        mapped: sizes of enclave mappings of all processes of a pod.
        resident: EPC that the kernel accounts to a pod.
    """

    mapped: Mapping[str, Bytes] | None = None
    resident: Mapping[str, Bytes] | None = None


def read_usage(root: Path = Path("/")) -> EpcUsage:
    """What the machine tells now; takes milliseconds for each thousand processes."""
    return EpcUsage(mapped=_mapped(root / "proc"), resident=read_resident(root))


def _mapped(proc: Path) -> dict[str, Bytes] | None:
    try:
        # In a namespace of its own the agent sees only itself: that is nothing seen, not nothing mapped.
        if os.readlink(proc / "self/ns/pid") != _INITIAL_PID_NAMESPACE:  # noqa: PTH115 - no path of this machine
            return None
        processes = [each for each in proc.iterdir() if each.name.isdecimal()]
    except OSError:
        return None
    sizes: Counter[str] = Counter()
    for process in processes:
        try:
            with (process / "maps").open("rb") as file:
                maps = file.read(_LARGEST_MAPS)
            size = sum(int(end, 16) - int(start, 16) for start, end in _ENCLAVE_MAPPING.findall(maps))
            if size and (uid := pod_uid((process / "cgroup").read_text())):
                sizes[uid] += size
        except OSError:
            continue  # it ended, or is not ours to look at
    return {uid: Bytes(size) for uid, size in sizes.items()}


def read_resident(root: Path) -> dict[str, Bytes] | None:
    """EPC by the UID of a pod that the misc controller accounts; None where it accounts none, or is not to be seen."""
    found: dict[str, Bytes] = {}
    seen = False
    for folder in chain.from_iterable(_folders(root / "sys/fs/cgroup" / each) for each in _HIERARCHIES):
        try:
            match = _RESIDENT.search((folder / "misc.current").read_text())
        except OSError:
            continue
        seen = seen or match is not None
        uid = pod_uid(folder.name)
        if match and uid:
            found[uid] = Bytes(int(match[1]))
    return found if seen else None


def _folders(cgroups: Path) -> Iterator[Path]:
    """Cgroups down to those of pods, which the kubelet makes at most four levels deep."""
    for folder, names, _ in islice(os.walk(cgroups), _MOST_FOLDERS):
        depth = len(Path(folder).relative_to(cgroups).parts)
        if depth >= _DEEPEST:
            names.clear()
        names[:] = [name for name in names if depth or "kubepods" in name or name == "kubelet.slice"]
        yield Path(folder)


def kernel_counters(root: Path = Path("/")) -> dict[str, int]:
    """``sgx_nr_*`` of out-of-tree drivers that count (patched isgx): none on stock kernels."""
    counters = {}
    for module in ("isgx", "intel_sgx"):
        for path in sorted((root / "sys/module" / module / "parameters").glob("sgx_nr_*"))[:_MOST_COUNTERS]:
            with suppress(OSError, ValueError):
                counters[path.name] = int(path.read_text()[:_LONGEST_NUMBER])
    return counters


def pod_uid(cgroup: str) -> str | None:
    """The UID of the pod that a cgroup's path names, in the form that the API server writes."""
    match = _POD.search(cgroup)
    return match[1].replace("_", "-") if match else None
