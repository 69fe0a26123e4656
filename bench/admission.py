"""Mutate and validate at 200 reviews a second on one core, against a webhook on the same stack that says yes to all.

The server runs in a process of its own on one core, over TLS, with the signer gate on and verdicts known. Reviews are
sent at their times whether or not earlier ones are answered, and counted from the time at which they were due, so that
a stall shows. What a noisy machine does to the times it does to the peer's as well; CPU time per review is steadier.

    python -m bench.admission [SECONDS]
"""

import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RATE, SECONDS, CONNECTIONS = 200, 10, 16
_HOST = "bastide-admission.bastide-system.svc"
_GOAL_MS = 5.0


def admission(seconds: int = SECONDS) -> dict[str, object]:
    """Ours and the peer's one after the other, twice."""
    runs = [(_run("ours", seconds), _run("echo", seconds)) for _ in range(2)]
    ours, echo = (min((run[index] for run in runs), key=lambda one: one["p99_ms"]) for index in (0, 1))
    return {
        "reviews_per_second": RATE,
        "goal_p99_ms": _GOAL_MS,
        **ours,
        "large_review_ms": runs[0][0]["large_review_ms"],
        "peer": "a webhook that reads the JSON and allows, same TLS and HTTP stack",
        "peer_p50_ms": echo["p50_ms"],
        "peer_p99_ms": echo["p99_ms"],
        "peer_cpu_ms": echo["cpu_ms"],
        "peer_memory_mib": echo["memory_mib"],
        "p50_ratio_to_peer": ours["p50_ms"] / echo["p50_ms"],
        "cpu_ratio_to_peer": ours["cpu_ms"] / echo["cpu_ms"],
        **_without_wire(),
    }


def _without_wire(reviews: int = 4000) -> dict[str, float]:
    """CPU time from the bytes of a review to those of its answer: what a busy machine changes least."""
    bodies = [request.partition(b"\r\n\r\n")[2] for request in _requests()]
    app = _ours()

    async def one(number: int) -> float:
        message = {"type": "http.request", "body": bodies[number % 2], "more_body": False}

        async def receive() -> dict[str, object]:
            return message

        async def send(_message: dict[str, object]) -> None:
            pass

        path = ("/mutate", "/validate")[number % 2]
        began = time.thread_time()
        await app({"type": "http", "method": "POST", "path": path}, receive, send)  # type: ignore[operator]
        return time.thread_time() - began

    async def all_of_them() -> list[float]:
        return sorted([await one(number) for number in range(reviews)])

    times = asyncio.run(all_of_them())
    return {"answer_cpu_p50_ms": statistics.median(times) * 1e3, "answer_cpu_p99_ms": times[reviews * 99 // 100] * 1e3}


def _run(kind: str, seconds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.admission", "serve", kind, folder], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            trust = ssl.create_default_context(cafile=Path(folder) / "ca.pem")
            return asyncio.run(_load(server.pid, port, trust, _requests(), seconds))
        finally:
            server.terminate()
            server.wait(20)


async def _load(
    pid: int, port: int, trust: ssl.SSLContext, requests: tuple[bytes, bytes], seconds: int
) -> dict[str, float]:
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=_HOST))
    for number in range(100):
        await _ask(idle, requests[number % 2], time.perf_counter())
    began_cpu, began = _cpu(pid), time.perf_counter()
    tasks = []
    for number in range(RATE * seconds):
        due = began + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(_ask(idle, requests[number % 2], due)))
    times = sorted(await asyncio.gather(*tasks))
    cpu = (_cpu(pid) - began_cpu) / len(times)
    large = _large()
    large_ms = min([await _ask(idle, large, time.perf_counter()) for _ in range(3)]) * 1e3
    return {
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": times[len(times) * 99 // 100] * 1e3,
        "cpu_ms": cpu * 1e3,
        "memory_mib": _memory(pid),
        "large_review_ms": large_ms,
    }


async def _ask(
    idle: "asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]", request: bytes, due: float
) -> float:
    reader, writer = await idle.get()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))[15:])
    body = await reader.readexactly(length)
    took = time.perf_counter() - due
    if b" 200 " not in head[:20] or b'"allowed":true' not in body:
        raise SystemExit(f"admission: not allowed, the measurement would be of something else: {body[:300]!r}")
    idle.put_nowait((reader, writer))
    return took


