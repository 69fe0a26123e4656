"""KEDA's calls, by a gRPC client made from its protocol."""

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import grpc
import grpc.aio
import pytest

from bastide._proto import externalscaler_pb2 as pb
from bastide._proto import externalscaler_pb2_grpc as rpc
from bastide.cluster.metrics import scaler as scaler_module
from bastide.cluster.metrics.measures import measures
from bastide.cluster.metrics.scaler import Known, Scaler, ScalerTls, scaler_server
from bastide.errors import ConfigError
from bastide.web.tls import self_made
from support.bounded import eventually, run_bounded
from support.epc_measures import MIB, NOW, node_tree, nodes_of, pod_tree, pods_of, reading

USE = {"scalerAddress": "x:9112", "metric": "use", "target": "0.7", "selector": "app=front"}
PENDING = {"metric": "pending", "target": "64Mi"}
KEDA_SECONDS = 3.0
"""KEDA's own timeout of a scaler's call."""


def seen_with(*pods, usage=None):
    return measures(nodes_of(node_tree()), pods_of(*pods), usage or {}, now=NOW)


BUSY = seen_with(pod_tree("a"), pod_tree("b"), usage={"n1": reading({"a": 48, "b": 48})})
WAITING = seen_with(pod_tree("a", node=""))
IDLE = seen_with()


def ref(metadata, namespace="web"):
    return pb.ScaledObjectRef(name="front", namespace=namespace, scalerMetadata=metadata)


@asynccontextmanager
async def keda(known, **options):
    """A client of a scaler that knows what ``known`` gives."""
    scaler = Scaler(known if callable(known) else lambda: Known(measures=known), **options)
    async with (
        scaler_server(scaler, host="127.0.0.1", port=0) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield rpc.ExternalScalerStub(channel)


def asking(test, known, **options):
    async def run():
        async with keda(known, **options) as stub:
            await test(stub)

    run_bounded(run)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


def test_keda_learns_the_metric_and_its_target_before_anything_is_known():
    async def test(stub):
        answer = await stub.GetMetricSpec(ref(USE), timeout=KEDA_SECONDS)
        assert [(one.metricName, one.targetSizeFloat) for one in answer.metricSpecs] == [("bastide-epc-use", 0.7)]

    asking(test, lambda: Known(measures=None, problem="pods not listed yet"))


def test_keda_reads_values_and_activity():
    async def test(stub):
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(USE), metricName="bastide-epc-use")
        (value,) = (await stub.GetMetrics(asked, timeout=KEDA_SECONDS)).metricValues
        assert (value.metricName, value.metricValueFloat, value.metricValue) == ("bastide-epc-use", 1.5, 2)
        assert (await stub.IsActive(ref(USE), timeout=KEDA_SECONDS)).result

    asking(test, BUSY)


def test_a_value_of_zero_is_zero_in_both_forms():
    async def test(stub):
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(PENDING), metricName="bastide-epc-pending-bytes")
        (value,) = (await stub.GetMetrics(asked)).metricValues
        assert (value.metricValueFloat, value.metricValue) == (0.0, 0)
        assert not (await stub.IsActive(ref(PENDING))).result

    asking(test, IDLE)


def test_a_value_that_does_not_fit_in_64_bits_is_the_largest_one_and_not_an_error():
    absurd = [pod_tree(name, "7Ei", node="no-such-node") for name in "ab"]
    metadata = {"metric": "wanted", "target": "64Mi"}

    async def test(stub):
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(metadata), metricName="bastide-epc-wanted-bytes")
        (value,) = (await stub.GetMetrics(asked, timeout=KEDA_SECONDS)).metricValues
        assert value.metricValue == value.metricValueFloat == 2**53

    asking(test, seen_with(*absurd))


def test_what_is_not_known_is_unavailable_and_not_zero():
    async def test(stub):
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(USE), metricName="bastide-epc-use")
        code, details = await refused(stub.GetMetrics(asked))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "not known" in details

    asking(test, IDLE)


def test_before_everything_was_listed_values_are_unavailable_with_the_reason():
    async def test(stub):
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(USE), metricName="bastide-epc-use")
        for call in (stub.GetMetrics(asked), stub.IsActive(ref(USE))):
            assert await refused(call) == (grpc.StatusCode.UNAVAILABLE, "pods not listed yet")

    asking(test, lambda: Known(measures=None, problem="pods not listed yet"))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "metadata.metric"),
        ({**USE, "target": "x"}, "metadata.target"),
        ({**USE, "selector": ""}, "metadata.selector"),
        ({**USE, "selector": "app in"}, "cluster.metrics.selector"),
        ({**USE, "tagret": "1"}, "tagret"),
    ],
)
def test_a_wrong_trigger_is_an_invalid_argument_that_says_what(metadata, words):
    async def test(stub):
        for call in (
            stub.GetMetricSpec(ref(metadata)),
            stub.IsActive(ref(metadata)),
            stub.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=ref(metadata), metricName="x")),
        ):
            code, details = await refused(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert words in details

    asking(test, BUSY)


def test_another_metric_than_that_of_the_trigger_is_an_invalid_argument():
    async def test(stub):
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(USE), metricName="s0-bastide-epc-use")
        code, _ = await refused(stub.GetMetrics(asked))
        assert code is grpc.StatusCode.INVALID_ARGUMENT

    asking(test, BUSY)


