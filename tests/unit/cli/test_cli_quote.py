"""``bastide quote``: what people and programs are told, and the exit codes."""

import json
import os
from pathlib import Path
from threading import Thread

import pytest

from bastide.dcap.bundle import write_bundle
from bastide.pki.chain import dump_pem_chain
from support.commands import bastide, refused
from support.foreign import dcap_qvl_collateral
from support.quotes import AT, World, good_world, td_world
from support.refusals import tcb_info
from support.vectors import vectors

PARTS = {
    "tcb_info": "tcb_info.json",
    "qe_identity": "qe_identity.json",
    "pck_crl": "pck_crl.der",
    "root_ca_crl": "root_ca_crl.der",
    "tcb_signing_chain": "tcb_signing_chain.pem",
}


def files(world: World, folder: Path) -> list[str | Path]:
    """Quote, collateral and root in files, as arguments of verify."""
    (folder / "quote.bin").write_bytes(world.quote.build())
    (folder / "root.pem").write_bytes(dump_pem_chain((world.pki.root.certificate,)))
    collateral = world.collateral
    for part, name in PARTS.items():
        (folder / name).write_bytes(getattr(collateral, part))
    (folder / "bundle").write_bytes(write_bundle(collateral))
    chain = dump_pem_chain((world.pki.platform_ca.certificate, world.pki.root.certificate))
    (folder / "qvl").write_text(dcap_qvl_collateral(collateral, chain))
    return ["quote", "verify", folder / "quote.bin", "--root", folder / "root.pem", "--at", AT.isoformat()]


