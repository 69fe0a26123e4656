"""Statements: one signed sentence that binds a container image to the enclaves in it.

An in-toto Statement v1 whose subject is the image's digest and whose predicate lists the enclaves with path, MRENCLAVE,
MRSIGNER, product, SVN and EPC need, sealed by DSSE. Whoever pulls the image by digest can so know, without pulling it,
which enclave it will start and how much EPC that takes::

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": "registry.example/payments/api", "digest": {"sha256": "..."}}],
     "predicateType": "https://bastide.dev/enclave/v1",
     "predicate": {"enclaves": [{"path": "/app/enclave.signed.so", "kind": "intel-sdk", "mrEnclave": "...",
                                 "mrSigner": "...", "isvProdId": 1, "isvSvn": 3, "epcBytes": 9437184,
                                 "attributes": "<32 hex digits>", "attributeMask": "<32 hex digits>"}]}}

``epcBytes``, ``attributes`` and ``attributeMask`` may be left out, the last two only together: older statements have
none. They are ATTRIBUTES and ATTRIBUTEMASK of the SIGSTRUCT as they lie there, FLAGS before XFRM, each little-endian.

Source: in-toto Attestation Framework v1.0 "Statement" (unknown fields are passed over, as it asks); DSSE v1.0.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from bastide.checks import Check
from bastide.enclave.dsse import LARGEST_ENVELOPE, seal, unseal
from bastide.enclave.signers import StatementRule
from bastide.errors import MalformedError, UntrustedError
from bastide.pods.tree import mapping, sequence, text
from bastide.sgx.attributes import Attributes
from bastide.sgx.types import MrEnclave, MrSigner, Svn
from bastide.token.json_text import Json, read_json, write_json
from bastide.units import Bytes

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://bastide.dev/enclave/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_MOST_ENCLAVES: Final = 1000
_LARGEST_EPC: Final = 1 << 47
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_ATTRIBUTES: Final = re.compile(r"[0-9a-f]{32}")
_SOURCE: Final = "in-toto Attestation Framework v1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveClaim:
    """What a statement says of one enclave.

    Attributes:
        path: from the image's root, beginning with ``/``.
        kind: such as ``intel-sdk``.
        mr_enclave, mr_signer: 32 bytes each.
        product_id, svn: 16 bits each.
        epc: bytes of EPC once loaded, with SECS and version arrays; None where it is not known.
        attributes, attribute_mask: of its signatures, what any of them allows; None where the statement does not say.
    """

    path: str
    kind: str
    mr_enclave: MrEnclave
    mr_signer: MrSigner
    product_id: int
    svn: Svn
    epc: Bytes | None = None
    attributes: Attributes | None = None
    attribute_mask: Attributes | None = None

    def build(self) -> dict[str, Json]:
        """As it stands in the predicate."""
        tree: dict[str, Json] = {
            "path": self.path,
            "kind": self.kind,
            "mrEnclave": self.mr_enclave.hex(),
            "mrSigner": self.mr_signer.hex(),
            "isvProdId": self.product_id,
            "isvSvn": self.svn,
        }
        if self.epc is not None:
            tree["epcBytes"] = self.epc
        if self.attributes is not None and self.attribute_mask is not None:
            tree |= {"attributes": self.attributes.build().hex(), "attributeMask": self.attribute_mask.build().hex()}
        return tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Image and enclaves.

    Attributes:
        repository: ``registry/path``.
        image_digest: ``sha256:`` and 64 hex digits: the image's manifest or index.
        enclaves: at least one.
    """

    repository: str
    image_digest: str
    enclaves: tuple[EnclaveClaim, ...]

    def build(self) -> bytes:
        """The statement as JSON, keys sorted: the same statement is always the same bytes."""
        return write_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": self.repository, "digest": {"sha256": self.image_digest.removeprefix("sha256:")}}],
                "predicateType": PREDICATE_TYPE,
                "predicate": {"enclaves": [claim.build() for claim in self.enclaves]},
            }
        )

    @classmethod
    def parse(cls, raw: bytes) -> "Statement":
        """Read a statement.

        Raises:
            MalformedError: ``enclave.statement.type``, ``.subject``, ``.enclave``, ``.json``.
        """
        try:
            tree = mapping(read_json(raw, largest=LARGEST_ENVELOPE))
        except MalformedError as error:
            raise MalformedError("enclave.statement.json", error.message) from None
        types = (tree.get("_type"), tree.get("predicateType"))
        if types != (STATEMENT_TYPE, PREDICATE_TYPE):
            message = f"expected {STATEMENT_TYPE} with predicate {PREDICATE_TYPE}, seen {types!r:.120}"
            raise MalformedError("enclave.statement.type", message)
        subjects = sequence(tree.get("subject"))
        subject = mapping(subjects[0]) if len(subjects) == 1 else {}
        name, digest = text(subject.get("name")), text(mapping(subject.get("digest")).get("sha256"))
        if not name or not _HEX.fullmatch(digest):
            message = "expected one subject with a name and a sha256 digest of 64 hex digits"
            raise MalformedError("enclave.statement.subject", message)
        entries = sequence(mapping(tree.get("predicate")).get("enclaves"))
        if not 0 < len(entries) <= _MOST_ENCLAVES:
            message = f"expected 1 to {_MOST_ENCLAVES} enclaves, seen {len(entries)}"
            raise MalformedError("enclave.statement.enclave", message)
        return cls(
            repository=name,
            image_digest=f"sha256:{digest}",
            enclaves=tuple(_claim(mapping(entry), index) for index, entry in enumerate(entries)),
        )


