"""Tests of policies: recorded evidence with the outcome that a policy must have on it.

::

    apiVersion: bastide.dev/v1alpha1
    kind: PolicyTest
    metadata: {name: release enclaves are let in}
    spec:
      policy: production.policy           # paths are relative to this file
      quote: evidence/release.quote
      collateral: evidence/collateral
      at: "2022-04-27T00:28:09Z"
      root: evidence/root.pem             # for a simulation; default: Intel's root key
      runtimeData: evidence/runtime.json  # default: none
      profile: maa                        # or strict, the default
      expect: permitted                   # or denied (by the policy), or refused (before it)
      claims: {sgx-mrsigner: 2c1a44, my-level: 100, absent-claim: null}

A file may hold several, separated by ``---``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from bastide.attest.profile import Profile
from bastide.attest.service import Attested
from bastide.cli.evidence import read_collateral, read_quote, read_root, read_time
from bastide.cli.files import read_file
from bastide.cli.policy_judge import Evidence, Outcome, judge, outcome_of
from bastide.cli.policy_report import check_text
from bastide.errors import BastideError, ConfigError, MalformedError, PolicyError
from bastide.pods.manifest import Document, read_documents
from bastide.policy import PolicyDocument
from bastide.policy.lexer import LARGEST_TEXT
from bastide.token.json_text import LARGEST_TEXT as LARGEST_RUNTIME_DATA

API_VERSION = "bastide.dev/v1alpha1"
KIND = "PolicyTest"
ENDING = ".test.yaml"
MOST_FILES = 1000

_LARGEST_FILE = 1 << 20
_REQUIRED = ("policy", "quote", "collateral", "at", "expect")
_KNOWN = (*_REQUIRED, "root", "runtimeData", "profile", "claims")
_Choice = TypeVar("_Choice", Profile, Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of one test. The fields are keys of ``bastide policy test --json``.

    Attributes:
        name: of the test.
        where: its file and line.
        passed: whether everything was as expected.
        expected: ``permitted``, ``denied`` or ``refused``.
        seen: the same.
        why: what differed, and why the outcome was what it was; empty when passed.
    """

    name: str
    where: str
    passed: bool
    expected: str
    seen: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test, read."""

    name: str
    where: str
    document: PolicyDocument
    evidence: Evidence
    profile: Profile
    expect: Outcome
    claims: Mapping[str, object]

    def run(self) -> CaseResult:
        """Ask the service's code, and compare."""
        try:
            answer = judge(self.document, self.evidence, self.profile)
        except PolicyError as error:  # of its configuration rules
            return self._result(Outcome.DENIED, [] if self.expect is Outcome.DENIED else [error.message])
        seen = outcome_of(answer)
        differences = list(self._differences(answer.claims if isinstance(answer, Attested) else {}))
        if seen is not self.expect:
            reason = (
                answer.decision.reason if answer.decision else "" if isinstance(answer, Attested) else answer.message
            )
            differences.insert(0, reason)
        return self._result(seen, differences)

    def _result(self, seen: Outcome, differences: list[str]) -> CaseResult:
        return CaseResult(
            name=self.name,
            where=self.where,
            passed=not differences,
            expected=self.expect,
            seen=seen,
            why="; ".join(differences),
        )

    def _differences(self, claims: Mapping[str, object]) -> Iterator[str]:
        issued = claims.get("x-ms-policy")
        everything = {**claims, **(issued if isinstance(issued, dict) else {})}
        for name, value in self.claims.items():
            seen = everything.get(name)
            if (type(seen), seen) != (type(value), value):
                yield f"claim {name}: expected {_words(value)}, seen {_words(seen)}"


def find_cases(folder: str) -> tuple[Case, ...]:
    """Every test in the ``*.test.yaml`` files of a folder and of the folders in it, by path; or in one file.

    Raises:
        ConfigError: ``policy-test.folder`` when there are none or more than 1,000 files; ``file.unreadable``.
        MalformedError: ``policy-test.*`` with file and line, and those of policies, quotes and collateral.
    """
    root = Path(folder)
    files = [root] if root.is_file() else sorted(root.rglob(f"*{ENDING}"))
    if not 1 <= len(files) <= MOST_FILES:
        message = f"expected 1 to {MOST_FILES} files that end in {ENDING}, seen {len(files)}"
        hint = "give the folder with your tests; docs/reference/policy-language.md shows one"
        raise ConfigError("policy-test.folder", message, hint=hint, where=folder)
    return tuple(case for file in files for case in _cases(file))


