"""Finding enclaves in a gzip image, against decompressing and hashing the same layer and nothing else.

python -m bench.enclave_find [MIB]      default 128; the goal is stated for 1024
"""

import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from bastide.units import MIB

_GOAL_RATIO, _GOAL_MIB = 1.15, 150
_PIECE = 1 << 20
_RUN = """
import sys
from pathlib import Path
from bastide.enclave.find import find
found = sum(1 for _ in find(Path(sys.argv[1])))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(found, peak.split()[1])
"""


def _ordinary_files() -> Iterator[tuple[str, Path]]:
    """Programs, libraries and texts as images hold them, again and again, each round under another name."""
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platlib")]
    files = [
        (path.relative_to(root), path)
        for root in roots
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    for number in itertools.count():
        for name, path in files:
            yield f"opt/{number}/{name}", path


def _write_image(folder: Path, size: int) -> Path:
    """An OCI archive of one gzip layer of at least ``size`` unpacked bytes; gives the archive."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.images import layout

    plain = folder / "layer.tar"
    with tarfile.open(plain, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, path in _ordinary_files():
            archive.add(path, name, recursive=False)
            if archive.offset >= size:
                break
    image = folder / "image"
    layout([plain.read_bytes()]).write(image)
    plain.unlink()
    return image


def _plain(image: Path) -> None:
    """What anybody must do who checks the layer's content: decompress and hash."""
    layer = max((image / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    unpack, state = zlib.decompressobj(wbits=31), hashlib.sha256()
    with layer.open("rb") as file:
        while piece := file.read(_PIECE):
            state.update(unpack.decompress(piece))
    state.hexdigest()


def enclave_find(mebibytes: int = 128) -> dict[str, object]:
    """Both, alternately, so that a noisy neighbour meets both."""
    from bastide.enclave.find import find

    with tempfile.TemporaryDirectory() as folder:
        image = _write_image(Path(folder), mebibytes * MIB)
        ours, plain = [], []
        for _ in range(5 if mebibytes <= 256 else 3):
            start = time.perf_counter()
            _plain(image)
            middle = time.perf_counter()
            tuple(find(image))
            plain.append(middle - start)
            ours.append(time.perf_counter() - middle)
        ran = subprocess.run(
            [sys.executable, "-c", _RUN, str(image)], check=True, capture_output=True, text=True
        ).stdout.split()
    return {
        "mebibytes": mebibytes,
        "seconds": statistics.median(ours),
        "peer": "zlib decompression and SHA-256 of the same layer",
        "peer_seconds": statistics.median(plain),
        "ratio_to_peer": statistics.median(one / other for one, other in zip(ours, plain, strict=True)),
        "goal_ratio": _GOAL_RATIO,
        "peak_mebibytes": int(ran[1]) // 1024,
        "goal_peak_mebibytes": _GOAL_MIB,
    }


if __name__ == "__main__":
    print(json.dumps(enclave_find(*map(int, sys.argv[1:])), indent=2))