def test_a_tenant_does_not_learn_what_other_namespaces_wait_for():
    everything = {**PENDING, "namespaces": "all"}

    async def test(stub):
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(everything, "other"), metricName="bastide-epc-pending-bytes")
        code, _ = await refused(stub.GetMetrics(asked))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(everything, "ops"), metricName="bastide-epc-pending-bytes")
        (value,) = (await stub.GetMetrics(asked)).metricValues
        # No pod of the tenant's is bound: by the bound of the pool as many more fit as there is room for.
        assert value.metricValueFloat == 64 * MIB

    asking(test, WAITING, cluster_wide=["ops"])


def test_a_stream_tells_activity_at_once_and_when_it_changes():
    now = [IDLE]

    async def test(stub):
        stream = stub.StreamIsActive(ref(PENDING))
        assert not (await stream.read()).result
        now[0] = WAITING
        assert (await stream.read()).result
        stream.cancel()

    asking(test, lambda: Known(measures=now[0]), period=0.01)


def test_streams_are_bounded_and_one_that_ends_makes_room_for_another(monkeypatch):
    monkeypatch.setattr(scaler_module, "_MOST_STREAMS", 2)

    async def test(stub):
        held = [stub.StreamIsActive(ref(PENDING)) for _ in range(2)]
        for stream in held:
            assert (await stream.read()).result
        code, _ = await refused(stub.StreamIsActive(ref(PENDING)).read())
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        held[0].cancel()
        for _ in range(100):
            with suppress(grpc.aio.AioRpcError):
                assert (await stub.StreamIsActive(ref(PENDING)).read()).result
                return
            await asyncio.sleep(0.05)
        raise AssertionError("no room")

    asking(test, WAITING, period=0.02)


def test_a_stream_that_is_cancelled_leaves_nothing_behind():
    scaler = Scaler(lambda: Known(measures=IDLE), period=0.01)

    async def run():
        async with scaler_server(scaler, host="127.0.0.1", port=0) as port:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stream = rpc.ExternalScalerStub(channel).StreamIsActive(ref(PENDING))
                await stream.read()
                assert scaler._streams == 1
                stream.cancel()
            await eventually(lambda: scaler._streams == 0, "the stream is closed")

    run_bounded(run)


def test_targets_that_change_are_not_served_and_keda_goes_on_without():
    async def test(stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StreamMetricSpec(ref(USE)).read()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    asking(test, BUSY)


def test_a_message_beyond_all_measure_is_refused():
    async def test(stub):
        code, _ = await refused(stub.IsActive(ref({"metric": "x" * 100_000})))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED

    asking(test, BUSY)


def test_a_port_that_is_taken_is_told():
    async def run():
        scaler = Scaler(lambda: Known(measures=IDLE))
        async with scaler_server(scaler, host="127.0.0.1", port=0) as port:
            with pytest.raises(ConfigError) as caught:
                async with scaler_server(scaler, host="127.0.0.1", port=port):
                    pass
            assert caught.value.code == "cluster.metrics.listen"

    run_bounded(run)


def _pair(folder, name):
    folder.mkdir(exist_ok=True)
    certificate, key = self_made(folder, [name], datetime.now(UTC))
    return key.read_bytes(), certificate.read_bytes()


async def _ask_by_tls(port, root, client=None):
    key, chain = client or (None, None)
    credentials = grpc.ssl_channel_credentials(root, key, chain)
    options = (("grpc.ssl_target_name_override", "scaler.example"),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        return await rpc.ExternalScalerStub(channel).IsActive(ref(USE), timeout=KEDA_SECONDS)


def test_tls_serves_a_new_certificate_once_there_is_one(tmp_path):
    pairs = [_pair(tmp_path / "one", "scaler.example")]

    async def run():
        tls = ScalerTls(read=lambda: pairs[-1])
        async with scaler_server(Scaler(lambda: Known(measures=BUSY)), host="127.0.0.1", port=0, tls=tls) as port:
            assert (await _ask_by_tls(port, pairs[0][1])).result
            pairs.append(await asyncio.to_thread(_pair, tmp_path / "two", "scaler.example"))
            assert (await _ask_by_tls(port, pairs[1][1])).result
            code, _ = await refused(_ask_by_tls(port, pairs[0][1]))
            assert code is grpc.StatusCode.UNAVAILABLE

    run_bounded(run)


def test_with_a_client_authority_nobody_else_is_answered(tmp_path):
    server, client, stranger = (_pair(tmp_path / name, "scaler.example") for name in ("server", "client", "stranger"))

    async def run():
        tls = ScalerTls(read=lambda: server, client_ca=client[1])
        async with scaler_server(Scaler(lambda: Known(measures=BUSY)), host="127.0.0.1", port=0, tls=tls) as port:
            assert (await _ask_by_tls(port, server[1], client)).result
            for other in (None, stranger):
                code, _ = await refused(_ask_by_tls(port, server[1], other))
                assert code is grpc.StatusCode.UNAVAILABLE

    run_bounded(run)
