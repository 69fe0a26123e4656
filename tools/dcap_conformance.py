#!/usr/bin/env python3
"""Compare our answers on quotes with those of Intel's quote verification library, recorded in a folder.

    tools/dcap_conformance.py VECTORS_DIR [--parity docs/reference/verdict-parity.md]

The folder holds ``manifest.json`` (quotes with collateral and a time), ``mutations.json`` (one change to such a case)
and ``collateral_negative.json`` (broken documents), each with the status of Intel's four calls. Where we differ, the
difference must fall in a class of ``verdict-parity.md``, which is a predicate on the input. Prints the agreement by
kind and every difference; exits 1 when one is in no class.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from bastide.dcap import INTEL, Collateral, PreparedCollateral, QvlStatus, verify
from bastide.dcap.chains import Chain
from bastide.dcap.intel import (
    PCK_CHAIN_IN_QUOTE,
    PckChain,
    verify_enclave_identity,
    verify_pck_certificate,
    verify_tcb_info,
)
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT, load_pem_chain
from bastide.pki.crl import Crl
from bastide.sgx.quote import QUOTE_SIZE_LIMIT, Quote

PARTS = {
    "tcb_info": "tcb_info.json",
    "qe_identity": "qe_identity.json",
    "pck_crl": "pck_crl.der",
    "root_ca_crl": "root_ca_crl.der",
    "tcb_signing_chain": "tcb_signing_chain.pem",
}
"""File of each part of collateral."""

PARITY = Path(__file__).parents[1] / "docs" / "reference" / "verdict-parity.md"
CALLS = ("pck", "tcb", "qe", "quote")
ACCEPTANCE = "acceptance"
"""The question beside the four calls: do we accept, asking no more than Intel, what Intel calls an error?"""

_CERTIFICATE_END = b"-----END CERTIFICATE-----\n"
_ROOT_OF_2049 = 2049
DEEPEST = 16
"""Levels of JSON that we read."""
_Q = QvlStatus


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question to Intel's library and its answer.

    Attributes:
        id: name in the file it comes from.
        kind: ``case``, ``mutation`` or ``broken collateral``.
        quote: the quote, changed or not.
        chain_from: the unchanged quote, whose certificates Intel's PCK call was given.
        collateral: the collateral, changed or not.
        at: instant of judgement.
        intel: status by call.
    """

    id: str
    kind: str
    quote: bytes
    chain_from: bytes
    collateral: Collateral
    at: datetime
    intel: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """One way in which we answer otherwise than Intel, on purpose: a section of ``verdict-parity.md``.

    Attributes:
        name: heading of the section.
        applies: whether the input of a case, for one call, is of this class; never looks at its name.
        ours: what we may then answer; empty for the one class in which we may answer as if nothing were wrong.
    """

    name: str
    applies: Callable[[Case, str], bool]
    ours: frozenset[QvlStatus] = field(default=frozenset())


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One call that ended otherwise; ``divergence`` is None for a difference that must not be."""

    case: Case
    call: str
    ours: str
    intel: str
    divergence: Divergence | None


# Reading the folder


def load_collateral(folder: Path) -> Collateral:
    """The collateral of one folder."""
    return Collateral(**{part: (folder / name).read_bytes() for part, name in PARTS.items()})


def load_cases(folder: Path) -> tuple[Case, ...]:
    """Every case of ``folder``: genuine, changed, broken."""
    genuine = {entry["id"]: _genuine(folder, entry) for entry in _entries(folder / "manifest.json", "cases")}
    changed = tuple(_changed_case(genuine, entry) for entry in _entries(folder / "mutations.json", "mutations"))
    broken = _entries(folder / "collateral_negative.json", None)
    return (*genuine.values(), *changed, *(_broken(folder, _base(genuine), entry) for entry in broken))


def _entries(file: Path, member: str | None) -> list[dict]:
    if not file.is_file():
        return []
    tree = json.loads(file.read_text())
    return tree if member is None else tree[member]


def _genuine(folder: Path, entry: dict) -> Case:
    quote = (folder / entry["quote"]).read_bytes()
    return Case(
        id=entry["id"],
        kind="case",
        quote=quote,
        chain_from=quote,
        collateral=load_collateral(folder / entry["collateral"]),
        at=datetime.fromtimestamp(entry["time"], UTC),
        intel=entry["intel_qvl"],
    )


def _base(genuine: Mapping[str, Case]) -> Case:
    """The case whose documents broken ones replace: the first that Intel believes."""
    return next(case for case in genuine.values() if all(case.intel[call] == "OK" for call in ("pck", "tcb", "qe")))


def _changed_case(genuine: Mapping[str, Case], entry: dict) -> Case:
    base = replace(genuine[entry["base"]], id=entry["id"], kind="mutation", intel=entry["intel_qvl"])
    op = entry["op"]
    target = op["target"]
    if target == "time":
        return replace(base, at=datetime.fromtimestamp(base.at.timestamp() + op["seconds"], UTC))
    if target == "quote":
        exact = base.quote.removesuffix(Quote.parse(base.quote).trailing)
        return replace(base, quote=_changed(exact, op))
    old = base.collateral
    if target == "crls":
        return replace(base, collateral=replace(old, pck_crl=old.root_ca_crl, root_ca_crl=old.pck_crl))
    return replace(base, collateral=replace(old, **{target: _changed(getattr(old, target), op)}))


def _broken(folder: Path, base: Case, entry: dict) -> Case:
    raw = (folder / entry["file"]).read_bytes()
    status = entry["intel_qvl"]
    is_identity = "ENCLAVE_IDENTITY" in status or ("TCB_INFO" not in status and b'"tcbInfo"' not in raw)
    call, part = ("qe", "qe_identity") if is_identity else ("tcb", "tcb_info")
    collateral = replace(base.collateral, **{part: raw})
    return replace(base, id=entry["file"], kind="broken collateral", collateral=collateral, intel={call: status})


def _changed(raw: bytes, op: dict) -> bytes:
    change = _BYTES.get(op["op"]) or _TEXTS.get(op["op"])
    if change is None:
        raise SystemExit(f"unknown change {op['op']!r}: teach tools/dcap_conformance.py what it means")
    return change(raw, op)


def _combined(raw: bytes, op: dict) -> bytes:
    at = op["offset"] % len(raw)
    byte = {"xor": raw[at] ^ op["mask"], "or": raw[at] | op["mask"], "and": raw[at] & op["mask"]}[op["op"]]
    return raw[:at] + bytes([byte]) + raw[at + 1 :]


def _set(raw: bytes, op: dict) -> bytes:
    new, at = bytes.fromhex(op["hex"]), op["offset"] % len(raw)
    return raw[:at] + new + raw[at + len(new) :]


def _replaced(raw: bytes, op: dict) -> bytes:
    return raw.replace(op["old"].encode(), op["new"].encode(), 1 if op["op"] == "replace-once" else -1)


def _signature_flipped(raw: bytes, _: dict) -> bytes:
    old = json.loads(raw)["signature"]
    return raw.replace(old.encode(), (old[:-1] + f"{int(old[-1], 16) ^ 1:x}").encode())


def _statuses_replaced(raw: bytes, op: dict) -> bytes:
    return re.sub(rb'("tcbStatus"\s*:\s*)"[^"]*"', lambda found: found[1] + f'"{op["new"]}"'.encode(), raw)


_BYTES: dict[str, Callable[[bytes, dict], bytes]] = {
    "xor": _combined,
    "or": _combined,
    "and": _combined,
    "set": _set,
    "append": lambda raw, op: raw + bytes.fromhex(op["hex"]),
    "truncate": lambda raw, op: raw[: op["length"]],
}
_TEXTS: dict[str, Callable[[bytes, dict], bytes]] = {
    "replace-once": _replaced,
    "replace-all": _replaced,
    "reverse": lambda raw, _: b"".join(_blocks(raw)[::-1]),
    "leaf-only": lambda raw, _: _blocks(raw)[0],
    "json-signature-flip": _signature_flipped,
    "replace-all-statuses": _statuses_replaced,
}


def _blocks(pem: bytes) -> list[bytes]:
    return [block + _CERTIFICATE_END for block in pem.split(_CERTIFICATE_END) if block.strip()]


# Asking ourselves


def answers(case: Case) -> dict[str, str]:
    """Our status by call, each call asked on its own as Intel's were."""
    prepared = PreparedCollateral.of(case.collateral, INTEL_ROOT)
    pck = PckChain.of(Quote.parse(case.chain_from))
    ours = {
        "pck": verify_pck_certificate(pck, prepared, case.at).status.value,
        "tcb": verify_tcb_info(prepared, case.at).status.value,
        "qe": verify_enclave_identity(prepared, case.at).status.value,
    }
    try:
        verdict = verify(case.quote, prepared, case.at, policy=INTEL)
    except MalformedError:
        return {**ours, "quote": _Q.UNSUPPORTED_QUOTE_FORMAT.value, ACCEPTANCE: "refused"}
    return {**ours, "quote": verdict.quote_status.value, ACCEPTANCE: "accepted" if verdict.acceptable else "refused"}


