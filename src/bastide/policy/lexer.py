"""Policy text to tokens.

Bounded: 64 KiB of UTF-8, no recursion, each character looked at once.

Source: reference attestation-service.md section 3. The limits are ours: Microsoft documents none.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from bastide.errors import MalformedError
from bastide.policy.syntax import Span

LARGEST_TEXT = 64 * 1024
_LARGEST_INTEGER = (1 << 63) - 1
_LONGEST_INTEGER = 19

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*)
      | (?P<identifier>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<integer>[0-9]+)
      | (?P<string>"(?:[^"\\\r\n]|\\[^\r\n])*")
      | (?P<symbol>=>|&&|[=!<>]=|[=!<>:;.,(){}\[\]])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_TYPOGRAPHIC = "\u201c\u201d\u201e\u2018\u2019"
_TYPOGRAPHIC_HINT = 'there is a typographic quotation mark: write the straight one, "'
_CHARACTER_HINTS = {
    "'": 'strings stand between straight double quotes: "..."',
    "\u00a0": "this is a no-break space, as copied from a web page: write a plain space",
    "\ufeff": "save the file as UTF-8 without a byte order mark",
    "&": "conditions are joined by &&",
    "|": "the language has no OR: write one rule for each case",
    "-": "integers have no sign",
    "#": "comments begin with //",
    "/": "comments begin with // and end with the line",
    "\\": "a backslash stands in strings only; tables of Azure's documentation show ! as \\!, write it without",
}

_ESCAPE_HINTS = {mark: f"tables of Azure's documentation show {mark} as \\{mark}: write it without" for mark in "|[]*!"}


class Kind(StrEnum):
    """What a token is."""

    IDENTIFIER = "identifier"
    INTEGER = "integer"
    STRING = "string"
    SYMBOL = "symbol"
    END = "end of the policy"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind, its text (of a string: the meaning, unescaped) and where it began."""

    kind: Kind
    text: str
    at: Span

    def __str__(self) -> str:
        if self.kind is Kind.END:
            return str(self.kind)
        return f'the string "{self.text[:40]}"' if self.kind is Kind.STRING else f"'{self.text[:40]}'"


def tokens(text: str) -> tuple[Token, ...]:
    """All tokens of a policy, the last one of kind END.

    Raises:
        MalformedError: ``policy.text.size``, ``policy.text.encoding``, ``policy.character``, ``policy.string.open``,
            ``policy.string.escape``, ``policy.integer.range``.
    """
    _check_text(text)
    found: list[Token] = []
    offset, line, line_start = 0, 1, 0
    while offset < len(text):
        at = Span(line, offset - line_start + 1)
        match = _TOKEN.match(text, offset)
        if match is None:
            raise _unknown_character(text, offset, at)
        if match.lastgroup == "space":
            line += match.group().count("\n")
            last_newline = text.rfind("\n", match.start(), match.end())
            line_start = line_start if last_newline < 0 else last_newline + 1
        else:
            found.append(_token(Kind(match.lastgroup or ""), match.group(), at))
        offset = match.end()
    found.append(Token(Kind.END, "", Span(line, offset - line_start + 1)))
    return tuple(found)


def _check_text(text: str) -> None:
    try:
        size = len(text.encode()) if len(text) <= LARGEST_TEXT else len(text)
    except UnicodeEncodeError as error:
        raise MalformedError(
            "policy.text.encoding", f"character {error.start} of the policy is half of a surrogate pair, not text"
        ) from error
    if size > LARGEST_TEXT:
        raise MalformedError(
            "policy.text.size", f"a policy has at most {LARGEST_TEXT} bytes; this one has {size} or more"
        )


def _unknown_character(text: str, offset: int, at: Span) -> MalformedError:
    character = text[offset]
    if character != '"':
        hint = _TYPOGRAPHIC_HINT if character in _TYPOGRAPHIC else _CHARACTER_HINTS.get(character)
        return MalformedError("policy.character", f"{character!r} has no meaning here", hint=hint, where=str(at))
    rest = text[offset:].partition("\n")[0]
    hint = 'close it with "; inside a string write \\" for a quotation mark and \\\\ for a backslash'
    if any(mark in rest for mark in _TYPOGRAPHIC):
        hint = _TYPOGRAPHIC_HINT
    return MalformedError("policy.string.open", "this string does not end on its line", hint=hint, where=str(at))


def _token(kind: Kind, raw: str, at: Span) -> Token:
    if kind is Kind.STRING:
        return Token(kind, _unescape(raw[1:-1], at), at)
    if kind is Kind.INTEGER and (len(raw) > _LONGEST_INTEGER or int(raw) > _LARGEST_INTEGER):
        raise MalformedError(
            "policy.integer.range", f"an integer is at most {_LARGEST_INTEGER}, this one is {raw[:24]}", where=str(at)
        )
    return Token(kind, raw, at)


def _unescape(inner: str, at: Span) -> str:
    for escape in _ESCAPE.finditer(inner):
        if escape.group(1) not in '"\\':
            raise MalformedError(
                "policy.string.escape",
                f"{escape.group()} is no escape of the language",
                hint=_ESCAPE_HINTS.get(escape.group(1), 'only \\" and \\\\ are; write other characters as they are'),
                where=str(Span(at.line, at.column + 1 + escape.start())),
            )
    return _ESCAPE.sub(r"\1", inner)
