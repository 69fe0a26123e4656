import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.attest.collateral.catalogue import Bundle, Catalogue
from bastide.attest.collateral.directory import CollateralDirectory
from bastide.dcap import PreparedCollateral
from bastide.dcap.bundle import write_bundle as write_bundle_file
from bastide.errors import ConfigError, MalformedError
from bastide.pki.chain import INTEL_ROOT
from bastide.sgx.quote import Quote
from bastide.sim import intel
from support import sgx_values
from support.attest_server import write_bundle
from support.evidence import ISSUED, world, world_at
from support.pcs import pki_of

AT = datetime(2026, 11, 23, tzinfo=UTC)


def _quote() -> Quote:
    return world().quote(sgx_values.report_body())


def _directory(folder: Path) -> CollateralDirectory:
    directory = CollateralDirectory(folder, world().root)
    directory.refresh()
    return directory


def _bundle(name: str = "a") -> Bundle:
    return Bundle.of(name, PreparedCollateral.of(world().collateral, world().root))


def test_finds_collateral_for_a_quotes_platform(tmp_path: Path) -> None:
    write_bundle(tmp_path / "one", world().collateral)
    found = _directory(tmp_path).find(_quote(), AT)
    assert found is not None
    assert found.collateral == world().collateral


def test_a_directory_may_be_a_bundle_itself(tmp_path: Path) -> None:
    assert len(_directory(write_bundle(tmp_path, world().collateral)).bundles) == 1


def test_a_bundle_may_be_one_json_file(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_bytes(write_bundle_file(world().collateral))
    (tmp_path / "bad.json").write_bytes(b"{}")
    directory = _directory(tmp_path)
    assert directory.bundles[0].prepared.collateral == world().collateral
    assert directory.faults.keys() == {"bad.json"}


def test_finds_nothing_for_another_platform_or_number(tmp_path: Path) -> None:
    write_bundle(tmp_path / "one", world().collateral)
    directory = _directory(tmp_path)
    unreadable = replace(_quote(), certification=replace(_quote().certification, data=b"none"))
    assert directory.find(unreadable, AT) is None
    assert directory.find(_quote(), AT, number=99) is None
    assert directory.find(_quote(), AT, number=directory.bundles[0].number) is not None
    assert Catalogue(()).find(_quote(), AT) is None


def test_collateral_for_trust_domains_is_not_taken_for_an_enclave() -> None:
    pki, sgx = pki_of(world()), intel.platform()
    pck = intel.issue_pck(pki, ec.generate_private_key(ec.SECP256R1()).public_key(), sgx, ISSUED)
    parts = intel.collateral(
        pki,
        pck,
        ISSUED,
        tcb_info=intel.tdx_tcb_info_document(sgx, bytes(16), ISSUED),
        qe_identity=intel.td_qe_identity_document(ISSUED),
    )
    tdx = Bundle.of("tdx", PreparedCollateral.of(parts, world().root))
    assert tdx.kind == replace(_bundle().kind, tee="TDX")
    assert Catalogue((tdx,)).find(_quote(), AT) is None


def test_prefers_what_is_in_force_then_the_higher_number_then_the_later_end() -> None:
    usual = _bundle()
    other = {n: PreparedCollateral.of(replace(world().collateral), world().root) for n in range(4)}
    ended = replace(usual, number=usual.number + 5, end=AT - timedelta(days=1), prepared=other[0])
    lower = replace(usual, number=usual.number - 1, prepared=other[1])
    longer = replace(usual, end=usual.end + timedelta(days=1), prepared=other[2])
    assert Catalogue((ended, lower, usual, longer)).find(_quote(), AT) is other[2]
    assert Catalogue((lower, usual)).find(_quote(), AT) is usual.prepared
    assert Catalogue((ended,)).find(_quote(), AT) is other[0], "expired collateral is named in the refusal"


def test_sees_a_new_a_changed_and_a_vanished_bundle(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    assert directory.bundles == ()
    write_bundle(tmp_path / "one", world().collateral)
    assert directory.refresh() is True
    assert directory.refresh() is False
    before = directory.bundles[0].prepared
    later = world_at(ISSUED + timedelta(days=1)).collateral
    (tmp_path / "one" / "tcb_info.json").write_bytes(later.tcb_info)
    directory.refresh()
    assert directory.bundles[0].prepared is before, "signed by another PKI: the last good one stays"
    assert "collateral.bundle.signature" in directory.faults["one"]
    write_bundle(tmp_path / "one", replace(world().collateral))
    (tmp_path / "one" / "pck_crl.der").touch()
    directory.refresh()
    assert directory.faults == {}
    shutil.rmtree(tmp_path / "one")
    directory.refresh()
    assert directory.bundles == ()


@pytest.mark.parametrize("defect", ["missing", "empty", "huge", "garbage"])
def test_a_bundle_at_fault_is_told_and_not_used(tmp_path: Path, defect: str) -> None:
    part = write_bundle(tmp_path / "bad", world().collateral) / "qe_identity.json"
    write_bundle(tmp_path / "good", world().collateral)
    if defect == "missing":
        part.unlink()
    else:
        part.write_bytes({"empty": b"", "huge": bytes((1 << 20) + 1), "garbage": b"{}"}[defect])
    directory = _directory(tmp_path)
    assert [bundle.name for bundle in directory.bundles] == ["good"]
    assert directory.faults.keys() == {"bad"}


def test_collateral_of_a_simulation_is_not_used_under_intels_root(tmp_path: Path) -> None:
    write_bundle(tmp_path / "lab", world().collateral)
    directory = CollateralDirectory(tmp_path, INTEL_ROOT)
    directory.refresh()
    assert (directory.bundles, set(directory.faults)) == ((), {"lab"})


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"collateral\.directory\.absent"):
        CollateralDirectory(tmp_path / "absent", INTEL_ROOT)


def test_a_bundle_needs_documents_that_can_be_read() -> None:
    broken = PreparedCollateral.of(replace(world().collateral, pck_crl=b""), world().root)
    with pytest.raises(MalformedError, match=r"collateral\.bundle\.part"):
        Bundle.of("x", broken)
