"""`bastide enclave`: exit codes, JSON keys, files written."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bastide.cli.enclave_files import bar
from support.commands import bastide, refused
from support.enclave_files import SEGMENTS, Elf, OeFile, expected_intel, intel_enclave, signed_intel_enclave
from support.gramine_files import LIBPAL, manifest_text, signature
from support.images import Member, layout, tar
from support.sgx_values import signing_key, sigstruct
from support.vectors import vectors

SIGNER = sigstruct().mr_signer.hex()
REPOSITORY = "registry.example/payments/api"


@cache
def statement_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    """A folder with an unsigned enclave, keys and signers files."""
    files = {
        "e.so": intel_enclave(),
        "key.pem": pem(signing_key()),
        "key.pub": public_pem(signing_key()),
        "statement.pem": pem(statement_key()),
        "signers.yaml": signers().encode(),
        "strict.yaml": signers(with_statements=True).encode(),
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    return tmp_path


def signers(*, with_statements: bool = False) -> str:
    rule = f'{{name: mine, mrSigner: "{SIGNER}", minimumSvn: 2}}'
    text = f"apiVersion: bastide.dev/v1alpha1\nkind: SignersPolicy\nspec:\n  allow: [{rule}]\n"
    if with_statements:
        key = public_pem(statement_key()).decode().replace("\n", "\n        ")
        text += "  statements:\n  - repository: registry.example/payments/*\n    keys:\n"
        text += f"    - name: release\n      publicKey: |\n        {key}\n"
    return text


def sign_in_place(place: Path) -> None:
    assert bastide("enclave", "sign", place / "e.so", "--key", place / "key.pem", "--svn", "2").code == 0


def image_of(place: Path) -> Path:
    sign_in_place(place)
    return layout([tar(Member("app/e.so", (place / "e.so").read_bytes()))]).write(place / "image")


def test_find_lists_enclaves_with_kind_path_layer_and_signer(place: Path) -> None:
    image = image_of(place)
    ran = bastide("enclave", "find", image, "--json")
    (one,) = ran.json["enclaves"]
    assert ran.code == 0
    assert (one["kind"], one["path"], one["mr_signer"], one["public_key"]) == ("intel-sdk", "/app/e.so", SIGNER, False)
    assert one["image"].startswith("sha256:")
    assert one["layer"].startswith("sha256:")
    assert one["signatures"][0]["isv_svn"] == 2
    shown = bastide("enclave", "find", image)
    assert "/app/e.so" in shown.out
    assert SIGNER[:16] in shown.out
    assert shown.err == ""


def test_find_of_nothing_is_good_and_says_so(tmp_path: Path) -> None:
    assert bastide("enclave", "find", tmp_path).out == "no enclave found\n"
    assert bastide("enclave", "find", tmp_path, "--json").json == {"enclaves": []}
    assert refused(bastide("enclave", "find", tmp_path / "none", "--json"))["code"] == "file.unreadable"


def test_inspect_shows_what_was_signed_and_what_to_know(place: Path) -> None:
    ran = bastide("enclave", "inspect", place / "e.so", "--json")
    assert ran.json["kind"] == "intel-sdk"
    assert [remark["code"] for remark in ran.json["remarks"]] == ["enclave.unsigned"]
    sign_in_place(place)
    (block,) = bastide("enclave", "inspect", place / "e.so", "--json").json["blocks"]
    assert block["sigstruct"]["mr_signer"] == SIGNER
    assert block["sigstruct"]["debug_forced"] is True
    assert block["epc"]["loaded_pages"] == 12
    shown = bastide("enclave", "inspect", place / "e.so").out
    assert SIGNER in shown
    assert "MODE64BIT" in shown
    assert refused(bastide("enclave", "inspect", place / "key.pem", "--json"))["code"] == "enclave.kind.unknown"


def test_measure_gives_two_answers_and_the_stream(place: Path) -> None:
    sign_in_place(place)
    ran = bastide("enclave", "measure", place / "e.so", "--sgxs", place / "e.sgxs", "--json")
    (block,) = ran.json["blocks"]
    assert ran.code == 0
    assert block["mr_enclave"] == expected_intel().digest().hex()
    assert (block["measurement_matches"], block["signature_valid"]) == (True, True)
    assert (place / "e.sgxs").read_bytes() == expected_intel().stream


def test_measure_of_changed_code_or_a_changed_signature_says_no(place: Path) -> None:
    good = signed_intel_enclave()
    code = good.replace(bytes(range(256)), bytes(256), 1)
    at = good.index(sigstruct().modulus) + 384 + 4
    for raw, matches, valid in ((code, False, True), (good[:at] + b"\0" + good[at + 1 :], True, False)):
        (place / "x.so").write_bytes(raw)
        ran = bastide("enclave", "measure", place / "x.so", "--json")
        (block,) = ran.json["blocks"]
        assert (ran.code, ran.json["good"]) == (3, False)
        assert (block["measurement_matches"], block["signature_valid"]) == (matches, valid)
        assert "NOT" in bastide("enclave", "measure", place / "x.so").out


def test_measure_of_a_bare_signature_says_what_is_missing(place: Path) -> None:
    (place / "x.sig").write_bytes(sigstruct().build())
    assert refused(bastide("enclave", "measure", place / "x.sig", "--json"))["code"] == "enclave.measure.impossible"


def test_size_tells_epc_from_address_space_and_what_a_node_makes_of_it(place: Path) -> None:
    ran = bastide("enclave", "size", place / "e.so", "--json")
    assert ran.json["at_load"]["pages"] == 12 + 1 + 1
    assert (ran.json["elrange_bytes"], ran.json["limit"], ran.json["node"]) == (0x100000, "1Mi", None)
    assert "not EPC" in bastide("enclave", "size", place / "e.so").out
    fits = bastide("enclave", "size", place / "e.so", "--node", "DC4s_v3", "--json")
    assert (fits.code, fits.json["node"]["fits"]) == (0, True)
    many = ("enclave", "size", place / "e.so", "--processes", "10000", "--node", "DC2s_v2")
    assert bastide(*many, "--json").json["node"]["fits"] is False
    assert bastide(*many).code == 3
    assert (
        refused(bastide("enclave", "size", place / "e.so", "--node", "x", "--json"))["code"]
        == "catalogue.class.unknown"
    )


def test_sign_and_verify_in_one_step(place: Path) -> None:
    assert bastide("enclave", "verify", place / "e.so", "--signers", place / "signers.yaml").code == 3
    ran = bastide("enclave", "sign", place / "e.so", "--key", place / "key.pem", "--svn", "2", "--json")
    assert (ran.code, ran.json["step"], ran.json["written"]) == (0, "signed", str(place / "e.so"))
    verdict = bastide("enclave", "verify", place / "e.so", "--signers", place / "signers.yaml", "--json")
    assert (verdict.code, verdict.json["acceptable"]) == (0, True)
    assert verdict.json["enclaves"][0]["rule"] == "mine"
    bastide("enclave", "sign", place / "e.so", "--key", place / "key.pem", "--svn", "1")
    old = bastide("enclave", "verify", place / "e.so", "--signers", place / "signers.yaml")
    assert old.code == 3
    assert "enclave.svn" in old.out


def test_sign_in_two_steps_gives_the_same_file(place: Path) -> None:
    terms = ("--svn", "2", "--date", "2026-11-23")
    one, two = place / "one.so", place / "two.so"
    bastide("enclave", "sign", place / "e.so", "--key", place / "key.pem", "--output", one, *terms)
    assert bastide("enclave", "sign", place / "e.so", "--digest", place / "digest", *terms).code == 0
    signature = signing_key().sign((place / "digest").read_bytes(), padding.PKCS1v15(), hashes.SHA256())
    (place / "signature").write_bytes(signature)
    step = ("enclave", "sign", place / "e.so", "--signature", place / "signature", "--public-key", place / "key.pub")
    assert bastide(*step, "--output", two, *terms).code == 0
    assert one.read_bytes() == two.read_bytes()
    wrong = bastide(*step, "--output", place / "three.so", "--svn", "3", "--date", "2026-11-23")
    assert wrong.code == 3
    assert "enclave.sign.signature" in wrong.err
    assert not (place / "three.so").exists()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), "enclave.sign.way"),
        (("--digest", "d", "--key", "key.pem"), "enclave.sign.way"),
        (("--digest", "d"), "enclave.sign.date"),
        (("--signature", "key.pub", "--date", "2026-11-23"), "enclave.sign.way"),
        (("--key", "key.pub"), "enclave.sign.key-file"),
        (("--key", "statement.pem"), "enclave.sign.key-file"),
        (("--key", "none.pem"), "file.unreadable"),
        (("--key", "key.pem", "--family-id", "00"), "cli.usage"),
        (("--key", "key.pem", "--svn", "65536"), "cli.usage"),
        (("--statement", "s", "--key", "statement.pem"), "enclave.sign.way"),
        (("--statement", "s", "--key", "key.pem", "--repository", REPOSITORY), "enclave.sign.key-file"),
        (("--statement", "s", "--key", "statement.pem", "--repository", REPOSITORY), "enclave.statement.image"),
    ],
)
def test_sign_refuses_what_it_cannot_do(
    place: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: str
) -> None:
    monkeypatch.chdir(place)
    assert refused(bastide("enclave", "sign", "e.so", *options, "--json"))["code"] == code
    assert (place / "e.so").read_bytes() == intel_enclave()


def test_sign_writes_a_sig_beside_a_stream(place: Path) -> None:
    (place / "x.sgxs").write_bytes(expected_intel().stream)
    ran = bastide("enclave", "sign", place / "x.sgxs", "--key", place / "key.pem", "--svn", "2", "--json")
    assert ran.json["written"] == str(place / "x.sig")
    assert (place / "x.sig").stat().st_size == 1808
    assert bastide("enclave", "verify", place / "x.sgxs", "--signers", place / "signers.yaml").code == 0
    again = bastide("enclave", "sign", place / "x.sgxs", "--key", place / "key.pem", "--json")
    assert again.json["isv_svn"] == 2


def test_sign_refuses_a_published_key_unless_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.sign.PUBLIC_SIGNERS", {sigstruct().mr_signer: "a sample"})
    command = ("enclave", "sign", place / "e.so", "--key", place / "key.pem")
    assert bastide(*command).code == 3
    assert (place / "e.so").read_bytes() == intel_enclave()
    assert bastide(*command, "--allow-public-key").code == 0


def test_a_statement_is_made_and_asked_for(place: Path) -> None:
    image, told = image_of(place), place / "statement.json"
    sign = ("enclave", "sign", image, "--statement", told, "--key", place / "statement.pem", "--repository", REPOSITORY)
    ran = bastide(*sign, "--json")
    assert (ran.code, ran.json["enclaves"]) == (0, ["/app/e.so"])
    first = told.read_bytes()
    bastide(*sign)
    assert told.read_bytes() == first
    verify = ("enclave", "verify", image, "--signers", place / "strict.yaml")
    pinned = f"{REPOSITORY}@{ran.json['image']}"
    good = bastide(*verify, "--image", pinned, "--statement", told, "--json")
    assert (good.code, [check["ok"] for check in good.json["image_checks"]]) == (0, [True] * 5)
    for reference, options, check in (
        (REPOSITORY, (), "statement.present"),
        ("registry.example/payments/other", ("--statement", told), "statement.repository"),
        ("registry.example/other", ("--statement", told), "statement.rule"),
        (f"{REPOSITORY}@sha256:{'0' * 64}", ("--statement", told), "image.digest"),
    ):
        no = bastide(*verify, "--image", reference, *options)
        assert no.code == 3
        assert f"no {check}" in no.out
    assert refused(bastide(*verify, "--json"))["code"] == "enclave.verify.image"


def test_a_statement_about_a_single_file_needs_the_pinned_image_and_its_path(place: Path) -> None:
    image, told = image_of(place), place / "statement.json"
    sign = ("enclave", "sign", image, "--statement", told, "--key", place / "statement.pem", "--repository", REPOSITORY)
    digest = bastide(*sign, "--json").json["image"]
    verify = ("enclave", "verify", place / "e.so", "--signers", place / "strict.yaml", "--statement", told)
    good = bastide(*verify, "--image", f"{REPOSITORY}@{digest}", "--path", "/app/e.so", "--json")
    # Nothing says that the file is of that image: "image.digest" must not be claimed.
    names = [check["name"].partition(".")[0] for check in good.json["image_checks"]]
    assert (good.code, names) == (0, ["statement"] * 4)
    assert bastide(*verify, "--image", f"{REPOSITORY}@{digest}").code == 3
    assert refused(bastide(*verify, "--image", REPOSITORY, "--json"))["code"] == "enclave.verify.image"
    assert refused(bastide(*verify, "--json"))["code"] == "enclave.verify.image"


def test_a_host_in_other_letters_is_the_same_registry(place: Path) -> None:
    verify = ("enclave", "verify", image_of(place), "--signers", place / "strict.yaml")
    for reference in ("Registry.Example/payments/api", "registry.example:443/payments/api"):
        assert "no statement.present" in bastide(*verify, "--image", reference).out


def test_an_image_of_very_many_enclaves_is_refused_before_they_are_read(place: Path) -> None:
    members = [Member(f"{number}.so", signed_intel_enclave()) for number in range(101)]
    image = layout([tar(*members)]).write(place / "many")
    ran = bastide("enclave", "verify", image, "--signers", place / "signers.yaml", "--json")
    assert refused(ran)["code"] == "enclave.image.enclaves"


def with_broken_quotient(good: bytes) -> bytes:
    at = good.index(sigstruct().modulus) - 128 + 1424
    return good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]


def test_no_statement_is_made_about_an_enclave_that_is_not_as_signed(place: Path) -> None:
    good = signed_intel_enclave()
    for raw, code in (
        (intel_enclave(), "unsigned"),
        (with_broken_quotient(good), "signature"),
        (good.replace(bytes(range(256)), bytes(256), 1), "measurement"),
        (OeFile(sigstruct=sigstruct()).build(), "measurement"),
    ):
        image = layout([tar(Member("e.so", raw))]).write(place / code)
        ran = bastide(
            "enclave",
            "sign",
            image,
            "--statement",
            place / "s",
            "--key",
            place / "statement.pem",
            "--repository",
            "a/b",
        )
        assert ran.code == 3
        assert f"enclave.statement.{code}" in ran.err
        assert not (place / "s").exists()


def test_an_image_with_one_refused_enclave_is_refused(place: Path) -> None:
    sign_in_place(place)
    members = [Member("a.so", (place / "e.so").read_bytes()), Member("b.so", intel_enclave())]
    ran = bastide(
        "enclave", "verify", layout([tar(*members)]).write(place / "i"), "--signers", place / "signers.yaml", "--json"
    )
    assert (ran.code, [one["acceptable"] for one in ran.json["enclaves"]]) == (3, [True, False])


def test_an_image_without_an_enclave_is_refused(place: Path) -> None:
    image = layout([tar(Member("a", b"x"))]).write(place / "i")
    ran = bastide("enclave", "verify", image, "--signers", place / "signers.yaml")
    assert ran.code == 3
    assert "enclave.verify.none" in ran.err


def gramine_image(place: Path, *members: Member) -> Path:
    text = manifest_text()
    files = (Member("app/x.manifest.sgx", text), Member("app/x.sig", signature(text)), *members)
    return layout([tar(*files)]).write(place / "gramine")


def test_a_gramine_enclave_in_an_image_is_measured_with_the_images_libpal(place: Path) -> None:
    other = Member("direct/libpal.so", Elf(segments=SEGMENTS, entry=0x48).build())
    image = gramine_image(place, other, Member("sgx/libpal.so", LIBPAL))
    (one,) = bastide("enclave", "find", image, "--json").json["enclaves"]
    assert one["libpals"] == ["/direct/libpal.so", "/sgx/libpal.so"]
    ran = bastide("enclave", "verify", image, "--signers", place / "signers.yaml", "--json")
    assert (ran.code, ran.json["enclaves"][0]["measurement_matches"]) == (0, True)
    arguments = ("--statement", place / "s.json", "--key", place / "statement.pem", "--repository", REPOSITORY)
    assert bastide("enclave", "sign", image, *arguments).code == 0


def test_a_gramine_enclave_without_its_libpal_is_refused_with_the_reason(place: Path) -> None:
    image = gramine_image(place)
    ran = bastide("enclave", "verify", image, "--signers", place / "signers.yaml", "--json")
    (check,) = [one for one in ran.json["enclaves"][0]["checks"] if not one["ok"]]
    assert (ran.code, check["name"], check["seen"]) == (3, "enclave.measurement", "not computed")
    assert check["hint"].startswith("the image has no libpal.so")
    (place / "pal").write_bytes(LIBPAL)
    given = ("--signers", place / "signers.yaml", "--libpal", place / "pal")
    assert bastide("enclave", "verify", image, *given).code == 0


@pytest.mark.parametrize("command", [("measure",), ("size",), ("sign", "--key", "key.pem"), ("inspect",)])
def test_a_manifest_alone_asks_for_libpal(place: Path, command: tuple[str, ...]) -> None:
    (place / "x.manifest.sgx").write_bytes(manifest_text())
    options = [str(place / "key.pem") if one == "key.pem" else one for one in command[1:]]
    ran = bastide("enclave", command[0], place / "x.manifest.sgx", *options)
    assert "give Gramine's libpal.so with --libpal" in ran.out + ran.err


def test_an_unsigned_file_is_said_to_be_unsigned(place: Path) -> None:
    shown = bastide("enclave", "measure", place / "e.so")
    assert (shown.code, "not signed" in shown.out, "not known" in shown.out) == (0, True, False)


def test_what_cannot_be_signed_says_what_can(place: Path) -> None:
    error = refused(bastide("enclave", "sign", place / "signers.yaml", "--key", place / "key.pem", "--json"))
    assert (error["code"], "sgx_sign" in error["hint"]) == ("enclave.sign.kind", True)


def test_a_file_that_is_no_sig_is_said_to_be_the_wrong_one(place: Path) -> None:
    (place / "x.sgxs").write_bytes(expected_intel().stream)
    error = refused(bastide("enclave", "measure", place / "x.sgxs", "--sig", place / "key.pem", "--json"))
    assert (error["message"], error["hint"]) == (
        "expected at most 1.8 KiB, the file has more",
        "check that it is the right file",
    )


def test_a_refused_enclave_is_not_said_to_be_refused_by_the_rule_that_allows_it(place: Path) -> None:
    sign_in_place(place)
    denied = signers() + f'  deny: {{mrSigners: ["{SIGNER}"]}}\n'
    (place / "deny.yaml").write_text(denied)
    shown = bastide("enclave", "verify", place / "e.so", "--signers", place / "deny.yaml")
    assert (shown.code, "by rule" in shown.out) == (3, False)
    good = bastide("enclave", "verify", place / "e.so", "--signers", place / "signers.yaml")
    assert (good.code, "by rule mine" in good.out) == (0, True)


def test_ctrl_c_while_signing_leaves_the_file_as_it_was(place: Path) -> None:
    code = (
        "import sys, pathlib; from bastide.cli import invoke\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "pathlib.Path.replace = stop\n"
        "sys.exit(invoke(sys.argv[1:]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "enclave", "sign", place / "e.so", "--key", place / "key.pem"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode != 0
    assert (place / "e.so").read_bytes() == intel_enclave()
    assert [path.name for path in place.iterdir() if path.name.endswith(".part")] == []


class _Terminal:
    """Standard error that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    encoding = "utf-8"


@pytest.mark.parametrize("in_bytes", [True, False])
def test_a_bar_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, in_bytes: bool) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with bar("reading [red]x\x07", 10, in_bytes=in_bytes) as advance:
        advance(5)
    assert "[red]x\\x07" in terminal.text
    monkeypatch.setattr(sys, "stderr", None)
    with bar("x", 10) as advance:
        advance(5)


def real() -> Iterator[tuple[str, dict[str, object]]]:
    folder = vectors("enclave")
    for name, wanted in json.loads((folder / "expected.json").read_text()).items():
        if wanted.get("sdk") in ("intel-sgx-sdk", "open-enclave"):
            yield str(folder / name), wanted["metadata"][0] if "metadata" in wanted else wanted


def test_every_public_enclave_measures_as_published() -> None:
    for path, wanted in real():
        ran = bastide("enclave", "measure", path, "--json")
        assert ran.code == 0, path
        assert ran.json["blocks"][0]["mr_enclave"] == wanted["mrenclave"]
