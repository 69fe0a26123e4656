"""Text from elsewhere (manifests, logs, paths, names) on its way to a terminal."""


def printable(text: str) -> str:
    """``text`` with everything that a terminal could obey, or that a reader cannot see, written as an escape.

    Control characters (line ends too), direction marks, lone surrogates of file names and spaces other than the
    ordinary one come out as ``\\x1b``, ``\\u202e``; the rest stays as it is.

    Source: Unicode Standard, general categories Other (C*) and Separator (Z*), which ``str.isprintable`` follows.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
