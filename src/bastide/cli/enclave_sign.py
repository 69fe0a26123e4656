"""``bastide enclave sign``: SIGSTRUCTs into files or beside them, and statements about images."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypedDict, Unpack

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from bastide.cli.enclave_files import bar, bytes_in, load_all_found, load_enclave, map_file, sharing_sig, sig_path
from bastide.cli.enclave_report import sigstruct_json
from bastide.cli.files import read_file
from bastide.cli.screen import Screen
from bastide.enclave.claims import vouched_claim
from bastide.enclave.find import LARGEST_ENCLAVE, find
from bastide.enclave.measure import measure, pages_to_measure
from bastide.enclave.output import write_whole
from bastide.enclave.sign import DebugTerm, SigningPlan, Terms, attach, plan_bare, plan_image
from bastide.enclave.signers import repository_of
from bastide.enclave.statement import Statement, sign_statement
from bastide.errors import ConfigError, MalformedError
from bastide.pods.images import ImageReference
from bastide.sgx.sigstruct import KEY_SIZE, SigStruct
from bastide.sgx.sigstruct import sign as sign_sigstruct

_PATH = click.Path(path_type=Path)
_LARGEST_KEY = 64 * 1024
_BARE_HINT = "make it with the SDK's own tools; what can be signed here: Intel SDK, Open Enclave, Gramine, .sgxs"


class _Hex(click.ParamType["int | bytes"]):
    """A number in hexadecimal, or that many bytes in hex digits."""

    name = "hex"

    def __init__(self, size: int, *, as_bytes: bool = False) -> None:
        self._size, self._as_bytes = size, as_bytes

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | bytes:
        digits = str(value).removeprefix("0x")
        try:
            raw = bytes.fromhex(digits) if self._as_bytes else int(digits, 16).to_bytes(self._size, "big")
        except (ValueError, OverflowError):
            raw = b""
        if len(raw) != self._size:
            self.fail(f"expected {'' if self._as_bytes else 'at most '}{self._size * 2} hex digits", param, ctx)
        return raw if self._as_bytes else int.from_bytes(raw, "big")


class _Options(TypedDict):
    key: Path | None
    digest: Path | None
    signature: Path | None
    public_key: Path | None
    output: Path | None
    product: int | None
    svn: int | None
    debug: str
    provision: bool | None
    date: datetime | None
    family_id: bytes | None
    ext_prod_id: bytes | None
    flags_mask: int | None
    xfrm: int | None
    xfrm_mask: int | None
    misc_select: int | None
    misc_mask: int | None
    libpal: Path | None
    allow_public_key: bool
    statement: Path | None
    repository: str | None
    as_json: bool


@click.command()
@click.argument("file", metavar="FILE|IMAGE", type=_PATH)
@click.option("--key", metavar="PEM", type=_PATH, help="Private key: RSA-3072 with exponent 3 (statement: P-256).")
@click.option("--digest", metavar="OUT", type=_PATH, help="First of two steps: write the 256 bytes to be signed.")
@click.option("--signature", metavar="FILE", type=_PATH, help="Second step: the signature made elsewhere, 384 bytes.")
@click.option("--public-key", metavar="PEM", type=_PATH, help="Second step: the key that made it.")
@click.option("--output", metavar="OUT", type=_PATH, help="Where to write; default: FILE itself, or its .sig.")
@click.option("--product", metavar="N", type=click.IntRange(0, 0xFFFF), help="ISVPRODID.")
@click.option("--svn", metavar="N", type=click.IntRange(0, 0xFFFF), help="ISVSVN.")
@click.option(
    "--debug",
    type=click.Choice([str(term) for term in DebugTerm]),
    default=str(DebugTerm.FORBID),
    help="Whether it may start with DEBUG; default: forbid, by attribute and mask.",
)
@click.option("--provision/--no-provision", default=None, help="Whether it gets the provisioning key.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), metavar="YYYY-MM-DD", help="Day of signing; default: today.")
@click.option("--family-id", type=_Hex(16, as_bytes=True), metavar="HEX", help="ISVFAMILYID, 16 bytes (KSS).")
@click.option("--ext-prod-id", type=_Hex(16, as_bytes=True), metavar="HEX", help="ISVEXTPRODID, 16 bytes (KSS).")
@click.option(
    "--flags-mask", type=_Hex(8), metavar="HEX", help="ATTRIBUTES.FLAGS that are forced (DEBUG: see --debug)."
)
@click.option("--xfrm", type=_Hex(8), metavar="HEX", help="ATTRIBUTES.XFRM.")
@click.option("--xfrm-mask", type=_Hex(8), metavar="HEX", help="Bits of XFRM that are forced.")
@click.option("--misc-select", type=_Hex(4), metavar="HEX", help="MISCSELECT.")
@click.option("--misc-mask", type=_Hex(4), metavar="HEX", help="Bits of MISCSELECT that are forced.")
@click.option("--libpal", metavar="FILE", type=_PATH, help="Gramine's libpal.so: a manifest needs it.")
@click.option("--allow-public-key", is_flag=True, help="Also sign with a key whose private half is published.")
@click.option("--statement", metavar="OUT", type=_PATH, help="Write a signed statement about the enclaves in IMAGE.")
@click.option("--repository", metavar="NAME", help="With --statement: where the image is pulled from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def sign(file: Path, **options: Unpack[_Options]) -> int:
    """Sign an enclave, in one step (--key) or in two (--digest, then --signature with --public-key).

    Terms that are not given stay as in the signature that FILE has. Intel SDK and Open Enclave files are signed in
    place, Gramine manifests and .sgxs get a .sig file. With --statement IMAGE is an OCI layout or archive. The same
    input always gives the same bytes. Exit codes: 0 good, 2 bad input, 3 refused (public key, bad signature).
    """
    if options["statement"] is not None:
        written = _sign_statement(file, options["statement"], options)
    else:
        written = _sign_enclave(file, options)
    if options["as_json"]:
        click.echo(json.dumps(written, indent=2))
    else:
        screen = Screen()
        for name, value in written.items():
            if isinstance(value, str | int):
                screen.line((f"{name.replace('_', ' ')}: ", "dim"), str(value))
    return 0


def _sign_enclave(file: Path, options: _Options) -> dict[str, object]:
    given = [name for name in ("key", "digest", "signature") if options[name] is not None]
    if len(given) != 1:
        raise ConfigError("enclave.sign.way", "expected one of --key, --digest and --signature")
    if given != ["key"] and options["date"] is None:
        hint = "give the same --date to --digest and --signature: it is part of what is signed"
        raise ConfigError("enclave.sign.date", "signing in two steps needs --date", hint=hint)
    plan = _plan(file, _terms(options), options["libpal"])
    if options["digest"] is not None:
        write_whole(options["digest"], plan.unsigned.signing_input)
        return {"step": "digest", "written": str(options["digest"]), "mr_enclave": plan.unsigned.enclave_hash.hex()}
    signed = _signed(plan, options)
    raw = plan.finish(signed, allow_public_key=options["allow_public_key"])
    target = options["output"] or (file if plan.offsets else _sig_to_write(file))
    write_whole(target, raw)
    return {"step": "signed", "written": str(target), "kind": plan.kind, **sigstruct_json(signed)}


def _plan(file: Path, terms: Terms, libpal: Path | None) -> SigningPlan:
    image = map_file(file)
    sig = sig_path(file, image)
    if sig is None:
        return plan_image(read_file(str(file), largest=LARGEST_ENCLAVE), terms)
    # A .sig that is there from an earlier signing gives the terms that are not given.
    earlier = sig if sig.is_file() and not sharing_sig(file, sig) else None
    enclave = load_enclave(file, sig=earlier, libpal=libpal, look_beside=False)
    with bar(f"measuring {file}", pages_to_measure(enclave)) as advance:
        (measured,) = measure(enclave, progress=advance)
    if measured.mr_enclave is None:
        message = "MRENCLAVE cannot be computed from this file"
        raise MalformedError("enclave.sign.kind", message, hint=enclave.note or _BARE_HINT, where=str(file))
    return plan_bare(enclave.kind, measured.mr_enclave, terms, measured.block.sigstruct)


def _sig_to_write(file: Path) -> Path:
    sig = sig_path(file, map_file(file)) or file
    if other := sharing_sig(file, sig):
        message = f"{sig.name} would stand for {file.name} and for {other.name}"
        raise ConfigError("enclave.sig.shared", message, hint="say where to write with --output", where=str(file))
    return sig


def _signed(plan: SigningPlan, options: _Options) -> SigStruct:
    if options["key"] is not None:
        key = _private_key(options["key"])
        if not isinstance(key, rsa.RSAPrivateKey):
            raise _wrong_key(options["key"], "an RSA key of 3072 bits with exponent 3")
        return sign_sigstruct(plan.unsigned, key)
    if options["signature"] is None or options["public_key"] is None:
        raise ConfigError("enclave.sign.way", "expected --public-key with --signature")
    public = _public_key(options["public_key"])
    return attach(plan.unsigned, read_file(str(options["signature"]), largest=KEY_SIZE * 4), public)


def _terms(options: _Options) -> Terms:
    return Terms(
        date=options["date"].date() if options["date"] is not None else _today(),
        product_id=options["product"],
        svn=options["svn"],
        debug=DebugTerm(options["debug"]),
        provision=options["provision"],
        flags_mask=options["flags_mask"],
        xfrm=options["xfrm"],
        xfrm_mask=options["xfrm_mask"],
        misc_select=options["misc_select"],
        misc_mask=options["misc_mask"],
        family_id=options["family_id"],
        ext_prod_id=options["ext_prod_id"],
    )


def _today() -> date:
    return datetime.now(UTC).date()


def _sign_statement(image: Path, target: Path, options: _Options) -> dict[str, object]:
    if options["key"] is None or options["repository"] is None:
        raise ConfigError("enclave.sign.way", "expected --key and --repository with --statement")
    key = _private_key(options["key"])
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _wrong_key(options["key"], "a P-256 key (openssl ecparam -name prime256v1 -genkey -noout)")
    reference = ImageReference.parse(options["repository"])
    with bar(f"reading {image}", bytes_in(image), in_bytes=True) as advance:
        found = tuple(find(image, progress=advance))
    digests = {one.digests for one in found}
    if len(digests) != 1 or not (first := digests.pop()):
        raise ConfigError(
            "enclave.statement.image",
            f"expected one container image with enclaves, seen {len(found)} enclaves in {len(digests)} images",
            hint="give an OCI layout or an archive of one image",
            where=str(image),
        )
    claims = []
    for one, enclave in load_all_found(found, libpal=options["libpal"]):
        claims.append(vouched_claim(one, enclave, measure(enclave)))
    statement = Statement(repository=repository_of(reference), image_digest=first[0], enclaves=tuple(claims))
    write_whole(target, sign_statement(statement, key))
    return {
        "step": "statement",
        "written": str(target),
        "repository": statement.repository,
        "image": statement.image_digest,
        "enclaves": [claim.path for claim in claims],
    }


def _private_key(path: Path) -> object:
    raw = read_file(str(path), largest=_LARGEST_KEY)
    try:
        return load_pem_private_key(raw, password=None)
    except TypeError:
        hint = "decrypt it for this call, or sign in two steps where it lies"
        raise ConfigError("enclave.sign.key-file", "the key is encrypted", hint=hint, where=str(path)) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _wrong_key(path, "a private key in PEM") from None


def _public_key(path: Path) -> rsa.RSAPublicKey:
    try:
        key = load_pem_public_key(read_file(str(path), largest=_LARGEST_KEY))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPublicKey):
        raise _wrong_key(path, "an RSA public key in PEM")
    return key


def _wrong_key(path: Path, expected: str) -> ConfigError:
    return ConfigError("enclave.sign.key-file", f"expected {expected}", where=str(path))
