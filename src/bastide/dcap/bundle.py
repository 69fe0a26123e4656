"""Collateral in one file: Bastide's own bundle, and the JSON of dcap-qvl.

A bundle is one JSON object. Documents and certificates stand in it as text, byte for byte as served, since their
signatures cover those bytes; revocation lists, which are binary, in base64.

Source: ``docs/reference/collateral-bundle.md``; dcap-qvl, ``QuoteCollateralV3`` (member names and encodings).
"""

import base64
import binascii
import json
from collections.abc import Mapping

from bastide.dcap.collateral import Collateral
from bastide.dcap.document import Json, read_members
from bastide.errors import MalformedError

MARK = "bastideCollateral"
"""The member whose value is the version of the bundle's format."""

VERSION = 1
_CODE = "collateral.bundle"
_TEXTS = {"tcbInfo": "tcb_info", "qeIdentity": "qe_identity", "tcbSigningChain": "tcb_signing_chain"}
_BINARIES = {"pckCrl": "pck_crl", "rootCaCrl": "root_ca_crl"}
_QVL_MARK = "tcb_info_issuer_chain"


def read_bundle(raw: bytes) -> Collateral:
    """Read a bundle of at most 1 MiB, of Bastide's or of dcap-qvl's making. Judges no part of it.

    Raises:
        MalformedError: ``collateral.bundle.format`` (no JSON object, or neither of the two),
            ``collateral.bundle.version``, ``collateral.bundle.member`` (absent, unknown, or of another type),
            ``collateral.bundle.chains`` (dcap-qvl's two signing chains differ), ``collateral.part.size``.
    """
    try:
        members = {name: value for name, (value, _) in read_members(raw).items()}
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{_CODE}.format", f"expected a JSON object, seen: {error}") from None
    if MARK in members:
        return _read_own(members)
    if _QVL_MARK in members:
        return _read_qvl(members)
    raise MalformedError(
        f"{_CODE}.format",
        f"expected a bundle (member {MARK}) or dcap-qvl's JSON (member {_QVL_MARK}), seen {sorted(members)[:8]}",
        hint="give a folder with the five parts, a bundle of Bastide's, or the JSON that dcap-qvl writes",
    )


def write_bundle(collateral: Collateral) -> bytes:
    """The bundle of ``collateral``; the inverse of :func:`read_bundle`.

    Raises:
        MalformedError: ``collateral.bundle.text``: a document or the chain is not UTF-8.
    """
    members: dict[str, object] = {MARK: VERSION}
    for name, part in _TEXTS.items():
        try:
            members[name] = getattr(collateral, part).decode()
        except UnicodeDecodeError as error:
            raise MalformedError(f"{_CODE}.text", f"expected UTF-8, seen: {error}", where=part) from None
    for name, part in _BINARIES.items():
        members[name] = base64.b64encode(getattr(collateral, part)).decode()
    return json.dumps(members, indent=1).encode() + b"\n"


def _read_own(members: Mapping[str, Json]) -> Collateral:
    if members[MARK] != VERSION:
        raise MalformedError(f"{_CODE}.version", f"expected version {VERSION}, seen {str(members[MARK])[:32]}")
    unknown = sorted(members.keys() - {MARK, *_TEXTS, *_BINARIES})
    if unknown:
        raise MalformedError(f"{_CODE}.member", "expected the members of a bundle, seen another", where=unknown[0])
    texts = {part: _text(members, name).encode() for name, part in _TEXTS.items()}
    return Collateral(**texts, **{part: _base64(members, name) for name, part in _BINARIES.items()})


def _read_qvl(members: Mapping[str, Json]) -> Collateral:
    chain = _text(members, _QVL_MARK)
    if _text(members, "qe_identity_issuer_chain") != chain:
        raise MalformedError(
            f"{_CODE}.chains",
            "expected one signing chain for both documents, seen two",
            where="qe_identity_issuer_chain",
        )
    return Collateral(
        tcb_info=_signed(members, "tcb_info", "tcbInfo"),
        qe_identity=_signed(members, "qe_identity", "enclaveIdentity"),
        pck_crl=_hex(members, "pck_crl"),
        root_ca_crl=_hex(members, "root_ca_crl"),
        tcb_signing_chain=chain.encode(),
    )


def _signed(members: Mapping[str, Json], name: str, body: str) -> bytes:
    """The document as Intel serves it, out of dcap-qvl's inner text and signature."""
    signature = _hex(members, f"{name}_signature").hex()
    return f'{{"{body}":{_text(members, name)},"signature":"{signature}"}}'.encode()


def _text(members: Mapping[str, Json], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise MalformedError(f"{_CODE}.member", f"expected ASCII text, seen {type(value).__name__}", where=name)
    return value


def _base64(members: Mapping[str, Json], name: str) -> bytes:
    try:
        return base64.b64decode(_text(members, name), validate=True)
    except binascii.Error as error:
        raise MalformedError(f"{_CODE}.member", f"expected base64, seen: {error}", where=name) from None


def _hex(members: Mapping[str, Json], name: str) -> bytes:
    try:
        return bytes.fromhex(_text(members, name))
    except ValueError:
        raise MalformedError(f"{_CODE}.member", "expected hex digits, seen others", where=name) from None