def differences(case: Case) -> Iterator[Difference]:
    """Every call in which we differ from Intel."""
    ours = answers(case)
    for call, intel in case.intel.items():
        if ours[call] != intel:
            yield Difference(case=case, call=call, ours=ours[call], intel=intel, divergence=_class_of(case, call, ours))
    if ours[ACCEPTANCE] == "accepted" and _is_error(case):
        older = next((d for d in DIVERGENCES if not d.ours and any(d.applies(case, call) for call in CALLS)), None)
        yield Difference(case=case, call=ACCEPTANCE, ours="accepted", intel="an error", divergence=older)


def _class_of(case: Case, call: str, ours: Mapping[str, str]) -> Divergence | None:
    status = ours[call]
    return next((d for d in DIVERGENCES if (not d.ours or status in d.ours) and d.applies(case, call)), None)


def _is_error(case: Case) -> bool:
    """Whether any call of Intel's, were it alone, ends in an error at Intel's QvE."""
    return any(status not in _KNOWN or QvlStatus(status).is_error for status in case.intel.values())


_KNOWN = frozenset(status.value for status in QvlStatus)


# The classes of verdict-parity.md


def _has_older_root(case: Case, call: str) -> bool:
    """The root in the chain that Intel was given is another certificate of the same key."""
    if case.intel.get(call) not in (_Q.SGX_PCK_CERT_CHAIN_UNTRUSTED, _Q.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED):
        return False
    pck = PckChain.of(Quote.parse(case.chain_from)).chain
    chain = pck if call == "pck" else _chain(case.collateral.tcb_signing_chain)
    root = chain.root if isinstance(chain, Chain) else None
    return root is not None and INTEL_ROOT.pins(root.x509_certificate) and root.not_after.year != _ROOT_OF_2049


