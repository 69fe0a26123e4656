"""Writes into the chart what has its home elsewhere: CRDs, fences, CEL expressions, the dashboard.

    python deploy/helm/generate.py [--check]

Helm packs no file from outside the chart's folder. A test runs ``--check``.
"""

import json
import sys
from pathlib import Path

from bastide.cluster.admission.configurations import guard_policy
from bastide.cluster.admission.match import (
    IS_PRIVILEGED_POD,
    IS_SGX_POD,
    IS_SGX_WORKLOAD,
    MATTERS,
    NAMES_OLD_EPC,
    QUOTA_MATTERS,
    guarded_volume,
    provision_pod,
)

DEPLOY = Path(__file__).resolve().parents[1]
FILES = DEPLOY / "helm" / "bastide" / "files"


def contents() -> dict[str, str]:
    """What each file below ``files/`` should hold."""
    copies = {f"crds/{file.name}": file for file in sorted((DEPLOY / "crds").glob("*.yaml"))}
    copies |= {file.name: file for file in sorted((DEPLOY / "policies").glob("*.yaml"))}
    if (dashboard := DEPLOY / "grafana" / "bastide.json").exists():
        copies["grafana.json"] = dashboard
    return {name: file.read_text() for name, file in copies.items()} | {"match.json": _match()}


def main() -> int:
    """Exit codes: 0 written, or as it should be; 1 (``--check``) something differs."""
    wanted = contents()
    differing = [name for name, text in wanted.items() if not _holds(FILES / name, text)]
    if sys.argv[1:] == ["--check"]:
        for name in differing:
            sys.stderr.write(f"{name} differs from its source; run: python deploy/helm/generate.py\n")
        return 1 if differing else 0
    for name in differing:
        (FILES / name).parent.mkdir(parents=True, exist_ok=True)
        (FILES / name).write_text(wanted[name])
    return 0


def _holds(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


def _match() -> str:
    """Expressions and messages of webhooks and guard policy, under names that templates use."""
    policy, _ = guard_policy("guard", namespace="bastide-system", provision=[], exempt=[])
    spec = policy["spec"]
    validations = spec["validations"] if isinstance(spec, dict) else []
    tree = {
        "isSgxPod": IS_SGX_POD,
        "matters": MATTERS,
        "namesOldEpc": NAMES_OLD_EPC,
        "quotaMatters": QUOTA_MATTERS,
        "isPrivilegedPod": IS_PRIVILEGED_POD,
        "isSgxWorkload": IS_SGX_WORKLOAD,
        "asksProvision": provision_pod("object"),
        "guardedVolume": guarded_volume("object"),
        "provisionMessage": validations[0]["message"],
        "volumeMessage": validations[1]["message"],
    }
    return json.dumps(tree, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())
