"""Quote verification, against dcap-qvl (Rust) and against the signatures alone.

Called from ``python -m bench``; all ways take turns in one process, in CPU time, so that noise strikes all alike. With
the vectors, real quotes; without, self-made ones.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as package_version
from itertools import count
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.dcap import INTEL, Collateral, PreparedCollateral, Verifier, verify
from bastide.pki.chain import INTEL_ROOT, TrustAnchor, dump_pem_chain, load_pem_chain
from bastide.sgx.quote import Quote

_ROUNDS, _CALLS = 60, 12
_GOALS = {"warm_to_peer": 4.0, "hot_to_peer": 7.0, "warm_to_limit": 1.4, "cold_to_peer": 1.1}
_COLD_SIGNATURES = 9  # CA, PCK certificate, signer, two CRLs, two documents, QE report, quote; both roots are known
_POOL_TASKS, _POOL_QUOTES = 8, 1000
_VECTORS = {
    "sgx_v3": ("sgx3-phala.bin", "SGX-00A067110000-e17-2025-06-19", 1750334171),
    "tdx_v4": ("tdx4-phala.bin", "TDX-B0C06F000000-e17-2025-06-19", 1750332747),
}
"""Files and instants of judgement; both quotes are genuine and in force."""
_PARTS = {
    "tcb_info": "tcb_info.json",
    "qe_identity": "qe_identity.json",
    "pck_crl": "pck_crl.der",
    "root_ca_crl": "root_ca_crl.der",
    "tcb_signing_chain": "tcb_signing_chain.pem",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    quote: bytes
    collateral: Collateral
    at: datetime
    root: TrustAnchor

    def verifier(self, **options: int) -> Verifier:
        # Any status that the library does not call an error, as dcap-qvl's verify: it leaves judging it to its caller.
        return Verifier(self.collateral, root=self.root, policy=INTEL, **options)


def _samples() -> dict[str, Sample]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    folder = Path(os.environ.get("BASTIDE_VECTORS", Path(__file__).parents[2] / "shared" / "vectors")) / "dcap"
    if folder.is_dir():
        return {name: _real(folder, *where) for name, where in _VECTORS.items()}
    from support.quotes import good_world, td_world

    return {
        name: Sample(quote=world.quote.build(), collateral=world.collateral, at=world.at, root=world.root)
        for name, world in (("sgx_v3", good_world()), ("tdx_v4", td_world()))
    }


def _real(folder: Path, quote: str, collateral: str, at: int) -> Sample:
    parts = {part: (folder / "collateral" / collateral / name).read_bytes() for part, name in _PARTS.items()}
    return Sample(
        quote=(folder / "quotes" / quote).read_bytes(),
        collateral=Collateral(**parts),
        at=datetime.fromtimestamp(at, UTC),
        root=INTEL_ROOT,
    )


def _peer(sample: Sample) -> tuple[Callable[[], object], Callable[[], object]]:
    """dcap-qvl, its collateral parsed once; and with the collateral's JSON parsed each time."""
    import dcap_qvl

    from support.foreign import dcap_qvl_collateral

    *_, root = chain = load_pem_chain(Quote.parse(sample.quote).certification.data)
    text = dcap_qvl_collateral(sample.collateral, dump_pem_chain(chain[1:]))
    collateral, der, seconds = dcap_qvl.QuoteCollateralV3.from_json(text), root.public_bytes(Encoding.DER), count()
    start = int(sample.at.timestamp())

    def ask(collateral: object) -> object:
        return dcap_qvl.verify_with_root_ca(sample.quote, collateral, der, start + next(seconds) % 60)

    return lambda: ask(collateral), lambda: ask(dcap_qvl.QuoteCollateralV3.from_json(text))


def _limits() -> dict[str, Callable[[], object]]:
    """The signatures alone: one and two under keys that are loaded, those of a cold run with loading each key."""
    message, scheme = bytes(432), ec.ECDSA(SHA256())
    signers = [ec.generate_private_key(ec.SECP256R1()) for _ in range(_COLD_SIGNATURES)]
    points = [one.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for one in signers]
    signatures = [one.sign(message, scheme) for one in signers]
    keys = [one.public_key() for one in signers]

    def loaded(number: int) -> None:
        for key, signature in zip(keys[:number], signatures, strict=False):
            key.verify(signature, message, scheme)

    def cold() -> None:
        for point, signature in zip(points, signatures, strict=True):
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point).verify(signature, message, scheme)

    return {"limit_hot": lambda: loaded(1), "limit_warm": lambda: loaded(2), "limit_cold": cold}