def _lacks_chain(case: Case, call: str) -> bool:
    quote = _quote(case.quote if call == "quote" else case.chain_from)
    return quote is not None and quote.certification.type != PCK_CHAIN_IN_QUOTE


def _is_too_long(case: Case, call: str) -> bool:
    return call == "quote" and len(case.quote) > QUOTE_SIZE_LIMIT


def _is_reformatted(case: Case, call: str) -> bool:
    """The document is not compact JSON, or names a character otherwise than a writer would."""
    return any(_compact(raw) != raw.strip() for raw in _documents(case, call))


def _compact(raw: bytes) -> bytes:
    try:
        return json.dumps(json.loads(raw), separators=(",", ":")).encode()
    except ValueError:
        return raw.strip()


def _is_lax_json(case: Case, call: str) -> bool:
    """JSON with a duplicate name, a number that is not a canonical integer, or deeper than 16."""
    return any(_is_lax(raw) for raw in _documents(case, call))


def _is_lax(raw: bytes) -> bool:
    odd: list[str] = []

    def pairs(members: list[tuple[str, object]]) -> dict[str, object]:
        odd.extend(["duplicate"] * (len(dict(members)) != len(members)))
        return dict(members)

    def number(literal: str) -> object:
        odd.extend([literal] * (not re.fullmatch(r"0|-?[1-9][0-9]*", literal)))
        return 0

    try:
        tree = json.loads(raw, object_pairs_hook=pairs, parse_int=number, parse_float=number, parse_constant=number)
    except (ValueError, RecursionError):
        return False
    return bool(odd) or _depth(tree) > DEEPEST


