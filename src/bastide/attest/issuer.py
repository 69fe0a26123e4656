"""The issuer of tokens: a URL, and whether it owns up to simulation.

Clients that know nothing of Bastide ignore a marker claim, so a simulation shows in the issuer as well: its path
contains ``simulation``, and no other issuer's does.

Source: design, "Embedded default and scale".
"""

from urllib.parse import urlsplit

from bastide.errors import ConfigError

SIMULATION = "simulation"


def says_simulation(issuer: str) -> bool:
    """Whether the path of ``issuer`` contains ``simulation``, in any case.

    Raises:
        ConfigError: ``attest.issuer.url`` when it is no http or https URL, ends with a slash, or has a query, a
            fragment or user information.
    """
    try:
        parts = urlsplit(issuer)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        usable = False
    if not usable or issuer.endswith("/") or "?" in issuer or "#" in issuer or not issuer.isascii():
        raise ConfigError(
            "attest.issuer.url",
            f"expected an http or https URL without trailing slash, query or fragment, seen {issuer!r}",
            hint="for example https://attest.example.org/simulation",
        )
    return SIMULATION in parts.path.lower()


def check_issuer(issuer: str, *, simulation: bool) -> None:
    """Refuse an issuer that hides a simulation, or pretends to one.

    Args:
        issuer: URL.
        simulation: whether the evidence is a simulation's.

    Raises:
        ConfigError: ``attest.issuer.url``, ``attest.issuer.simulation``, ``attest.issuer.real``.
    """
    if says_simulation(issuer) == simulation:
        return
    if simulation:
        raise ConfigError(
            "attest.issuer.simulation",
            f"the evidence is a simulation's, and the path of the issuer {issuer} does not say so",
            hint="give the simulation an issuer of its own, such as https://attest.example.org/simulation",
        )
    raise ConfigError(
        "attest.issuer.real",
        f"the evidence is of real hardware, and the path of the issuer {issuer} says simulation",
        hint="never mix the two: give real hardware an issuer whose path does not contain 'simulation'",
    )
