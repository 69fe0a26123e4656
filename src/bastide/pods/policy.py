"""The admission policy: the one file in which a cluster's owner says what pods may ask of SGX.

The lab and the cluster's webhook read the same file. Everything that it does not allow is refused; a field that this
version does not know is refused by name, so that a rule is never silently without effect::

    apiVersion: bastide.dev/v1alpha1
    kind: AdmissionPolicy
    spec:
      provision:
        allow:
        - {namespace: quoting, serviceAccount: pccs, image: ghcr.io/example/pccs}
      plainPods: last-resort
      nodeClasses: [DC4s_v3]
      publicRegistries: [docker.io]
      exemptNamespaces: [sgx-equipment]
      privilegedPods: warn
      signerGate: {mode: enforce, requireMeasurement: true, allowNoEnclave: false, onMiss: gate}

Namespaces are named here and never chosen by a label: a label is something that a tenant can set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from bastide.errors import MalformedError
from bastide.pods.images import ImageReference
from bastide.pods.manifest import read_documents

API_VERSION = "bastide.dev/v1alpha1"
KIND = "AdmissionPolicy"

_MOST_ENTRIES = 1000


class PlainPods(StrEnum):
    """Where pods that ask nothing of SGX may run: the taint that SGX nodes carry.

    ``allow``: no taint. ``last-resort``: ``PreferNoSchedule``. ``deny``: ``NoSchedule``.
    """

    ALLOW = "allow"
    LAST_RESORT = "last-resort"
    DENY = "deny"


class PrivilegedPods(StrEnum):
    """What happens to pods with privileged containers, which open every SGX device of their node without asking."""

    WARN = "warn"
    REFUSE = "refuse"


class GateMode(StrEnum):
    """What the signer gate does with what it finds.

    ``off``: nothing is asked. ``warn``: what it would refuse is told, and the pod is let in. ``enforce``: only pods
    whose images were judged acceptable start.
    """

    OFF = "off"
    WARN = "warn"
    ENFORCE = "enforce"


class OnMiss(StrEnum):
    """What ``enforce`` does with a pod whose image nobody has looked into yet.

    ``gate``: the pod is made with a scheduling gate, which the controller removes. ``retry``: it is refused with
    "inspection running, retry".
    """

    GATE = "gate"
    RETRY = "retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerGate:
    """Which enclaves may be deployed: how strictly the cluster's TrustedSigner objects are applied.

    Attributes:
        mode: see ``GateMode``.
        require_measurement: refuse enclaves whose MRENCLAVE cannot be computed from the image, unless a statement
            vouches for them.
        allow_no_enclave: let containers hold an SGX device though their image has no enclave.
        on_miss: see ``OnMiss``.
    """

    mode: GateMode = GateMode.OFF
    require_measurement: bool = True
    allow_no_enclave: bool = False
    on_miss: OnMiss = OnMiss.GATE


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionRule:
    """One exception to "no container gets ``/dev/sgx_provision``".

    Attributes:
        namespace: the pod's namespace, exactly.
        service_account: the pod's service account, exactly (``default`` where the pod names none).
        image: None for any image of that account; else registry and repository must be equal, and tag and digest
            too where the rule gives them. A tag without a digest covers no image that is named by digest: there the
            digest alone says what runs, and the tag beside it is decoration.
    """

    namespace: str
    service_account: str
    image: ImageReference | None = None

    def allows(self, *, namespace: str, service_account: str, image: ImageReference | None) -> bool:
        """Whether this rule covers a container; an image that could not be read is covered by no image rule."""
        if (self.namespace, self.service_account) != (namespace, service_account):
            return False
        if self.image is None:
            return True
        if image is None or (self.image.registry, self.image.repository) != (image.registry, image.repository):
            return False
        if self.image.tag is None and self.image.digest is None:
            return True
        return self.image.tag in (None, image.tag) and self.image.digest == image.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPolicy:
    """What pods may ask of SGX in one cluster.

    Attributes:
        provision: who may get the device ``sgx.intel.com/provision``, with which an enclave can read an identifier
            of the machine that outlives owners; nobody by default.
        plain_pods: whether pods without SGX may use SGX nodes.
        node_classes: names of node classes that the cluster may grow by, even when no such node runs now; the
            caller looks their EPC up in the catalogue.
        public_registries: hosts whose images draw a warning when pulled without a pull secret.
        exempt_namespaces: whose pods are the node's own equipment (device plugins, monitoring): host paths to SGX,
            devices and privileges are theirs to use.
        privileged_pods: what happens to privileged containers elsewhere.
        signer_gate: whether and how strictly enclaves are asked for their signer.
    """

    provision: tuple[ProvisionRule, ...] = ()
    plain_pods: PlainPods = PlainPods.LAST_RESORT
    node_classes: tuple[str, ...] = ()
    public_registries: tuple[str, ...] = ("docker.io", "ghcr.io", "quay.io")
    exempt_namespaces: tuple[str, ...] = ()
    privileged_pods: PrivilegedPods = PrivilegedPods.WARN
    signer_gate: SignerGate = SignerGate()

    def exempts(self, namespace: str) -> bool:
        """Whether pods of ``namespace`` are the node's own equipment; the name counts, exactly."""
        return namespace in self.exempt_namespaces

    def allows_provision(self, *, namespace: str, service_account: str, image: ImageReference | None) -> bool:
        """Whether some rule lets this container open the provision device."""
        return any(
            rule.allows(namespace=namespace, service_account=service_account, image=image) for rule in self.provision
        )

    @classmethod
    def parse(cls, raw: bytes, name: str) -> "AdmissionPolicy":
        """Read the policy file ``name`` (YAML or JSON, one document).

        Raises:
            MalformedError: ``admission-policy.documents``, ``.kind``, ``.unknown-field``, ``.missing-field``,
                ``.type``, ``.value``; and what :func:`~bastide.pods.manifest.read_documents` and
                :meth:`~bastide.pods.images.ImageReference.parse` raise.
        """
        documents = read_documents(raw, name)
        if len(documents) != 1:
            raise MalformedError(
                "admission-policy.documents", f"expected one document, found {len(documents)}", where=name
            )
        (document,) = documents
        if (document.api_version, document.kind) != (API_VERSION, KIND):
            raise MalformedError(
                "admission-policy.kind",
                f"expected {API_VERSION} {KIND}, found {document.api_version} {document.kind}",
                where=name,
            )
        root = _Fields.of(document.value, name, ("apiVersion", "kind", "metadata", "spec"))
        return _spec(_Fields.of(root.value("spec"), f"{name}: spec", _SPEC_FIELDS))


