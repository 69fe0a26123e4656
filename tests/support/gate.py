"""What the signer gate judges: reports of small images, and the signers that a cluster trusts."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.cluster.gate.report import BlockReport, EnclaveReport, ImageReport, ManifestReport
from bastide.enclave.image import EnclaveKind
from bastide.enclave.statement import EnclaveClaim, Statement, sign_statement
from bastide.pods.images import ImageReference
from bastide.sgx.sigstruct import SigStruct, sign
from bastide.sgx.types import Svn
from bastide.units import MIB, Bytes
from support.sgx_values import MR_ENCLAVE, signing_key, sigstruct, unsigned_sigstruct

DIGEST = "sha256:" + "ab" * 32
OTHER_DIGEST = "sha256:" + "cd" * 32
REPOSITORY = "registry.example/payments/api"
IMAGE = ImageReference.parse(f"{REPOSITORY}@{DIGEST}")
SCANNED = datetime(2026, 11, 23, 17, tzinfo=UTC)

Tree = dict[str, object]


def resigned(**changes: object) -> SigStruct:
    """Another SIGSTRUCT of the same signer."""
    return sign(replace(unsigned_sigstruct(), **changes), signing_key())


def enclave(signed: SigStruct | None = None, **changes: object) -> EnclaveReport:
    """An enclave of 10 MiB, measured as signed; ``changes`` are fields of ``EnclaveReport``."""
    signed = signed or sigstruct()
    block = BlockReport(name="metadata 2.4", sigstruct=signed, mr_enclave=signed.enclave_hash)
    good = EnclaveReport(
        path="/app/enclave.signed.so",
        kind=EnclaveKind.INTEL_SDK,
        blocks=(block,),
        epc=Bytes(10 * MIB),
        epc_most=Bytes(12 * MIB),
    )
    return replace(good, **changes)


def unmeasured(kind: EnclaveKind = EnclaveKind.GRAMINE) -> EnclaveReport:
    """A signed enclave whose MRENCLAVE cannot be computed from the image."""
    return enclave(kind=kind, blocks=(BlockReport(name="manifest", sigstruct=sigstruct()),))


def report(*enclaves: EnclaveReport, **changes: object) -> ImageReport:
    """A report about ``IMAGE``, a manifest with these enclaves."""
    manifest = ManifestReport(digest=DIGEST, enclaves=enclaves)
    return replace(ImageReport(digest=DIGEST, manifests=(manifest,), scanned_at=SCANNED), **changes)


def trusted_tree(name: str = "payments", **spec: object) -> Tree:
    """A TrustedSigner object for the signer of ``sigstruct()``; ``spec`` goes over its fields."""
    fields = {"mrSigner": sigstruct().mr_signer.hex(), **spec}
    return {
        "apiVersion": "bastide.dev/v1alpha1",
        "kind": "TrustedSigner",
        "metadata": {"name": name, "resourceVersion": "7"},
        "spec": {key: value for key, value in fields.items() if value is not None},
    }


@cache
def statement_key(name: str = "release") -> ec.EllipticCurvePrivateKey:
    """A key for statements."""
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(name: str = "release") -> str:
    """The public half of ``statement_key(name)``."""
    key = statement_key(name).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_tree(*repositories: str, name: str = "release") -> Tree:
    """An entry of ``statementKeys``."""
    return {"name": name, "publicKey": public_pem(name), "repositories": list(repositories)}


def claim(**changes: object) -> EnclaveClaim:
    """What a statement says of ``enclave()``."""
    good = EnclaveClaim(
        path="/app/enclave.signed.so",
        kind="gramine",
        mr_enclave=MR_ENCLAVE,
        mr_signer=sigstruct().mr_signer,
        product_id=7,
        svn=Svn(2),
    )
    return replace(good, **changes)


def statement(*claims: EnclaveClaim, digest: str = DIGEST, repository: str = REPOSITORY, by: str = "release") -> bytes:
    """A signed statement about ``IMAGE``."""
    stated = Statement(repository=repository, image_digest=digest, enclaves=claims or (claim(),))
    return sign_statement(stated, statement_key(by))
