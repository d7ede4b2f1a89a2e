"""A file of requests: checked before the work, made once each, gone on with where it stopped."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from sorano import batch, cli
from sorano.errors import RequestError, VideoError
from sorano.listener import Listener

SHARED = {"preset": "world", "device": "cpu"}


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a red ball"}\n\n"a blue cube"\n{"prompt": "a green cone", "output": "cone.mp4"}\n')
    return file


def maker(fail=()):
    made = []

    def make_one(request, listener):
        if request.prompt in fail:
            raise VideoError("no")
        made.append(request.prompt)
        Path(request.output).write_text(request.prompt)
        return SimpleNamespace(path=Path(request.output))

    return made, make_one


def run(prompts, fail=(), shared=SHARED):
    made, make_one = maker(fail)
    lines = batch.read(prompts, prompts.parent, shared)
    outcomes = batch.make(lines, batch.done_file(prompts), Listener(), lambda outcome: None, make_one)
    return made, outcomes


def test_every_line_is_made_once(prompts):
    made, outcomes = run(prompts)
    assert made == ["a red ball", "a blue cube", "a green cone"]
    assert [one.line.number for one in outcomes] == [1, 3, 4] and outcomes[2].path.name == "cone.mp4"
    assert len({one.line.request.seed for one in outcomes}) == 3
    again, outcomes = run(prompts)
    assert again == [] and all(one.was_there for one in outcomes)


def test_what_failed_what_is_gone_and_what_changed_is_made_again(prompts):
    made, outcomes = run(prompts, fail=["a blue cube"])
    assert [one.error is not None for one in outcomes] == [False, True, False]
    outcomes[0].path.unlink()
    prompts.write_text(prompts.read_text().replace("green", "white"))
    made, outcomes = run(prompts)
    assert made == ["a red ball", "a blue cube", "a white cone"]


def test_a_half_written_note_costs_one_line(prompts):
    run(prompts)
    noted = batch.done_file(prompts)
    noted.write_text(noted.read_text()[:-10])
    made, _ = run(prompts)
    assert made == ["a green cone"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has 0 requests"),
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 is no object"),
        ('{"promt": "x"}', "no 'promt'"),
        ('{"prompt": "a ball", "seconds": -1}', "line 1: seconds must be"),
        ('{"prompt": "a", "output": "x.mp4"}\n{"prompt": "b", "output": "x.mp4"}', "two lines write"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_made(tmp_path, text, said):
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(RequestError, match=said):
        batch.read(tmp_path / "p.jsonl", tmp_path, SHARED)


def test_the_command_prints_paths_and_ends_with_the_first_failure(prompts, monkeypatch):
    made, make_one = maker(["a blue cube"])
    monkeypatch.setattr(batch.make, "__defaults__", (make_one,))
    done = CliRunner().invoke(cli.app, ["batch", str(prompts), "-o", str(prompts.parent), "--json"])
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["line"] for document in documents] == [1, 3, 4] and documents[1]["error"] == "no"
    assert done.exit_code == 1 and "line 3: no" in done.stderr


def test_the_doctor_looks_at_everything_and_names_what_mends(monkeypatch):
    from sorano import doctor

    monkeypatch.setattr(doctor, "CODERS", (("libx264", True, "H.264"), ("nonsense", True, "nothing")))
    monkeypatch.setattr(doctor.extras, "is_installed", lambda name: False)
    done = CliRunner().invoke(cli.app, ["doctor", "--json"])
    checks = json.loads(done.stdout)["checks"]
    names = {check["name"] for check in checks}
    assert {"versions", "device", "dtype", "threads", "memory", "disk", "coder", "keys", "fonts", "extra"} <= names
    assert done.exit_code == 1
    assert all(check["mend"] for check in checks if check["state"] != "ok")
    extras = [check for check in checks if check["name"] == "extra"]
    assert extras[0]["mend"] == "pip install 'sorano[train]'"


def test_a_text_file_has_a_prompt_on_each_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a red ball\n\n  a blue cube \n")
    lines = batch.read(file, tmp_path, SHARED)
    assert [one.request.prompt for one in lines] == ["a red ball", "a blue cube"]
