"""Manifests as people write them: every mistake is found at its line, in small ones of ours and in published ones."""

from datetime import UTC, datetime

import pytest

from bastide.cluster.gate.report import EnclaveReport, ImageReport, ManifestReport
from bastide.cluster.lint import KnownImage, LintSettings, Located, lint_manifest
from bastide.enclave.image import EnclaveKind
from bastide.errors import MalformedError
from bastide.pods.policy import AdmissionPolicy, PlainPods
from bastide.units import GIB, MIB, Bytes
from support.gate import DIGEST
from support.vectors import vectors

SETTINGS = LintSettings(declared_classes={})
IMAGE = f"registry.example/demo@{DIGEST}"


def lint(text: str, settings: LintSettings = SETTINGS) -> tuple[Located, ...]:
    return lint_manifest(text.encode(), "a.yaml", settings)


def codes(found: tuple[Located, ...]) -> dict[str, int]:
    """Line of each code."""
    return {one.finding.code: one.line for one in found}


def manifest(container: str, spec: str = "", *, kind: str = "Pod", more: str = "") -> str:
    return f"""\
apiVersion: v1
kind: {kind}
metadata: {{name: a}}
spec:
  {spec or "restartPolicy: Never"}
  containers:
  - name: app
    image: {IMAGE}
    {container}
{more}"""


def asking(epc: str, container: str = "", spec: str = "") -> str:
    return manifest(f"resources: {{limits: {{{epc}}}}}\n    {container}", spec)


EPC = 'sgx.intel.com/epc: "10Mi"'

