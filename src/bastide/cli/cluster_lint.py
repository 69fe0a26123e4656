"""``bastide cluster lint``: what admission would say to manifests, before anything is applied."""

import difflib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import click

from bastide.cli.cluster_lint_images import known_images
from bastide.cli.cluster_lint_report import print_findings, report_json
from bastide.cli.cluster_lint_sarif import sarif
from bastide.cli.failures import EXIT_BAD_INPUT, EXIT_NO, Failure
from bastide.cli.files import STDIN, name_of, read_file
from bastide.cli.progress import progress
from bastide.cli.text import printable
from bastide.cluster.lint import LintSettings, Located, lint_manifest
from bastide.cluster.metrics.question import Metric
from bastide.cluster.policy_file import InForce
from bastide.enclave.output import write_whole
from bastide.errors import BastideError, ConfigError
from bastide.pods.findings import Severity
from bastide.pods.lint_fix import Fixed, rename_dialects
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.pods.yaml_reader import MAX_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What became of one file: findings and what `--fix` makes of it, or why it cannot be read."""

    file: str
    findings: tuple[Located, ...] = ()
    fixed: Fixed | None = None
    unreadable: Failure | None = None


@click.command("lint")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--policy", metavar="FILE", help="Admission policy (kind AdmissionPolicy); default: that of the lab.")
@click.option("-n", "--namespace", default="default", show_default=True, help="Of objects that name none.")
@click.option(
    "--enclave-report", "reports", metavar="FILE", multiple=True, help="What `cluster scanner --once --json` printed."
)
@click.option(
    "--image-layout", "layouts", metavar="[IMAGE=]DIR", multiple=True, help="OCI layout or archive of an image."
)
@click.option("--fix", is_flag=True, help="Write canonical names into the files.")
@click.option("--diff", "as_diff", is_flag=True, help="With --fix: show what would be written, and write nothing.")
@click.option("--strict", is_flag=True, help="Exit code 3 for warnings, too.")
@click.option("--keep-going", is_flag=True, help="Leave out files that cannot be read and judge the others.")
@click.option("--format", "form", type=click.Choice(["text", "sarif"]), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    files: tuple[str, ...],
    policy: str | None,
    namespace: str,
    reports: tuple[str, ...],
    layouts: tuple[str, ...],
    form: str,
    *,
    fix: bool,
    as_diff: bool,
    strict: bool,
    keep_going: bool,
    as_json: bool,
) -> int:
    """Judge manifests by the rules of admission, without a cluster.

    FILE is YAML or JSON with Kubernetes objects; - reads standard input: helm template CHART | bastide cluster lint -

    Exit codes: 0 nothing that admission would refuse, 2 a file cannot be read, 3 something would be refused (--strict:
    or warned of).
    """
    _check(files, form, fix=fix, as_diff=as_diff, as_json=as_json)
    with progress() as tell:
        settings = _settings(policy, namespace)
        settings = replace(settings, images=known_images(reports, layouts, tell))
    found = [_read(file, settings, fix=fix, keep_going=keep_going) for file in files]
    if fix and not as_diff:
        found = [_written(one, settings) for one in found]
    findings = tuple(one for each in found for one in each.findings)
    unreadable = tuple(one.unreadable for one in found if one.unreadable is not None)
    code = _exit_code(findings, unreadable, strict=strict)
    fixes = tuple(one.fixed for one in found if one.fixed is not None)
    if as_json:
        click.echo(json.dumps(report_json(findings, unreadable, fixes), indent=2))
    elif form == "sarif":
        click.echo(json.dumps(sarif(findings, unreadable, exit_code=code), indent=2))
    else:
        if as_diff:
            _show_diffs(found)
        print_findings(findings, unreadable, fixes, files=len(files), wrote=not as_diff, beside_a_diff=as_diff)
    return code


def _check(files: tuple[str, ...], form: str, *, fix: bool, as_diff: bool, as_json: bool) -> None:
    if as_diff and not fix:
        raise ConfigError("lint.diff", "--diff shows what --fix would write: give both")
    if fix and not as_diff and STDIN in files:
        raise ConfigError("lint.fix.stdin", "standard input cannot be written to", hint="add --diff, or name files")
    if as_json and form != "text":
        raise ConfigError("lint.format", "expected either --json or --format sarif, not both")
    if files.count(STDIN) > 1:
        raise ConfigError("lint.stdin", "standard input can be read once")


def _settings(policy: str | None, namespace: str) -> LintSettings:
    parsed = AdmissionPolicy.parse(read_file(policy, largest=MAX_BYTES), name_of(policy)) if policy else DEFAULT_POLICY
    in_force = InForce.of(parsed)
    return LintSettings(
        policy=in_force.policy,
        declared_classes=in_force.declared_classes,
        namespace=namespace,
        metrics=frozenset(Metric),
    )


def _read(file: str, settings: LintSettings, *, fix: bool, keep_going: bool) -> _Read:
    name = name_of(file)
    try:
        raw = read_file(file, largest=MAX_BYTES)
        findings = lint_manifest(raw, name, settings)
        is_values = bool(findings) and all(one.about == "document without a kind" for one in findings)
        fixed = rename_dialects(raw, name) if fix and not is_values else None
    except BastideError as error:
        if not keep_going:
            raise
        return _Read(file=file, unreadable=Failure.of(error))
    return _Read(file=file, findings=findings, fixed=fixed)


def _written(one: _Read, settings: LintSettings) -> _Read:
    """Write the file where something is to be written, and judge it as it is now."""
    if one.fixed is None or not one.fixed.renames:
        return one
    write_whole(Path(one.file), one.fixed.raw)
    return replace(one, findings=lint_manifest(one.fixed.raw, one.file, settings))


def _show_diffs(found: list[_Read]) -> None:
    for one in found:
        if one.fixed is None:
            continue
        name = name_of(one.file).lstrip("/")
        before, after = (text.splitlines() for text in (one.fixed.before, one.fixed.after))
        for line in difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm=""):
            click.echo(printable(line))


def _exit_code(findings: tuple[Located, ...], unreadable: tuple[Failure, ...], *, strict: bool) -> int:
    if unreadable:
        return EXIT_BAD_INPUT
    bad = (Severity.REFUSE, Severity.WARN) if strict else (Severity.REFUSE,)
    return EXIT_NO if any(one.finding.severity in bad for one in findings) else 0
