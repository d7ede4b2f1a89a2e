"""The user's own defaults: which option they reach, what wins over them, and how a mistake in them is named."""

import json
import os

import pytest
from typer.testing import CliRunner

from sorano import cli, settings


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes the user's file; commands run in an empty folder."""
    folder = tmp_path / "config"
    folder.mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("SORANO_CONFIG", str(folder))
    monkeypatch.chdir(tmp_path / "work")
    return lambda text: (folder / settings.NAME).write_text(text, encoding="utf-8")


def planned(*words):
    done = CliRunner().invoke(cli.app, [*words, "--device", "cpu", "--dry-run", "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["request"]


def test_defaults_reach_every_command_with_the_option_and_the_command_line_wins(own):
    own('num-steps = 7\nguidance = 3\naudience = "eu"\nseconds = 1\nprivate = false\n')
    made = planned("generate", "a red ball")
    assert (made["num_steps"], made["guidance"], made["audience"], made["seconds"]) == (7, 3.0, "eu", 1.083333)
    assert planned("image", "a red ball")["num_steps"] == 7
    assert planned("generate", "a red ball", "--num-steps", "5")["num_steps"] == 5
    # the other way to say a length puts the default one aside
    assert planned("generate", "a red ball", "--num-frames", "9")["seconds"] == 0.75


def test_what_a_saved_request_says_wins_over_a_default_but_not_over_the_command_line(own, tmp_path):
    own("num-steps = 7\nguidance = 3\n")
    (tmp_path / "work" / "r.json").write_text(json.dumps({"prompt": "a red ball", "num_steps": 9}))
    made = planned("generate", "--request", "r.json")
    assert (made["num_steps"], made["guidance"]) == (9, 3.0)
    assert planned("generate", "--request", "r.json", "--num-steps", "4")["num_steps"] == 4


def test_a_quiet_default_does_not_forbid_verbose(own):
    own("quiet = true\n")
    done = CliRunner().invoke(cli.app, ["generate", "a red ball", "--device", "cpu", "--dry-run", "-v"])
    assert done.exit_code == 0 and "GFLOP/s" in done.stderr
    assert CliRunner().invoke(cli.app, ["generate", "a red ball", "--device", "cpu", "--dry-run"]).stderr == ""


def test_plans_have_a_table_of_their_own(own):
    own('[plan]\ngrid = "norway"\n')
    done = CliRunner().invoke(cli.app, ["plan", "generate", "wan2.1-t2v-1.3b", "--device", "h100", "--json"])
    assert done.exit_code == 0 and "norway" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num-stepps = 7", "did you mean num-steps?"),
        ('output = "a.mp4"', "belongs on the command line"),
        ("num-steps = ", "is not TOML"),
        ('num-steps = "many"', "num-steps"),
        ("num-steps = {a = 1}", "of a kind that no option takes"),
        ("plan = 1", "[plan]"),
        ('[plan]\ngird = "france"', "did you mean grid?"),
        ("#" * 200_000, "larger than"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(own, text, said):
    own(text)
    done = CliRunner().invoke(cli.app, ["generate", "a red ball", "--dry-run"])
    lines = done.stderr.splitlines()
    assert done.exit_code == 2 and len(lines) == 2, done.stderr
    assert settings.NAME in lines[0] and said in done.stderr and os.listdir() == []


def test_the_doctor_names_the_file_however_damaged(own):
    own("num-steps = 7\n")
    shown = CliRunner().invoke(cli.app, ["doctor"]).stdout
    assert "num-steps = 7" in shown and settings.NAME in shown
    own("num-steps = ")
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert "is not TOML" in done.stdout and done.exit_code == 1
    assert CliRunner().invoke(cli.app, ["generate", "--help"]).exit_code == 0


def test_python_reads_no_file(own, monkeypatch):
    from sorano.request import Request

    own("num-steps = 7\n")
    assert Request(prompt="a red ball").num_steps is None


def test_lines_of_a_batch_begin_from_the_users_defaults(own, monkeypatch):
    from pathlib import Path

    from sorano import batch

    own('num-steps = 7\nseconds = 1\naudience = "eu"\n[plan]\ngrid = "norway"\n')
    made = []
    monkeypatch.setattr(batch, "make", lambda lines, *_: made.extend(line.request for line in lines) or [])
    lines = [{"prompt": "a red ball"}, {"prompt": "a blue cube", "num_frames": 9, "num_steps": 3}]
    Path("p.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    done = CliRunner().invoke(cli.app, ["batch", "p.jsonl"])
    assert done.exit_code == 0, done.stderr
    assert [(one.num_steps, one.seconds, one.num_frames, one.audience) for one in made] == [
        (7, 1, None, "eu"), (3, None, 9, "eu"),
    ]  # fmt: skip


def test_a_user_without_a_home_has_no_settings_and_can_plan(tmp_path, monkeypatch):
    monkeypatch.delenv("SORANO_CONFIG")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert settings.read() == {} and "no home" in settings.describe()
    done = CliRunner().invoke(cli.app, ["plan", "generate", "world", "--device", "h100"])
    assert done.exit_code == 0, done.output