_SPEC_FIELDS = (
    "provision",
    "plainPods",
    "nodeClasses",
    "publicRegistries",
    "exemptNamespaces",
    "privilegedPods",
    "signerGate",
)
_RULE_FIELDS = ("namespace", "serviceAccount", "image")
_GATE_FIELDS = ("mode", "requireMeasurement", "allowNoEnclave", "onMiss")
_Choice = TypeVar("_Choice", PlainPods, PrivilegedPods, GateMode, OnMiss)

DEFAULT_POLICY = AdmissionPolicy()
"""No provisioning for anyone; plain pods use SGX nodes as a last resort."""


def _spec(spec: "_Fields") -> AdmissionPolicy:
    given = AdmissionPolicy()
    provision = _Fields.of(spec.value("provision", default={}), f"{spec.where}.provision", ("allow",))
    return AdmissionPolicy(
        provision=tuple(
            _rule(_Fields.of(item, f"{provision.where}.allow[{index}]", _RULE_FIELDS))
            for index, item in enumerate(provision.items("allow"))
        ),
        plain_pods=spec.choice("plainPods", given.plain_pods),
        node_classes=spec.texts("nodeClasses"),
        public_registries=(
            spec.texts("publicRegistries") if "publicRegistries" in spec.mapping else given.public_registries
        ),
        exempt_namespaces=spec.texts("exemptNamespaces"),
        privileged_pods=spec.choice("privilegedPods", given.privileged_pods),
        signer_gate=_signer_gate(
            _Fields.of(spec.value("signerGate", default={}), f"{spec.where}.signerGate", _GATE_FIELDS)
        ),
    )


