import pytest

from bastide.errors import MalformedError
from bastide.pods.images import ImageReference
from bastide.pods.policy import (
    DEFAULT_POLICY,
    AdmissionPolicy,
    GateMode,
    OnMiss,
    PlainPods,
    PrivilegedPods,
    ProvisionRule,
    SignerGate,
)

DIGEST = "sha256:" + "ab" * 32


def file_of(spec: str) -> bytes:
    return f"apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec:{spec}\n".encode()


def rule(image: str | None) -> ProvisionRule:
    return ProvisionRule(
        namespace="quoting", service_account="pccs", image=ImageReference.parse(image) if image else None
    )


def test_reads_every_field() -> None:
    policy = AdmissionPolicy.parse(
        file_of("""
  provision:
    allow:
    - {namespace: quoting, serviceAccount: pccs, image: ghcr.io/example/pccs}
    - {namespace: quoting, serviceAccount: default}
  plainPods: deny
  nodeClasses: [DC4s_v3]
  publicRegistries: []
  exemptNamespaces: [equipment]
  privilegedPods: refuse
  signerGate: {mode: enforce, requireMeasurement: false, allowNoEnclave: true, onMiss: retry}
"""),
        "policy.yaml",
    )
    assert policy == AdmissionPolicy(
        provision=(
            rule("ghcr.io/example/pccs"),
            ProvisionRule(namespace="quoting", service_account="default"),
        ),
        plain_pods=PlainPods.DENY,
        node_classes=("DC4s_v3",),
        public_registries=(),
        exempt_namespaces=("equipment",),
        privileged_pods=PrivilegedPods.REFUSE,
        signer_gate=SignerGate(
            mode=GateMode.ENFORCE, require_measurement=False, allow_no_enclave=True, on_miss=OnMiss.RETRY
        ),
    )


def test_empty_spec_is_the_default_policy() -> None:
    assert AdmissionPolicy.parse(file_of(" {}"), "policy.yaml") == DEFAULT_POLICY


def test_reads_json() -> None:
    raw = b'{"apiVersion": "bastide.dev/v1alpha1", "kind": "AdmissionPolicy", "spec": {"plainPods": "allow"}}'
    assert AdmissionPolicy.parse(raw, "policy.json").plain_pods is PlainPods.ALLOW


def test_default_policy_allows_provisioning_to_nobody() -> None:
    image = ImageReference.parse("ghcr.io/example/pccs")
    assert not DEFAULT_POLICY.allows_provision(namespace="kube-system", service_account="default", image=image)


