"""Several enclaves at once: ``bastide enclave measure FILE...`` with two processes against one.

Called from ``python -m bench``, or alone as ``python -m bench.enclave_cores``. Both ways alternate with as much plain
SHA-256, in two processes and in one: the gain of that says how free the second core was, so that noise is seen.
To be read on a quiet machine; starting the program is part of both ways, so that a gain of 2 is not reached.
"""

import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bastide.units import PAGE_SIZE

_FILES = 4
_GIB = 64
_RUNS = 3
_HASHED = _GIB * (1 << 30) // PAGE_SIZE * 64  # one record of EADD for each page of heap
_SHA256 = f"import hashlib; s = hashlib.sha256(); p = bytes(1 << 20); [s.update(p) for _ in range({_HASHED >> 20})]"


def enclave_cores() -> dict[str, object]:
    """Gramine layouts of 64 GiB: much to hash, nothing to read, so that it is the cores that count."""
    with tempfile.TemporaryDirectory() as folder:
        files = _files(Path(folder))
        ways = {
            "one": lambda: _measure(files, folder, 1),
            "two": lambda: _measure(files, folder, 2),
            "sha256_one": lambda: [_sha256(1) for _ in range(_FILES)],
            "sha256_two": lambda: [_sha256(2) for _ in range(_FILES // 2)],
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(_RUNS):
            for name, way in ways.items():
                begun = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - begun)
    seconds = {name: statistics.median(all_) for name, all_ in times.items()}
    return {
        "files": _FILES,
        "gib_each": _GIB,
        "seconds_one_process": seconds["one"],
        "seconds_two_processes": seconds["two"],
        "gain": seconds["one"] / seconds["two"],
        "peer": "SHA-256 over as many bytes, in a process each",
        "peer_gain": seconds["sha256_one"] / seconds["sha256_two"],
        "share_of_peer_gain": seconds["one"] / seconds["two"] * seconds["sha256_two"] / seconds["sha256_one"],
    }


def _files(folder: Path) -> list[str]:
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 120, PAGE_SIZE, PAGE_SIZE)
    (folder / "libpal.so").write_bytes(header + load)
    names = [folder / f"{number}.manifest.sgx" for number in range(_FILES)]
    for number, name in enumerate(names):
        name.write_text(f'loader.argv = ["{number}"]\n[sgx]\nenclave_size = "{_GIB}G"\n')
    return [str(name) for name in names]


def _measure(files: list[str], folder: str, jobs: int) -> None:
    bastide = (sys.executable, "-c", "import sys; from bastide.cli import invoke; sys.exit(invoke(sys.argv[1:]))")
    options = ("--libpal", f"{folder}/libpal.so", "--jobs", str(jobs), "--json")
    ran = subprocess.run([*bastide, "enclave", "measure", *files, *options], check=True, capture_output=True)
    measured = {one["blocks"][0]["mr_enclave"] for one in json.loads(ran.stdout)["files"]}
    if len(measured) != _FILES:
        raise SystemExit("enclave_cores: not every file was measured: the time would be of something else")


def _sha256(count: int) -> None:
    for process in [subprocess.Popen([sys.executable, "-c", _SHA256]) for _ in range(count)]:
        if process.wait():
            raise SystemExit("enclave_cores: SHA-256 alone failed")


if __name__ == "__main__":
    print(json.dumps(enclave_cores(), indent=2))
