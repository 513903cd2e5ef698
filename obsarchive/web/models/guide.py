"""The user guide in the portal: the pages of ``docs`` as HTML, and which of them explains a product."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from posixpath import normpath

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from obsarchive.core.shipped import shipped

FIRST = "index"
"""The page that lists the others."""
PRODUCTS = "products"
"""Folder of the pages that explain one kind of product each; a line that begins with `FILES` names its files."""
FILES = "Files:"

Address = Callable[[str], str]
"""Turns the name of a page, or of a picture, into its address."""

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
# tables that are wider than a telephone scroll by themselves, by keyboard, too
_markdown.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0">\n<table>\n')
_markdown.add_render_rule("table_close", lambda *_: "</table>\n</div>\n")


@dataclass(frozen=True)
class Page:
    """A page of the guide."""

    title: str
    html: Markup
    """Its text as HTML, in which everything but what Markdown says is escaped."""
    sections: tuple[tuple[str, str], ...]
    """Anchor and text of its sections."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all pages: their paths below ``docs``, without the ending."""
    folder = shipped("docs")
    return tuple(sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.md")))


def title(name: str) -> str:
    """Return the title of a page."""
    return next(line.removeprefix("# ") for line in _text(name).splitlines() if line.startswith("# "))


def picture(name: str) -> Path | None:
    """Return the file of a picture of the guide; None where there is no such picture."""
    folder = shipped("docs") / "pictures"
    return next((path for path in folder.glob("*.png") if path.name == name), None)


def page(name: str, page_address: Address, picture_address: Address) -> Page | None:
    """Return a page as HTML.

    Parameters
    ----------
    name : str
        Name of the page, as `names` has it.
    page_address, picture_address : callable
        Addresses of other pages, by their name, and of pictures, by the name of their file.

    Returns
    -------
    Page or None
        None where there is no such page. Links to what is no page of the guide are shown as text.
    """
    if name not in names():
        return None
    tokens = _markdown.parse(_text(name))
    for token in tokens:
        if token.type == "inline":
            token.children = list(_linked(token.children or (), name, page_address, picture_address))
    sections = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", slug(inline.content))
            if opening.tag == "h2":
                sections.append((slug(inline.content), inline.content.replace("`", "")))
    html = Markup(_markdown.renderer.render(tokens, _markdown.options, {}))  # noqa: S704 - it escapes HTML
    return Page(title(name), html, tuple(sections))


def slug(heading: str) -> str:
    """Return the anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def product_page(product: str) -> str | None:
    """Return the name of the page that explains a product; None where none does.

    Parameters
    ----------
    product : str
        Name of the product within its pipeline, with or without its folder.
    """
    last = PurePosixPath(product).name
    matching = (name for name, pattern in _patterns() if fnmatchcase(product, pattern) or fnmatchcase(last, pattern))
    return next(matching, None)


@cache
def _patterns() -> tuple[tuple[str, str], ...]:
    """Pages that explain products, and the pattern of each of their files, the narrowest first."""
    found = []
    for name in names():
        if not name.startswith(f"{PRODUCTS}/"):
            continue
        for line in _text(name).splitlines():
            if line.startswith(FILES):
                found += [(name, pattern) for pattern in re.findall(r"`([^`]+)`", line)]
    return tuple(sorted(found, key=lambda each: ("/" not in each[1], each[1].startswith("*"), -len(each[1]))))


@cache
def _text(name: str) -> str:
    return (shipped("docs") / f"{name}.md").read_text()


def _linked(tokens: Sequence[Token], name: str, page_address: Address, picture_address: Address) -> Iterator[Token]:
    """Yield the tokens of a paragraph with links and pictures that lead to the portal's addresses."""
    kept: list[bool] = []
    for token in tokens:
        if token.type == "image":
            token.attrSet("src", picture_address(PurePosixPath(str(token.attrGet("src"))).name))
        elif token.type == "link_open":
            address = _target(str(token.attrGet("href")), name, page_address)
            kept.append(bool(address))
            if not address:
                continue
            token.attrSet("href", address)
        elif token.type == "link_close" and not kept.pop():
            continue
        yield token


def _target(link: str, name: str, page_address: Address) -> str:
    """Address of a link on a page; empty where it leads out of the guide."""
    if link.startswith(("https://", "http://", "#")):
        return link
    path, _, anchor = link.partition("#")
    target = normpath(PurePosixPath(name).parent / path).removesuffix(".md")
    if target not in names():
        return ""
    return page_address(target) + (f"#{anchor}" if anchor else "")
