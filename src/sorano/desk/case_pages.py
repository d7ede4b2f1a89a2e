"""A case file as people read it: one HTML page that loads nothing, or a PDF to hand on. Both show the same sections.

Every word of a case is text, never markup: what comes from files and from callers is made printable first. The signed
JSON is at the end of both; it is what can be checked.
"""

from __future__ import annotations

import html
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sorano.errors import RequestError
from sorano.trust.printable import printable

MOST_LETTERS = 2000  # of one value
MOST_EVENTS = 500  # of the timeline of a call
MOST_SIGNED_LETTERS = 1_000_000  # of the signed JSON at the end


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: rows of two columns, or lines."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    is_numbered: bool = False


def sections_of(words: dict[str, Any]) -> list[Section]:
    """The sections of a case, in reading order: what to do comes first."""
    request = words["request"]
    facts = [(name, request[name]) for name in ("status", "action", "amount", "currency", "payee", "account", "note")]
    facts += [("in whose name", request["requested_by"]), ("filed by", request["filed_by"]), ("tier", request["tier"])]
    facts += [("approval", f"{one['by']} ({one['slot']}, {one['method']})") for one in request["approvals"]]
    media = [
        (one["file"], f"{one['report']['verdict']}: {one['report']['summary']} (SHA-256 {one['sha256']})")
        for one in words["recordings"]
    ]
    events = [
        (f"{one['at']:.1f} s", f"{one.get('name', '')} {one['event'].replace('_', ' ')}".strip())
        for recording in words["recordings"]
        for one in (recording.get("timeline") or {}).get("events", ())[:MOST_EVENTS]
    ]
    trail = [(str(one["seq"]), f"{_moment(one['at'])} {one['kind']}") for one in words["receipts"]]
    found = [
        (one["id"], f"{one['found']}. {one['action']['what']}: {one['action']['command']}") for one in words["findings"]
    ]
    made_with = [(name, value) for name, value in words["versions"].items()]
    return [
        Section("What to do next", lines=list(words["next_steps"]), is_numbered=True),
        Section("The request", rows=_rows(facts)),
        Section("Why it was out of the ordinary", lines=[one["text"] for one in request["reasons"]]),
        Section("Recordings", rows=_rows(media)),
        Section("The call, as the desk saw it", rows=_rows(events)),
        Section("Receipts", rows=_rows(trail)),
        Section("The desk itself", rows=_rows(found)),
        Section("Made with", rows=_rows(made_with)),
    ]


def heading_of(words: dict[str, Any]) -> tuple[str, str]:
    """The title of a case, and the line under it."""
    return f"Case {words['request']['id']}", f"{words['made_at']}, {words['origin']}"


# HTML.

STYLE = """body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;border-top:1px solid #bbb;padding-top:.8rem}
table{border-collapse:collapse;width:100%;table-layout:fixed}
th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;overflow-wrap:anywhere}th{width:11rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8rem}
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}}"""


def case_page(case: str) -> str:
    """A case as one HTML page."""
    words = json.loads(case)
    title, under = heading_of(words)
    body = "".join(f"<h2>{_markup(one.title)}</h2>{_html(one)}" for one in sections_of(words))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sorano case</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<h1>{_markup(title)}</h1><p>{_markup(under)}</p>{body}"
        f"<h2>Signed</h2><pre>{_markup(case, MOST_SIGNED_LETTERS)}</pre></body></html>\n"
    )


def _html(section: Section) -> str:
    if section.rows:
        rows = "".join(f"<tr><th>{_markup(name)}</th><td>{_markup(value)}</td></tr>" for name, value in section.rows)
        return f"<table>{rows}</table>"
    if not section.lines:
        return "<p>none</p>"
    items, tag = "".join(f"<li>{_markup(one)}</li>" for one in section.lines), "ol" if section.is_numbered else "ul"
    return f"<{tag}>{items}</{tag}>"


# PDF.

FONT_VARIABLE = "SORANO_FONT"  # a TrueType font with Chinese letters
FONT_FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts", "/System/Library/Fonts",
    "/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
FONT_FILES = (  # with TrueType outlines, which can be embedded
    "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf", "NotoSansSC*.ttf",
    "STHeiti Light.ttc", "Arial Unicode.ttf", "msyh.ttc", "simsun.ttc",
)  # fmt: skip
READERS_FONT = "STSong-Light"  # Adobe's name of a font that many readers have, for machines without any of these
MARGIN = 56.0  # points
FIRST_COLUMN = 110.0