@pytest.mark.parametrize("world", [good_world(), td_world()], ids=["SGX", "TDX"])
@pytest.mark.parametrize("path", [".", "bundle", "qvl"])
def test_good_quote_is_accepted_under_collateral_of_any_form(world: World, path: str, tmp_path: Path) -> None:
    ran = bastide(*files(world, tmp_path), "--collateral", tmp_path / path, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert (ran.json["acceptable"], ran.json["status"], ran.json["refusals"]) == (True, "OK", [])
    assert ran.json["policy"] == "strict"
    assert ran.json["root"]["simulation"] is True
    assert ran.json["tcb_evaluation_data_numbers"] == {"tcb_info": 17, "qe_identity": 17}
    assert ran.json["checks"][0]["name"].startswith("pck.")


def test_verdict_stands_first_and_every_check_is_told(tmp_path: Path) -> None:
    ran = bastide(*files(good_world(), tmp_path), "--collateral", tmp_path)
    first, second, *_ = ran.out.splitlines()
    assert first == "ACCEPTABLE under policy strict: OK"
    assert second.startswith("SIMULATION")
    for words in ("TCB status", "UpToDate", "evaluation numbers", "qe-report.signature", "sgx-type"):
        assert words in ran.out


def test_refused_quote_says_why_and_what_to_do(tmp_path: Path) -> None:
    world = tcb_info(good_world(), levels=(good_world().tcb_info.levels[1],))
    ran = bastide(*files(world, tmp_path), "--collateral", tmp_path)
    assert ran.code == 3
    assert ran.out.splitlines()[0] == "NOT ACCEPTABLE under policy strict: TCB_OUT_OF_DATE"
    assert "refused appraisal.tcb-status: expected SWHardeningNeeded or UpToDate, seen OutOfDate" in ran.out
    assert "hint: update the platform" in ran.out


def test_a_root_of_a_simulation_has_to_be_named(tmp_path: Path) -> None:
    arguments = files(good_world(), tmp_path)
    without_root = [*arguments[:3], *arguments[5:]]
    ran = bastide(*without_root, "--collateral", tmp_path, "--json")
    assert (ran.code, ran.json["status"]) == (3, "SGX_PCK_CERT_CHAIN_UNTRUSTED")


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ("strict", 3),
        ("intel", 0),
        ("", 3),
        ('accepted_statuses = ["OutOfDate"]', 0),
        ('accepted_statuses = ["OutOfDate"]\nplatform_grace_days = 0', 3),
        ('accepted_statuses = ["OutOfDate"]\nplatform_grace_days = 3650\nqe_grace_days = 0', 0),
        ('accepted_statuses = ["OutOfDate"]\nreject_advisories = ["INTEL-SA-00615"]', 3),
        ('accepted_statuses = ["OutOfDate"]\nallow_smt = false', 3),
        ('accepted_statuses = ["OutOfDate"]\naccepted_sgx_types = ["scalable"]', 0),
        ('accepted_statuses = ["OutOfDate"]\naccepted_sgx_types = ["standard"]', 3),
        ('accepted_statuses = ["OutOfDate"]\nmin_tcb_evaluation_data_number = 18', 3),
    ],
)
def test_policy_decides_by_name_or_by_file(policy: str, code: int, tmp_path: Path) -> None:
    world = tcb_info(good_world(), levels=(good_world().tcb_info.levels[1],))
    if policy not in ("strict", "intel"):
        (tmp_path / "policy.toml").write_text(policy)
        policy = str(tmp_path / "policy.toml")
    ran = bastide(*files(world, tmp_path), "--collateral", tmp_path, "--policy", policy, "--json")
    assert ran.code == code, ran.out


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x", "appraisal.policy.syntax"),
        ("a = " + "[" * 5000, "appraisal.policy.syntax"),
        ("allow_everything = true", "appraisal.policy.key"),
        ("allow_debug = 1", "appraisal.policy.value"),
        ("qe_grace_days = -1", "appraisal.policy.value"),
        ("platform_grace_days = true", "appraisal.policy.value"),
        ("accepted_statuses = []", "appraisal.policy.value"),
        ('accepted_statuses = ["Revoked"]', "appraisal.policy.value"),
        ('accepted_statuses = "UpToDate"', "appraisal.policy.value"),
        ("reject_advisories = [1]", "appraisal.policy.value"),
        ('accepted_sgx_types = ["round"]', "appraisal.policy.value"),
        ("min_tcb_evaluation_data_number = 4294967296", "appraisal.policy.value"),
    ],
)
def test_refuses_policies_that_say_what_none_can(text: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(text)
    arguments = files(good_world(), tmp_path)
    ran = bastide(*arguments, "--collateral", tmp_path, "--policy", tmp_path / "policy.toml", "--json")
    assert refused(ran)["code"] == code


@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"", "quote.container.size"), (b"\x03\x00\x02\x00" + bytes(2000), "quote.auth_data.length")],
)
def test_refuses_what_is_no_quote(raw: bytes, code: str, tmp_path: Path) -> None:
    files(good_world(), tmp_path)
    for command in (("show",), ("verify", "--collateral", tmp_path)):
        ran = bastide("quote", *command, "-", "--json", stdin=raw)
        assert refused(ran)["code"] == code


def test_refuses_a_file_that_is_no_collateral(tmp_path: Path) -> None:
    arguments = files(good_world(), tmp_path)
    ran = bastide(*arguments, "--collateral", tmp_path / "root.pem", "--json")
    assert refused(ran)["code"] == "collateral.bundle.format"


def test_quote_from_standard_input_is_shown_with_every_field() -> None:
    ran = bastide("quote", "show", "-", "--json", stdin=good_world().quote.build().hex().encode())
    assert ran.code == 0
    assert (ran.json["container"], ran.json["tee"], ran.json["debug"]) == (["hex"], "SGX", False)
    assert ran.json["report"]["mr_enclave"] == good_world().quote.report_body.mr_enclave.hex()
    assert ran.json["report"]["attributes"]["flags"]["names"] == ["INIT", "MODE64BIT"]
    assert ran.json["certification"]["type"] == 5
    assert len(ran.json["certification"]["chain"]) == 3
    assert ran.json["certification"]["platform"]["fmspc"] == b"SIMULA".hex()


def test_td_is_shown_with_every_field() -> None:
    ran = bastide("quote", "show", "-", stdin=td_world().quote.build())
    for words in ("tee                           TDX", "SEPT_VE_DISABLE", "rtmr3", "zero (48 bytes)", "smt_enabled"):
        assert words in ran.out


