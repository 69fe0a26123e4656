"""A quote as a tree of named fields, for people and programs."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from enum import Enum, Flag
from typing import TypeAlias

from cryptography import x509

from bastide.dcap.containers import Unwrapped
from bastide.dcap.evaluation import tee_of
from bastide.dcap.intel import PCK_CHAIN_IN_QUOTE
from bastide.errors import MalformedError
from bastide.pki.chain import common_name, load_pem_chain
from bastide.pki.pck import SgxExtensions, sgx_extensions
from bastide.sgx.attributes import Attributes, Xfrm
from bastide.sgx.certification import PlatformIdentification
from bastide.sgx.quote import INTEL_QE_VENDOR_ID, CertificationData, Quote
from bastide.sgx.report import ReportBody
from bastide.sgx.td_report import TdReport

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | bool | None"


def quote_tree(unwrapped: Unwrapped) -> dict[str, Tree]:
    """Every field of a quote by its name; bytes in hex, flags by name.

    Raises:
        MalformedError: ``quote.*``: it is no quote that can be read.
    """
    quote = Quote.parse(unwrapped.quote)
    header = record_tree(quote.header)
    header["qe_vendor"] = "Intel" if quote.header.qe_vendor_id == INTEL_QE_VENDOR_ID else "unknown"
    return {
        "container": [str(layer) for layer in unwrapped.layers],
        "size": len(unwrapped.quote),
        "tee": tee_of(quote),
        "debug": quote.debug,
        "header": header,
        "td_report" if isinstance(quote.body, TdReport) else "report": record_tree(quote.body),
        "signature": {
            "signature": quote.signature.hex(),
            "attestation_key": quote.attestation_key.hex(),
            "qe_report": record_tree(quote.qe_report),
            "qe_report_signature": quote.qe_report_signature.hex(),
            "qe_auth_data": quote.qe_auth_data.hex(),
        },
        "certification": _certification_tree(quote.certification),
        "trailing": len(quote.trailing),
    }


def record_tree(record: object) -> dict[str, Tree]:
    """The fields of a structure; what it does not have and what is reserved and zero is left out."""
    return {name: _tree(value) for name, value in _members(record) if value is not None}


def _members(record: object) -> Iterator[tuple[str, object]]:
    for field in fields(record):  # type: ignore[arg-type]  # a dataclass: every structure of the room is
        value = getattr(record, field.name)
        if field.name != "reserved" or any(value):
            yield field.name, value


def _tree(value: object) -> Tree:
    match value:
        case Attributes():
            return {"flags": _flags(value.flags), "xfrm": _flags(Xfrm(value.xfrm))}
        case Flag():
            return _flags(value)
        case Enum():
            return value.name
        case bytes():
            return value.hex()
        case bool() | int() | str():
            return value
        case tuple():
            return [_tree(item) for item in value]
        case datetime():
            return value.isoformat()
    return record_tree(value)


def _flags(value: Flag) -> Tree:
    """Hex and the names of the bits; bits without a name only in the hex."""
    names: list[Tree] = [flag.name for flag in type(value) if flag in value and flag.name]
    return {"hex": f"{value.value:016x}", "names": names}


def _certification_tree(data: CertificationData) -> dict[str, Tree]:
    tree: dict[str, Tree] = {"type": data.type, "size": len(data.data)}
    try:
        if data.type == PCK_CHAIN_IN_QUOTE:
            chain = load_pem_chain(data.data)
            return {**tree, "chain": [_certificate_tree(one) for one in chain], **_platform_tree(chain)}
        return {**tree, "platform": record_tree(PlatformIdentification.parse(data))}
    except MalformedError as error:
        return {**tree, "unreadable": str(error)}


def _certificate_tree(certificate: x509.Certificate) -> dict[str, Tree]:
    return {
        "subject": common_name(certificate.subject),
        "issuer": common_name(certificate.issuer),
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


def _platform_tree(chain: tuple[x509.Certificate, ...]) -> dict[str, Tree]:
    """What the first certificate that speaks of a platform says of it."""
    for certificate in chain:
        platform = _platform(certificate)
        if platform is not None:
            return {"platform": record_tree(platform)}
    return {}


def _platform(certificate: x509.Certificate) -> SgxExtensions | None:
    try:
        return sgx_extensions(certificate)
    except MalformedError:
        return None


def body_kind(quote: Quote) -> str:
    """What a quote attests, for people."""
    if isinstance(quote.body, ReportBody):
        return "SGX enclave"
    if quote.body.td15 is None:
        return "TDX 1.0 trust domain"
    return "TDX 1.5 trust domain" if quote.body.td15.ex is None else "TDX 1.5 trust domain, extended report"
