#!/usr/bin/env python3
"""Take every check that protects from a known bug out of a copy of the tree, one at a time, and see its test fail.

    tools/dcap_mutations.py [NUMBER...]

The numbers are those of the bug classes in ``tests/unit/dcap/test_known_bugs.py``; default: all. The tree itself is not
touched. Exits 1 when a test does not notice that its check is gone, or when a check is not found any more.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).parents[1]
COPIED = ("src", "tests", "tools", "docs", "pyproject.toml")
SECONDS = 120
"""Longest that the tests of one mutation may take."""

KNOWN_BUGS = "tests/unit/dcap/test_known_bugs.py"
CERTIFICATES = "tests/unit/dcap/test_dcap_certificate.py"
DOCUMENTS = "tests/unit/dcap/test_dcap_document.py"
REMEMBERED = "tests/unit/dcap/test_dcap_verifier.py"


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One check taken out.

    Attributes:
        bug: number of the class.
        what: what is taken out.
        file: below ``src/bastide``.
        old: text that stands there exactly once.
        new: text that stands there instead.
        tests: where the tests are that must notice; those of the bug's class when empty.
    """

    bug: int
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments of pytest."""
        return self.tests or (KNOWN_BUGS, "-k", f"bug_{self.bug:02}")


def _mutation(bug: int, what: str, file: str, old: str, new: str, *tests: str) -> Mutation:
    return Mutation(bug=bug, what=what, file=file, old=old, new=new, tests=tests)


MUTATIONS = (
    _mutation(
        1,
        "signature of the QE identity",
        "dcap/prepared.py",
        "ok = verify_raw(signer.key, identity.signature, identity.signed)",
        "ok = True",
    ),
    _mutation(
        1,
        "QE report against the QE identity",
        "dcap/intel.py",
        'ask.check("quote.qe-identity.report", not field_name,',
        'ask.check("quote.qe-identity.report", True,',
    ),
    _mutation(2, "count of components", "dcap/tcb.py", "if len(svns) != COMPONENT_COUNT:", "if False:"),
    _mutation(
        2,
        "equal lengths in the comparison",
        "dcap/tcb.py",
        "zip(have, need, strict=True)",
        "zip(have, need, strict=False)",
    ),
    _mutation(
        3,
        "TDX module",
        "dcap/intel.py",
        'ask.check("quote.tdx-module.report", not field_name,',
        'ask.check("quote.tdx-module.report", True,',
    ),
    _mutation(
        3,
        "QE vendor id",
        "dcap/intel.py",
        "quote.header.qe_vendor_id == INTEL_QE_VENDOR_ID,",
        "True,",
    ),
    _mutation(
        3,
        "order of TCB levels",
        "dcap/tcb.py",
        "return tuple(sorted(levels, key=lambda level: level.rank, reverse=True))",
        "return tuple(levels)",
    ),
    _mutation(
        3,
        "order of QE levels",
        "dcap/levels.py",
        "return tuple(sorted(levels, key=lambda level: (level.isv_svn, level.date), reverse=True))",
        "return tuple(levels)",
    ),
    _mutation(
        3, "end of a document", "dcap/document.py", 'if _skip(text, _expect(text, at, "}")) != len(text):', "if False:"
    ),
    _mutation(4, "Revoked", "dcap/intel.py", "status is not TcbStatus.REVOKED,", "True,"),
    _mutation(4, "revoked components", "dcap/evaluation.py", "if TcbStatus.REVOKED in components:", "if False:"),
    _mutation(
        4,
        "no level reached",
        "dcap/tcb.py",
        "(level for level in self.levels if level.is_reached_by(components, pce_svn, tee_tcb_svn)), None",
        "(level for level in self.levels if level.is_reached_by(components, pce_svn, tee_tcb_svn)), self.levels[-1]",
    ),
    _mutation(
        5,
        "issuer of the CRL, PCK call",
        "dcap/chains.py",
        "crl.is_issued_by(issuer.x509_certificate),",
        "True,",
    ),
    _mutation(
        5,
        "issuer of the CRL, quote call",
        "dcap/intel.py",
        "_CA in crl.issuer_name and crl.issuer == leaf.issuer,",
        "True,",
    ),
    _mutation(
        6,
        "signature of the TCB info",
        "dcap/prepared.py",
        "ok = verify_raw(signer.key, tcb_info.signature, tcb_info.signed)",
        "ok = True",
    ),
    _mutation(6, "debug", "dcap/appraisal.py", "policy.allow_debug or not quote.debug,", "True,"),
    _mutation(7, "status of the policy", "dcap/appraisal.py", "status in policy.accepted_statuses,", "True,"),
    _mutation(8, "revocation", "pki/crl.py", "return certificate.serial_number in self.revoked", "return False"),
    _mutation(8, "higher SVNs", "dcap/tcb.py", "all(one >= other for", "all(one == other for"),
    _mutation(8, "level of the module", "dcap/evaluation.py", "has_module=major > 0,", "has_module=False,"),
    _mutation(9, "depth of JSON", "dcap/document.py", "    if brackets:\n", "    if False:\n"),
    _mutation(9, "size of JSON", "dcap/document.py", "if len(raw) > MAX_DOCUMENT_SIZE:", "if False:"),
    _mutation(
        9,
        "size of quotes",
        "sgx/quote_parts.py",
        "if not MIN_QUOTE_SIZE <= len(raw) <= QUOTE_SIZE_LIMIT:",
        "if not MIN_QUOTE_SIZE <= len(raw):",
    ),
    _mutation(9, "depth of DER", "pki/der.py", "if depth > MAX_DEPTH:", "if False:"),
    _mutation(10, "binding of the attestation key", "dcap/intel.py", "bound == digest,", "True,"),
    _mutation(
        10,
        "binding of the runtime data",
        "attest/service.py",
        "ok = data.digest == bound",
        "ok = True",
        "tests/unit/attest/test_service.py",
        "-k",
        "does_not_bind",
    ),
    _mutation(
        11,
        "key of the root",
        "pki/chain.py",
        "return public_point(certificate) == self.public_point",
        "return common_name(certificate.subject) == self.name",
    ),
    _mutation(
        11,
        "own signature of a root",
        "dcap/certificate.py",
        "root.fingerprint in self._anchor.self_signed",
        "True",
        CERTIFICATES,
    ),
    _mutation(
        9,
        "nothing lost in compact JSON",
        "dcap/document.py",
        "return members if same and _WRITER.encode(parts) == raw else None",
        "return members",
        DOCUMENTS,
    ),
    _mutation(9, "bounds of compact JSON", "dcap/document.py", " or not _is_flat(raw):", ":", DOCUMENTS),
    _mutation(
        12,
        "last instant of a document",
        "dcap/intel.py",
        "ok = at <= document.next_update",
        "ok = at < document.next_update",
    ),
    _mutation(12, "last instant at QvE", "dcap/appraisal.py", "end <= self.at", "end < self.at"),
    _mutation(
        12,
        "first instant",
        "dcap/appraisal.py",
        "begun = policy.allow_future or (start.at is not None and start.at <= at)",
        "begun = True",
    ),
    _mutation(
        13,
        "points off the curve",
        "pki/ecdsa.py",
        "    except (ValueError, UnsupportedAlgorithm):\n        return None",
        "    except UnsupportedAlgorithm:\n        return None",
    ),
    _mutation(
        13,
        "signatures out of range",
        "pki/ecdsa.py",
        "    except (InvalidSignature, ValueError, UnsupportedAlgorithm):\n        return False",
        "    except (ValueError, UnsupportedAlgorithm):\n        return False",
    ),
    _mutation(
        14,
        "sign of numbers",
        "pki/der.py",
        "    return int.from_bytes(content)\n\n\ndef _oid(",
        "    return int.from_bytes(content[-1:], signed=True)\n\n\ndef _oid(",
    ),
    _mutation(14, "lengths past the end", "pki/der.py", "    if stop > end:\n", "    if False:\n"),
    _mutation(15, "root of prepared collateral", "dcap/verify.py", "or prepared.root != root:", "or False:"),
    _mutation(
        15,
        "dates of prepared collateral",
        "dcap/intel.py",
        "    return Inquiry(source, result.checks).run(lambda ask: _dates(ask, document, chain, crl, at))",
        "    return result",
    ),
    _mutation(
        15,
        "platform of prepared collateral",
        "dcap/intel.py",
        "            expected == seen,\n            QvlStatus.TCB_INFO_MISMATCH,",
        "            True,\n            QvlStatus.TCB_INFO_MISMATCH,",
    ),
    _mutation(
        15,
        "signature of a known quote",
        "dcap/verifier.py",
        "return signatures.quote_is_by(judged.attestation_key)",
        "return True",
        REMEMBERED,
    ),
    _mutation(
        15,
        "signature of a known QE report",
        "dcap/verifier.py",
        "if not signatures.qe_report_is_by(judged.pck_key):",
        "if False:",
        REMEMBERED,
    ),
    _mutation(
        15,
        "time of a known platform",
        "dcap/verifier.py",
        "if known is None or known.platform.is_in_force(at):",
        "if True:",
        REMEMBERED,
    ),
    _mutation(
        15,
        "certificates of a known platform",
        "dcap/verifier.py",
        "known = self._platforms.get(key)",
        "known = next(iter(self._platforms.values()), None)",
        REMEMBERED,
    ),
    _mutation(
        15,
        "evidence of a known verdict",
        "dcap/verifier.py",
        "judged = known.verdicts.get(evidence)",
        "judged = next(iter(known.verdicts.values()), None)",
        REMEMBERED,
    ),
    _mutation(
        15,
        "debug in the evidence",
        "dcap/evidence.py",
        "body=_enclave(parts.body) if",
        "body=bytes(384) if",
        REMEMBERED,
    ),
    _mutation(
        15,
        "only a yes is remembered",
        "dcap/verifier.py",
        "if verdict.acceptable and lasting and",
        "if lasting and",
        REMEMBERED,
    ),
    _mutation(
        15,
        "end of a time of grace",
        "dcap/verifier.py",
        "and not has_grace_running(subject, self.policy)",
        "",
        REMEMBERED,
    ),
    _mutation(
        15,
        "only genuine platforms are remembered",
        "dcap/verifier.py",
        "and all(call.status is QvlStatus.OK for call in new.calls)",
        "",
        REMEMBERED,
    ),
    _mutation(
        15,
        "bounds of what is remembered",
        "dcap/verifier.py",
        "if len(memory) >= most:",
        "if False:",
        REMEMBERED,
    ),
)


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of what the tests need, which goes away again."""
    with tempfile.TemporaryDirectory(prefix="bastide-mutations-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = TREE / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        yield copy


def run_tests(tree: Path, arguments: Sequence[str]) -> int:
    """Exit code of pytest in a tree: 0 all passed, 1 some failed, others: they did not run."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:randomly", *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=SECONDS, check=False)
    return done.returncode


def try_mutation(tree: Path, mutation: Mutation) -> str:
    """What became of one: ``red`` is right."""
    file = tree / "src" / "bastide" / mutation.file
    good = file.read_text()
    if good.count(mutation.old) != 1:
        return f"the check stands {good.count(mutation.old)} times in {mutation.file}"
    file.write_text(good.replace(mutation.old, mutation.new))
    try:
        code = run_tests(tree, mutation.arguments)
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS} s"
    finally:
        file.write_text(good)
    return {0: "NOT NOTICED", 1: "red"}.get(code, f"the tests did not run (pytest {code})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bugs", metavar="NUMBER", type=int, nargs="*")
    chosen = parser.parse_args(arguments).bugs
    mutations = [mutation for mutation in MUTATIONS if not chosen or mutation.bug in chosen]
    with copied_tree() as tree:
        unchanged = {mutation.arguments for mutation in mutations}
        for tests in sorted(unchanged):
            if run_tests(tree, tests) != 0:
                print(f"not green before anything is taken out: {' '.join(tests)}")
                return 1
        outcomes = [(mutation, try_mutation(tree, mutation)) for mutation in mutations]
    for mutation, outcome in outcomes:
        print(f"{mutation.bug:2}  {mutation.what:<34} {mutation.file:<20} {outcome}")
    red = sum(outcome == "red" for _, outcome in outcomes)
    print(f"{red} of {len(outcomes)} noticed")
    return 0 if red == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