def _depth(tree: object) -> int:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return 1 + max((_depth(item) for item in inner), default=0) if isinstance(tree, dict | list) else 0


def _has_other_dates(case: Case, call: str) -> bool:
    dates = re.findall(rb'"(?:issueDate|nextUpdate|tcbDate)"\s*:\s*"([^"]*)"', b"".join(_documents(case, call)))
    return any(not re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", date) for date in dates)


def _has_large_svn(case: Case, call: str) -> bool:
    """Version 3 TCB info with a component SVN beyond a byte, which Intel's library cuts to its lowest byte."""
    raw = case.collateral.tcb_info if call in ("tcb", "quote") else b""
    return any(int(svn) > 255 for svn in re.findall(rb'"svn"\s*:\s*(\d{1,20})', raw))


def _has_odd_module_status(case: Case, call: str) -> bool:
    raw = case.collateral.tcb_info if call in ("tcb", "quote") else b""
    words = re.findall(rb'"isvsvn"[^{}]*}[^{}]*?"tcbStatus"\s*:\s*"([^"]*)"', raw)
    return any(word not in (b"UpToDate", b"OutOfDate", b"Revoked") for word in words)


def _is_beyond_the_profile(case: Case, call: str) -> bool:
    """A certificate or CRL that X.509 allows and Intel's profile does not have."""
    pem = _quote(case.chain_from)
    chain = pem.certification.data if pem and call in ("pck", "quote") else case.collateral.tcb_signing_chain
    codes = [_code_of(load_pem_chain, chain)]
    codes += [_code_of(Crl.parse, raw) for raw in (case.collateral.root_ca_crl, case.collateral.pck_crl)]
    return any(code.startswith(_BEYOND) for code in codes)


_BEYOND = ("pki.chain.pem", "pki.certificate.algorithm", "pki.certificate.critical", "pki.crl.critical", "pki.crl.alg")

_UNREADABLE = {
    _Q.SGX_TCB_INFO_UNSUPPORTED_FORMAT,
    _Q.SGX_TCB_INFO_INVALID,
    _Q.SGX_ENCLAVE_IDENTITY_UNSUPPORTED_FORMAT,
    _Q.SGX_ENCLAVE_IDENTITY_INVALID,
    _Q.UNSUPPORTED_TCB_INFO_FORMAT,
    _Q.UNSUPPORTED_QE_IDENTITY_FORMAT,
}

DIVERGENCES = (
    Divergence(name="older-root", applies=_has_older_root),
    Divergence(
        name="no-chain-in-quote",
        applies=_lacks_chain,
        ours=frozenset({_Q.UNSUPPORTED_CERT_FORMAT, _Q.UNSUPPORTED_QE_CERTIFICATION_DATA_TYPE}),
    ),
    Divergence(name="quote-too-long", applies=_is_too_long, ours=frozenset({_Q.UNSUPPORTED_QUOTE_FORMAT})),
    Divergence(
        name="reformatted-document",
        applies=_is_reformatted,
        ours=frozenset({_Q.TCB_INFO_INVALID_SIGNATURE, _Q.SGX_ENCLAVE_IDENTITY_INVALID_SIGNATURE}),
    ),
    Divergence(name="lax-json", applies=_is_lax_json, ours=frozenset(_UNREADABLE)),
    Divergence(name="other-date-forms", applies=_has_other_dates, ours=frozenset(_UNREADABLE)),
    Divergence(name="svn-beyond-a-byte", applies=_has_large_svn, ours=frozenset(_UNREADABLE)),
    Divergence(name="odd-tdx-module-status", applies=_has_odd_module_status, ours=frozenset(_UNREADABLE)),
    Divergence(
        name="beyond-the-certificate-profile",
        applies=_is_beyond_the_profile,
        ours=frozenset(
            {
                _Q.UNSUPPORTED_CERT_FORMAT,
                _Q.SGX_CRL_UNSUPPORTED_FORMAT,
                _Q.UNSUPPORTED_PCK_CERT_FORMAT,
                _Q.UNSUPPORTED_PCK_RL_FORMAT,
            }
        ),
    ),
)


def _documents(case: Case, call: str) -> tuple[bytes, ...]:
    """The documents that a call reads."""
    info, identity = case.collateral.tcb_info, case.collateral.qe_identity
    return {"tcb": (info,), "qe": (identity,), "quote": (info, identity)}.get(call, ())


def _quote(raw: bytes) -> Quote | None:
    try:
        return Quote.parse(raw)
    except MalformedError:
        return None


def _chain(pem: bytes) -> Chain | None:
    try:
        return Chain.parse(pem)
    except MalformedError:
        return None


def _code_of(parse: Callable[[bytes], object], raw: bytes) -> str:
    try:
        parse(raw)
    except MalformedError as error:
        return error.code
    return ""


# Telling


def read_reasons(parity: Path) -> dict[str, str]:
    """The first paragraph below each heading of the parity document."""
    sections = re.split(r"^### ", parity.read_text(), flags=re.MULTILINE)[1:]
    parts = (section.partition("\n") for section in sections)
    return {head.strip(): " ".join(body.strip().split("\n\n")[0].split()) for head, _, body in parts}


def run(folder: Path, parity: Path) -> int:
    """Compare everything below ``folder``; the exit code."""
    reasons = read_reasons(parity)
    unwritten = [d.name for d in DIVERGENCES if not reasons.get(d.name)]
    cases = load_cases(folder)
    found = {case.id: list(differences(case)) for case in cases}
    for kind, total in Counter(case.kind for case in cases).items():
        here = [found[case.id] for case in cases if case.kind == kind]
        agreed = sum(not each for each in here)
        listed = sum(bool(each) and all(d.divergence for d in each) for each in here)
        print(f"{kind}: {total} asked, {agreed} agree, {listed} differ as listed, {total - agreed - listed} otherwise")
    every = [difference for each in found.values() for difference in each]
    for difference in every:
        name = difference.divergence.name if difference.divergence else "NOT LISTED"
        print(f"  {difference.case.id} {difference.call}: ours {difference.ours}, Intel's {difference.intel} [{name}]")
    for name in sorted({d.divergence.name for d in every if d.divergence}):
        print(f"[{name}] {reasons.get(name, 'no reason is written')}")
    for name in unwritten:
        print(f"no reason for [{name}] in {parity}")
    if not cases:
        print(f"nothing to compare in {folder}")
    return 0 if cases and not unwritten and all(d.divergence for d in every) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="VECTORS_DIR")
    parser.add_argument("--parity", type=Path, default=PARITY, metavar="FILE")
    options = parser.parse_args(arguments)
    return run(options.folder, options.parity)


if __name__ == "__main__":
    sys.exit(main())
