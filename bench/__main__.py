"""Measures what the project promises about speed, and writes one JSON object per run to ``bench/results/local``.

Nothing here judges: numbers of a noisy machine are quoted as medians, and as ratios against something that runs beside
them in the same process or on the same machine. See ``bench/README.md`` for the goals and what each ratio means.

    python -m bench [NAME...]        the names stand in BENCHES below
"""

import asyncio
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING

from bench.admission import admission
from bench.attest_http import attest_http
from bench.controller import controller
from bench.enclave_cores import enclave_cores
from bench.enclave_find import enclave_find
from bench.enclave_measure import enclave_measure
from bench.node_agent import node_agent
from bench.quote_verify import quote_verify

if TYPE_CHECKING:
    from bastide.dcap import Collateral
    from bastide.sim.intel import Pki

RESULTS = Path(__file__).parent / "results" / "local"


def median_seconds(work: Callable[[], object], runs: int) -> float:
    """Median wall time of ``work`` over ``runs`` runs after one that is not counted."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def manifests(pods: int) -> bytes:
    """A file of ``pods`` Pods, every second one with an EPC request in one of the dialects."""
    asks = (
        "sgx.intel.com/epc: 64Mi",
        "kubernetes.azure.com/sgx_epc_mem_in_MiB: 32",
        "sgx.intel.com/sgx_epc_mem_in_MiB: 10",
        "alibabacloud.com/sgx_epc_MiB: 128",
    )
    documents = []
    for number in range(pods):
        epc = f"\n      limits: {{{asks[number // 2 % len(asks)]}}}" if number % 2 else ""
        documents.append(
            f"apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}}}\nspec:\n  containers:\n"
            f"  - name: app\n    image: registry.example/app-{number % 20}@sha256:{'0' * 64}\n"
            f"    resources:\n      requests: {{cpu: {50 + number % 7 * 50}m, memory: {64 + number % 5 * 64}Mi}}{epc}\n"
        )
    return "---\n".join(documents).encode()


def lab_scale() -> dict[str, object]:
    """100 nodes, 1,000 pods (half with EPC): read, admitted, placed and reported, nothing launched."""
    import yaml

    from bastide.catalogue.lookup import find_class
    from bastide.cli.lab_report import print_report
    from bastide.pods.manifest import read_documents
    from bastide.pods.policy import DEFAULT_POLICY
    from bastide.sim.cluster_file import LabCluster, NodePool
    from bastide.sim.lab import LabRun, run_lab
    from bastide.sim.state import LabState

    raw = manifests(1000)
    shape = (("sgx", "DC4s_v3", 40), ("old", "DC2s_v2", 10), ("ordinary", "generic-8x32", 50))
    cluster = LabCluster(
        pools=tuple(NodePool(name=name, node_class=find_class(kind), count=count) for name, kind, count in shape)
    )

    def work() -> None:
        documents = read_documents(raw, "bench.yaml")
        run = LabRun(documents=documents, cluster=cluster, policy=DEFAULT_POLICY, launch=False)
        result = asyncio.run(run_lab(run, state=LabState(), now=datetime.now(UTC)))
        if not all(pod.node for pod in result.pods):
            raise SystemExit("lab_scale: some pods were not placed: the measurement would be of something else")
        stdout, sys.stdout = sys.stdout, io.StringIO()
        try:
            print_report(result)
        finally:
            sys.stdout = stdout

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    seconds = median_seconds(work, 5)
    peer = median_seconds(lambda: list(yaml.load_all(raw, loader)), 5)
    return {
        "nodes": 100,
        "pods": 1000,
        "seconds": seconds,
        "goal_seconds": 10,
        "peer": "PyYAML (libyaml) loading the same file",
        "peer_seconds": peer,
        "ratio_to_peer": seconds / peer,
    }


def launch_to_token() -> dict[str, object]:
    """One enclave of 4 MiB: ECREATE to a verified token, keys and platform made before."""
    from bastide.catalogue.lookup import find_class
    from bastide.dcap import PreparedCollateral, verify
    from bastide.sim.driver import ENCLAVE_DEVICE, load
    from bastide.sim.evidence import make_attestation
    from bastide.sim.launch import Signers, enclave_of
    from bastide.sim.platform import enclave_signing_key, make_collateral, make_machine, make_pki, mr_signer_of
    from bastide.sim.quoting import quoting_image
    from bastide.sim.state import LabState
    from bastide.units import MIB, Bytes

    state, now, none = LabState(), datetime.now(UTC), frozenset()
    pki, quoting = make_pki(state, now), quoting_image(enclave_signing_key(state, "quoting-enclave"))
    machine = make_machine(state, "n1", find_class("DC4s_v3"), pki=pki, quoting_image=quoting, now=now, faults=none)
    raw = make_collateral(pki, [machine.pck], qe_signer=quoting.sigstruct.mr_signer, now=now, faults=none)
    collateral = PreparedCollateral.of(raw, pki.trust_anchor)
    own = enclave_signing_key(state, "enclave")
    attestation = make_attestation(
        state, root=pki.trust_anchor, collateral=collateral, trusted_signer=mr_signer_of(own), now=now, faults=none
    )
    signers = Signers(own=own, stranger=own)
    image = "oeciteam/sgx-test:1.0"

    def start() -> None:
        _, built = enclave_of(image, Bytes(10 * MIB), signers=signers, faults=none)
        machine.cpu.eremove(load(machine.cpu, built, [ENCLAVE_DEVICE]).eid)

    def whole() -> None:
        _, built = enclave_of(image, Bytes(10 * MIB), signers=signers, faults=none)
        inside = load(machine.cpu, built, [ENCLAVE_DEVICE])
        if not attestation.judge(inside, machine.quoting, now).accepted:
            raise SystemExit("launch_to_token: the evidence was refused")
        machine.cpu.eremove(inside.eid)

    _, built = enclave_of(image, Bytes(10 * MIB), signers=signers, faults=none)
    inside = load(machine.cpu, built, [ENCLAVE_DEVICE])
    quote = machine.quoting.quote(inside.report(machine.quoting.target_info(), bytes(64))).build()
    root = pki.trust_anchor
    return {
        "launch_to_token_seconds": median_seconds(whole, 30),
        "of_which_sign_and_launch_seconds": median_seconds(start, 30),
        "of_which_verify_prepared_seconds": median_seconds(lambda: verify(quote, collateral, now, root=root), 100),
        "verify_cold_seconds": median_seconds(lambda: verify(quote, raw, now, root=root), 30),
        **_foreign_verifier(pki, raw, quote, now),
    }


def _foreign_verifier(pki: "Pki", raw: "Collateral", quote: bytes, now: datetime) -> dict[str, object]:
    """The same quote in dcap-qvl (Rust), collateral parsed once: the named peer of quote verification."""
    import dcap_qvl
    from cryptography.hazmat.primitives.serialization import Encoding

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from bastide.pki.chain import dump_pem_chain
    from support.foreign import dcap_qvl_collateral

    chain = dump_pem_chain((pki.platform_ca.certificate, pki.root.certificate))
    parsed = dcap_qvl.QuoteCollateralV3.from_json(dcap_qvl_collateral(raw, chain))
    root = pki.root.certificate.public_bytes(Encoding.DER)
    seconds = int(now.timestamp())
    peer = median_seconds(lambda: dcap_qvl.verify_with_root_ca(quote, parsed, root, seconds), 100)
    return {"peer": f"dcap-qvl {package_version('dcap-qvl')}", "peer_verify_seconds": peer}


def version() -> dict[str, object]:
    """``bastide --version`` as a whole process, against a bare interpreter."""
    command = [str(Path(sys.executable).with_name("bastide")), "--version"]
    bare = [sys.executable, "-c", "pass"]
    ours = median_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), 15)
    peer = median_seconds(lambda: subprocess.run(bare, check=True), 15)
    return {
        "seconds": ours,
        "goal_seconds": 0.15,
        "peer": "the interpreter doing nothing",
        "peer_seconds": peer,
        "ratio_to_peer": ours / peer,
    }


BENCHES = {
    "admission": admission,
    "attest_http": attest_http,
    "controller": controller,
    "quote_verify": quote_verify,
    "lab_scale": lab_scale,
    "launch_to_token": launch_to_token,
    "version": version,
    "enclave_measure": enclave_measure,
    "enclave_find": enclave_find,
    "enclave_cores": enclave_cores,
    "node_agent": node_agent,
}


def main(names: list[str]) -> None:
    """Run the named measurements, or all."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise SystemExit(f"no such measurement: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    results = {name: BENCHES[name]() for name in names or BENCHES}
    RESULTS.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC)
    text = json.dumps({"at": at.isoformat(timespec="seconds"), "machine": machine, "results": results}, indent=2)
    (RESULTS / f"{at:%Y%m%dT%H%M%SZ}.json").write_text(text + "\n")
    print(text)


main(sys.argv[1:])
