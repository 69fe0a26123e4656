"""What to ask a collateral service for, and what to make of its answers. No I/O here.

Intel's provisioning certification service (PCS) and its cache (PCCS) have the same calls; only the root's CRL is had
from elsewhere: PCCS answers at ``rootcacrl``, PCS not at all.

Source: Intel PCS API versions 3 and 4; Intel PCCS API (reference quote-verification.md section 7).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from cryptography import x509

from bastide.attest.collateral.catalogue import Bundle, PlatformKind
from bastide.dcap import Collateral, PreparedCollateral
from bastide.dcap.collateral import MAX_PART_SIZE
from bastide.dcap.tcb import TDX
from bastide.errors import ConfigError, MalformedError, UntrustedError
from bastide.pki.chain import (
    TrustAnchor,
    common_name,
    is_self_issued,
    issuer_is,
    load_pem_chain,
    signed_by,
)
from bastide.pki.crl import Crl
from bastide.sgx.quote import Quote

TCB_INFO, QE_IDENTITY, PCK_CRL, ROOT_CA_CRL = "tcb_info", "qe_identity", "pck_crl", "root_ca_crl"

_CHAINS = {
    TCB_INFO: ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"),
    QE_IDENTITY: ("sgx-enclave-identity-issuer-chain",),
    PCK_CRL: ("sgx-pck-crl-issuer-chain",),
}
"""In which header an answer brings its issuers' chain: that of version 4, then that of version 3."""

