"""``--policy``: the appraisal policies of ``bastide quote verify``, by name or in a TOML file.

Source: ``docs/reference/quote.md``, "Policies"; TOML 1.0.
"""

import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

from bastide.cli.files import name_of, read_file
from bastide.dcap import INTEL, STRICT, AppraisalPolicy, TcbStatus
from bastide.errors import ConfigError
from bastide.pki.pck import SgxType

NAMED = {"strict": STRICT, "intel": INTEL}
"""Policies that have a name."""

_LARGEST = 1 << 20
_MOST_DAYS = 36_500
_MOST_ADVISORIES = 1024
_LARGEST_NUMBER = (1 << 32) - 1
_DAYS = {"platform_grace_days": "platform_grace", "qe_grace_days": "qe_grace"}
_SGX_TYPES = {kind.name.lower().replace("_", "-"): kind for kind in SgxType}


def read_policy(argument: str) -> AppraisalPolicy:
    """The policy of that name, or in the TOML file of that name; what a file does not say is as in ``strict``.

    A file's policy is called as the file is, so that it is never called ``strict`` or ``intel``.

    Raises:
        ConfigError: ``file.unreadable``, ``appraisal.policy.syntax``, ``appraisal.policy.key`` (unknown),
            ``appraisal.policy.value``.
        MalformedError: ``file.too-large``.
    """
    if argument in NAMED:
        return NAMED[argument]
    try:
        tree = tomllib.loads(read_file(argument, largest=_LARGEST).decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            "appraisal.policy.syntax", f"expected a policy in TOML: {error}", where=name_of(argument)
        ) from None
    settings: dict[str, Any] = dict(_setting(key, value, argument) for key, value in tree.items())
    return replace(STRICT, name=_name(argument), **settings)  # each reader gives its field's type


def _name(argument: str) -> str:
    """A policy's name: that of its file, with what no terminal should print written out."""
    return name_of(argument) if argument.isprintable() else ascii(argument)


def _setting(key: str, value: object, argument: str) -> tuple[str, object]:
    """A setting of the policy out of one line of the file."""
    reader = _READERS.get(key)
    if reader is None:
        raise ConfigError(
            "appraisal.policy.key",
            f"expected one of {', '.join(sorted(_READERS))}",
            hint="see docs/reference/quote.md",
            where=f"{name_of(argument)}: {key[:80]}",
        )
    expected, read = reader
    setting = read(value)
    if setting is None:
        raise ConfigError(
            "appraisal.policy.value",
            f"expected {expected}, seen {str(value)[:80]}",
            where=f"{name_of(argument)}: {key}",
        )
    return _DAYS.get(key, key), setting


def _switch(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object, largest: int) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and isinstance(value, int) and 0 <= value <= largest else None


def _days(value: object) -> timedelta | None:
    days = _number(value, _MOST_DAYS)
    return None if days is None else timedelta(days=days)


def _texts(value: object) -> frozenset[str] | None:
    items: list[object] = value if isinstance(value, list) and len(value) <= _MOST_ADVISORIES else [None]
    texts = frozenset(item for item in items if isinstance(item, str))
    return texts if all(isinstance(item, str) for item in items) else None


def _statuses(value: object) -> frozenset[TcbStatus] | None:
    words = _texts(value)
    known = {status.value for status in TcbStatus} - {TcbStatus.REVOKED.value}
    return None if words is None or not words or not words <= known else frozenset(TcbStatus(word) for word in words)


def _sgx_types(value: object) -> frozenset[SgxType] | None:
    words = _texts(value)
    return None if not words or not words <= _SGX_TYPES.keys() else frozenset(_SGX_TYPES[word] for word in words)


_Reader = tuple[str, Callable[[object], object]]
_READERS: dict[str, _Reader] = {
    **{field.name: ("true or false", _switch) for field in fields(AppraisalPolicy) if field.name.startswith("allow_")},
    **dict.fromkeys(_DAYS, (f"days, 0 to {_MOST_DAYS}", _days)),
    "accepted_statuses": ("a list of TCB statuses, not empty and without Revoked", _statuses),
    "reject_advisories": ("a list of advisories such as INTEL-SA-00615", _texts),
    "accepted_sgx_types": (f"a list of {', '.join(_SGX_TYPES)}", _sgx_types),
    "min_tcb_evaluation_data_number": ("a number", lambda value: _number(value, _LARGEST_NUMBER)),
}
"""What each key of a file takes, in words and as a function that gives None for anything else."""
