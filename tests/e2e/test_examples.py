"""The examples run as they are, one after the other in a folder of their own, and say what they promise."""

import ast
import json
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "first_steps.ipynb"
# What each prints, and which files it leaves.
PROMISES = {
    "text_to_video.py": (["(25, 256, 256, 3)", "ball.mp4 VERIFIED", "seed 5"], ["ball.mp4"]),
    "extend_and_loop.py": (["25 -> 37 frames", "at night"], ["ball.mp4", "longer.mp4", "loop.mp4", "night.mp4"]),
    "verify.py": (["VERIFIED", "TAMPERED", "refused: changed.mp4"], ["changed.mp4", "cube.mp4"]),
    "plan_job.py": (["rtx4090: ", "USD", "device-hours"], []),
    "train_dry_run.py": (["transformer", "training in all"], []),
}


def test_every_example_promises_something():
    assert sorted(PROMISES) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", PROMISES)
def test_the_example_does_what_it_says(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    said = capsys.readouterr().out
    words, files = PROMISES[name]
    assert not [word for word in words if word not in said], said
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def cells():
    """The notebook's cells of code, in order."""
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_what_it_printed():
    assert not [cell["id"] for cell in cells() if cell["outputs"] or cell["execution_count"]]


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    """Without Jupyter: one namespace, and the last expression of a cell is what it shows."""
    monkeypatch.chdir(tmp_path)
    names, shown = {"__name__": "__main__"}, {}
    for cell in cells():
        body = ast.parse("".join(cell["source"]), filename=cell["id"]).body
        last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), cell["id"], "exec"), names)
        shown[cell["id"]] = None if last is None else eval(compile(last, cell["id"], "eval"), names)
    assert "USD" in shown["plan"] and shown["make"] == ((25, 256, 256, 3), 12.0)
    for name in ("look", "extend"):
        assert min(shown[name].size) > 100
        shown[name].load()  # as showing it does, which closes the file
    assert "VERIFIED  longer.mp4" in capsys.readouterr().out
    assert shown["record"][0] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ball.mp4", "ball.png", "longer.mp4", "longer.png"]