def _signer_gate(gate: "_Fields") -> SignerGate:
    given = SignerGate()
    return SignerGate(
        mode=gate.choice("mode", given.mode),
        require_measurement=gate.flag("requireMeasurement", default=given.require_measurement),
        allow_no_enclave=gate.flag("allowNoEnclave", default=given.allow_no_enclave),
        on_miss=gate.choice("onMiss", given.on_miss),
    )


def _rule(rule: "_Fields") -> ProvisionRule:
    return ProvisionRule(
        namespace=rule.text("namespace"),
        service_account=rule.text("serviceAccount"),
        image=_image(rule) if "image" in rule.mapping else None,
    )


def _image(rule: "_Fields") -> ImageReference:
    try:
        return ImageReference.parse(rule.text("image"))
    except MalformedError as error:
        raise MalformedError(error.code, error.message, hint=error.hint, where=f"{rule.where}.image") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """A mapping whose keys are all known, and where it stands."""

    mapping: Mapping[str, object]
    where: str

    @classmethod
    def of(cls, tree: object, where: str, known: tuple[str, ...]) -> "_Fields":
        if not isinstance(tree, Mapping):
            raise MalformedError(
                "admission-policy.type", f"expected a mapping, found {type(tree).__name__}", where=where
            )
        mapping = {str(key): value for key, value in tree.items()}
        for key in mapping:
            if key not in known:
                raise MalformedError(
                    "admission-policy.unknown-field",
                    f"unknown field {key!r}",
                    hint=f"known here: {', '.join(known)}",
                    where=where,
                )
        return cls(mapping=mapping, where=where)

    def value(self, key: str, *, default: object = None) -> object:
        if key in self.mapping:
            return self.mapping[key]
        if default is not None:
            return default
        raise MalformedError("admission-policy.missing-field", f"field {key!r} is missing", where=self.where)

    def text(self, key: str) -> str:
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise MalformedError(
                "admission-policy.type", f"expected a text, found {value!r}", where=f"{self.where}.{key}"
            )
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.mapping.get(key, default)
        if not isinstance(value, bool):
            raise MalformedError(
                "admission-policy.type", f"expected true or false, found {value!r}", where=f"{self.where}.{key}"
            )
        return value

    def choice(self, key: str, default: _Choice) -> _Choice:
        if key not in self.mapping:
            return default
        kind = type(default)
        text = self._word(key)
        try:
            return kind(text)
        except ValueError:
            raise MalformedError(
                "admission-policy.value",
                f"expected one of {', '.join(kind)}, found {text!r}",
                where=f"{self.where}.{key}",
            ) from None

    def _word(self, key: str) -> str:
        """A text; YAML 1.1 reads ``off`` without quotes as false, and everybody writes it so."""
        return "off" if self.mapping[key] is False else self.text(key)

    def items(self, key: str) -> tuple[object, ...]:
        value = self.value(key, default=())
        if not isinstance(value, list | tuple) or len(value) > _MOST_ENTRIES:
            raise MalformedError(
                "admission-policy.type",
                f"expected a list of at most {_MOST_ENTRIES} entries",
                where=f"{self.where}.{key}",
            )
        return tuple(value)

    def texts(self, key: str) -> tuple[str, ...]:
        entries = self.items(key)
        if not all(isinstance(entry, str) and entry for entry in entries):
            raise MalformedError("admission-policy.type", "expected a list of texts", where=f"{self.where}.{key}")
        return tuple(str(entry) for entry in entries)