def sign_statement(statement: Statement, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The statement in a DSSE envelope.

    Raises:
        MalformedError: ``dsse.key``.
    """
    return seal(statement.build(), PAYLOAD_TYPE, key)


def open_statement(envelope: bytes, rule: StatementRule) -> tuple[Statement, str]:
    """The statement in an envelope, and the name of the rule's key that signed it.

    Raises:
        MalformedError: those of ``unseal`` and ``Statement.parse``.
        UntrustedError: ``dsse.signature``.
    """
    payload, name = unseal(envelope, PAYLOAD_TYPE, {key.name: key.key for key in rule.keys})
    return Statement.parse(payload), name


def statement_checks(
    envelope: bytes,
    rule: StatementRule | None,
    *,
    repository: str,
    image_digests: Collection[str],
    enclaves: Collection[EnclaveClaim],
) -> tuple[Check, ...]:
    """Whether a statement is by a key for this repository, about this very image, and right about its enclaves.

    Checks: ``statement.rule``, ``statement.signature``, ``statement.subject``, ``statement.repository``,
    ``statement.enclave``. EPC need and kind are told, not judged.

    Args:
        envelope: the DSSE envelope.
        rule: the signers file's rule for ``repository``.
        repository: ``registry/path`` that the image is pulled from.
        image_digests: of the image itself, as computed or as it was pulled by.
        enclaves: what was found in the image.

    Raises:
        MalformedError: what is no envelope or no statement.
    """
    if rule is None:
        seen = f"none for {repository}"
        hint = "add its repository and keys under `statements`"
        return (_check("rule", ok=False, expected="a rule for this repository", seen=seen, hint=hint),)
    try:
        statement, name = open_statement(envelope, rule)
    except UntrustedError as error:
        keys = ", ".join(key.name for key in rule.keys)
        return (_check("signature", ok=False, expected=f"by {keys}", seen="none that is good", hint=error.hint or ""),)
    told = {_identity(claim) for claim in statement.enclaves}
    missing = [claim.path for claim in enclaves if _identity(claim) not in told]
    return (
        _check("signature", ok=True, expected=f"by a key for {rule.repository}", seen=name),
        _check(
            "subject",
            ok=statement.image_digest in image_digests,
            expected=" or ".join(image_digests),
            seen=statement.image_digest,
            hint="the statement is about another image",
        ),
        _check(
            "repository",
            ok=statement.repository == repository,
            expected=repository,
            seen=statement.repository,
            hint="the statement is about an image of another repository",
        ),
        _check(
            "enclave",
            ok=not missing,
            expected="path, MRENCLAVE, MRSIGNER, product and SVN as stated",
            seen=f"not stated: {', '.join(missing)}" if missing else "as stated",
            hint="the image holds an enclave that the statement does not know",
        ),
    )


def _identity(claim: EnclaveClaim) -> tuple[str, MrEnclave, MrSigner, int, int]:
    return claim.path, claim.mr_enclave, claim.mr_signer, claim.product_id, claim.svn


def _check(name: str, *, ok: bool, expected: str, seen: str, hint: str = "") -> Check:
    return Check(name=f"statement.{name}", ok=ok, expected=expected, seen=seen, hint="" if ok else hint, source=_SOURCE)


def _claim(entry: dict[str, object], index: int) -> EnclaveClaim:
    path, kind = text(entry.get("path")), text(entry.get("kind"))
    hashes = [text(entry.get(key)) for key in ("mrEnclave", "mrSigner")]
    product, svn = (_number(entry.get(key), 0xFFFF) for key in ("isvProdId", "isvSvn"))
    epc = _number(entry.get("epcBytes", 0), _LARGEST_EPC)
    is_whole = path.startswith("/") and kind and all(_HEX.fullmatch(value) for value in hashes)
    if not is_whole or product is None or svn is None or epc is None:
        raise MalformedError(
            "enclave.statement.enclave",
            "expected path, kind, mrEnclave, mrSigner, isvProdId and isvSvn",
            where=f"predicate.enclaves[{index}]",
        )
    mr_enclave, mr_signer = map(bytes.fromhex, hashes)
    attributes, mask = _attributes(entry, index)
    return EnclaveClaim(
        path=path,
        kind=kind,
        mr_enclave=MrEnclave(mr_enclave),
        mr_signer=MrSigner(mr_signer),
        product_id=product,
        svn=Svn(svn),
        epc=Bytes(epc) if "epcBytes" in entry else None,
        attributes=attributes,
        attribute_mask=mask,
    )


def _attributes(entry: dict[str, object], index: int) -> tuple[Attributes | None, Attributes | None]:
    """Both, or neither."""
    written = [entry[key] for key in ("attributes", "attributeMask") if key in entry]
    texts = [text(one) for one in written]
    if not written:
        return None, None
    if len(written) != len(("attributes", "attributeMask")) or not all(map(_ATTRIBUTES.fullmatch, texts)):
        raise MalformedError(
            "enclave.statement.enclave",
            "expected attributes and attributeMask together, of 32 hex digits each",
            where=f"predicate.enclaves[{index}]",
        )
    attributes, mask = (Attributes.parse(bytes.fromhex(one)) for one in texts)
    return attributes, mask


def _number(value: object, largest: int) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and isinstance(value, int) and 0 <= value <= largest else None