def _requests() -> tuple[bytes, bytes]:
    """A pod in an old dialect to mutate, and the same as it comes back to validate."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.gate import DIGEST
    from support.reviews import gate, mutate, patched, review, review_tree, world

    pod = _pod()
    answer = mutate(review(pod), world(gate(), accepted=[DIGEST]), None)
    return _http("/mutate", review_tree(pod)), _http("/validate", review_tree(patched(pod, answer)))


def _pod() -> dict[str, object]:
    from support.gate import IMAGE

    env = [{"name": f"SETTING_{number}", "value": f"value of setting {number}"} for number in range(20)]
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10}
    mounts = [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}]
    container = {"image": IMAGE.build(), "env": env, "livenessProbe": probe, "volumeMounts": mounts}
    asks = {"limits": {"kubernetes.azure.com/sgx_epc_mem_in_MiB": 16, "cpu": "1", "memory": "1Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "payments-7d9c", "labels": {"app": "payments"}, "annotations": {"a": "b"}},
        "spec": {
            "containers": [
                {"name": "app", "resources": asks, **container},
                {"name": "proxy", "resources": {"limits": {"cpu": "100m"}}, **container},
            ],
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}],
        },
    }


def _large() -> bytes:
    """A review of nearly 3 MiB."""
    from support.reviews import review_tree

    pod = _pod()
    pod["metadata"]["annotations"] = {f"key-{number}": "x" * 500 for number in range(5500)}  # type: ignore[index]
    return _http("/mutate", review_tree(pod))


def _http(path: str, tree: dict[str, object]) -> bytes:
    body = json.dumps(tree).encode()
    head = f"POST {path}?timeout=10s HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def _serve(kind: str, folder: Path) -> None:
    """The server's process: the real application over state that was put in by hand, or the peer."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import uvloop

    from bastide.cluster.certificates import begin
    from bastide.web.serving import listen, serve_app
    from bastide.web.tls import ServerTls

    held = begin((_HOST,), datetime.now(UTC))
    (folder / "ca.pem").write_bytes(held.bundle_pem)
    (folder / "tls.pem").write_bytes(held.leaf_pem)
    (folder / "tls.key").write_bytes(held.leaf_key_pem)
    app = _ours() if kind == "ours" else _echo
    with listen("127.0.0.1", 0) as sock, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tls = ServerTls(folder / "tls.pem", folder / "tls.key")
        port = sock.getsockname()[1]
        runner.run(serve_app(app, tls, sock, begun=lambda: print(port, flush=True)))


def _ours() -> object:
    from bastide.cluster.admission.app import App
    from bastide.cluster.admission.metrics import Metrics
    from bastide.cluster.admission.state import ClusterState
    from bastide.cluster.admission.world import World
    from bastide.cluster.gate.report import object_name
    from bastide.pods.policy import AdmissionPolicy, GateMode, SignerGate
    from bastide.units import GIB, Bytes
    from support.gate import DIGEST, enclave, report, trusted_tree

    state = ClusterState(None, chance=lambda: 0.0)  # type: ignore[arg-type]  # nothing is followed here
    state.signers.put("payments", trusted_tree())
    state.images.put(object_name(DIGEST), report(enclave()).build())
    gate = SignerGate(mode=GateMode.ENFORCE)

    def world() -> World:
        return World(
            policy=AdmissionPolicy(signer_gate=gate),
            declared_classes={},
            present_epc=(Bytes(16 * GIB),),
            controller="system:serviceaccount:bastide-system:bastide-controller",
            judge=lambda one, namespace: state.court.judge(one, namespace, gate),
        )

    return App(world, resolver=None, metrics=Metrics(), not_ready=lambda: (), remarks=lambda: ())


async def _echo(_scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    response = {"uid": json.loads(body)["request"]["uid"], "allowed": True}
    tree = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    answer = json.dumps(tree, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(sys.argv[2], Path(sys.argv[3]))
    else:
        print(json.dumps(admission(*map(int, sys.argv[1:2])), indent=2))
