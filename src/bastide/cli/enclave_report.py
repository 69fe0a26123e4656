"""Enclaves for people (tables) and for machines (JSON objects whose keys stay)."""

from collections.abc import Sequence
from dataclasses import asdict

from bastide.catalogue.epc import EpcNeed
from bastide.cli.screen import Part, Screen
from bastide.enclave.found import Found
from bastide.enclave.inspect import BlockInfo, EnclaveInfo, Remark, Weight
from bastide.enclave.measure import Measured
from bastide.enclave.public_keys import PUBLIC_SIGNERS
from bastide.enclave.size import EnclaveSize, Fit
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.sigstruct import SigStruct
from bastide.units import PAGE_SIZE, format_bytes

Json = dict[str, object]

_COLOURS = {Weight.REFUSE: "bold red", Weight.WARN: "yellow", Weight.INFO: "cyan"}


def found_json(found: Found) -> Json:
    """One enclave that was found."""
    return {
        "kind": found.kind,
        "path": found.path,
        "size": found.size,
        "image": found.digests[0] if found.digests else None,
        "image_names": list(found.names),
        "layer": found.layer,
        "mr_signer": found.signer.hex() if found.signer else None,
        "public_key": found.signer in PUBLIC_SIGNERS,
        "libpals": [one.path for one in found.libpals],
        "signatures": [
            {"offset": one.offset, "valid": one.valid, **_identity(one.sigstruct)} for one in found.signatures
        ],
    }


def block_json(block: BlockInfo) -> Json:
    """One way in which a file can be loaded."""
    return {
        "name": block.name,
        "sigstruct_offset": block.sigstruct_offset,
        "sigstruct": sigstruct_json(block.sigstruct) if block.sigstruct else None,
        "signature_valid": block.signature_valid,
        "elrange_bytes": block.elrange,
        "epc": epc_json(block.epc) if block.epc else None,
        "layout": asdict(block.summary) if block.summary else None,
    }


def sigstruct_json(sigstruct: SigStruct) -> Json:
    """Everything that was signed. Numbers with bits are hexadecimal text, as 64 bits are too many for JSON readers."""
    return {
        **_identity(sigstruct),
        "date": sigstruct.date_text,
        "vendor": f"{sigstruct.vendor:#x}",
        "sw_defined": sigstruct.sw_defined,
        "debug": sigstruct.attributes.debug,
        "debug_forced": sigstruct.attribute_mask.debug,
        "attributes": _attributes(sigstruct.attributes),
        "attribute_mask": _attributes(sigstruct.attribute_mask),
        "misc_select": f"{sigstruct.misc_select:#x}",
        "misc_mask": f"{sigstruct.misc_mask:#x}",
        "isv_family_id": sigstruct.isv_family_id.hex(),
        "isv_ext_prod_id": sigstruct.isv_ext_prod_id.hex(),
    }


def remark_json(remark: Remark) -> Json:
    """Something to know."""
    return asdict(remark)


def measured_json(measured: Measured) -> Json:
    """What measuring one block gave."""
    sigstruct = measured.block.sigstruct
    return {
        "name": measured.block.name,
        "mr_enclave": measured.mr_enclave.hex() if measured.mr_enclave else None,
        "signed_mr_enclave": sigstruct.enclave_hash.hex() if sigstruct else None,
        "measurement_matches": measured.matches,
        "signature_valid": measured.signature_valid,
        "untested": measured.block.untested,
    }


def epc_json(need: EpcNeed) -> Json:
    """EPC, with what it is made of."""
    return {
        "enclaves": need.enclaves,
        "loaded_pages": need.loaded,
        "secs_pages": need.secs,
        "version_array_pages": need.version_arrays,
        "pages": need.pages,
        "bytes": need.size,
    }


def size_json(size: EnclaveSize) -> Json:
    """How much EPC an enclave takes."""
    return {
        "block": size.block,
        "elrange_bytes": size.elrange,
        "at_load": epc_json(size.at_load),
        "grown": epc_json(size.grown),
        "limit": size.limit,
    }


def fit_json(fit: Fit) -> Json:
    """What that means on a node class."""
    return {
        "class": fit.node_class.name,
        "capacity_bytes": fit.capacity,
        "needed_bytes": fit.needed,
        "fits": fit.fits,
        "overcommit": fit.overcommit,
        "slowdown": asdict(fit.slowdown) if fit.slowdown else None,
        "sentence": fit.sentence,
    }


def print_found(screen: Screen, found: Sequence[Found]) -> None:
    """A table of what was found."""
    if not found:
        screen.line("no enclave found")
        return
    for digest, names in dict.fromkeys((one.digests[0], one.names) for one in found if one.digests):
        screen.line(("image ", "dim"), digest, "  ", ", ".join(names))
    rows = [(one.kind, one.path, format_bytes(one.size), _signer(one), (one.layer or "")[:19]) for one in found]
    with_layers = any(one.layer for one in found)
    columns = ("KIND", "PATH", "SIZE", "SIGNER", "LAYER")
    width = len(columns) if with_layers else len(columns) - 1
    screen.table(columns[:width], [row[:width] for row in rows], unbroken=("KIND", "SIZE"))
    if any(one.signer in PUBLIC_SIGNERS for one in found):
        screen.line(("public key: ", "bold red"), "its private half is published, so anybody can sign as this signer")


