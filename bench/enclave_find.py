"""Finding enclaves in a gzip image, against decompressing and hashing the same layer and nothing else.

python -m bench.enclave_find [MIB]      default 128; the goal is stated for 1024
"""

import hashlib
import io
import itertools
import json
import statistics
import struct
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from bastide.units import MIB

_GOAL_RATIO, _GOAL_MIB = 1.15, 150
_PIECE = 1 << 20
_UNIT = 64 * MIB
_OCI = "application/vnd.oci.image"
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


def _some_tar() -> bytes:
    """An enclave and ``_UNIT`` bytes of ordinary files as tar entries, without an end."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.enclave_files import signed_intel_enclave

    enclave, raw = signed_intel_enclave(), io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("opt/enclave.so")
        info.size = len(enclave)
        archive.addfile(info, io.BytesIO(enclave))
        for name, path in _ordinary_files():
            archive.add(path, name, recursive=False)
            if archive.offset >= _UNIT:
                return raw.getvalue()[: archive.offset]
    raise AssertionError("the files never end")


def _write_layer(blob: Path, size: int) -> tuple[str, str]:
    """One gzip member of at least ``size`` unpacked bytes; gives the digests of the blob and of what is in it.

    The same entries again and again, packed once: after a full flush of deflate nothing refers to what came before.
    """
    unit, packer = _some_tar(), zlib.compressobj(6, wbits=-15)
    packed = packer.compress(unit) + packer.flush(zlib.Z_FULL_FLUSH)
    copies, end = -(-size // len(unit)), bytes(1024)
    plain, crc = hashlib.sha256(), 0
    with blob.open("wb") as file:
        file.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
        for piece, written in [(unit, packed)] * copies + [(end, packer.compress(end) + packer.flush())]:
            plain.update(piece)
            crc = zlib.crc32(piece, crc)
            file.write(written)
        file.write(struct.pack("<II", crc, (copies * len(unit) + len(end)) & 0xFFFF_FFFF))
    with blob.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), plain.hexdigest()


def _write_image(folder: Path, size: int) -> Path:
    """An OCI layout of one amd64 image with one gzip layer of at least ``size`` unpacked bytes; gives the layer."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    digest, diff_id = _write_layer(folder / "layer", size)
    layer = (folder / "layer").rename(blobs / digest)

    def put(document: dict[str, object], media_type: str) -> dict[str, object]:
        raw = json.dumps(document).encode()
        name = hashlib.sha256(raw).hexdigest()
        (blobs / name).write_bytes(raw)
        return {"mediaType": f"{_OCI}.{media_type}", "digest": f"sha256:{name}", "size": len(raw)}

    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    config = put({"architecture": "amd64", "os": "linux", "rootfs": rootfs}, "config.v1+json")
    described = {
        "mediaType": f"{_OCI}.layer.v1.tar+gzip",
        "digest": f"sha256:{digest}",
        "size": layer.stat().st_size,
    }
    manifest = put({"schemaVersion": 2, "config": config, "layers": [described]}, "manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layer


def _plain(layer: Path) -> None:
    """What anybody must do who checks the layer's content: decompress and hash."""
    unpack, state = zlib.decompressobj(wbits=31), hashlib.sha256()
    with layer.open("rb") as file:
        while piece := file.read(_PIECE):
            state.update(unpack.decompress(piece))
    state.hexdigest()


def _found(image: Path) -> None:
    from bastide.enclave.find import find

    if [one.path for one in find(image)] != ["/opt/enclave.so"]:
        raise SystemExit("enclave_find: the enclave was not found: the measurement would be of something else")


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def enclave_find(mebibytes: int = 128) -> dict[str, object]:
    """Both, alternately, so that a noisy neighbour meets both.

    The digests are computed in threads beside the rest, so wall time is less than CPU time while a second core is
    free; both are given.
    """
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder)
        layer = _write_image(image, mebibytes * MIB)
        packed = layer.stat().st_size
        runs = [
            (_timed(lambda: _plain(layer)), _timed(lambda: _found(image))) for _ in range(5 if mebibytes <= 256 else 3)
        ]
        ran = subprocess.run(
            [sys.executable, "-c", _RUN, str(image)], check=True, capture_output=True, text=True
        ).stdout.split()
    return {
        "mebibytes": mebibytes,
        "packed_mebibytes": packed // MIB,
        "seconds": statistics.median(ours[0] for _, ours in runs),
        "peer": "zlib decompression and SHA-256 of the same layer",
        "peer_seconds": statistics.median(plain[0] for plain, _ in runs),
        "ratio_to_peer": statistics.median(ours[0] / plain[0] for plain, ours in runs),
        "goal_ratio": _GOAL_RATIO,
        "ratio_to_peer_in_cpu_time": statistics.median(ours[1] / plain[1] for plain, ours in runs),
        "peak_mebibytes": int(ran[1]) // 1024,
        "goal_peak_mebibytes": _GOAL_MIB,
    }


if __name__ == "__main__":
    print(json.dumps(enclave_find(*map(int, sys.argv[1:])), indent=2))
