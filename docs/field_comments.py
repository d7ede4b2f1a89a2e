"""For the documentation site: the comment behind a dataclass's field is what the API page says of it.

    seconds: float | None = None  # also as text: "2s", "1.5 s", "50 frames"

The code says it once, where it is read; mkdocs.yml names this file as an extension of Griffe.
"""

from __future__ import annotations

import ast
import io
import tokenize
from functools import cache
from pathlib import Path
from typing import Any

import griffe


@cache
def comments(file: Path) -> dict[int, str]:
    """The comments behind code, by line (from 1)."""
    with tokenize.open(file) as source:
        text = source.read()
    lines = text.splitlines()
    return {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and lines[token.start[0] - 1][: token.start[1]].strip()
    }


class FieldComments(griffe.Extension):
    """Gives fields that have a comment and no docstring that comment."""

    def on_attribute_instance(self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is not None or not isinstance(node, ast.AnnAssign) or not isinstance(attr.filepath, Path):
            return
        said = comments(attr.filepath).get(attr.endlineno or 0, "")
        if said and not said.startswith(("noqa", "type:", "fmt:")):
            attr.docstring = griffe.Docstring(f"{said[0].upper()}{said[1:]}.", parent=attr)
