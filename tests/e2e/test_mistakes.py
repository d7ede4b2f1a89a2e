"""40 mistakes of everyday use: each one a cause, a next step, the documented exit code, and nothing left behind."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sorano import cli
from sorano.cli.commands import PANELS

LONG = "a" * 300
G = ["generate", "a red ball", "--device", "cpu"]
MISTAKES = {  # what is typed: the exit code, and a word of the cause or of the next step
    "an option that is not there": ([*G, "--sedd", "1"], 2, "--seed"),
    "a command that is not there": (["genrate", "a red ball"], 2, "generate"),
    "an argument that is missing": (["extend"], 2, "VIDEO"),
    "a value that is missing": ([*G, "--seed"], 2, "--seed"),
    "a seed that is no number": ([*G, "--seed", "one"], 2, "--seed"),
    "no prompt": (["generate"], 2, "prompt is empty"),
    "a prompt of spaces": (["generate", "   "], 2, "prompt is empty"),
    "an output among the words": (["generate", "a red ball", "ball.mp4"], 2, "-o ball.mp4"),
    "an unknown subject": (["generate", "a", "cat"], 2, "--force"),
    "no length at all": ([*G, "--seconds", "0"], 2, "--seconds 2"),
    "a length that is none": ([*G, "--seconds", "soon"], 2, "50 frames"),
    "two lengths": ([*G, "--seconds", "2", "--num-frames", "17"], 2, "two lengths"),
    "no frames": ([*G, "--num-frames", "0"], 2, "num_frames"),
    "too many steps": ([*G, "--num-steps", "99999"], 2, "--num-steps 1000"),
    "a negative guidance": ([*G, "--guidance", "-1"], 2, "--guidance"),
    "a size that is none": ([*G, "--size", "big"], 2, "WIDTHxHEIGHT"),
    "a size beyond all players": ([*G, "--size", "9000x9000"], 2, "4096"),
    "an aspect that nobody shows": ([*G, "--size", "99:1"], 2, "16:9"),
    "quiet and verbose": ([*G, "-q", "-v"], 2, "exclude each other"),
    "memory without a unit": ([*G, "--memory", "12"], 2, "12GB"),
    "memory that is none": ([*G, "--memory", "lots"], 2, "12GB"),
    "memory for nothing": ([*G, "--memory", "1MB"], 4, "is free"),
    "a device that is not here": ([*G[:2], "--device", "xpu"], 2, "available"),
    "a device that is none": ([*G[:2], "--device", "toaster"], 2, "cuda"),
    "a dtype that is none": ([*G, "--dtype", "int3"], 2, "bfloat16"),
    "a preset that is none": ([*G, "--preset", "wurld"], 2, "world"),
    "a folder that is no model": ([*G, "--preset", "."], 3, "model_index.json"),
    "a preset that was not pulled": ([*G, "--preset", "wan2.1-t2v-1.3b"], 3, "sorano pull"),
    "a picture that is missing": ([*G, "--image", "none.png"], 2, "none.png"),
    "a picture that is none": ([*G, "--image", "note.txt"], 2, "note.txt"),
    "a keyframe without a time": ([*G, "--keyframe", "note.txt"], 2, "1.5s=FILE"),
    "a loop with a keyframe": ([*G, "--loop", "--keyframe", "0.5s=ok.png"], 2, "--loop and --keyframe"),
    "a LoRA that is missing": ([*G, "--lora", "none.safetensors"], 2, "none.safetensors"),
    "a LoRA that is none": ([*G, "--lora", "note.txt"], 3, "note.txt"),
    "a name of 300 letters": ([*G, "-o", f"{LONG}.mp4"], 2, "shorter name"),
    "a folder that is missing": ([*G, "-o", "none/a.mp4"], 2, "mkdir"),
    "a kind of file that is not written": ([*G, "-o", "a.docx"], 2, ".mp4"),
    "a device for an output": ([*G, "-o", "/dev/null"], 2, "-o video.mp4"),
    "a file that is there": ([*G, "-o", "there.mp4"], 2, "--overwrite"),
    "a request that is no JSON": (["generate", "--request", "note.txt"], 2, "note.txt"),
    "a text file to show": (["show", "note.txt"], 2, "note.txt"),
    "a picture to show that says nothing": (["show", "ok.png"], 2, "sorano verify"),
    "a video to show that is missing": (["show", "none.mp4"], 2, "none.mp4"),
    "a model to show that is none": (["show", "wurld"], 2, "world"),
    "a video to extend that is missing": (["extend", "none.mp4"], 2, "none.mp4"),
    "a text file to extend": (["extend", "note.txt"], 2, "note.txt"),
    "a region that is none": (["edit", "none.mp4", "it is night", "--region", "here"], 2, "X,Y,WIDTH,HEIGHT"),
    "a storyboard that is missing": (["film", "none.toml"], 2, "none.toml"),
    "a storyboard without shots": (["film", "note.txt"], 2, "[[shot]]"),
    "a run to resume that is missing": (["resume", "none.mp4"], 2, "none.mp4"),
    "a model to remove that stays": (["rm", "world"], 2, "stays"),
    "a plan for a device that is none": (["plan", "generate", "world", "--device", "h1000"], 2, "h100"),
    "a rate that no GIF shows": ([*G, "-o", "a.gif", "--fps", "60"], 2, ".webp"),
    "a kind of video that is not written": ([*G, "-o", "a.mkv"], 2, ".webm"),
    "an output that is a GIF among the words": (["generate", "a red ball", "ball.gif"], 2, "-o ball.gif"),
    "a currency that is none": (["plan", "generate", "world", "--currency", "euros"], 2, "EUR=0.92"),
    "a currency of no day": (["plan", "generate", "world", "--currency", "EUR=1@soon"], 2, "EUR=0.92"),
    "a plan for a phone that is none": (["plan", "edge", "wan2.1-t2v-1.3b", "--device", "iphone-3"], 2, "iphone"),
    "a plan for nothing": (["plan", "train"], 2, "--preset"),
    "a plan of no size": (["plan", "generate", "world", "--size", "big"], 2, "big"),
    "a plan with a count for this machine": (["plan", "generate", "world", "--count", "8"], 2, "--device h100"),
    "an electricity that is none": (
        ["plan", "generate", "wan2.1-t2v-1.3b", "--device", "h100", "--grid", "mars"],
        2,
        "france",
    ),
    "a mark of a missing file": (["mark", "none.mp4"], 1, "none.mp4"),
    "a mark into a missing folder": (["mark", "ok.png", "-o", "none/"], 2, ".png"),
    "a mark into a device": (["mark", "ok.png", "-o", "/dev/null"], 2, "-o ok.marked"),
    "a mark over the original": (["mark", "ok.png", "-o", "ok.png"], 2, "--in-place"),
    "a mark of two kinds": (["mark", "ok.png", "--made", "--capture"], 2, "exclude each other"),
    "a label of a text": (["label", "note.txt"], 1, "MP4"),
    "a file to verify that is missing": (["verify", "none.mp4"], 1, "none.mp4"),
    "a root that is none": (["trust", "add", "note.txt"], 1, "note.txt"),
    "a carrier that is none": (["keys", "disclose", "0123"], 2, "0123"),
    "a batch that is missing": (["batch", "none.jsonl"], 2, "none.jsonl"),
    "a batch that is none": (["batch", "ok.png"], 2, "ok.png"),
    "a batch into a missing folder": (["batch", "note.txt", "-o", "none"], 2, "mkdir"),
    "a remix of a text": (["remix", "note.txt", "on the snow"], 2, "note.txt"),
    "a blend of nothing": (["blend", "none.mp4", "none2.mp4"], 2, "none.mp4"),
    "a strength above all": (["edit", "there.mp4", "it is night", "--strength", "7"], 2, "strength"),
    "too many variations": ([*G, "-n", "1000"], 2, "--variations 64"),
    "an upscale that is none": ([*G, "--upscale", "huge"], 2, "--upscale 1"),
    "an audience that is none": ([*G, "--audience", "moon"], 2, "us-ca"),
    "settings that are none": ([*G, "--settings", "best"], 2, "best"),
    "a mask that is missing": (["edit", "there.mp4", "it is night", "--mask", "none.png"], 2, ""),
    "an option of other programs": ([*G, "--guidance-scale", "5"], 2, "did you mean --guidance?"),
    "a width": ([*G, "--width", "64"], 2, "did you mean --size?"),
    "a prompt as an option": (["generate", "--prompt", "a red ball"], 2, 'sorano generate "a red ball bounces"'),
    "a command of other programs": (["help"], 2, "sorano --help"),
    "a rate with its unit": ([*G, "--fps", "24fps"], 2, "--fps must be a number"),
    "lines without their p": ([*G, "--size", "720"], 2, "--size 720p"),
    "a change at no time": ([*G, "--at", "soon=it is night"], 2, "--at"),
    "a time of a region without one": (["edit", "there.mp4", "it is night", "--from", "5"], 2, "--region"),
    "a file to resume that is finished": (["resume", "there.mp4"], 2, "sorano remix"),
    "parameters that are no number": (["plan", "train", "--params", "30x"], 2, "30B"),
    "a recipe that is none": (["train", "world", "--recipe", "huge"], 2, "huge"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a note, a picture and a file of that name."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "note.txt").write_text("milk, bread")
    (tmp_path / "there.mp4").write_text("precious")
    Image.new("RGB", (64, 64)).save(tmp_path / "ok.png")
    return tmp_path


def test_there_are_40_mistakes():
    assert len(MISTAKES) >= 40


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_cause_and_a_next_step(place, mistake):
    words, code, said = MISTAKES[mistake]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == code, (done.exit_code, done.stderr, done.exception)
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    hints = [line for line in lines if line.startswith("hint: ")]
    assert len(errors) == 1 and len(hints) == 1 and lines[-2:] == [*errors, *hints], done.stderr
    assert said in errors[0] + hints[0], done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr and "╭" not in done.stderr
    assert sorted(os.listdir(place)) == ["note.txt", "ok.png", "there.mp4"]
    assert (place / "there.mp4").read_text() == "precious"


@pytest.mark.parametrize(
    "command", [["score", "--num-clips", "1"], ["train", "world", "--recipe", "smoke", "-o", "run"]]
)
def test_a_missing_package_is_named_with_its_extra(place, command):
    code = (
        "import sys\nclass No:\n def find_spec(self, name, *rest):\n"
        "  if name.split('.')[0] == 'numba':\n   raise ModuleNotFoundError(\"No module named 'numba'\", name='numba')\n"
        "sys.meta_path.insert(0, No())\nsys.argv[:] = ['sorano', *sys.argv[1:]]\nfrom sorano.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-2:][1] == "hint: pip install 'sorano[train]'" and "Traceback" not in done.stderr
    assert not (place / "run").exists()


def test_a_closed_pipe_keeps_the_exit_code(place):
    for command, code in ((["list"], 0), (["verify", "note.txt"], 1)):
        script = f"{sys.executable} -m sorano {' '.join(command)} 2>/dev/null | head -c 1 >/dev/null"
        script += "; echo ${PIPESTATUS[0]}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(code), done


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is always full")
def test_a_full_disk_under_stdout_is_said():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m sorano list >/dev/full"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: stdout cannot be written") and "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_that_is_not_utf8_costs_nothing(place, encoding):
    (place / "夜里.txt").write_text("x")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-m", "sorano", "generate", "夜里，一个蓝色的方块在雪地上旋转", "--dry-run", "-q"],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name = "夜里-一个蓝色的方块在雪地上旋转"
    assert name.encode(encoding, "backslashreplace") in done.stdout


def test_help_shows_what_it_should():
    runner = CliRunner()
    film = runner.invoke(cli.app, ["film", "--help"]).stdout
    assert "[[shot]]" in film
    picture = runner.invoke(cli.app, ["image", "--help"]).stdout
    assert not [flag for flag in ("--seconds", "--num-frames", "--fps", "--sheet", "MP4") if flag in picture]
    top = runner.invoke(cli.app, ["--help"]).stdout
    places = [top.index(panel) for panel in PANELS]
    assert places == sorted(places)


def test_every_help_text_arrives_whole():
    """Nothing in brackets is taken for markup."""
    import re

    import typer

    command = typer.main.get_command(cli.app)
    for name, one in command.commands.items():
        shown = CliRunner().invoke(cli.app, [name, "--help"], env={"COLUMNS": "300"}).stdout
        for parameter in one.params:
            for bracket in re.findall(r"\[+[^\]]*\]+", (parameter.help or "").replace("\\[", "[")):
                assert bracket in shown, (name, bracket)


def test_unknown_keywords_and_long_reprs():
    import sorano
    from sorano.errors import RequestError
    from sorano.pipeline import Model
    from sorano.plan.machine import Machine
    from sorano.presets import PRESETS

    with pytest.raises(RequestError, match="num_stepps") as caught:
        sorano.generate("a red ball", num_stepps=3)
    assert "did you mean num_steps?" in caught.value.hint
    model = Model(PRESETS["world"], Machine("cpu", "float32", 1e11, None), None)
    assert repr(model) == "<Model world: cpu, float32>"
    import inspect

    assert {"seconds", "size", "num_steps", "listener"} <= set(inspect.signature(sorano.generate).parameters)
