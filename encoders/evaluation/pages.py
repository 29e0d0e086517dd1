"""A report as blocks, and the two ways to write them: Markdown, and HTML in one file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the page's."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Code:
    """Something that stands as it is."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first column is words, the others are figures."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG, and what it shows."""

    name: str
    """Of the file, without its ending."""
    says: str
    png: bytes


Block = Heading | Paragraph | Code | Table | Picture


def markdown(blocks: Sequence[Block], assets: str) -> str:
    """Return the page; pictures are linked to as ``assets``/name.png."""
    return "\n\n".join(_markdown(block, assets) for block in blocks) + "\n"


def html_page(blocks: Sequence[Block]) -> str:
    """Return the page with everything in it, pictures too: it can be sent by mail."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n{body}\n</html>\n"
    )


_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;font-size:14px}td,th{border:1px solid #ccc;padding:.2em .5em}"
    "td+td{text-align:right}img{max-width:100%}pre{background:#f4f4f4;padding:1em;overflow:auto}"
)


def _markdown(block: Block, assets: str) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Code(text):
            return f"```text\n{text}\n```"
        case Picture(name, says, _):
            return f"![{says}]({assets}/{name}.png)"
        case Table(head, rows):
            ruler = "|---|" + "--:|" * (len(head) - 1)
            lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (head, *rows)]
            return "\n".join([lines[0], ruler, *lines[1:]])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Picture(_, says, png):
            data = base64.b64encode(png).decode()
            return f'<p><img alt="{html.escape(says)}" src="data:image/png;base64,{data}"></p>'
        case Table(head, rows):
            top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
            body = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
                for row in rows
            )
            return f"<table>\n<tr>{top}</tr>\n{body}</table>"
