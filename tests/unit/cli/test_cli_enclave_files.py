"""`bastide enclave` on files: several at once, a `.sig` beside them, and what is no regular file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from support.commands import bastide, refused
from support.enclave_files import SEGMENTS, Elf, expected_intel, signed_intel_enclave
from support.sgx_values import MR_ENCLAVE, signing_key, sigstruct

MANIFEST = b'[sgx]\nenclave_size = "16M"\nmax_threads = 2\n'
LIBPAL = Elf(segments=SEGMENTS, entry=0x40).build()
SIGNER = sigstruct().mr_signer.hex()
SIGNERS = (
    f'apiVersion: bastide.dev/v1alpha1\nkind: SignersPolicy\nspec: {{allow: [{{name: mine, mrSigner: "{SIGNER}"}}]}}'
)
DATE = ("--date", "2026-11-23")


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    """A folder with enclaves of several kinds, a key and a signers file."""
    files = {
        "good.so": signed_intel_enclave(),
        "other.so": signed_intel_enclave(enclave_hash=MR_ENCLAVE),
        "text.so": b"no enclave",
        "app.manifest.sgx": MANIFEST,
        "libpal.so": LIBPAL,
        "key.pem": signing_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "key.pub": signing_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "signers.yaml": SIGNERS.encode(),
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    return tmp_path


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_several_files_are_measured_each_with_its_own_answer(place: Path, jobs: str) -> None:
    files = [place / name for name in ("good.so", "other.so", "text.so", "app.manifest.sgx")]
    ran = bastide("enclave", "measure", *files, "--libpal", place / "libpal.so", "--jobs", jobs, "--json")
    assert ran.code == 2
    assert ran.json["good"] is False
    good, other, text, gramine = ran.json["files"]
    assert [one["file"] for one in (good, other, text, gramine)] == list(map(str, files))
    assert (good["good"], good["blocks"][0]["mr_enclave"]) == (True, expected_intel().digest().hex())
    assert (other["good"], other["blocks"][0]["measurement_matches"]) == (False, False)
    assert text["error"]["code"] == "enclave.kind.unknown"
    assert (gramine["kind"], gramine["good"]) == ("gramine", True)


def test_of_several_files_the_worst_answer_is_the_exit_code(place: Path) -> None:
    measure = ("enclave", "measure", "--jobs", "2", place / "good.so")
    assert bastide(*measure, place / "good.so").code == 0
    assert bastide(*measure, place / "other.so").code == 3
    shown = bastide(*measure, place / "other.so", place / "none.so")
    assert shown.code == 2
    for words in ("matches what was signed", "is NOT what was signed", "[file.unreadable]", str(place / "none.so")):
        assert words in shown.out


@pytest.mark.parametrize("option", ["--sig", "--sgxs"])
def test_what_is_about_one_file_is_refused_with_several(place: Path, option: str) -> None:
    ran = bastide("enclave", "measure", place / "good.so", place / "good.so", option, place / "x", "--json")
    assert refused(ran)["code"] == "enclave.measure.several"
    assert not (place / "x").exists()


def test_ctrl_c_ends_all_workers(place: Path) -> None:
    # A heap of 500 million pages, 32 GiB to hash: no worker would end by itself in time.
    slow = place / "slow.manifest.sgx"
    slow.write_bytes(b'[sgx]\nenclave_size = "2048G"\nmax_threads = 1\n')
    # A shell that runs the tests in the background has had them ignore Ctrl-C.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; import sys; from bastide.cli import invoke; sys.exit(invoke(sys.argv[1:]))"
    command = ("enclave", "measure", slow, slow, slow, "--jobs", "2", "--libpal", place / "libpal.so")
    process = subprocess.Popen([sys.executable, "-c", code, *command], stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 30
    while len(workers := children.read_text().split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)  # not to the workers, as a terminal would
    _, err = process.communicate(timeout=15)
    assert process.returncode != 0
    assert "Traceback" not in err
    assert len(workers) == 2
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.parametrize("command", ["inspect", "measure", "size", "sign", "verify", "find"])
def test_a_fifo_is_refused_and_not_waited_for(place: Path, command: str) -> None:
    os.mkfifo(place / "pipe")
    options = {"sign": ("--key", place / "key.pem"), "verify": ("--signers", place / "signers.yaml")}
    ran = bastide("enclave", command, place / "pipe", *options.get(command, ()), "--json")
    assert refused(ran)["code"] == "file.unreadable"


def test_devices_and_folders_are_no_enclaves(place: Path) -> None:
    for path in ("/dev/zero", place):
        error = refused(bastide("enclave", "inspect", path, "--json"))
        assert (error["code"], error["where"]) == ("file.unreadable", str(path))


def sign(place: Path, *options: str | Path) -> tuple[str | Path, ...]:
    return ("enclave", "sign", place / "app.manifest.sgx", "--libpal", place / "libpal.so", *options)


def verified(place: Path, *options: str | Path) -> int:
    command = ("enclave", "verify", place / "app.manifest.sgx", "--libpal", place / "libpal.so", *options)
    return bastide(*command, "--signers", place / "signers.yaml").code


def test_a_gramine_manifest_is_signed_beside_in_one_step(place: Path) -> None:
    ran = bastide(*sign(place, "--key", place / "key.pem", "--product", "7", "--svn", "2", "--json"))
    assert (ran.code, ran.json["written"], ran.json["kind"]) == (0, str(place / "app.sig"), "gramine")
    measured = bastide("enclave", "measure", place / "app.manifest.sgx", "--libpal", place / "libpal.so", "--json")
    assert measured.json["blocks"][0]["mr_enclave"] == ran.json["mr_enclave"]
    assert (measured.code, measured.json["blocks"][0]["measurement_matches"]) == (0, True)
    assert verified(place) == 0
    assert (place / "app.manifest.sgx").read_bytes() == MANIFEST
    again = bastide(*sign(place, "--key", place / "key.pem", "--svn", "3", "--json"))
    assert (again.json["isv_prod_id"], again.json["isv_svn"]) == (7, 3)


def test_a_gramine_manifest_is_signed_in_two_steps_with_the_same_result(place: Path) -> None:
    one, two, terms = place / "one.sig", place / "two.sig", ("--svn", "2", *DATE)
    assert bastide(*sign(place, "--key", place / "key.pem", "--output", one, *terms)).code == 0
    assert bastide(*sign(place, "--digest", place / "digest", *terms)).code == 0
    signature = signing_key().sign((place / "digest").read_bytes(), padding.PKCS1v15(), hashes.SHA256())
    (place / "signature").write_bytes(signature)
    second = ("--signature", place / "signature", "--public-key", place / "key.pub", "--output", two)
    assert bastide(*sign(place, *second, *terms)).code == 0
    assert one.read_bytes() == two.read_bytes()
    assert verified(place, "--sig", two) == 0
    (place / "app.manifest.sgx").write_bytes(MANIFEST.replace(b"2\n", b"3\n"))
    assert verified(place, "--sig", two) == 3


def test_a_gramine_manifest_is_not_signed_without_libpal(place: Path) -> None:
    ran = bastide("enclave", "sign", place / "app.manifest.sgx", "--key", place / "key.pem", "--json")
    assert refused(ran)["code"] == "enclave.sign.kind"
    assert not (place / "app.sig").exists()


def test_a_sig_that_two_files_would_share_is_neither_read_nor_written(place: Path) -> None:
    (place / "app.sgxs").write_bytes(expected_intel().stream)
    for name in ("app.sgxs", "app.manifest.sgx"):
        ran = bastide(
            "enclave", "sign", place / name, "--key", place / "key.pem", "--libpal", place / "libpal.so", "--json"
        )
        assert refused(ran)["code"] == "enclave.sig.shared"
    assert not (place / "app.sig").exists()
    assert (
        bastide("enclave", "sign", place / "app.sgxs", "--key", place / "key.pem", "--output", place / "app.sig").code
        == 0
    )
    error = refused(bastide("enclave", "measure", place / "app.sgxs", "--json"))
    assert error["code"] == "enclave.sig.shared"
    assert error["message"] == "app.sig may belong to app.sgxs or to app.manifest.sgx"
    assert bastide("enclave", "measure", place / "app.sgxs", "--sig", place / "app.sig").code == 0
    assert bastide("enclave", "size", place / "app.sgxs").code == 0
    # Terms of a signature that may be the other file's are not taken over.
    ran = bastide(*sign(place, "--key", place / "key.pem", "--output", place / "manifest.sig", "--json"))
    assert (ran.code, ran.json["isv_svn"]) == (0, 0)
    found = bastide("enclave", "find", place, "--json").json["enclaves"]
    signers = {Path(one["path"]).name: one["mr_signer"] for one in found}
    assert (signers["app.sgxs"], signers["app.manifest.sgx"], signers["app.sig"]) == (None, None, SIGNER)
