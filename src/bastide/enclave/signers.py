"""The signers file: whose enclaves may start. The command line and a cluster's gate read the same file.

::

    apiVersion: bastide.dev/v1alpha1
    kind: SignersPolicy
    spec:
      debug: forbid-attribute            # default; or forbid-mask, allow
      measurement: required              # default; or when-possible
      allow:
      - name: payments
        mrSigner: 8c4f...                # 64 hex digits; mrSigner or mrEnclave or both
        productId: 1
        minimumSvn: 3
        provision: false
      deny:
        mrSigners: []                    # beside the public keys that are always denied
        mrEnclaves: []
      statements:
      - repository: registry.example/payments/*
        keys:
        - name: release
          publicKey: |
            -----BEGIN PUBLIC KEY-----
            ...

Everything that it does not allow is refused; a field that is not known is an error, so that no rule is silently
without effect.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bastide.errors import MalformedError
from bastide.pods.images import ImageReference
from bastide.pods.manifest import Document, read_documents
from bastide.pods.tree import Path, dotted, shape_of
from bastide.sgx.types import MrEnclave, MrSigner, Svn

API_VERSION: Final = "bastide.dev/v1alpha1"
KIND: Final = "SignersPolicy"
_MOST_ENTRIES: Final = 10_000
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_WILDCARD: Final = "/*"


def repository_of(reference: ImageReference) -> str:
    """``registry/path`` in one spelling: host names know no case, and ``:443`` is where they are asked anyway."""
    return f"{reference.registry.lower().removesuffix(':443')}/{reference.repository}"


class DebugPolicy(StrEnum):
    """What is asked of DEBUG.

    ``forbid-attribute``: the attribute must not be set; a mask that leaves it open is warned of, because then the
    same signature also starts the enclave with DEBUG (34 of 43 public enclaves are signed so).
    ``forbid-mask``: the mask must force the attribute to be off.
    ``allow``: nothing.
    """

    FORBID_ATTRIBUTE = "forbid-attribute"
    FORBID_MASK = "forbid-mask"
    ALLOW = "allow"


class MeasurementPolicy(StrEnum):
    """Whether MRENCLAVE must have been computed again from the file. Where it was computed it must always match."""

    REQUIRED = "required"
    WHEN_POSSIBLE = "when-possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRule:
    """Enclaves that may start.

    Attributes:
        name: for people.
        mr_signer: who signed it; None for anyone (then ``mr_enclave`` is set).
        mr_enclave: exactly this build; None for any.
        product_id: ISVPRODID; None for any.
        minimum_svn: least ISVSVN.
        provision: whether it may have the provisioning key.
        debug: instead of the file's.
    """

    name: str
    mr_signer: MrSigner | None = None
    mr_enclave: MrEnclave | None = None
    product_id: int | None = None
    minimum_svn: Svn = Svn(0)  # noqa: RUF009 - an int
    provision: bool = False
    debug: DebugPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementKey:
    """A P-256 key whose statements are believed."""

    name: str
    key: ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRule:
    """Images of these repositories need a statement by one of these keys.

    Attributes:
        repository: ``registry/path``, exactly, or ending in ``/*`` for every repository below.
        keys: at least one.
    """

    repository: str
    keys: tuple[StatementKey, ...]

    def covers(self, repository: str) -> bool:
        """Whether ``registry/path`` is meant."""
        if self.repository.endswith(_WILDCARD):
            return repository.startswith(self.repository.removesuffix("*"))
        return repository == self.repository


@dataclass(frozen=True, slots=True, kw_only=True)
class SignersPolicy:
    """The whole file.

    Attributes:
        allow: rules; one that covers an enclave is enough.
        denied_signers, denied_enclaves: looked at first.
        debug: for rules that say nothing of it.
        measurement: see ``MeasurementPolicy``.
        statements: the first that covers a repository counts.
    """

    allow: tuple[SignerRule, ...] = ()
    denied_signers: frozenset[MrSigner] = frozenset()
    denied_enclaves: frozenset[MrEnclave] = frozenset()
    debug: DebugPolicy = DebugPolicy.FORBID_ATTRIBUTE
    measurement: MeasurementPolicy = MeasurementPolicy.REQUIRED
    statements: tuple[StatementRule, ...] = ()

    def statement_rule(self, repository: str) -> StatementRule | None:
        """The rule for images of ``registry/path``."""
        return next((rule for rule in self.statements if rule.covers(repository)), None)

    @classmethod
    def parse(cls, raw: bytes, name: str) -> "SignersPolicy":
        """Read a signers file (YAML or JSON, one document).

        Raises:
            MalformedError: ``signers.kind``, ``.field``, ``.shape``, ``.value``, ``.key``; what ``read_documents`` and
                ``ImageReference.parse`` raise.
        """
        documents = read_documents(raw, name)
        document = documents[0]
        if len(documents) != 1 or (document.api_version, document.kind) != (API_VERSION, KIND):
            raise MalformedError(
                "signers.kind",
                f"expected one {API_VERSION} {KIND}, seen {len(documents)} of {document.api_version} {document.kind}",
                where=document.where(),
            )
        return _Reader(document).policy()


_Choice = TypeVar("_Choice", DebugPolicy, MeasurementPolicy)
_Fields = dict[str, object]


class _Reader:
    """Reads one document; every refusal names the line."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def policy(self) -> SignersPolicy:
        self._known(self._document.value, (), ("apiVersion", "kind", "metadata", "spec"))
        path: Path = ("spec",)
        spec = self._fields(
            self._document.value.get("spec"), path, "debug", "measurement", "allow", "deny", "statements"
        )
        deny = self._fields(spec.get("deny", {}), (*path, "deny"), "mrSigners", "mrEnclaves")
        signers, enclaves = (
            frozenset(self._hash(entry, at) for entry, at in self._items(deny.get(key), (*path, "deny", key)))
            for key in ("mrSigners", "mrEnclaves")
        )
        return SignersPolicy(
            allow=tuple(self._rule(entry, at) for entry, at in self._items(spec.get("allow"), (*path, "allow"))),
            denied_signers=frozenset(map(MrSigner, signers)),
            denied_enclaves=frozenset(map(MrEnclave, enclaves)),
            debug=self._choice(DebugPolicy, spec, "debug", path) or DebugPolicy.FORBID_ATTRIBUTE,
            measurement=self._choice(MeasurementPolicy, spec, "measurement", path) or MeasurementPolicy.REQUIRED,
            statements=tuple(
                self._statement(entry, at) for entry, at in self._items(spec.get("statements"), (*path, "statements"))
            ),
        )

    def _rule(self, entry: object, path: Path) -> SignerRule:
        known = ("name", "mrSigner", "mrEnclave", "productId", "minimumSvn", "provision", "debug")
        fields = self._fields(entry, path, *known)
        signer = self._hash(fields["mrSigner"], (*path, "mrSigner")) if "mrSigner" in fields else None
        enclave = self._hash(fields["mrEnclave"], (*path, "mrEnclave")) if "mrEnclave" in fields else None
        if signer is None and enclave is None:
            raise self._refusal("shape", path, "expected mrSigner or mrEnclave", "a rule for everyone is none")
        provision = fields.get("provision", False)
        if not isinstance(provision, bool):
            raise self._refusal("shape", (*path, "provision"), f"expected true or false, seen {shape_of(provision)}")
        return SignerRule(
            name=self._text(fields.get("name"), (*path, "name")),
            mr_signer=None if signer is None else MrSigner(signer),
            mr_enclave=None if enclave is None else MrEnclave(enclave),
            product_id=self._number(fields["productId"], (*path, "productId")) if "productId" in fields else None,
            minimum_svn=Svn(self._number(fields.get("minimumSvn", 0), (*path, "minimumSvn"))),
            provision=provision,
            debug=self._choice(DebugPolicy, fields, "debug", path),
        )

    def _statement(self, entry: object, path: Path) -> StatementRule:
        fields = self._fields(entry, path, "repository", "keys")
        keys = tuple(self._key(key, at) for key, at in self._items(fields.get("keys"), (*path, "keys")))
        if not keys:
            raise self._refusal("shape", (*path, "keys"), "expected at least one key")
        return StatementRule(repository=self._repository(fields.get("repository"), (*path, "repository")), keys=keys)

    def _repository(self, value: object, path: Path) -> str:
        """``registry/path`` with Docker Hub's defaults written out, as images are compared."""
        written = self._text(value, path)
        below = written.endswith(_WILDCARD)
        name = written.removesuffix(_WILDCARD)
        if "*" in name:
            raise self._refusal("value", path, f"expected one * at the end, after a slash, seen {written!r}")
        if below and "/" not in name:
            return self._registry(name, path) + _WILDCARD
        reference = ImageReference.parse(name)
        if reference.tag is not None or reference.digest is not None:
            raise self._refusal("value", path, f"expected a repository without tag and digest, seen {written!r}")
        return repository_of(reference) + (_WILDCARD if below else "")

    def _registry(self, name: str, path: Path) -> str:
        """A whole registry. ``payments/*`` is none: who means Docker Hub writes ``docker.io/payments/*``."""
        reference = ImageReference.parse(f"{name}/any/any")
        if reference.repository != "any/any":
            hint = f"write docker.io/{name}/* if you mean Docker Hub"
            raise self._refusal("value", path, f"expected a registry before /*, seen {name!r:.80}", hint)
        return repository_of(reference).removesuffix("/any/any")

    def _key(self, entry: object, path: Path) -> StatementKey:
        fields = self._fields(entry, path, "name", "publicKey")
        try:
            key = load_pem_public_key(self._text(fields.get("publicKey"), (*path, "publicKey")).encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            hint = "openssl pkey -in key.pem -pubout prints it"
            raise self._refusal("key", (*path, "publicKey"), "expected the PEM text of a P-256 public key", hint)
        return StatementKey(name=self._text(fields.get("name"), (*path, "name")), key=key)

    def _hash(self, value: object, path: Path) -> bytes:
        # A YAML reader takes 64 digits without a letter for a number: say so instead of counting digits.
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise self._refusal("value", path, f"expected 64 hex digits, seen {value!r:.80}", "write it in quotes")
        return bytes.fromhex(value)

    def _number(self, value: object, path: Path) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            raise self._refusal("value", path, f"expected 0 to 65535, seen {value!r:.80}")
        return value

    def _choice(self, kind: type[_Choice], fields: _Fields, key: str, path: Path) -> _Choice | None:
        if key not in fields:
            return None
        try:
            return kind(str(fields[key]))
        except ValueError:
            listed = ", ".join(kind)
            raise self._refusal("value", (*path, key), f"expected {listed}, seen {fields[key]!r:.80}") from None

    def _fields(self, value: object, path: Path, *known: str) -> _Fields:
        if not isinstance(value, dict):
            raise self._refusal("shape", path, f"expected a mapping, seen {shape_of(value)}")
        self._known(value, path, known)
        return value

    def _items(self, value: object, path: Path) -> list[tuple[object, Path]]:
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > _MOST_ENTRIES:
            raise self._refusal("shape", path, f"expected a list of at most {_MOST_ENTRIES}, seen {shape_of(value)}")
        return [(entry, (*path, index)) for index, entry in enumerate(value)]

    def _text(self, value: object, path: Path) -> str:
        if not isinstance(value, str) or not value:
            raise self._refusal("shape", path, f"expected text, seen {shape_of(value)}")
        return value

    def _known(self, fields: _Fields, path: Path, known: tuple[str, ...]) -> None:
        for key in fields:
            if key not in known:
                raise self._refusal("field", (*path, key), "no such field", f"known here: {', '.join(known)}")

    def _refusal(self, what: str, path: Path, message: str, hint: str | None = None) -> MalformedError:
        text = f"{dotted(path)}: {message}"
        return MalformedError(f"signers.{what}", text, hint=hint, where=self._document.where(path))
