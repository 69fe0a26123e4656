"""What the pulling process is told: JSON on its standard input.

Credentials pass by standard input alone: arguments and environment of a process can be read by others.
"""

import json
import ssl
from dataclasses import asdict, dataclass, field

from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.credentials import Credentials
from bastide.cluster.scanner.http import Deadline, Wire
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.registries import Registries
from bastide.errors import ConfigError, MalformedError
from bastide.pods.images import ImageReference


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
        unconfined: whether to go on where the kernel cannot hold the processes of the scan.
    """

    image: ImageReference
    credentials: tuple[Credentials, ...] = ()
    options: RegistryOptions
    limits: ScanLimits = field(default_factory=ScanLimits)
    unconfined: bool = False

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
            "unconfined": self.unconfined,
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
                unconfined=tree["unconfined"],
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise MalformedError("scanner.job", "expected a job as JSON") from None

    def repository(self, wire: Wire | None = None) -> Repository:
        """Where to pull from, within the time of the limits.

        Args:
            wire: connections; made as the options say when there are none yet.

        Raises:
            PolicyError, ConfigError: as ``Repository`` and ``RegistryOptions`` say.
        """
        deadline = Deadline(self.limits.seconds)
        registries = self.options.registries()
        return Repository(wire or self.options.wire(), registries, self.image, self.credentials, deadline)
