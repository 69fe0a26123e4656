"""``bastide enclave verify``: may these enclaves start, by a signers file and, for images, by a statement."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from bastide.checks import Check
from bastide.cli.enclave_files import bar, bytes_in, load_all_found, load_enclave
from bastide.cli.failures import EXIT_NO
from bastide.cli.files import read_file
from bastide.cli.screen import Screen
from bastide.enclave.claims import claim_of
from bastide.enclave.dsse import LARGEST_ENVELOPE
from bastide.enclave.find import find
from bastide.enclave.image import EnclaveFile, EnclaveKind
from bastide.enclave.measure import measure, pages_to_measure
from bastide.enclave.oci import open_store
from bastide.enclave.public_keys import PUBLIC_SIGNERS
from bastide.enclave.signers import SignersPolicy, repository_of
from bastide.enclave.statement import EnclaveClaim, statement_checks
from bastide.enclave.verify import EnclaveVerdict, judge
from bastide.errors import ConfigError, UntrustedError
from bastide.pods.images import ImageReference
from bastide.pods.yaml_reader import MAX_BYTES

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One enclave with its verdict; its content is not kept, for an image may have many."""

    path: str
    kind: EnclaveKind
    claim: EnclaveClaim | None
    verdict: EnclaveVerdict


@click.command()
@click.argument("path", metavar="FILE|IMAGE", type=_PATH)
@click.option("--signers", metavar="FILE", required=True, help="Signers file (kind SignersPolicy): who may sign.")
@click.option("--sig", metavar="FILE", type=_PATH, help="SIGSTRUCT of FILE; default: the .sig beside it.")
@click.option("--libpal", metavar="FILE", type=_PATH, help="Gramine's libpal.so: a manifest needs it.")
@click.option("--statement", metavar="FILE", type=_PATH, help="Statement about the image, signed.")
@click.option("--image", metavar="REFERENCE", help="How the image is pulled: registry/path, best with @sha256:...")
@click.option("--path", "inside", metavar="PATH", help="With a FILE and --statement: its path in the image.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def verify(
    path: Path,
    signers: str,
    sig: Path | None,
    libpal: Path | None,
    statement: Path | None,
    image: str | None,
    inside: str | None,
    *,
    as_json: bool,
) -> int:
    """Check whether an enclave, or every enclave in an image, may start.

    Asked are: a valid signature, a measurement that matches it, a signer, product and SVN that the signers file
    allows, no DEBUG, no provisioning key unless allowed; for images also a statement, where the file wants one. What
    is not allowed is refused. Exit codes: 0 may start, 2 bad input, 3 refused.
    """
    policy = SignersPolicy.parse(read_file(signers, largest=MAX_BYTES), signers)
    reference = ImageReference.parse(image) if image else None
    envelope = read_file(str(statement), largest=LARGEST_ENVELOPE) if statement else None
    if open_store(path) is None:
        # Whose file this is can only be said by the caller: no check of the image's digest is claimed.
        enclave = load_enclave(path, sig=sig, libpal=libpal)
        judged, digests = [_judge(str(path), enclave, policy, inside=inside)], _pinned(reference)
        extra: list[Check] = []
    else:
        judged, digests = _judge_image(path, policy, libpal)
        extra = _image_checks(reference, digests)
        if reference is None and (policy.statements or envelope):
            # The names in an archive are whatever its maker wrote: they must not choose the rule.
            raise ConfigError("enclave.verify.image", "expected --image: the signers file asks for statements")
    claims = [one.claim for one in judged if one.claim is not None]
    if reference is not None and (envelope or policy.statements):
        extra += _statement(envelope, policy, reference, digests, claims)
    elif envelope is not None:
        raise ConfigError("enclave.verify.image", "expected --image with --statement: whose image it is about")
    good = all(one.verdict.acceptable for one in judged) and all(check.ok for check in extra)
    if as_json:
        shown = {
            "acceptable": good,
            "enclaves": [_verdict_json(one) for one in judged],
            "image_checks": [asdict(check) for check in extra],
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        _print(Screen(), judged, extra, good=good)
    return 0 if good else EXIT_NO


def _judge(name: str, enclave: EnclaveFile, policy: SignersPolicy, *, inside: str | None = None) -> _Judged:
    with bar(f"measuring {name}", pages_to_measure(enclave)) as advance:
        measured = measure(enclave, progress=advance)
    values = [one.mr_enclave for one in measured]
    verdict = judge(enclave, values, policy, public_keys=PUBLIC_SIGNERS)
    return _Judged(path=name, kind=enclave.kind, claim=claim_of(inside or name, enclave), verdict=verdict)


def _judge_image(path: Path, policy: SignersPolicy, libpal: Path | None) -> tuple[list[_Judged], tuple[str, ...]]:
    with bar(f"reading {path}", bytes_in(path), in_bytes=True) as advance:
        found = tuple(find(path, progress=advance))
    if not found:
        raise UntrustedError("enclave.verify.none", "there is no enclave in this image", where=str(path))
    if len({one.digests for one in found}) > 1:
        hint = "give an archive of one image"
        raise ConfigError("enclave.verify.image", "there are enclaves in more than one image", hint=hint)
    judged = [_judge(one.path, enclave, policy) for one, enclave in load_all_found(found, libpal=libpal)]
    return judged, found[0].digests


def _pinned(reference: ImageReference | None) -> tuple[str, ...]:
    return (reference.digest,) if reference is not None and reference.digest is not None else ()


def _image_checks(reference: ImageReference | None, digests: tuple[str, ...]) -> list[Check]:
    """Whether the image is the one that the reference pins."""
    if reference is None or reference.digest is None:
        return []
    return [
        Check(
            name="image.digest",
            ok=reference.digest in digests,
            expected=reference.digest,
            seen=", ".join(digests) or "none",
            hint="" if reference.digest in digests else "this is not the image that the reference names",
        )
    ]


def _statement(
    envelope: bytes | None,
    policy: SignersPolicy,
    reference: ImageReference,
    digests: tuple[str, ...],
    claims: Sequence[EnclaveClaim],
) -> list[Check]:
    repository = repository_of(reference)
    rule = policy.statement_rule(repository)
    if envelope is None:
        if rule is None:
            return []
        hint = "make one with `bastide enclave sign --statement`, and give it with --statement"
        return [Check(name="statement.present", ok=False, expected=f"one for {repository}", seen="none", hint=hint)]
    if not digests:
        raise ConfigError("enclave.verify.image", "expected --image with @sha256:...: which image the file is from")
    return list(statement_checks(envelope, rule, repository=repository, image_digests=digests, enclaves=claims))


def _verdict_json(judged: _Judged) -> dict[str, object]:
    verdict = judged.verdict
    return {
        "path": judged.path,
        "kind": judged.kind,
        "acceptable": verdict.acceptable,
        "rule": verdict.rule,
        "signature_valid": verdict.signature_valid,
        "measurement_matches": verdict.measurement_matches,
        "checks": [asdict(check) for check in verdict.checks],
        "warnings": [asdict(check) for check in verdict.warnings],
    }


def _print(screen: Screen, judged: Sequence[_Judged], extra: Sequence[Check], *, good: bool) -> None:
    for one in judged:
        verdict = one.verdict
        by = f" by rule {verdict.rule}" if verdict.acceptable else ""
        word = ("may start", "bold green") if verdict.acceptable else ("refused", "bold red")
        screen.line(word, f"{by}: {one.path} ({one.kind})")
        _print_checks(screen, verdict.refusals)
        for warning in verdict.warnings:
            screen.line(("warning ", "yellow"), f"{warning.name}: {warning.seen}", indent=2)
            screen.line((warning.hint, "dim"), indent=4)
    if extra:
        screen.line(("image", "bold"))
        _print_checks(screen, [check for check in extra if not check.ok])
        for check in extra:
            if check.ok:
                screen.line(("yes ", "green"), f"{check.name}: {check.seen}", indent=2)
    if not good:
        screen.line(("the answer is no", "bold red"))


def _print_checks(screen: Screen, checks: Sequence[Check]) -> None:
    for check in checks:
        screen.line(("no ", "red"), f"{check.name}: expected {check.expected}, seen {check.seen}", indent=2, hanging=3)
        if check.hint:
            screen.line((check.hint, "dim"), indent=5)
