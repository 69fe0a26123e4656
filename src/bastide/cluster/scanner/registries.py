"""Which registries the scanner asks, and how: the list that its administrator wrote.

Entries are ``[http://]HOST[:PORT][/PREFIX]``, or ``*`` for every public registry over HTTPS. Nothing is asked that is
not listed; ``http://`` and addresses of the own network are taken only where the list says so for that very host.

Source: OCI distribution-spec v1.1; Docker Registry v2 token authentication ("realm").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bastide.errors import ConfigError, PolicyError
from bastide.pods.images import DOCKER_HUB, ImageReference

ANY: Final = "*"
_HTTP, _HTTPS = "http", "https"
_PORTS: Final = {_HTTP: 80, _HTTPS: 443}
_HUB_HOST: Final = "registry-1.docker.io"
_KNOWN_REALMS: Final = {_HUB_HOST: frozenset({"auth.docker.io"})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where requests go.

    Attributes:
        scheme: ``https`` or ``http``.
        host: name or address, lower case.
        port: TCP port.
        private: whether its addresses may be of the own network.
    """

    scheme: str
    host: str
    port: int
    private: bool = False

    @property
    def authority(self) -> str:
        """``HOST`` or ``HOST:PORT`` as the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRule:
    """One entry of the list.

    Attributes:
        host: lower case; ``*`` for any.
        port: None for that of the scheme.
        prefix: of the repository, whole path parts; empty for all.
        private: whether its addresses may be of the own network.
        plain: whether it is asked over plain HTTP.
    """

    host: str
    port: int | None = None
    prefix: str = ""
    private: bool = False
    plain: bool = False

    @classmethod
    def parse(cls, text: str, *, private: bool = False) -> "RegistryRule":
        """Read one entry.

        Raises:
            ConfigError: ``scanner.registry.option``.
        """
        if text == ANY and not private:
            return cls(host=ANY)
        scheme, mark, rest = text.rpartition("://")
        authority, _, prefix = rest.partition("/")
        host, port = split_authority(authority)
        if (
            (mark and scheme not in _PORTS)
            or not host
            or host == ANY
            or set(prefix) & set("*?# @")
            or "//" in f"/{prefix}"
        ):
            what = "[http://]HOST[:PORT][/PREFIX]" + ("" if private else " or *")
            raise ConfigError("scanner.registry.option", f"expected {what}, seen {text[:200]!r}")
        return cls(host=host, port=port, prefix=prefix.rstrip("/"), private=private, plain=scheme == _HTTP)

    def covers(self, host: str, port: int | None, repository: str) -> bool:
        """Whether this entry speaks of a repository."""
        if self.host == ANY:
            return True
        ours = _PORTS[_HTTP if self.plain else _HTTPS]
        same_port = (self.port or ours) == (port or ours)
        return self.host == host and same_port and f"{repository}/".startswith(f"{self.prefix}/" if self.prefix else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A registry that may be asked.

    Attributes:
        name: as image references have it, ``docker.io``.
        origin: where it is.
        realms: ``HOST`` or ``HOST:PORT``, beside its own, that may ask for its credentials and give tokens.
    """

    name: str
    origin: Origin
    realms: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """The list.

    Attributes:
        rules: its entries.
        realms: by registry host, see ``Registry.realms``; beside those that are known.
    """

    rules: tuple[RegistryRule, ...]
    realms: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, public: Sequence[str], private: Sequence[str] = (), realms: Sequence[str] = ()) -> "Registries":
        """Read the options ``--registry``, ``--private-registry`` and ``--token-realm REGISTRY=HOST``.

        Raises:
            ConfigError: ``scanner.registry.option``, ``scanner.registry.none``.
        """
        rules = [RegistryRule.parse(text) for text in public]
        rules += [RegistryRule.parse(text, private=True) for text in private]
        if not rules:
            raise ConfigError(
                "scanner.registry.none",
                "no registry is listed, so no image can be looked into",
                hint="list them: --registry docker.io --registry ghcr.io/team, or --registry '*' for all public ones",
            )
        known: dict[str, frozenset[str]] = {}
        for text in realms:
            registry, _, host = text.partition("=")
            names = split_authority(registry), split_authority(host)
            if not names[0][0] or not names[1][0]:
                raise ConfigError("scanner.registry.option", f"expected REGISTRY=HOST, seen {text[:200]!r}")
            realm = Origin(scheme=_HTTPS, host=names[1][0], port=names[1][1] or _PORTS[_HTTPS])
            ours = _host_of(names[0][0])
            known[ours] = known.get(ours, frozenset()) | {realm.authority}
        return cls(rules=tuple(rules), realms=known)

    def find(self, image: ImageReference) -> Registry:
        """The registry of an image.

        Raises:
            PolicyError: ``scanner.registry.unlisted``.
        """
        host, port = split_authority(image.registry)
        matching = [rule for rule in self.rules if host and rule.covers(host, port, image.repository)]
        if not matching:
            raise PolicyError(
                "scanner.registry.unlisted",
                f"the scanner is not allowed to ask {image.registry} for {image.repository}",
                hint=f"list it: --registry {image.registry} (or --private-registry, if it is in your own network)",
                where=image.registry,
            )
        # A named entry decides over `*`, the longest prefix over a shorter one.
        rule = max(matching, key=lambda found: (found.host != ANY, len(found.prefix), found.private))
        host = _host_of(host)
        scheme = _HTTP if rule.plain else _HTTPS
        origin = Origin(scheme=scheme, host=host, port=port or _PORTS[scheme], private=rule.private)
        realms = _KNOWN_REALMS.get(host, frozenset()) | self.realms.get(host, frozenset())
        return Registry(name=image.registry, origin=origin, realms=realms)

    def is_private(self, host: str) -> bool:
        """Whether a host is listed as one of the own network."""
        return any(rule.private and rule.host == host for rule in self.rules)


def split_authority(text: str) -> tuple[str, int | None]:
    """Host (lower case, without brackets) and port of ``HOST[:PORT]``; an empty host where it is neither."""
    head, colon, tail = text.rpartition(":")
    host, port = (head, tail) if colon and tail.isascii() and tail.isdecimal() else (text, "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return "", None
    number = int(port) if 0 < len(port) <= len("65535") else None
    is_name = host.isascii() and host.replace("-", "a").replace(".", "a").replace(":", "a").isalnum()
    if (port and not (number and number < 1 << 16)) or not is_name:
        return "", None
    return host.lower(), number


def _host_of(host: str) -> str:
    """Docker Hub's registry has another name than its images."""
    return _HUB_HOST if host in (DOCKER_HUB, "index.docker.io") else host