@pytest.mark.parametrize(
    ("raw", "code", "named"),
    [
        (file_of(" {}") + b"---\n" + file_of(" {}"), "admission-policy.documents", "2"),
        (b"[]\n", "manifest.not-kubernetes", "policy.yaml"),
        (file_of(" []"), "admission-policy.type", "policy.yaml: spec"),
        (b"apiVersion: v1\nkind: AdmissionPolicy\nspec: {}\n", "admission-policy.kind", "v1"),
        (b"apiVersion: bastide.dev/v1alpha1\nkind: Pod\nspec: {}\n", "admission-policy.kind", "Pod"),
        (b"kind: AdmissionPolicy\nspec: {}\n", "manifest.not-kubernetes", "apiVersion"),
        (b"apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\n", "admission-policy.missing-field", "spec"),
        (file_of(" {provisioning: {}}"), "admission-policy.unknown-field", "provisioning"),
        (file_of(" {}\nstatus: {}"), "admission-policy.unknown-field", "status"),
        (file_of(" {provision: {deny: []}}"), "admission-policy.unknown-field", "deny"),
        (file_of(" {provision: {allow: [{namespace: a, user: b}]}}"), "admission-policy.unknown-field", "user"),
        (file_of(" {provision: {allow: [{namespace: a}]}}"), "admission-policy.missing-field", "serviceAccount"),
        (file_of(" {provision: {allow: [{serviceAccount: a}]}}"), "admission-policy.missing-field", "namespace"),
        (file_of(" {provision: {allow: [{namespace: 1, serviceAccount: a}]}}"), "admission-policy.type", "namespace"),
        (file_of(' {provision: {allow: [{namespace: "", serviceAccount: a}]}}'), "admission-policy.type", "namespace"),
        (file_of(" {provision: {allow: {}}}"), "admission-policy.type", "allow"),
        (file_of(" {provision: []}"), "admission-policy.type", "provision"),
        (file_of(" {nodeClasses: [1]}"), "admission-policy.type", "nodeClasses"),
        (file_of(" {publicRegistries: docker.io}"), "admission-policy.type", "publicRegistries"),
        (file_of(" {plainPods: sometimes}"), "admission-policy.value", "last-resort"),
        (file_of(" {exemptNamespaces: all}"), "admission-policy.type", "exemptNamespaces"),
        (file_of(" {privilegedPods: allow}"), "admission-policy.value", "refuse"),
        (file_of(" {signerGate: enforce}"), "admission-policy.type", "signerGate"),
        (file_of(" {signerGate: null}"), "admission-policy.type", "signerGate"),
        (file_of(" {signerGate: {mode: strict}}"), "admission-policy.value", "enforce"),
        (file_of(" {signerGate: {mode: on}}"), "admission-policy.type", "mode"),
        (file_of(" {signerGate: {mode: null}}"), "admission-policy.type", "mode"),
        (file_of(" {signerGate: {onMiss: off}}"), "admission-policy.value", "retry"),
        (file_of(" {signerGate: {requireMeasurement: 1}}"), "admission-policy.type", "requireMeasurement"),
        (file_of(" {signerGate: {allowNoEnclave: null}}"), "admission-policy.type", "allowNoEnclave"),
        (file_of(" {signerGate: {warnOnly: true}}"), "admission-policy.unknown-field", "warnOnly"),
        (
            file_of(' {provision: {allow: [{namespace: a, serviceAccount: b, image: "a b"}]}}'),
            "image.space",
            "a b",
        ),
    ],
)  # fmt: skip
def test_refuses_policy_file(raw: bytes, code: str, named: str) -> None:
    with pytest.raises(MalformedError) as error:
        AdmissionPolicy.parse(raw, "policy.yaml")
    assert error.value.code == code
    assert named in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    ("rule_image", "image", "allowed"),
    [
        (None, "ghcr.io/example/pccs:1", True),
        (None, None, True),
        ("ghcr.io/example/pccs", "ghcr.io/example/pccs:1", True),
        ("ghcr.io/example/pccs", "ghcr.io/example/pccs-evil:1", False),
        ("ghcr.io/example/pccs", "example/pccs:1", False),
        ("ghcr.io/example/pccs", None, False),
        ("ghcr.io/example/pccs:1", "ghcr.io/example/pccs:1", True),
        ("ghcr.io/example/pccs:1", "ghcr.io/example/pccs:2", False),
        (f"ghcr.io/example/pccs@{DIGEST}", f"ghcr.io/example/pccs:1@{DIGEST}", True),
        (f"ghcr.io/example/pccs@{DIGEST}", "ghcr.io/example/pccs:1", False),
        ("ghcr.io/example/pccs", f"ghcr.io/example/pccs:1@{DIGEST}", True),
        ("ghcr.io/example/pccs:1", f"ghcr.io/example/pccs:1@{DIGEST}", False),
        (f"ghcr.io/example/pccs:1@{DIGEST}", f"ghcr.io/example/pccs:1@{DIGEST}", True),
        (f"ghcr.io/example/pccs:1@{DIGEST}", f"ghcr.io/example/pccs@{DIGEST}", False),
    ],
)
def test_provision_rule_compares_the_image(rule_image: str | None, image: str | None, allowed: bool) -> None:
    policy = AdmissionPolicy(provision=(rule(rule_image),))
    seen = ImageReference.parse(image) if image else None
    assert policy.allows_provision(namespace="quoting", service_account="pccs", image=seen) is allowed


@pytest.mark.parametrize(("namespace", "account"), [("quoting", "default"), ("default", "pccs")])
def test_provision_rule_compares_namespace_and_service_account(namespace: str, account: str) -> None:
    policy = AdmissionPolicy(provision=(rule(None),))
    assert not policy.allows_provision(namespace=namespace, service_account=account, image=None)


@pytest.mark.parametrize("word", ["off", '"off"', "false"])
def test_off_without_quotes_is_the_mode_and_not_a_boolean(word: str) -> None:
    policy = AdmissionPolicy.parse(file_of(f" {{signerGate: {{mode: {word}}}}}"), "policy.yaml")
    assert policy.signer_gate.mode is GateMode.OFF


def test_the_gate_is_off_and_strict_by_default() -> None:
    assert DEFAULT_POLICY.signer_gate == SignerGate(
        mode=GateMode.OFF, require_measurement=True, allow_no_enclave=False, on_miss=OnMiss.GATE
    )


def test_a_namespace_is_exempt_by_its_exact_name() -> None:
    policy = AdmissionPolicy(exempt_namespaces=("equipment",))
    assert policy.exempts("equipment")
    assert not policy.exempts("equipment2")
    assert not policy.exempts("")
    assert not DEFAULT_POLICY.exempts("kube-system")
