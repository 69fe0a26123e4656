"""Real, public, signed enclaves: every one measures to what its signer signed."""

import json
import tracemalloc
from pathlib import Path

import pytest

from bastide.catalogue.lookup import find_class
from bastide.enclave.inspect import inspect
from bastide.enclave.measure import Measured, measure
from bastide.enclave.read import read_enclave
from bastide.enclave.size import fit, size
from support.vectors import ROOT, vectors

FOLDER = ROOT / "enclave"
EXPECTED = json.loads((FOLDER / "expected.json").read_text()) if FOLDER.is_dir() else {}
CDSI = next((name for name in EXPECTED if name.startswith("oe/")), "oe")
SGXS = "sgxs/test_enclave.sgxs"
PARSEC = "intel-sdk/parsec-2020-enclave.signed.so"


def measured(name: str) -> tuple[Measured, ...]:
    path = vectors("enclave") / name
    beside = path.with_suffix(".sig")
    sig = beside.read_bytes() if path.suffix == ".sgxs" else None
    return measure(read_enclave(path.read_bytes(), name, sig=sig))


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - {SGXS}) or ["vectors are absent"])
def test_every_public_enclave_measures_to_what_was_signed(name: str) -> None:
    vectors("enclave")
    expected = EXPECTED[name].get("metadata", [EXPECTED[name]])
    for found, block in zip(measured(name), expected, strict=True):
        sigstruct = found.block.sigstruct
        assert sigstruct is not None
        assert found.signature_valid is True
        assert sigstruct.mr_signer.hex() == block["mrsigner"]
        assert sigstruct.enclave_hash.hex() == block["mrenclave"]
        assert (sigstruct.isv_prod_id, sigstruct.isv_svn) == (block["isvprodid"], block["isvsvn"])
        assert sigstruct.date_text == block["date"]
        if "sigstruct_offset" in block:
            assert found.block.sigstruct_offset == block["sigstruct_offset"]
        if found.block.layout is not None:
            assert found.matches is True
            assert found.mr_enclave is not None
            assert found.mr_enclave.hex() == block["mrenclave"]
            assert found.block.layout.pages == block.get("eadd_pages", found.block.layout.pages)
            assert found.block.layout.measured_pages == block.get("measured_pages", found.block.layout.measured_pages)


def test_a_public_stream_measures_to_its_hash_and_to_the_signature_beside_it() -> None:
    vectors("enclave")
    (found,) = measured(SGXS)
    expected = EXPECTED[SGXS]
    assert found.mr_enclave is not None
    assert found.block.layout is not None
    assert found.mr_enclave.hex() == expected["sha256_is_mrenclave"]
    assert (found.block.layout.pages, found.block.layout.measured_pages) == (9, 9)
    assert (found.signature_valid, found.matches) == (True, True)


def test_only_bare_signatures_are_not_measured() -> None:
    vectors("enclave")
    kept = [name for name in EXPECTED if not name.startswith("css/") and Path(name).suffix not in (".sig", ".bin")]
    assert len(kept) == 8
    assert all(found.matches for name in kept for found in measured(name))


def test_signal_s_enclave_is_sized_as_published_and_overcommits_its_node() -> None:
    enclave = read_enclave((vectors("enclave") / CDSI).read_bytes())
    found = size(enclave)
    assert (found.at_load.loaded, found.at_load.pages) == (2_131_703, 2_135_868)
    assert (found.elrange, found.limit) == (16 << 30, "8344Mi")
    assert fit(found.at_load.size, find_class("DC2s_v3")).overcommit == pytest.approx(0.0184, abs=0.001)
    assert fit(found.at_load.size, find_class("DC24s_v3")).fits
    assert inspect(enclave).remarks == ()


def test_the_sample_key_is_found_in_a_public_enclave() -> None:
    info = inspect(read_enclave((vectors("enclave") / PARSEC).read_bytes()))
    assert [remark.code for remark in info.remarks] == ["enclave.signer.public", "enclave.debug.open"]
    assert [block.name for block in info.blocks] == ["metadata 2.4", "metadata 2.1", "metadata 1.4"]


def test_two_million_heap_pages_are_measured_in_little_memory() -> None:
    raw = (vectors("enclave") / CDSI).read_bytes()
    tracemalloc.start()
    (found,) = measure(read_enclave(raw))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.matches
    assert peak < 16 << 20
