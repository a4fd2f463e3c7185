"""Markdown of dashboards and runbooks as HTML that stays within the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from markdown_it.token import Token

# The page has three levels of its own.
_LEVELS_ABOVE = 3
_LOWEST = 6
# No HTML, whoever wrote it, and no images, which the page may not load.
_markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def render(text: str, runbooks: Collection[str] = ()) -> Markup:
    """Return markdown as HTML.

    Links between runbooks lead to where they are on the page; links to other files of the repository, which are
    not there offline, are text.
    """
    tokens = _markdown.parse(text)
    for token in _flat(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + _LEVELS_ABOVE, _LOWEST)}"
        elif token.type == "link_open":
            _turn(token, runbooks)
    html: str = _markdown.renderer.render(tokens, _markdown.options, {})
    return Markup(html)  # noqa: S704 - the renderer has escaped it


def _turn(link: Token, runbooks: Collection[str]) -> None:
    target = str(link.attrGet("href") or "")
    page = target.partition("#")[0].rpartition("/")[2].removesuffix(".md")
    if target.startswith(("https://", "http://")):
        link.attrSet("rel", "noreferrer")
    elif page in runbooks:
        link.attrSet("href", f"#runbook-{page}")
    else:
        del link.attrs["href"]


def _flat(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])
