"""What a scanning process is told, and what it answers: JSON on its standard input and output.

Credentials pass by standard input alone: arguments and environment of a process can be read by others.
"""

import json
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from bastide.cluster.gate.report import Failure, ImageReport
from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.credentials import Credentials
from bastide.cluster.scanner.http import Deadline, Wire
from bastide.cluster.scanner.pull import ScanLimits
from bastide.cluster.scanner.registries import Registries
from bastide.cluster.scanner.scan import Spent, scan
from bastide.errors import ConfigError, MalformedError, UnavailableError
from bastide.pods.images import ImageReference
from bastide.pods.tree import mapping, text

LARGEST_ANSWER: Final = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """Which registries may be asked, as the command line says it.

    Attributes:
        public: ``--registry``.
        private: ``--private-registry``.
        realms: ``--token-realm``.
        ca_file: PEM file of certificate authorities beside the system's; empty for none.
    """

    public: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    realms: tuple[str, ...] = ()
    ca_file: str = ""

    def registries(self) -> Registries:
        """The list; errors as ``Registries.parse``."""
        return Registries.parse(self.public, self.private, self.realms)

    def wire(self) -> Wire:
        """Connections that trust what the options say.

        Raises:
            ConfigError: ``scanner.registry.ca-file``.
        """
        trust = ssl.create_default_context()
        if self.ca_file:
            try:
                trust.load_verify_locations(self.ca_file)
            except OSError as error:
                message = f"cannot read certificates: {error.strerror or error}"
                raise ConfigError("scanner.registry.ca-file", message, where=self.ca_file) from error
        return Wire(trust)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanJob:
    """One image to look into.

    Attributes:
        image: pinned by its sha256 digest.
        credentials: for its registry.
        options: which registries may be asked.
        limits: how much it may cost.
    """

    image: ImageReference
    credentials: tuple[Credentials, ...] = ()
    options: RegistryOptions
    limits: ScanLimits = field(default_factory=ScanLimits)

    @property
    def digest(self) -> str:
        """Of the image."""
        return self.image.digest or ""

    def build(self) -> bytes:
        """The job as JSON."""
        tree = {
            "image": self.image.build(),
            "credentials": [asdict(one) for one in self.credentials],
            "options": asdict(self.options),
            "limits": asdict(self.limits),
        }
        return json.dumps(tree).encode()

    @classmethod
    def parse(cls, raw: bytes) -> "ScanJob":
        """Read a job that ``build`` wrote.

        Raises:
            MalformedError: ``scanner.job``.
        """
        try:
            tree = json.loads(raw)
            options = tree["options"]
            return cls(
                image=ImageReference.parse(tree["image"]),
                credentials=tuple(Credentials(**one) for one in tree["credentials"]),
                options=RegistryOptions(
                    public=tuple(options["public"]),
                    private=tuple(options["private"]),
                    realms=tuple(options["realms"]),
                    ca_file=options["ca_file"],
                ),
                limits=ScanLimits(**tree["limits"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise MalformedError("scanner.job", "expected a job as JSON") from None

    def repository(self) -> Repository:
        """Where to pull from, within the time of the limits; errors as ``Repository``."""
        deadline = Deadline(self.limits.seconds)
        return Repository(self.options.wire(), self.options.registries(), self.image, self.credentials, deadline)

    def run(self, folder: Path, *, now: Callable[[], datetime], spent: Spent | None = None) -> ImageReport:
        """Do the job in this process; see ``scan``.

        Raises:
            UnavailableError: see ``scan``.
            PolicyError: ``scanner.registry.unlisted``.
            ConfigError: see ``RegistryOptions``.
        """
        return scan(self.repository(), self.digest, folder, limits=self.limits, now=now, spent=spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a job: exactly one of a report and a passing failure.

    Attributes:
        report: facts, or a permanent failure.
        passing: why it could not be done now.
        seconds: where the time went, by step.
        pulled: bytes.
    """

    report: ImageReport | None = None
    passing: Failure | None = None
    seconds: dict[str, float]
    pulled: int = 0

    def build(self) -> bytes:
        """The answer as JSON."""
        tree: dict[str, object] = {"seconds": self.seconds, "pulled": self.pulled}
        if self.report is not None:
            tree["report"] = self.report.build()
        if self.passing is not None:
            tree["passing"] = asdict(self.passing)
        return json.dumps(tree).encode()

    @classmethod
    def parse(cls, raw: bytes, digest: str) -> "Answer":
        """Read an answer about the image of that digest.

        Raises:
            UnavailableError: ``scanner.scan.ended``: the process ended without one.
            MalformedError: as ``ImageReport.parse``.
        """
        try:
            tree = mapping(json.loads(raw))
        except (ValueError, RecursionError):
            tree = {}
        report = ImageReport.parse(tree["report"]) if "report" in tree else None
        passing = mapping(tree.get("passing"))
        if not passing and (report is None or report.digest != digest):
            message = "the scanning process ended without an answer"
            raise UnavailableError("scanner.scan.ended", message, hint="it may have met its memory limit")
        seconds = {key: value for key, value in mapping(tree.get("seconds")).items() if isinstance(value, int | float)}
        pulled = tree.get("pulled")
        return cls(
            report=report,
            passing=Failure(code=text(passing.get("code")), message=text(passing.get("message"))) if passing else None,
            seconds=seconds,
            pulled=pulled if isinstance(pulled, int) else 0,
        )