def case_pdf(case: str) -> bytes:
    """A case as an A4 PDF. Letters that no font here has are written as escapes, as in a terminal.

    Chinese is set in a font of this machine, which is embedded; where there is none, in the reader's own, and the last
    page says so.
    """
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Table, TableStyle

    words, chinese = json.loads(case), ChineseFont.find()
    title, under = heading_of(words)
    # wordWrap "CJK" breaks anywhere: account numbers and hashes have no spaces
    text = ParagraphStyle("text", fontName="Helvetica", fontSize=10, leading=14, wordWrap="CJK")
    head = ParagraphStyle(
        "head", text, fontName="Helvetica-Bold", fontSize=12, leading=16, spaceBefore=12, keepWithNext=1
    )
    large = ParagraphStyle("large", text, fontName="Helvetica-Bold", fontSize=16, leading=20)
    small = ParagraphStyle("small", text, fontName="Courier", fontSize=6.5, leading=8)
    every = (0, 0), (-1, -1)
    rules = TableStyle(
        [("VALIGN", *every, "TOP"), ("LINEABOVE", *every, 0.25, colors.grey), ("LEFTPADDING", *every, 0)]
    )
    widths = [FIRST_COLUMN, A4[0] - 2 * MARGIN - FIRST_COLUMN]
    story: list[Flowable] = [Paragraph(chinese.markup(title), large), Paragraph(chinese.markup(under), text)]
    for one in sections_of(words):
        story.append(Paragraph(chinese.markup(one.title), head))
        cells = [[Paragraph(chinese.markup(cell), text) for cell in row] for row in one.rows]
        story += [Table(cells, colWidths=widths, style=rules, hAlign="LEFT", splitInRow=1)] if cells else []
        for place, line in enumerate(one.lines, 1):
            story.append(Paragraph(chinese.markup(f"{place}. {line}" if one.is_numbered else f"- {line}"), text))
        if not one.rows and not one.lines:
            story.append(Paragraph("none", text))
    story += [Paragraph("Signed", head), Paragraph(chinese.markup(case, MOST_SIGNED_LETTERS), small)]
    if chinese.is_readers:
        said = f"Chinese letters are set in the reader's font {chinese.name}. {FONT_VARIABLE}=FILE names one to embed."
        story.append(Paragraph(said, text))

    def number(canvas: Any, document: Any) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawRightString(A4[0] - MARGIN, MARGIN / 2, f"{printable(title, 80)}, page {document.page}")

    held = io.BytesIO()
    document = SimpleDocTemplate(
        held, pagesize=A4, title=printable(title, 80), author="Sorano", leftMargin=MARGIN, rightMargin=MARGIN,
        topMargin=MARGIN, bottomMargin=MARGIN,
    )  # fmt: skip
    document.build(story, onFirstPage=number, onLaterPages=number)
    return held.getvalue()


@dataclass(frozen=True)
class ChineseFont:
    """The font for what Helvetica has not: its name in the PDF, and the letters that it has."""

    name: str
    letters: frozenset[int] | None  # None: those of GB 18030 in the basic plane, in the reader's own font

    @property
    def is_readers(self) -> bool:
        """Whether it is not embedded."""
        return self.letters is None

    @classmethod
    def find(cls) -> ChineseFont:
        """The font that SORANO_FONT names, one of this machine, or the reader's. Raises RequestError for a file that is
        no TrueType font."""
        from reportlab.pdfbase import pdfmetrics
        from reportlab.pdfbase.cidfonts import UnicodeCIDFont
        from reportlab.pdfbase.ttfonts import TTFError, TTFont

        named = os.environ.get(FONT_VARIABLE)
        for path in [Path(named)] if named else _font_files():
            try:
                font = TTFont(path.stem, str(path), subfontIndex=0)
            except (TTFError, OSError) as error:
                if named:
                    raise RequestError(
                        f"{FONT_VARIABLE} names no TrueType font: {error}", "name a .ttf file"
                    ) from error
                continue
            pdfmetrics.registerFont(font)
            return cls(path.stem, frozenset(font.face.charToGlyph))
        pdfmetrics.registerFont(UnicodeCIDFont(READERS_FONT))
        return cls(READERS_FONT, None)

    def markup(self, value: str, limit: int = MOST_LETTERS) -> str:
        """Text in the markup of a paragraph."""
        runs: list[str] = []
        for letter in printable(value, limit):
            if _is_encodable(letter, "cp1252"):
                runs.append(html.escape(letter))
            elif self._has(letter):
                runs.append(f'<font name="{self.name}">{html.escape(letter)}</font>')
            else:
                runs.append(f"\\u{ord(letter):04x}")
        return "".join(runs).replace(f'</font><font name="{self.name}">', "")

    def _has(self, letter: str) -> bool:
        if self.letters is not None:
            return ord(letter) in self.letters
        return 0x2E80 <= ord(letter) < 0x10000 and _is_encodable(letter, "gb18030")


def _font_files() -> Iterator[Path]:
    for folder in (Path(one).expanduser() for one in FONT_FOLDERS):
        for name in FONT_FILES:
            yield from sorted(folder.rglob(name))


def _is_encodable(letter: str, codec: str) -> bool:
    try:
        letter.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _rows(rows: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in rows if value]


def _markup(value: str, limit: int = MOST_LETTERS) -> str:
    return html.escape(printable(value, limit))


def _moment(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