def test_every_real_quote_is_shown() -> None:
    for file in sorted((vectors("dcap") / "quotes").glob("*.bin")):
        assert bastide("quote", "show", file).code == 0, file.name
        tree = bastide("quote", "show", file, "--json").json
        assert ("unreadable" in tree["certification"]) is (file.stem == "sgx3-oe-ecbad"), file.name


def test_real_quote_is_verified_under_intels_root() -> None:
    folder = vectors("dcap")
    ran = bastide(
        "quote",
        "verify",
        folder / "quotes" / "tdx5-google.bin",
        "--collateral",
        folder / "collateral" / "TDX-90C06F000000-e18-2026-02-18",
        "--at",
        "2026-02-18T11:58:51Z",
        "--json",
    )
    assert (ran.code, ran.json["tcb_status"], ran.json["attested"]["kind"]) == (0, "UpToDate", "TDX 1.5 trust domain")
    assert json.dumps(ran.json["root"]) == '{"name": "Intel SGX Root CA", "simulation": false}'


@pytest.mark.parametrize("name", ["own.toml", "strict", "intel"])
def test_verdict_under_a_file_names_the_file_and_never_a_policy_of_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("allow_debug = true")
    arguments = (*files(good_world(), tmp_path), "--collateral", tmp_path, "--policy", tmp_path / name)
    assert bastide(*arguments, "--json").json["policy"] == str(tmp_path / name)
    assert bastide(*arguments).out.startswith(f"ACCEPTABLE under policy {tmp_path / name}: OK")


def test_policy_in_a_file_of_an_odd_name_is_named_in_words_that_terminals_bear(tmp_path: Path) -> None:
    file = tmp_path / "evil\x1b[2J.toml"
    file.write_text("allow_debug = true")
    ran = bastide(*files(good_world(), tmp_path), "--collateral", tmp_path, "--policy", file)
    assert (ran.code, "\x1b" in ran.out) == (0, False)
    assert "evil\\x1b[2J.toml" in ran.out.splitlines()[0]


@pytest.mark.parametrize(
    "at",
    ["", "yesterday", "2026-06-01", "2026-06-01T12:00:00", "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"],
)
def test_refuses_what_is_no_instant(at: str, tmp_path: Path) -> None:
    arguments = files(good_world(), tmp_path)
    assert refused(bastide(*arguments, "--collateral", tmp_path, "--at", at, "--json"))["code"] == "cli.time"


def test_collateral_may_come_through_a_pipe(tmp_path: Path) -> None:
    arguments = files(good_world(), tmp_path)
    os.mkfifo(tmp_path / "pipe")
    bundle = (tmp_path / "bundle").read_bytes()
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=(bundle,), daemon=True)
    writer.start()
    assert bastide(*arguments, "--collateral", tmp_path / "pipe").code == 0
    writer.join(10)


def test_standard_input_cannot_be_two_things(tmp_path: Path) -> None:
    files(good_world(), tmp_path)
    ran = bastide("quote", "verify", "-", "--collateral", "-", "--json", stdin=b"x")
    assert refused(ran)["code"] == "cli.stdin"


def test_errors_name_the_file_once_and_say_what_to_do(tmp_path: Path) -> None:
    cut, large = tmp_path / "cut.bin", tmp_path / "large"
    cut.write_bytes(good_world().quote.build()[:2000])
    large.write_bytes(bytes((1 << 20) + 1))
    assert str(refused(bastide("quote", "show", cut, "--json"))["where"]).startswith(f"{cut}: offset")
    error = refused(bastide("quote", "show", large, "--json"))
    assert (error["code"], error["where"], "split" in str(error["hint"])) == ("file.too-large", str(large), False)
    error = refused(bastide("quote", "show", tmp_path, "--json"))
    assert (error["code"], error["where"], error["hint"]) == ("file.unreadable", str(tmp_path), "name a file")