def print_info(screen: Screen, info: EnclaveInfo) -> None:
    """All that a file says."""
    screen.line(("kind ", "dim"), (info.kind, "bold"))
    for block in info.blocks:
        screen.section(block.name)
        for name, words in _facts(block):
            screen.line((f"{name:<18}", "dim"), words, hanging=18)
    if info.remarks:
        screen.section("To know")
    for remark in info.remarks:
        screen.line(
            (remark.weight, _COLOURS[remark.weight]), " ", remark.message, (f" [{remark.code}]", "dim"), hanging=2
        )
        screen.line((remark.hint, "dim"), indent=7)


def print_measured(screen: Screen, blocks: Sequence[Json], note: str) -> None:
    """Both answers for each block (as ``measured_json`` gives it)."""
    for block in blocks:
        screen.line((str(block["name"]), "bold"))
        screen.line(("MRENCLAVE    ", "dim"), str(block["mr_enclave"] or "not computable"), indent=2)
        if block["signed_mr_enclave"] is None:
            screen.line(("signature    ", "dim"), ("not signed: nothing to compare with", "yellow"), indent=2)
            continue
        matches = _answer(block["measurement_matches"], "matches what was signed", "is NOT what was signed")
        screen.line(("measurement  ", "dim"), matches, indent=2)
        signature = _answer(block["signature_valid"], "valid", "NOT valid")
        screen.line(("signature    ", "dim"), signature, indent=2)
        if block["untested"]:
            screen.line(("note ", "yellow"), str(block["untested"]), indent=2)
    if note:
        screen.line(("note ", "yellow"), note, hanging=5)


def print_size(screen: Screen, size: EnclaveSize, fit: Fit | None) -> None:
    """EPC, the limit to write, and what it means on a node class."""
    need = size.at_load
    each = f"{need.loaded} pages + {need.secs} SECS + {need.version_arrays} VA"
    screen.line(("EPC at load  ", "dim"), (format_bytes(need.size), "bold"), f"  {need.enclaves} x ({each}) x 4 KiB")
    if size.grown != size.at_load:
        screen.line(
            ("grown        ", "dim"), format_bytes(size.grown.size), "  upper bound: all that may be added (EDMM)"
        )
    screen.line(("limit        ", "dim"), (f"sgx.intel.com/epc: {size.limit}", "bold green"))
    screen.line(("ELRANGE      ", "dim"), f"{format_bytes(size.elrange)} of address space: not EPC")
    if fit is not None:
        screen.line(("node class   ", "dim"), (fit.sentence, "green" if fit.fits else "red"), hanging=13)
        if fit.slowdown is not None:
            screen.line(fit.slowdown.sentence, indent=13)
            screen.line((f"source: {fit.slowdown.source}", "dim"), indent=13)


def _identity(sigstruct: SigStruct) -> Json:
    return {
        "mr_enclave": sigstruct.enclave_hash.hex(),
        "mr_signer": sigstruct.mr_signer.hex(),
        "isv_prod_id": sigstruct.isv_prod_id,
        "isv_svn": sigstruct.isv_svn,
    }


def _attributes(attributes: Attributes) -> Json:
    return {"flags": f"{int(attributes.flags):#x}", "xfrm": f"{attributes.xfrm:#x}"}


def _signer(found: Found) -> Part:
    if found.signer is None:
        return ("signature not valid" if found.signatures else "not signed", "yellow")
    short = f"{found.signer.hex()[:16]}..."
    return (f"{short} public key", "bold red") if found.signer in PUBLIC_SIGNERS else short


def _facts(block: BlockInfo) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if block.sigstruct is not None:
        signed = block.sigstruct
        facts += [
            ("MRENCLAVE", f"{signed.enclave_hash.hex()} (signed, see `measure`)"),
            ("MRSIGNER", signed.mr_signer.hex()),
            ("signature", "valid" if block.signature_valid else "NOT valid"),
            ("product, SVN", f"{signed.isv_prod_id}, {signed.isv_svn}"),
            ("date, vendor", f"{signed.date_text}, {signed.vendor:#x}"),
            ("attributes", _flags(signed.attributes)),
            ("mask", f"flags {int(signed.attribute_mask.flags):#x}, XFRM {signed.attribute_mask.xfrm:#x}"),
        ]
        if any(signed.isv_family_id) or any(signed.isv_ext_prod_id):
            facts.append(("KSS", f"family {signed.isv_family_id.hex()}, product {signed.isv_ext_prod_id.hex()}"))
    if block.summary is not None:
        facts += [
            ("heap", _range(block.summary.heap_pages, block.summary.heap_pages_most)),
            ("stack per thread", _stack(block.summary.stack_pages)),
            ("threads", f"{block.summary.threads} (up to {block.summary.threads_most})"),
        ]
    if block.epc is not None:
        facts.append(("EPC at load", f"{format_bytes(block.epc.size)}: limit {block.epc.limit}"))
    if block.elrange is not None:
        facts.append(("ELRANGE", f"{format_bytes(block.elrange)} of address space: not EPC"))
    return facts


def _flags(attributes: Attributes) -> str:
    names = [flag.name or "" for flag in AttributeFlags if flag in attributes.flags]
    return f"{' '.join(names)} ({int(attributes.flags):#x}), XFRM {attributes.xfrm:#x}"


def _range(pages: int, most: int) -> str:
    least = format_bytes(pages * PAGE_SIZE)
    return least if pages == most else f"{least}, up to {format_bytes(most * PAGE_SIZE)}"


def _stack(pages: int | None) -> str:
    return "the file does not tell" if pages is None else format_bytes(pages * PAGE_SIZE)


def _answer(answer: object, yes: str, no: str) -> Part:
    if answer is None:
        return ("not known", "yellow")
    return (yes, "green") if answer else (no, "bold red")