_CAS = {"Platform CA": "platform", "Processor CA": "processor"}
_PATH = re.compile(r"((?:/[A-Za-z0-9._~-]+)*)/sgx/certification/v([34])")
_USUAL_PATH = "/sgx/certification/v4"
_LARGEST_CHAIN = 32 * 1024
_PCK_CHAIN_LENGTH = 3
_INTEL_HOST = "api.trustedservices.intel.com"
_INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a collateral service is.

    Attributes:
        prefix: URL up to ``/sgx`` or ``/tdx``.
        version: of its API, 3 or 4.
        root_crl: URL of the root CA's CRL.
    """

    prefix: str
    version: int
    root_crl: str

    @classmethod
    def parse(cls, url: str, *, root_crl: str | None = None) -> "Endpoint":
        """Take ``https://HOST[:PORT]``, with or without ``/sgx/certification/v3`` or ``/v4``; without means v4.

        Args:
            url: of the service.
            root_crl: URL of the root CA's CRL; None: the service has it at ``rootcacrl``, as PCCS does.

        Raises:
            ConfigError: ``collateral.upstream.url``, ``collateral.upstream.root-crl``.
        """
        parts = _https(url)
        path = _PATH.fullmatch(parts.path.rstrip("/") or _USUAL_PATH)
        if path is None or parts.query:
            raise ConfigError(
                "collateral.upstream.url",
                f"expected https://HOST, or https://HOST/sgx/certification/v3 or /v4, seen {url[:200]!r}",
                hint=f"Intel's own is https://{_INTEL_HOST}; a PCCS usually https://HOST:8081",
            )
        if root_crl is None and parts.hostname == _INTEL_HOST:
            raise ConfigError(
                "collateral.upstream.root-crl",
                "Intel's service does not hand out the root CA's CRL",
                hint=f"--collateral-root-crl {_INTEL_ROOT_CRL}",
            )
        if root_crl is not None:
            _https(root_crl)
        prefix = f"https://{parts.netloc}{path[1]}"
        usual = f"{prefix}/sgx/certification/v{path[2]}/rootcacrl"
        return cls(prefix=prefix, version=int(path[2]), root_crl=root_crl or usual)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One GET: the part of the collateral that it is for, and the URL."""

    part: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back with status 200: the body, and the headers with names in lower case."""

    body: bytes
    headers: Mapping[str, str]


def certified_kind(quote: Quote, kind: PlatformKind, root: TrustAnchor) -> bool:
    """Whether certificates that lead to the root say that there is such a platform.

    Anybody can make a quote; only what Intel has certified is worth a question to others. Dates and revocation are
    for the verification that follows.
    """
    try:
        chain = load_pem_chain(quote.certification.data)
    except MalformedError:
        return False
    anchor = next((one for one in chain if root.pins(one)), None)
    authority = next((one for one in chain if one.subject == kind.issuer and not is_self_issued(one)), None)
    leaf = next((one for one in chain if one.issuer == kind.issuer), None)
    return (
        len(chain) == _PCK_CHAIN_LENGTH
        and anchor is not None
        and authority is not None
        and leaf is not None
        and _certified(leaf, authority)
        and _certified(authority, anchor)
    )


def questions(endpoint: Endpoint, kind: PlatformKind) -> tuple[Question, ...]:
    """What to ask for so that quotes of this kind of platform can be judged.

    Raises:
        MalformedError: ``collateral.upstream.ca`` (a PCK CA that is neither of Intel's two),
            ``collateral.upstream.tdx`` (version 3 knows no TDX).
    """
    name = common_name(kind.issuer)
    ca = next((ca for phrase, ca in _CAS.items() if phrase in name), None)
    if ca is None:
        message = f"expected a PCK certificate of the {' or '.join(_CAS)}, seen one of {name!r}"
        raise MalformedError("collateral.upstream.ca", message)
    if kind.tee == TDX and endpoint.version != 4:
        raise MalformedError("collateral.upstream.tdx", "expected version 4 of the service for TDX, seen version 3")
    sgx = f"{endpoint.prefix}/sgx/certification/v{endpoint.version}"
    own = f"{endpoint.prefix}/{kind.tee.lower()}/certification/v{endpoint.version}"
    return (
        Question(part=TCB_INFO, url=f"{own}/tcb?fmspc={kind.fmspc.hex().upper()}"),
        Question(part=QE_IDENTITY, url=f"{own}/qe/identity"),
        Question(part=PCK_CRL, url=f"{sgx}/pckcrl?ca={ca}&encoding=der"),
        root_question(endpoint),
    )


def root_question(endpoint: Endpoint) -> Question:
    """The question that does not depend on a platform."""
    return Question(part=ROOT_CA_CRL, url=endpoint.root_crl)


def assemble(kind: PlatformKind, answers: Mapping[str, Answer], root: TrustAnchor) -> Bundle:
    """The bundle that the answers make, everything in it signed under ``root`` and for this kind of platform.

    Args:
        kind: what was asked for.
        answers: one for each part.
        root: whom to trust.

    Raises:
        MalformedError: ``collateral.upstream.part`` (absent), ``collateral.upstream.header``,
            ``collateral.upstream.chains``, and those of ``Bundle.of`` and ``load_pem_chain``.
        UntrustedError: ``collateral.upstream.pck-crl``, ``collateral.upstream.other``.
    """
    absent = {TCB_INFO, QE_IDENTITY, PCK_CRL, ROOT_CA_CRL} - answers.keys()
    if absent:
        raise MalformedError("collateral.upstream.part", f"expected four parts, seen none of {sorted(absent)}")
    chains = {part: _chain(part, answers[part]) for part in _CHAINS}
    if load_pem_chain(chains[TCB_INFO]) != load_pem_chain(chains[QE_IDENTITY]):
        message = "expected one signing chain for TCB info and QE identity, seen two"
        raise MalformedError("collateral.upstream.chains", message)
    collateral = Collateral(
        **{part: answer.body for part, answer in answers.items()}, tcb_signing_chain=chains[TCB_INFO]
    )
    bundle = Bundle.of(name_of(kind), PreparedCollateral.of(collateral, root))
    _check_pck_crl(bundle, load_pem_chain(chains[PCK_CRL]), root)
    if bundle.kind != kind:
        message = f"expected collateral for {name_of(kind)}, seen some for {name_of(bundle.kind)}"
        raise UntrustedError("collateral.upstream.other", message)
    return bundle


def check_root_crl(answer: Answer) -> None:
    """Whether the answer is a CRL at all.

    Raises:
        MalformedError: those of ``Crl.parse``.
    """
    Crl.parse(answer.body)


def name_of(kind: PlatformKind) -> str:
    """A kind of platform for people: TEE, FMSPC in hex, name of the PCK CA."""
    return f"{kind.tee} {kind.fmspc.hex()} {common_name(kind.issuer)}"


def check_not_older(new: Bundle, old: Bundle) -> None:
    """Refuse what has a part that is older than the one at hand: a cache that lags, or somebody who hides news.

    Raises:
        UntrustedError: ``collateral.upstream.older``.
    """
    for now, before in zip(new.prepared.periods, old.prepared.periods, strict=True):
        if now.start < before.start:
            message = f"expected no {now.of} older than that of {before.start:%Y-%m-%d %H:%M}Z, which is at hand"
            raise UntrustedError("collateral.upstream.older", f"{message}, seen {now.start:%Y-%m-%d %H:%M}Z")
    if new.number < old.number:
        message = f"expected tcbEvaluationDataNumber {old.number} or more, seen {new.number}"
        raise UntrustedError("collateral.upstream.older", message)


def _https(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.fragment or not url.isascii() or not url.isprintable():
        raise ConfigError("collateral.upstream.url", f"expected an https URL without user name, seen {url[:200]!r}")
    return parts


def _certified(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return issuer_is(certificate, issuer) and signed_by(certificate, issuer)


def _chain(part: str, answer: Answer) -> bytes:
    """The issuers' chain of an answer, PEM, taken out of its URL encoding."""
    text = next((answer.headers[name] for name in _CHAINS[part] if name in answer.headers), None)
    if text is None or len(text) > _LARGEST_CHAIN:
        message = f"expected a header {_CHAINS[part][0]} of at most {_LARGEST_CHAIN} characters"
        seen = "none" if text is None else f"{len(text)}"
        raise MalformedError("collateral.upstream.header", f"{message}, seen {seen}", where=part)
    return unquote_to_bytes(text)


def _check_pck_crl(bundle: Bundle, chain: tuple[x509.Certificate, ...], root: TrustAnchor) -> None:
    """The PCK CA's list, which no other check looks at before there is a quote: its CA's, under the root."""
    crl = bundle.prepared.pck_crl
    anchor = next((one for one in chain if root.pins(one)), None)
    authority = next((one for one in chain if isinstance(crl, Crl) and crl.is_issued_by(one)), None)
    good = anchor is not None and authority is not None and _certified(authority, anchor)
    if not good or not isinstance(crl, Crl) or authority is None or not crl.is_signed_by(authority):
        message = f"expected a PCK CRL signed by a CA under {root.name}, seen one that is not"
        raise UntrustedError("collateral.upstream.pck-crl", message)


LARGEST_BODY = MAX_PART_SIZE
"""Most bytes of one answer's body."""
