"""What keeps the code readable, as tests: short functions, and one class for a name."""

import ast
from pathlib import Path

import sorano

PACKAGE = Path(sorano.__file__).parent
LONGEST = 60  # lines, from `def` to the last
GENERATED = "migrations/versions"  # by Alembic, a statement for each column
KERNELS = {"world/render.py: _trace", "world/render.py: render_frames"}  # compiled: parts of them took 5 % more time


def definitions(*kinds):
    """(file, node) of each definition of these kinds in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds):
                yield path.relative_to(PACKAGE).as_posix(), node


def test_no_function_is_long():
    long = {
        f"{file}: {node.name}": node.end_lineno - node.lineno + 1
        for file, node in definitions(ast.FunctionDef, ast.AsyncFunctionDef)
        if node.end_lineno - node.lineno >= LONGEST and GENERATED not in file
    }
    assert not {name: lines for name, lines in long.items() if name not in KERNELS}
    assert set(long) == KERNELS  # none is excused that has become short


def test_no_two_classes_have_the_same_name():
    files = {}
    for file, node in definitions(ast.ClassDef):
        files.setdefault(node.name, []).append(file)
    assert not {name: where for name, where in files.items() if len(where) > 1}