def _cases(file: Path) -> Iterator[Case]:
    for document in read_documents(read_file(str(file), largest=_LARGEST_FILE), str(file)):
        yield _Reader(document, file.parent).case()


class _Reader:
    """Reads one test; every refusal names file and line."""

    def __init__(self, document: Document, folder: Path) -> None:
        self._document = document
        self._folder = folder

    def case(self) -> Case:
        document = self._document
        if (document.api_version, document.kind) != (API_VERSION, KIND):
            self._refuse("kind", f"expected {API_VERSION} {KIND}, seen {document.api_version} {document.kind}")
        spec = self._mapping(document.value.get("spec"), "spec")
        for name in spec:
            if name not in _KNOWN:
                self._refuse("field", f"no such field; known here: {', '.join(_KNOWN)}", name)
        for name in _REQUIRED:
            if name not in spec:
                self._refuse("field", f"expected {', '.join(_REQUIRED)}; no {name}")
        metadata = self._mapping(document.value.get("metadata", {}), "metadata")
        try:
            return self._case(str(metadata.get("name", document.where())), spec)
        except BastideError as error:
            if error.code.startswith("policy-test."):
                raise
            message = f"{error.where}: {error.message}" if error.where else error.message
            raise MalformedError(error.code, message, hint=error.hint, where=document.where()) from error

    def _case(self, name: str, spec: Mapping[str, object]) -> Case:
        return Case(
            name=name,
            where=self._document.where(),
            document=read_policy(self._path(spec, "policy")),
            evidence=Evidence(
                unwrapped=read_quote(self._path(spec, "quote")),
                collateral=read_collateral(self._path(spec, "collateral")),
                at=read_time(self._text(spec, "at")),
                root=read_root(self._path(spec, "root") if "root" in spec else None),
                runtime_data=self._runtime_data(spec),
            ),
            profile=self._choice(Profile, spec, "profile", Profile.STRICT),
            expect=self._choice(Outcome, spec, "expect", Outcome.DENIED),
            claims=self._mapping(spec.get("claims", {}), "claims"),
        )

    def _runtime_data(self, spec: Mapping[str, object]) -> bytes | None:
        if "runtimeData" not in spec:
            return None
        return read_file(self._path(spec, "runtimeData"), largest=LARGEST_RUNTIME_DATA)

    def _path(self, spec: Mapping[str, object], name: str) -> str:
        return str(self._folder / self._text(spec, name))

    def _text(self, spec: Mapping[str, object], name: str) -> str:
        value = spec[name]
        if not isinstance(value, str) or not value:
            self._refuse("shape", f"expected text, seen {value!r}", name)
        return value

    def _mapping(self, value: object, name: str) -> Mapping[str, object]:
        if not isinstance(value, dict):
            self._refuse("shape", f"expected a mapping in {name}")
        return {str(key): inner for key, inner in value.items()}

    def _choice(self, choices: type[_Choice], spec: Mapping[str, object], name: str, default: _Choice) -> _Choice:
        value = spec.get(name, default)
        found = next((one for one in choices if one == value), None)
        if found is None:
            self._refuse("value", f"expected {', '.join(choices)}, seen {value!r}", name)
        return found

    def _refuse(self, defect: str, message: str, name: str | None = None) -> NoReturn:
        where = self._document.where(("spec", name) if name else ())
        raise MalformedError(f"policy-test.{defect}", f"{name}: {message}" if name else message, where=where)


def read_policy(argument: str) -> PolicyDocument:
    """The policy in a file.

    Raises:
        ConfigError: ``file.unreadable``.
        MalformedError: ``policy.*`` with file, line and column.
    """
    checked = check_text(argument, read_policy_text(argument))
    if checked.document is None:
        one = checked.diagnostics[0]
        where = f"{argument}:{one.line}:{one.column}" if one.line else argument
        raise MalformedError(one.code, one.message, hint=one.hint or None, where=where)
    return checked.document


def read_policy_text(argument: str) -> str:
    """The text in a file; it may be larger than a policy may be, which the parser then says.

    Raises:
        ConfigError: ``file.unreadable``.
        MalformedError: ``file.too-large``, ``policy.text.encoding``.
    """
    raw = read_file(argument, largest=LARGEST_TEXT << 4)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        message = f"a policy is text in UTF-8; byte {error.start} is not"
        raise MalformedError("policy.text.encoding", message, where=argument) from error


def _words(value: object) -> str:
    return "none" if value is None else repr(value)