def _ways(sample: Sample) -> dict[str, Callable[[], object]]:
    peer, peer_from_json = _peer(sample)
    warm, hot = sample.verifier(max_qe_signatures=0), sample.verifier()
    prepared, seconds = PreparedCollateral.of(sample.collateral, sample.root), count()

    def now() -> datetime:
        """Another instant each time, as in life."""
        return sample.at + timedelta(seconds=next(seconds) % 60)

    def uncached(collateral: Collateral | PreparedCollateral) -> object:
        return verify(sample.quote, collateral, now(), root=sample.root, policy=INTEL)

    if not warm.verify(sample.quote, now()) == hot.verify(sample.quote, now()) == uncached(sample.collateral):
        raise SystemExit("quote_verify: the verdicts differ: the measurement would be of something else")
    if not hot.verify(sample.quote, now()).acceptable:
        raise SystemExit("quote_verify: the quote is refused: the measurement would be of something else")
    return {
        "peer": peer,
        "peer_cold": peer_from_json,
        **_limits(),
        "parse": lambda: Quote.parse(sample.quote),
        "hot": lambda: hot.verify(sample.quote, now()),
        "warm": lambda: warm.verify(sample.quote, now()),
        "new_platform": lambda: uncached(prepared),
        "cold": lambda: uncached(sample.collateral),
    }


def _medians(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            start = time.process_time()
            for _ in range(_CALLS):
                way()
            times[name].append((time.process_time() - start) / _CALLS)
    return {name: statistics.median(each) for name, each in times.items()}


def _row(sample: Sample) -> dict[str, object]:
    seconds = _medians(_ways(sample))
    return {
        "microseconds": {name: round(value * 1e6, 1) for name, value in seconds.items()},
        "warm_to_peer": seconds["peer"] / seconds["warm"],
        "hot_to_peer": seconds["peer"] / seconds["hot"],
        "warm_to_limit": seconds["warm"] / seconds["limit_warm"],
        "hot_to_limit": seconds["hot"] / seconds["limit_hot"],
        "cold_to_peer": seconds["cold"] / seconds["peer_cold"],
        "limit_cold_to_peer": seconds["limit_cold"] / seconds["peer_cold"],
        "cold_to_limit": seconds["cold"] / seconds["limit_cold"],
        "cold_signatures": _COLD_SIGNATURES,
    }


def _work(sample: Sample, quotes: int) -> float:
    """One task of a pool: a verifier of its own, and quotes whose signatures are both checked. Gives CPU seconds."""
    start, verifier = time.process_time(), sample.verifier(max_qe_signatures=0)
    if not all(verifier.verify(sample.quote, sample.at).acceptable for _ in range(quotes)):
        raise SystemExit("quote_verify: a worker refused a quote")
    return time.process_time() - start


def _pool(sample: Sample) -> dict[str, object]:
    """Quotes per second of wall time, and CPU time per quote, by worker processes; the two sizes by turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    costs: dict[int, list[float]] = {1: [], 2: []}
    pools = {workers: ProcessPoolExecutor(workers) for workers in rates}
    for workers, pool in pools.items():
        list(pool.map(_work, [sample] * workers, [1] * workers))
    quotes = _POOL_TASKS * _POOL_QUOTES
    for _ in range(7):
        for workers, pool in pools.items():
            start = time.perf_counter()
            cost = sum(pool.map(_work, [sample] * _POOL_TASKS, [_POOL_QUOTES] * _POOL_TASKS))
            rates[workers].append(quotes / (time.perf_counter() - start))
            costs[workers].append(cost / quotes * 1e6)
    for pool in pools.values():
        pool.shutdown()
    per_second = {workers: statistics.median(each) for workers, each in rates.items()}
    cpu = {workers: statistics.median(each) for workers, each in costs.items()}
    return {
        "quotes_per_second": per_second,
        "two_to_one": per_second[2] / per_second[1],
        "best_two_to_one": max(two / one for one, two in zip(rates[1], rates[2], strict=True)),
        "cpu_microseconds_per_quote": cpu,
    }


def quote_verify() -> dict[str, object]:
    """Rows by kind of quote, and a pool of worker processes."""
    samples = _samples()
    return {
        "peer": f"dcap-qvl {package_version('dcap-qvl')}",
        "goals": _GOALS,
        **{name: _row(sample) for name, sample in samples.items()},
        "pool_of_processes": _pool(samples["sgx_v3"]),
    }
