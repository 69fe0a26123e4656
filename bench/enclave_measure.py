"""Measuring enclaves: against SHA-256 over the same stream, and against the loop per 256 bytes that signers use.

Called from ``python -m bench``, or alone as ``python -m bench.enclave_measure``. The ways of the first measurement
alternate, so that noise strikes all. Wall time and CPU time are given apart. ``two_threads_gain`` says how free the
machine was: 2 when both cores were, 1 when others used one.
"""

import hashlib
import json
import os
import statistics
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bastide.enclave.image import EnclaveFile
from bastide.enclave.layout import EnclaveLayout, PageRun
from bastide.enclave.measure import bytes_to_hash, measure
from bastide.enclave.read import read_enclave
from bastide.sgx.secs import SecInfo
from bastide.units import MIB, PAGE_SIZE

_SIZE = 256 * MIB
_STREAM = _SIZE // PAGE_SIZE * 5184
_PIECE = 64 * 5184
_TRUSTED_FILES = 20_000
_SECINFO = SecInfo.of_flags(0x203)


Times = dict[str, list[tuple[float, float]]]
"""Wall and CPU seconds of each run, by way."""


def _alternating(ways: dict[str, Callable[[], object]], runs: int) -> Times:
    times: Times = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def _medians(runs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(wall for wall, _ in runs), statistics.median(cpu for _, cpu in runs)


def _bound(size: int = _STREAM) -> None:
    """SHA-256 over as many bytes as the stream has, in the pieces in which we hash, with nothing to put together."""
    piece, sha256 = os.urandom(_PIECE), hashlib.sha256()
    for _ in range(size // _PIECE):
        sha256.update(piece)


def _per_chunk(content: bytes) -> bytes:
    """The loop that signers use: a record and its 256 bytes, one update each."""
    sha256 = hashlib.sha256(struct.pack("<8sIQ44x", b"ECREATE", 1, 2 * _SIZE))
    for page in range(0, len(content), PAGE_SIZE):
        sha256.update(struct.pack("<8sQQ40x", b"EADD", page, 0x203))
        for chunk in range(page, page + PAGE_SIZE, 256):
            sha256.update(struct.pack("<8sQ48x", b"EEXTEND", chunk))
            sha256.update(content[chunk : chunk + 256])
    return sha256.digest()


def _measured_content() -> dict[str, object]:
    content = os.urandom(_SIZE)
    run = PageRun(offset=0, secinfo=_SECINFO, content=content)
    layout = EnclaveLayout(size=2 * _SIZE, ssa_frame_size=1, runs=(run,))
    if layout.measure().digest() != _per_chunk(content):
        raise SystemExit("enclave_measure: the two ways differ: the measurement would be of something else")
    ways = {"ours": layout.measure, "bound": _bound, "two": _two_bounds, "loop": lambda: _per_chunk(content)}
    times = _alternating(ways, 7)
    (ours, ours_cpu), (bound, bound_cpu), (two, _), (loop, _) = (_medians(times[name]) for name in ways)
    return {
        "mib": _SIZE // MIB,
        "seconds": ours,
        "sha256_bound_seconds": bound,
        "share_of_bound": bound / ours,
        "share_of_bound_best_runs": min(times["bound"])[0] / min(times["ours"])[0],
        "goal_share_of_bound": 0.85,
        "cpu_seconds": ours_cpu,
        "share_of_bound_in_cpu_time": bound_cpu / ours_cpu,
        "two_threads_gain": 2 * bound / two,
        "peer": "one update per record and per 256 bytes, as signing tools do",
        "peer_seconds": loop,
        "times_faster_than_peer": loop / ours,
    }


def _two_bounds() -> None:
    """The bound twice at the same time: takes as long as once while two cores are free."""
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(_bound), pool.submit(_bound)]:
            done.result()


def _gramine() -> dict[str, object]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.enclave_files import PF_R, PF_W, Elf, Seg

    segments = (
        Seg(address=0, data=os.urandom(400_000)),
        Seg(address=0x80000, data=os.urandom(50_000), flags=PF_R | PF_W),
    )
    libpal = Elf(segments=segments).build()
    files = "".join(
        f'[[sgx.trusted_files]]\nuri = "file:/usr/lib/python3/app/module_{number}.py"\nsha256 = "{number:064x}"\n\n'
        for number in range(_TRUSTED_FILES)
    )
    manifest = f'[sgx]\nenclave_size = "16G"\nmax_threads = 64\n\n{files}'.encode()

    def read() -> EnclaveFile:
        return read_enclave(manifest, "app.manifest.sgx", libpal=libpal)

    name = f"16 GiB, 64 threads, {_TRUSTED_FILES} trusted files ({len(manifest)} bytes)"
    return {"enclave": name, "goal_seconds": 0.25} | _whole(read)


def _open_enclave() -> dict[str, object]:
    default = Path(__file__).parents[2] / "shared" / "vectors"
    folder = Path(os.environ.get("BASTIDE_VECTORS", default)) / "enclave" / "oe"
    path = next(folder.glob("*.signed"), None) if folder.is_dir() else None
    if path is None:
        return {"skipped": "vectors/enclave is absent (set BASTIDE_VECTORS)"}
    raw = path.read_bytes()
    name = "Signal CDSI for DC2s_v3: 2,131,703 pages, 131,703 measured"
    return {"enclave": name, "goal_seconds": 0.6} | _whole(lambda: read_enclave(raw))


def _whole(read: Callable[[], EnclaveFile]) -> dict[str, object]:
    """Reading and measuring, beside SHA-256 over as many bytes: goals in seconds are of a CPU with SHA instructions."""
    hashed = bytes_to_hash(read())
    times = _alternating({"ours": lambda: measure(read()), "bound": lambda: _bound(hashed)}, 5)
    (ours, ours_cpu), (bound, bound_cpu) = _medians(times["ours"]), _medians(times["bound"])
    return {
        "seconds": ours,
        "best_seconds": min(times["ours"])[0],
        "cpu_seconds": ours_cpu,
        "sha256_bound_seconds": bound,
        "share_of_bound": bound / ours,
        "share_of_bound_in_cpu_time": bound_cpu / ours_cpu,
    }


def enclave_measure() -> dict[str, object]:
    """256 MiB wholly measured; Gramine's layout for 16 GiB; a real Open Enclave file of 8 GiB."""
    return {"measured_content": _measured_content(), "gramine": _gramine(), "open_enclave": _open_enclave()}


if __name__ == "__main__":
    print(json.dumps(enclave_measure(), indent=2))