MISTAKES: dict[str, tuple[str, str, int]] = {
    "bytes where MiB were meant": (asking("sgx.intel.com/epc: 512"), "epc.unit-slip", 9),
    "10 instead of 10Mi": (asking("sgx.intel.com/epc: 10"), "epc.unit-slip", 9),
    "1234": (asking('sgx.intel.com/epc: "1234"'), "epc.unit-slip", 9),
    "limit 10Gi with request 6Gi": (
        manifest("resources: {limits: {sgx.intel.com/epc: 10Gi}, requests: {sgx.intel.com/epc: 6Gi}}"),
        "resources.limits-differ",
        9,
    ),
    "container for containers": (
        f"apiVersion: v1\nkind: Pod\nspec:\n  container:\n  - resources:\n      limits: {{{EPC}}}\n",
        "resources.misplaced",
        6,
    ),
    "an image that is a placeholder": (asking(EPC).replace(IMAGE, "<image_reference>"), "image.placeholder", 8),
    "a volume that is not defined": (
        asking(EPC, "volumeMounts: [{name: data, mountPath: /d}]"),
        "mount.undefined-volume",
        10,
    ),
    "a taint tolerated without an ask": (
        manifest("", "tolerations: [{key: sgx.intel.com/epc, operator: Exists}]"),
        "toleration.without-ask",
        5,
    ),
    "a taint by the name of another's resource": (
        asking(EPC, spec="tolerations: [{key: kubernetes.azure.com/sgx_epc_mem_in_MiB, operator: Exists}]"),
        "toleration.foreign-key",
        5,
    ),
    "a selector of another installation": (
        asking(EPC, spec='nodeSelector: {sgx.intel.com/capable: "true"}'),
        "selector.foreign-label",
        5,
    ),
    "Graphene's device": (
        asking(EPC, spec="volumes: [{name: v, hostPath: {path: /dev/gsgx}}]"),
        "hostpath.guarded",
        5,
    ),
    "the whole of /dev": (manifest("", spec="volumes: [{name: v, hostPath: {path: /dev}}]"), "hostpath.guarded", 5),
    "a device folder with a slash": (
        manifest("", spec="volumes: [{name: v, hostPath: {path: /dev/sgx/}}]"),
        "hostpath.guarded",
        5,
    ),
    "AESM's socket file": (
        asking(EPC, spec="volumes: [{name: v, hostPath: {path: /var/run/aesmd/aesm.socket}}]"),
        "hostpath.guarded",
        5,
    ),
    "an SGX device as a block volume": (
        asking(EPC, "volumeDevices: [{name: v, devicePath: /dev/sgx/enclave}]"),
        "volume-device.guarded",
        10,
    ),
    "privileged on top": (asking(EPC, "securityContext: {privileged: true}"), "container.privileged", 10),
    "enclave without EPC": (asking("sgx.intel.com/enclave: 1"), "enclave.without-epc", 9),
    "SCONE's device count": (asking("sgx.k8s.io/sgx: 1"), "enclave.device-count", 9),
    "a name of another plugin": (asking("alibabacloud.com/sgx_epc_MiB: 5"), "resource.dialect", 9),
    "less pages than any enclave takes": (asking("intel.com/sgx: 5"), "epc.too-small", 9),
    "Intel's quoting resource": (asking(f"{EPC}, sgx.intel.com/qe: 1"), "provision.denied", 9),
    "Windows": (asking(EPC, spec="nodeSelector: {kubernetes.io/os: windows}"), "os.windows", 5),
    "no pull secret for a public image": (
        asking(EPC).replace(IMAGE, f"ghcr.io/a/b@{DIGEST}"),
        "image.public-without-secret",
        8,
    ),
    "a shell in an enclave of one process": (
        asking(EPC, "command: [occlum, run, /bin/bash, -c, ./x]"),
        "process.in-enclave",
        10,
    ),
    "a pod without SGX held on SGX nodes": (
        manifest("", "nodeSelector: {node.kubernetes.io/instance-type: Standard_DC4s_v3}"),
        "selector.sgx-without-ask",
        5,
    ),
    "EPC as an autoscaler's resource metric": (
        (
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec:\n  metrics:\n  - type: Resource\n"
            "    resource:\n      name: sgx.intel.com/epc\n"
        ),
        "hpa.resource-epc",
        7,
    ),
    "an ask in an IstioOperator": (
        f"apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  resources:\n    limits: {{{EPC}}}\n",
        "object.not-judged",
        5,
    ),
    "an ask in Helm values": (f"enclave:\n  resources:\n    limits:\n      {EPC}\n", "object.not-judged", 4),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_finds_the_mistake_at_its_line(mistake: str) -> None:
    text, code, line = MISTAKES[mistake]
    assert codes(lint(text)).get(code) == line


PUBLISHED: dict[str, tuple[str, str]] = {
    "bytes where MiB were meant": ("gramineproject-contrib--gsc-aks-python-deployment-d391e06.yaml", "epc.unit-slip"),
    "limit above request, in Helm values": ("ten-protocol-ten-apps--values.yaml", "resources.limits-differ"),
    "an ask in Helm values": ("opensovereigncloud-cc-intel-platform-registration--values.yaml", "object.not-judged"),
    "an ask in an IstioOperator": ("istio-ecosystem-hsm-sds-server--gateway-istio-hsm.yaml", "object.not-judged"),
    "an annotation outside of pods": ("istio-ecosystem-hsm-sds-server--istio-hsm-config.yaml", "object.not-judged"),
    "a kustomize patch": ("intel-intel-device-plugins-for-kubernetes--nfd-label.yaml", "pod.no-container"),
    "a placeholder for an image": ("azure-aks-engine--sgx-block-L89.yaml", "image.placeholder"),
    "no usable image": ("aliyuncontainerservice-sgx-device-plugin--readme-zh-cn-block-L130.yaml", "image.missing"),
    "a taint of Azure's": ("azure-aks-engine--sgx-block-L89.yaml", "toleration.foreign-key"),
    "a taint of Intel's, without an ask": ("matter-labs-teepot--vault-unseal-pod-0.yaml", "toleration.foreign-key"),
    "a selector of Alibaba's, without an ask": (
        "alibabaclouddocs-csk--use-confidential-containers-to-implement-remote--block-L148.yaml",
        "selector.sgx-without-ask",
    ),
    "a selector by hand": ("wetee-dao-tee-worker--manager.yaml", "selector.foreign-label"),
    "the whole of /dev": ("ufcg-lsd-spire-scone-demo--scone-local-components.yaml", "hostpath.guarded"),
    "AESM as a folder": ("deislabs-mystikos--myst-helloworld.yaml", "hostpath.aesmd"),
    "AESM as a file": ("edgelesssys-marblerun-tensorflow-demo--deploy.yaml", "hostpath.guarded"),
    "devices by hostPath": ("occlum-occlum--executor.yaml", "hostpath.guarded"),
    "privileged on top": ("intel-secl-utils--deployment.yaml", "container.privileged"),
    "enclave without EPC": ("neardata-eu-scone-artifacts--k8s-redis-deployment-dev.yaml", "enclave.without-epc"),
    "SCONE's device count": (
        "scontain-hello-world-scone-on-kubernetes--readme-block-L241.yaml",
        "enclave.device-count",
    ),
    "EPC pages": ("sebva-sgx-orchestrator--metrics-probe.yaml", "epc.too-small"),
    "Azure's MiB": ("occlum-occlum--azure-aks-deployment-guide-block-L14.yaml", "resource.dialect"),
    "provision": ("edgelesssys-marblerun--kubernetes-block-L32.yaml", "provision.denied"),
    "Intel's quoting resources": (
        "intel-intel-device-plugins-for-kubernetes--node-services.yaml",
        "resource.not-offered",
    ),
    "a public image without a secret": (
        "azure-samples-confidential-computing--attested-tls-client.yaml",
        "image.public-without-secret",
    ),
}


@pytest.mark.parametrize("mistake", PUBLISHED)
def test_finds_the_mistake_in_a_published_manifest_and_explains_it(mistake: str) -> None:
    file, code = PUBLISHED[mistake]
    found = lint_manifest((vectors("manifests") / file).read_bytes(), file, SETTINGS)
    explained = [one for one in found if one.finding.code == code]
    assert explained
    assert all(one.line >= 1 and one.finding.message and one.finding.hint for one in explained)


def test_every_published_manifest_is_judged_or_refused_by_name() -> None:
    refused: set[tuple[str, bool]] = set()
    for file in sorted(vectors("manifests").glob("*.yaml")):
        try:
            lint_manifest(file.read_bytes(), file.name, SETTINGS)
        except MalformedError as error:
            refused.add((error.code, bool(error.hint)))
    assert refused == {("manifest.template", True)}


def test_a_good_manifest_draws_nothing() -> None:
    assert lint(asking(EPC)) == ()


def test_findings_stand_in_the_order_of_lines_and_name_their_object() -> None:
    found = lint(asking("sgx.intel.com/epc: 10", "securityContext: {privileged: true}").replace(IMAGE, "x"))
    assert [one.line for one in found] == sorted(one.line for one in found)
    assert {one.about for one in found} == {"Pod/a"}
    assert found[-1].field == "spec.containers[0].securityContext.privileged"


def test_the_claims_of_a_statefulset_are_volumes_of_its_pods() -> None:
    text = f"""\
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  volumeClaimTemplates: [{{metadata: {{name: data}}}}]
  template:
    spec:
      containers:
      - name: db
        image: {IMAGE}
        volumeMounts: [{{name: data, mountPath: /d}}]
"""
    assert lint(text) == ()
    assert "mount.undefined-volume" in codes(lint(text.replace("name: data}}", "name: other}}")))


def test_images_of_pods_without_sgx_are_not_admissions_business() -> None:
    assert lint(manifest("").replace(IMAGE, "nginx")) == ()


def test_namespaces_that_the_policy_exempts_are_left_alone_as_admission_leaves_them() -> None:
    settings = LintSettings(declared_classes={}, policy=AdmissionPolicy(exempt_namespaces=("equipment",)))
    text = asking("sgx.intel.com/epc: 10")
    assert "epc.unit-slip" in codes(lint(text, settings))
    assert list(codes(lint(text.replace("name: a}", "name: a, namespace: equipment}"), settings))) == [
        "namespace.exempt"
    ]


def test_privileges_that_can_meet_no_sgx_node_are_not_told() -> None:
    text = manifest("securityContext: {privileged: true}")
    assert list(codes(lint(text))) == ["container.privileged"]
    assert lint(text, LintSettings(declared_classes={}, policy=AdmissionPolicy(plain_pods=PlainPods.DENY))) == ()


def test_classes_that_the_policy_declares_bound_the_epc_and_no_class_bounds_nothing() -> None:
    text = asking("sgx.intel.com/epc: 900Gi")
    assert lint(text) == ()
    declared = LintSettings(declared_classes={"DC4s_v3": Bytes(16 * GIB)})
    assert "epc.exceeds-classes" in codes(lint(text, declared))


def known(epc: int, kind: EnclaveKind = EnclaveKind.INTEL_SDK) -> LintSettings:
    enclave = EnclaveReport(path="/app.signed.so", kind=kind, epc=Bytes(epc), epc_most=Bytes(epc))
    report = ImageReport(
        digest=DIGEST,
        manifests=(ManifestReport(digest=DIGEST, enclaves=(enclave,)),),
        scanned_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    image = KnownImage(
        repositories=frozenset({"registry.example/demo"}),
        digests=frozenset(report.digests),
        enclaves=report.enclaves,
    )
    return LintSettings(declared_classes={}, images=(image,))


@pytest.mark.parametrize(
    ("asked", "need", "code"),
    [("10Mi", 40 * MIB, "epc.below-enclave"), ("8Gi", 40 * MIB, "epc.above-enclave"), ("64Mi", 40 * MIB, None)],
)
@pytest.mark.parametrize("image", [IMAGE, "registry.example/demo:1"])
def test_epc_is_compared_with_what_the_image_s_enclave_takes(
    asked: str, need: int, code: str | None, image: str
) -> None:
    text = asking(f"sgx.intel.com/epc: {asked}").replace(IMAGE, image)
    found = {one for one in codes(lint(text, known(need))) if one.startswith("epc.")}
    assert found == ({code} if code else set())


def test_an_image_of_another_digest_is_another_image() -> None:
    other = asking("sgx.intel.com/epc: 10Mi").replace(DIGEST, "sha256:" + "12" * 32)
    assert lint(other, known(40 * MIB)) == ()


def test_an_image_known_to_hold_gramine_makes_no_guess_of_a_shell() -> None:
    text = asking(EPC, "command: [bash, start.sh]")
    assert codes(lint(text, known(5 * MIB, EnclaveKind.GRAMINE))) == {"process.in-image": 10}
    assert lint(text, known(5 * MIB)) == ()


BROKEN: dict[str, tuple[str, str]] = {
    "duplicate resources": (asking(EPC, "resources: {}"), "manifest.duplicate-key"),
    "an unquoted template": (asking(EPC).replace(IMAGE, "{{IMAGE}}"), "manifest.template"),
    "a document without a kind beside one with": (
        asking(EPC) + "---\na: {limits: {sgx.intel.com/epc: 1}}\n",
        "manifest.not-kubernetes",
    ),
    "no SGX and no kind": ("a: 1\n", "manifest.not-kubernetes"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_manifest_is_an_error_with_its_line(what: str) -> None:
    text, code = BROKEN[what]
    with pytest.raises(MalformedError) as refusal:
        lint(text)
    assert refusal.value.code == code
    assert str(refusal.value.where).startswith("a.yaml:")


def test_quotas_and_limit_ranges_that_name_sgx_are_told_of_with_their_lines() -> None:
    quota = """apiVersion: v1
kind: ResourceQuota
metadata: {name: epc}
spec:
  hard:
    requests.sgx.intel.com/sgx_epc_mem_in_MiB: 100
---
apiVersion: v1
kind: LimitRange
metadata: {name: epc}
spec:
  limits:
  - type: Container
    max:
      sgx.intel.com/epc: 10Mi
"""
    found = [(one.finding.code, one.line, one.about) for one in lint_manifest(quota.encode(), "a.yaml", SETTINGS)]
    assert found == [("quota.dialect", 6, "ResourceQuota/epc"), ("limitrange.sgx", 15, "LimitRange/epc")]
