"""The whole process on loopback, against a make-believe API server: as the real API server would call it."""

import asyncio
import base64
import contextlib
import http.client
import json
import socket
import ssl
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from bastide.cli.cluster_admission import command
from bastide.cluster.admission.build import AdmissionOptions, serve
from bastide.cluster.admission.configurations import WebhookSettings, webhook_configurations
from bastide.cluster.certificates import begin
from bastide.cluster.gate.report import object_name
from bastide.errors import BastideError
from support.api_server import api_server
from support.bounded import run_bounded
from support.gate import DIGEST, IMAGE, enclave, report, trusted_tree
from support.kube_objects import KubeObjects, apply_json_patch
from support.pods import container, pod
from support.reviews import CONTROLLER, EPC, review_tree

HOST = "bastide-admission.bastide-system.svc"
FOLDER = "/apis/admissionregistration.k8s.io/v1"
SECRET = "/api/v1/namespaces/bastide-system/secrets/certificate"
POLICY = "apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec:\n"
ENFORCE = POLICY + "  signerGate: {mode: enforce}\n"


def _objects():
    objects = KubeObjects()
    settings = WebhookSettings(name="bastide", service="bastide-admission", namespace="bastide-system")
    for tree in webhook_configurations(settings):
        objects.put(f"{FOLDER}/{tree['kind'].lower()}s/{tree['metadata']['name']}", tree)
    return objects


def _options(tmp_path, **fields):
    return AdmissionOptions(
        host="127.0.0.1",
        port=0,
        secret="certificate",
        certificates=tmp_path / "tls",
        controller=CONTROLLER,
        keeper_interval=0.05,
        **fields,
    )


def _served(objects, options, test):
    async def run():
        with api_server(objects) as api:
            stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
            task = asyncio.ensure_future(
                serve(api.access, options, chance=lambda: 0.0, started=port.set_result, stop=stop)
            )
            try:
                done, _ = await asyncio.wait([task, port], return_when=asyncio.FIRST_COMPLETED)
                if task in done:
                    task.result()
                await test(port.result(), objects)
            finally:
                stop.set()
                async with asyncio.timeout(10):
                    with contextlib.suppress(BastideError):
                        await task

    run_bounded(run, seconds=40)


def _ask(port, authorities, method, path, body=b""):
    """One request as the API server makes it: the Service's name in TLS, trust by caBundle alone."""
    trust = ssl.create_default_context(cadata=authorities)
    connection = _Connection(port, trust)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class _Connection(http.client.HTTPSConnection):
    def __init__(self, port, trust):
        super().__init__(HOST, port, timeout=10, context=trust)
        self._trust = trust

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        self.sock = self._trust.wrap_socket(plain, server_hostname=HOST)


def _bundle(objects):
    webhook = objects.objects[f"{FOLDER}/mutatingwebhookconfigurations/bastide-pods"]["webhooks"][0]
    return base64.b64decode(webhook["clientConfig"]["caBundle"]).decode()


async def _get(port, objects, path):
    return await asyncio.to_thread(_ask, port, _bundle(objects), "GET", path)


async def _until(holds):
    for _ in range(200):
        if await holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within 10 s: {holds.__name__}")


async def _review(port, objects, path, tree):
    raw = json.dumps(tree).encode()
    status, body = await asyncio.to_thread(_ask, port, _bundle(objects), "POST", path, raw)
    assert status == 200
    return json.loads(body)["response"]


def test_the_api_server_reaches_it_by_the_bundle_that_it_wrote_itself(tmp_path):
    objects = _objects()
    policy = tmp_path / "policy.yaml"
    policy.write_text(ENFORCE)
    objects.put(f"/apis/bastide.dev/v1alpha1/enclaveimages/{object_name(DIGEST)}", report(enclave()).build())
    objects.put("/apis/bastide.dev/v1alpha1/trustedsigners/payments", trusted_tree())

    async def test(port, objects):
        async def ready():
            return (await _get(port, objects, "/readyz"))[0] == 200

        await _until(ready)
        tree = pod(container({EPC: "10Mi"}, image=IMAGE.build()))
        mutated = await _review(port, objects, "/mutate", review_tree(tree))
        assert mutated["allowed"]
        operations = json.loads(base64.b64decode(mutated["patch"]))
        assert not any("schedulingGates" in one["path"] for one in operations)
        final = apply_json_patch(tree, operations)
        assert (await _review(port, objects, "/validate", review_tree(final)))["allowed"]
        objects.delete("/apis/bastide.dev/v1alpha1/trustedsigners/payments")

        async def refuses():
            return not (await _review(port, objects, "/validate", review_tree(final)))["allowed"]

        await _until(refuses)
        policy.write_text("kind: nonsense\n")

        async def tells():
            return b"bastide_admission_policy_fault 1.0" in (await _get(port, objects, "/metrics"))[1]

        await _until(tells)
        refused = await _review(port, objects, "/validate", review_tree(final))
        assert "gate.refused" in refused["status"]["message"]
        lease = objects.objects["/apis/coordination.k8s.io/v1/namespaces/bastide-system/leases/bastide-admission"]
        assert lease["spec"]["holderIdentity"]

    _served(objects, _options(tmp_path, policy=policy), test)
    lease = objects.objects["/apis/coordination.k8s.io/v1/namespaces/bastide-system/leases/bastide-admission"]
    assert lease["spec"]["holderIdentity"] == ""


def test_certificates_of_others_are_served_and_nothing_is_written(tmp_path):
    held = begin((HOST,), datetime.now(UTC))
    (tmp_path / "c").write_bytes(held.leaf_pem)
    (tmp_path / "k").write_bytes(held.leaf_key_pem)
    objects = _objects()

    async def test(port, objects):
        status, _ = await asyncio.to_thread(_ask, port, held.bundle_pem.decode(), "GET", "/healthz")
        assert status == 200
        assert SECRET not in objects.objects

    _served(objects, _options(tmp_path, tls=(tmp_path / "c", tmp_path / "k")), test)
    assert not any("leases" in path for path in objects.objects)


def test_it_ends_while_it_still_waits_for_a_certificate(tmp_path):
    objects = _objects()
    objects.refuse = lambda _method, _path: 500

    async def run():
        with api_server(objects) as api:
            stop = asyncio.Event()
            task = asyncio.ensure_future(serve(api.access, _options(tmp_path), chance=lambda: 0.0, stop=stop))
            await asyncio.sleep(0.3)
            stop.set()
            async with asyncio.timeout(10):
                await task

    run_bounded(run)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--listen", "here"], "cluster.admission.listen"),
        (["--listen", "h:99999"], "cluster.admission.listen"),
        (["--scanner", "https://s"], "cluster.admission.scanner"),
        (["--tls", "/nonexistent/c", "/nonexistent/k", "--listen", "127.0.0.1:0"], "web.tls.files"),
        (["--listen", "192.0.2.1:1", "--tls", "c", "k"], "web.listen"),
        (["--policy", "/nonexistent/policy.yaml"], "admission-policy.file"),
        (["--kubeconfig", "/nonexistent/config"], "kube.kubeconfig"),
        (["--scanner", "http://s", "--scanner-ca", "x", "--scanner-token", "y"], "admission.scanner.url"),
    ],
)
def test_the_command_names_what_is_wrong_with_its_options(tmp_path, arguments, code):
    config = tmp_path / "config"
    config.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    given = arguments if "--kubeconfig" in arguments else [*arguments, "--kubeconfig", str(config)]
    result = CliRunner().invoke(command, given)
    assert isinstance(result.exception, BastideError)
    assert result.exception.code == code
