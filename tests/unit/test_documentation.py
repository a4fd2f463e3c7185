"""The pages of the documentation: links lead somewhere, sections too, and commands that they name exist."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt
from sluice_harness.description import ROOT
from unit.sessions import called, complaint

if TYPE_CHECKING:
    from pathlib import Path

    from markdown_it.token import Token

# Sessions whose arguments can be checked without running them.
CHECKED = ("deploy", "describe", "smoke", "loadtest")
INDEX = ROOT / "docs" / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def parsed(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def links(page: Path) -> list[str]:
    """The addresses that a page links, but for those of other sites."""
    inside = [token for line in parsed(page) for token in line.children or []]
    linked = [str(token.attrs["href"]) for token in inside if token.type == "link_open"]
    return [one for one in linked if not re.match(r"[a-z]+:", one)]


def anchors(page: Path) -> set[str]:
    """A page's sections, as GitHub names them in addresses."""
    headings = [text.content for mark, text in pairwise(parsed(page)) if mark.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, section = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not section or section in anchors(target), link


def test_the_index_has_every_page() -> None:
    # given the pages in docs, and the folders of those that have an index of their own or need none
    there = {page for page in INDEX.parent.glob("*.md") if page != INDEX}
    there |= {folder for folder in INDEX.parent.iterdir() if folder.is_dir()}

    # then the index leads to each
    linked = {(INDEX.parent / link).resolve() for link in links(INDEX)}
    assert {page for page in there if not {page, page / "README.md"} & linked} == set()


@EVERY_PAGE
def test_sessions_exist_and_take_what_they_are_given(page: Path) -> None:
    # given the commands in a page's blocks, without comments and with lines that go on joined
    commands = "\n".join(line.content for line in parsed(page) if line.type == "fence")
    commands = re.sub(r"\s+#.*$", "", commands.replace("\\\n", " "), flags=re.MULTILINE)

    # then the sessions take them, those that are checked
    assert [wrong for call in called(commands) if call[0] in CHECKED if (wrong := complaint(*call))] == []

    # and those that are named anywhere exist
    sessions = re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), flags=re.MULTILINE)
    named = set(re.findall(r"\bnox -s ([a-z]\w*)", page.read_text()))
    assert named - set(sessions) == set()


def test_the_packages_have_one_version() -> None:
    files = [ROOT / "pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")]
    versions = {tomllib.loads(file.read_text())["project"]["version"] for file in files}
    assert len(files) == 5
    assert len(versions) == 1
