"""Real quotes and collateral with the answers of Intel's library, for the tests that need them."""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from bastide.dcap import Collateral, PreparedCollateral, verify
from bastide.dcap.intel import verify_enclave_identity, verify_tcb_info
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT
from bastide.sgx.quote import Quote
from support.vectors import vectors

PARTS = {
    "tcb_info": "tcb_info.json",
    "qe_identity": "qe_identity.json",
    "pck_crl": "pck_crl.der",
    "root_ca_crl": "root_ca_crl.der",
    "tcb_signing_chain": "tcb_signing_chain.pem",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to Intel's library and its answer: status by call (pck, tcb, qe, quote)."""

    id: str
    quote: bytes
    collateral: Collateral
    at: datetime
    intel: dict[str, str]


def load_collateral(folder: Path) -> Collateral:
    return Collateral(**{part: (folder / name).read_bytes() for part, name in PARTS.items()})


def sgx_cases() -> dict[str, Case]:
    """Every real SGX quote of version 3 with every genuine collateral set for it."""
    folder = vectors("dcap")
    entries = json.loads((folder / "manifest.json").read_text())["cases"]
    return {entry["id"]: _case(folder, entry) for entry in entries if entry["id"].startswith("sgx3")}


def sgx_mutations() -> dict[str, Case]:
    """The same cases with one thing changed."""
    bases = sgx_cases()
    entries = json.loads((vectors("dcap") / "mutations.json").read_text())["mutations"]
    return {
        entry["id"]: replace(_mutated(bases[entry["base"]], entry["op"]), id=entry["id"], intel=entry["intel_qvl"])
        for entry in entries
        if entry["base"] in bases
    }


def broken_collateral() -> dict[str, Case]:
    """The first case with its TCB info or QE identity replaced by a broken one."""
    base = next(iter(sgx_cases().values()))
    entries = json.loads((vectors("dcap") / "collateral_negative.json").read_text())
    return {entry["file"]: _broken(base, entry) for entry in entries}


def statuses(case: Case) -> dict[str, str]:
    """Our answers in the form of Intel's; a malformed quote has none for ``pck``."""
    prepared = PreparedCollateral.of(case.collateral, INTEL_ROOT)
    documents = {
        "tcb": verify_tcb_info(prepared, case.at).status.value,
        "qe": verify_enclave_identity(prepared, case.at).status.value,
    }
    try:
        quote = Quote.parse(case.quote)
    except MalformedError:
        return {**documents, "quote": "UNSUPPORTED_QUOTE_FORMAT"}
    verdict = verify(quote, prepared, case.at)
    return {**documents, "pck": verdict.pck_status.value, "quote": verdict.quote_status.value}


def _case(folder: Path, entry: dict) -> Case:
    return Case(
        id=entry["id"],
        quote=(folder / entry["quote"]).read_bytes(),
        collateral=load_collateral(folder / entry["collateral"]),
        at=datetime.fromisoformat(entry["time_utc"]),
        intel=entry["intel_qvl"],
    )


def _broken(base: Case, entry: dict) -> Case:
    part, call = ("tcb_info", "tcb") if "tcbinfo" in entry["file"].lower() else ("qe_identity", "qe")
    raw = (vectors("dcap") / entry["file"]).read_bytes()
    collateral = replace(base.collateral, **{part: raw})
    return replace(base, id=entry["file"], collateral=collateral, intel={call: entry["intel_qvl"]})


def _mutated(base: Case, op: dict) -> Case:
    target = op["target"]
    if target == "time":
        return replace(base, at=base.at + timedelta(seconds=op["seconds"]))
    if target == "quote":
        exact = Quote.parse(base.quote)
        return replace(base, quote=_changed(base.quote[: len(base.quote) - len(exact.trailing)], op))
    old = base.collateral
    if target == "crls":
        return replace(base, collateral=replace(old, pck_crl=old.root_ca_crl, root_ca_crl=old.pck_crl))
    return replace(base, collateral=replace(old, **{target: _changed(getattr(old, target), op)}))


def _changed(raw: bytes, op: dict) -> bytes:
    at = op.get("offset", 0) % len(raw)
    end = b"-----END CERTIFICATE-----\n"
    match op["op"]:
        case "xor":
            return raw[:at] + bytes([raw[at] ^ op["mask"]]) + raw[at + 1 :]
        case "or":
            return raw[:at] + bytes([raw[at] | op["mask"]]) + raw[at + 1 :]
        case "set":
            new = bytes.fromhex(op["hex"])
            return raw[:at] + new + raw[at + len(new) :]
        case "append":
            return raw + bytes.fromhex(op["hex"])
        case "truncate":
            return raw[: op["length"]]
        case "replace-once":
            return raw.replace(op["old"].encode(), op["new"].encode(), 1)
        case "reverse" | "leaf-only" as way:
            blocks = [block + end for block in raw.split(end) if block.strip()]
            return b"".join(blocks[::-1] if way == "reverse" else blocks[:1])
    return _changed_document(raw, op)


def _changed_document(raw: bytes, op: dict) -> bytes:
    document = json.loads(raw)
    if op["op"] == "json-signature-flip":
        old = document["signature"]
        return raw.replace(old.encode(), (old[:-1] + f"{int(old[-1], 16) ^ 1:x}").encode())
    if op["op"] == "replace-all-statuses":
        for level in document["tcbInfo"]["tcbLevels"]:
            raw = raw.replace(f'"tcbStatus":"{level["tcbStatus"]}"'.encode(), f'"tcbStatus":"{op["new"]}"'.encode())
        return raw
    raise AssertionError(f"unknown mutation {op}")
