"""Lists in pages, of which none is larger than an answer may be, whatever others put into the objects.

Source: Kubernetes docs, "Kubernetes API Concepts", "Retrieving large results sets in chunks" (the limit may differ from
page to page).
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Final

from bastide.errors import MalformedError
from bastide.kube.client import ApiClient, Tree
from bastide.pods.tree import at, text

PAGE: Final = 500
"""Objects of one page of a list."""

_LESS: Final = 8


async def pages(client: ApiClient, path: str, query: Mapping[str, str]) -> AsyncGenerator[Tree, None]:
    """Every page of the list at ``path``.

    A page that comes out too large (some hundred objects of a megabyte each are easily made) is asked for again with
    fewer objects.

    Raises:
        BastideError: those of ``ApiClient.get``; ``kube.answer.size`` for a single object that is too large.
    """
    size, more = PAGE, ""
    while True:
        page = {"limit": str(size), **({"continue": more} if more else {})}
        try:
            tree = await client.get(path, {**query, **page})
        except MalformedError as error:
            if error.code != "kube.answer.size" or size == 1:
                raise
            size = max(1, size // _LESS)
            continue
        yield tree
        more = text(at(tree, ("metadata", "continue")))
        if not more:
            return
