"""What is in an image: the object ``EnclaveImage`` of the cluster, as a value. Facts, and never a verdict.

The scanner alone writes such objects; admission and the controller judge them, each time anew, by the TrustedSigner
objects of that moment. The object's name is that of the digest by which pods pin the image, of an index or a manifest::

    apiVersion: bastide.dev/v1alpha1
    kind: EnclaveImage
    metadata: {name: sha256-6c3c...}
    report:
      digest: sha256:6c3c...
      scannedAt: "2026-11-23T17:00:00Z"
      scanner: bastide 0.1.0
      manifests:                                  # every linux/amd64 manifest of the image
      - digest: sha256:6c3c...
        enclaves:
        - path: /app/enclave.signed.so
          kind: intel-sdk
          epcBytes: 9437184                       # once loaded
          epcBytesMost: 9437184                   # with all that may be added later (EDMM)
          blocks:
          - {name: metadata 2.4, sigstruct: <base64 of 1808 bytes>, mrEnclave: <64 hex digits, as computed>}
      statements: [<base64 of a DSSE envelope>]
      failure: {code: scanner.image.size, message: ...}   # instead of manifests: why the scan can never succeed

Source: enclave-images.md section 7 (point 4: what was signed and what was measured are two facts).
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from bastide.cluster.gate.tree_fields import TreeFields
from bastide.enclave.image import EnclaveBlock, EnclaveFile, EnclaveKind
from bastide.enclave.measure import Measured
from bastide.enclave.size import size
from bastide.errors import MalformedError
from bastide.pods.tree import at
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct
from bastide.sgx.types import MrEnclave
from bastide.units import Bytes

API_VERSION: Final = "bastide.dev/v1alpha1"
KIND: Final = "EnclaveImage"
PLURAL: Final = "enclaveimages"

MOST_MANIFESTS: Final = 16
"""linux/amd64 manifests of one index: variants such as v2, v3."""
MOST_ENCLAVES: Final = 200
"""In all manifests of one image together."""
MOST_BLOCKS: Final = 16
"""SIGSTRUCTs of one enclave."""
MOST_STATEMENTS: Final = 8
LARGEST_STATEMENT: Final = 64 * 1024
"""Bytes of one DSSE envelope."""
LARGEST_REPORT: Final = 1 << 20
"""Bytes of the object as JSON: etcd takes 1.5 MiB, and the API server adds its own fields."""

_LONGEST_PATH: Final = 4096
_LONGEST_NAME: Final = 200
_LONGEST_MESSAGE: Final = 1000
_LARGEST_EPC: Final = 1 << 47
_MOST_INSECURE: Final = 50
_CODE: Final = "enclave-image"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_LONGEST_BASE64: Final = 4 * LARGEST_STATEMENT // 3 + 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an image cannot be looked into, now or later: a permanent reason.

    Attributes:
        code: stable, such as ``enclave.layer.ratio``.
        message: for people, at most 1000 characters.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReport:
    """One way in which an enclave can be loaded.

    Attributes:
        name: for people, such as ``metadata 2.4``.
        sigstruct: as it lies in the image; None when not signed.
        mr_enclave: as the scanner computed it from the file; None where that is not possible.
    """

    name: str
    sigstruct: SigStruct | None = None
    mr_enclave: MrEnclave | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveReport:
    """One enclave in an image.

    Attributes:
        path: from the image's root, beginning with ``/``.
        kind: which SDK's.
        blocks: the ways in which it can be loaded; empty where it could not be read.
        epc: bytes of EPC of one process, once loaded, with SECS and version arrays; None where not known.
        epc_most: the same with all that may be added later (EDMM).
        problem: why the file could not be read or measured, in words; empty where it could.
        insecure: settings of a Gramine manifest that give up a protection, in words.
    """

    path: str
    kind: EnclaveKind
    blocks: tuple[BlockReport, ...] = ()
    epc: Bytes | None = None
    epc_most: Bytes | None = None
    problem: str = ""
    insecure: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: str, enclave: EnclaveFile, measured: Sequence[Measured], *, problem: str = "") -> "EnclaveReport":
        """The facts about an enclave as ``read_enclave`` and ``measure`` gave them.

        Args:
            path: from the image's root.
            enclave: as read.
            measured: of each block; empty where it was not measured (say why in ``problem``).
            problem: see above.
        """
        known = any(block.layout is not None for block in enclave.blocks)
        values = [one.mr_enclave for one in measured] or [None] * len(enclave.blocks)
        return cls(
            path=path,
            kind=enclave.kind,
            blocks=tuple(
                BlockReport(name=block.name[:_LONGEST_NAME], sigstruct=block.sigstruct, mr_enclave=value)
                for block, value in zip(enclave.blocks, values, strict=True)
            ),
            epc=size(enclave).at_load.size if known else None,
            epc_most=size(enclave, edmm=True).grown.size if known else None,
            problem=problem[:_LONGEST_MESSAGE],
            insecure=tuple(text[:_LONGEST_NAME] for text in enclave.insecure[:_MOST_INSECURE]),
        )

    @property
    def file(self) -> EnclaveFile:
        """The enclave as ``enclave.verify.judge`` takes it; layouts are not kept."""
        blocks = tuple(EnclaveBlock(name=block.name, sigstruct=block.sigstruct) for block in self.blocks)
        return EnclaveFile(kind=self.kind, blocks=blocks, insecure=self.insecure)

    @property
    def measured(self) -> tuple[MrEnclave | None, ...]:
        """MRENCLAVE of each block as the scanner computed it."""
        return tuple(block.mr_enclave for block in self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestReport:
    """What one linux/amd64 manifest of an image holds.

    Attributes:
        digest: ``sha256:`` and 64 hex digits.
        enclaves: all that were found; may be empty.
    """

    digest: str
    enclaves: tuple[EnclaveReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReport:
    """What an image holds.

    Attributes:
        digest: by which pods pin it: of an index or of a manifest.
        manifests: every linux/amd64 manifest, at least one. With ``failure`` those that are known by then, without
            their enclaves; none where the failure came before that.
        statements: DSSE envelopes that the registry gives as referrers; nothing about them was checked.
        failure: why it was not looked into; None where it was.
        scanned_at: when, UTC, whole seconds.
        scanner: name and version of the program.
    """

    digest: str
    manifests: tuple[ManifestReport, ...] = ()
    statements: tuple[bytes, ...] = ()
    failure: Failure | None = None
    scanned_at: datetime
    scanner: str = "bastide"

    @property
    def enclaves(self) -> tuple[EnclaveReport, ...]:
        """Those of all manifests."""
        return tuple(enclave for manifest in self.manifests for enclave in manifest.enclaves)

    @property
    def digests(self) -> tuple[str, ...]:
        """The pinned digest, and those of the manifests that an index leads to."""
        return tuple(dict.fromkeys((self.digest, *(manifest.digest for manifest in self.manifests))))

    @classmethod
    def parse(cls, tree: object) -> "ImageReport":
        """Read an EnclaveImage object. What others put into ``metadata`` is passed over.

        Raises:
            MalformedError: ``enclave-image.kind``, ``.name`` (not that of its digest), ``.field``, ``.type``,
                ``.value``, ``.empty`` (neither manifests nor a failure, or enclaves beside one), ``.count`` (too
                many).
        """
        root = TreeFields.of(tree, "EnclaveImage", _CODE, ("apiVersion", "kind", "metadata", "report"))
        seen = (root.mapping.get("apiVersion"), root.mapping.get("kind"))
        if seen != (API_VERSION, KIND):
            raise MalformedError(f"{_CODE}.kind", f"expected {API_VERSION} {KIND}, seen {seen!r:.100}")
        report = _report(TreeFields.of(root.mapping.get("report"), "report", _CODE, _REPORT_FIELDS))
        name = at(tree, ("metadata", "name"))
        if name != object_name(report.digest):
            message = f"expected the name {object_name(report.digest)}, which its digest says, seen {name!r:.100}"
            raise MalformedError(f"{_CODE}.name", message, where="metadata.name")
        return report

    def build(self) -> dict[str, object]:
        """The object as the API server takes it; inverse of ``parse``. See ``bounded`` for its size."""
        report: dict[str, object] = {
            "digest": self.digest,
            "scannedAt": self.scanned_at.astimezone(UTC).strftime(_TIME),
            "scanner": self.scanner,
            "manifests": [
                {"digest": manifest.digest, "enclaves": list(map(_enclave_tree, manifest.enclaves))}
                for manifest in self.manifests
            ],
            "statements": [base64.b64encode(raw).decode() for raw in self.statements],
        }
        if self.failure is not None:
            report["failure"] = {"code": self.failure.code, "message": self.failure.message}
        name = object_name(self.digest)
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "report": report}

    def bounded(self) -> "ImageReport":
        """This report if ``parse`` will take it, else one that says by a failure why there is none.

        The failures are ``enclave-image.count`` (more than 200 enclaves), ``enclave-image.size`` (more than 1 MiB)
        and what else ``parse`` refuses, such as a path of more than 4096 characters. Statements are kept: one may vouch
        for the image.
        """
        try:
            tree = self.build()
            _refuse_large(tree)
            ImageReport.parse(tree)
        except MalformedError as error:
            failure = Failure(code=error.code, message=error.message[:_LONGEST_MESSAGE])
            known = self.manifests if len(self.manifests) <= MOST_MANIFESTS else ()
            return replace(
                self,
                manifests=tuple(replace(manifest, enclaves=()) for manifest in known),
                statements=tuple(raw for raw in self.statements if 0 < len(raw) <= LARGEST_STATEMENT)[:MOST_STATEMENTS],
                failure=failure,
            )
        return self


def object_name(digest: str) -> str:
    """Name of the EnclaveImage object of an image: ``sha256-`` and 64 hex digits.

    Raises:
        MalformedError: ``enclave-image.digest``: another algorithm, or no digest.
    """
    if not _DIGEST.fullmatch(digest):
        message = f"expected sha256: and 64 lower-case hex digits, seen {digest!r:.100}"
        raise MalformedError(f"{_CODE}.digest", message, hint="pin the image by its sha256 digest")
    return digest.replace(":", "-")


def _refuse_large(tree: dict[str, object]) -> None:
    length = len(json.dumps(tree))
    if length > LARGEST_REPORT:
        raise MalformedError(f"{_CODE}.size", f"expected facts of at most {LARGEST_REPORT} bytes, seen {length}")


_REPORT_FIELDS: Final = ("digest", "scannedAt", "scanner", "manifests", "statements", "failure")


def _report(fields: TreeFields) -> ImageReport:
    failed = fields.below("failure", "code", "message")
    report = ImageReport(
        digest=_digest(fields),
        manifests=tuple(_manifest(entry, where) for entry, where in fields.items("manifests", most=MOST_MANIFESTS)),
        statements=tuple(_statements(fields)),
        failure=None if failed is None else _failure(failed),
        scanned_at=fields.parsed("scannedAt", time_of, "a time such as 2026-11-23T17:00:00Z", longest=_LONGEST_NAME),
        scanner=fields.text("scanner", longest=_LONGEST_NAME),
    )
    if not (report.manifests if report.failure is None else not report.enclaves):
        raise MalformedError(f"{_CODE}.empty", "expected either manifests or a failure", where=fields.where)
    if len(report.enclaves) > MOST_ENCLAVES:
        message = f"expected at most {MOST_ENCLAVES} enclaves in one image, seen {len(report.enclaves)}"
        raise MalformedError(f"{_CODE}.count", message, where=fields.where)
    return report


def _failure(fields: TreeFields) -> Failure:
    return Failure(
        code=fields.text("code", longest=_LONGEST_NAME), message=fields.text("message", longest=_LONGEST_MESSAGE)
    )


def _manifest(entry: object, where: str) -> ManifestReport:
    fields = TreeFields.of(entry, where, _CODE, ("digest", "enclaves"))
    enclaves = fields.items("enclaves", most=MOST_ENCLAVES)
    return ManifestReport(digest=_digest(fields), enclaves=tuple(_enclave(one, path) for one, path in enclaves))


def _enclave(entry: object, where: str) -> EnclaveReport:
    known = ("path", "kind", "blocks", "epcBytes", "epcBytesMost", "problem", "insecure")
    fields = TreeFields.of(entry, where, _CODE, known)
    path = fields.text("path", longest=_LONGEST_PATH)
    if not path.startswith("/"):
        raise fields.refusal("value", "path", f"expected a path from the image's root, seen {path!r:.80}")
    epc, most = (fields.number(key, largest=_LARGEST_EPC) for key in ("epcBytes", "epcBytesMost"))
    return EnclaveReport(
        path=path,
        kind=fields.parsed("kind", EnclaveKind, f"one of {', '.join(EnclaveKind)}", longest=_LONGEST_NAME),
        blocks=tuple(_block(one, at_) for one, at_ in fields.items("blocks", most=MOST_BLOCKS)),
        epc=None if epc is None else Bytes(epc),
        epc_most=None if most is None else Bytes(most),
        problem=fields.text("problem", longest=_LONGEST_MESSAGE, default=""),
        insecure=fields.texts("insecure", most=_MOST_INSECURE, longest=_LONGEST_NAME),
    )


def _block(entry: object, where: str) -> BlockReport:
    fields = TreeFields.of(entry, where, _CODE, ("name", "sigstruct", "mrEnclave"))
    sigstruct, computed = None, None
    if "sigstruct" in fields.mapping:
        raw = fields.parsed("sigstruct", _base64, "base64 text", longest=2 * SIGSTRUCT_SIZE)
        sigstruct = SigStruct.parse(raw)
    if "mrEnclave" in fields.mapping:
        computed = MrEnclave(fields.parsed("mrEnclave", _hash, "64 lower-case hex digits", longest=64))
    return BlockReport(name=fields.text("name", longest=_LONGEST_NAME), sigstruct=sigstruct, mr_enclave=computed)


def _statements(fields: TreeFields) -> list[bytes]:
    found = []
    for text in fields.texts("statements", most=MOST_STATEMENTS, longest=_LONGEST_BASE64):
        try:
            raw = _base64(text)
        except ValueError:
            raise fields.refusal("value", "statements", "expected base64 text") from None
        if len(raw) > LARGEST_STATEMENT:
            raise fields.refusal("value", "statements", f"expected at most {LARGEST_STATEMENT} bytes each")
        found.append(raw)
    return found


def _digest(fields: TreeFields) -> str:
    digest = fields.text("digest", longest=_LONGEST_NAME)
    if not _DIGEST.fullmatch(digest):
        raise fields.refusal("value", "digest", f"expected sha256: and 64 hex digits, seen {digest!r:.100}")
    return digest


def _enclave_tree(enclave: EnclaveReport) -> dict[str, object]:
    tree: dict[str, object] = {
        "path": enclave.path,
        "kind": str(enclave.kind),
        "blocks": list(map(_block_tree, enclave.blocks)),
    }
    if enclave.epc is not None:
        tree["epcBytes"] = enclave.epc
    if enclave.epc_most is not None:
        tree["epcBytesMost"] = enclave.epc_most
    if enclave.problem:
        tree["problem"] = enclave.problem
    if enclave.insecure:
        tree["insecure"] = list(enclave.insecure)
    return tree


def _block_tree(block: BlockReport) -> dict[str, object]:
    tree: dict[str, object] = {"name": block.name}
    if block.sigstruct is not None:
        tree["sigstruct"] = base64.b64encode(block.sigstruct.build()).decode()
    if block.mr_enclave is not None:
        tree["mrEnclave"] = block.mr_enclave.hex()
    return tree


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _hash(text: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise ValueError("not 64 hex digits")
    return bytes.fromhex(text)


def time_of(text: str) -> datetime:
    """A time as a report has it; ValueError for anything else."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
