"""The command: its words, its streams, its exit codes."""

import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import typer
from typer.testing import CliRunner

from sorano import __version__, cli, stream, video
from sorano.cli import progress
from sorano.cli.commands import MODULES, program_for
from sorano.request import Request

path = importlib.import_module("sorano.engine")
PROMPT = "a red ball bounces on the grass at sunset"


def run(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def generate(folder, *words, prompt=PROMPT):
    return run("generate", prompt, "--preset", folder, "--device", "cpu", *words)


def shell(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "sorano", *map(str, words)], capture_output=True, text=True, check=False, **options
    )


def flags_of(command):
    help_text = run(command, "--help").stdout
    return set(re.findall(r"--[a-z0-9-]+", help_text)) - {"--help"}


def test_the_flags_are_the_fields_of_the_request():
    fields = {"--" + field.name.replace("_", "-") for field in dataclasses.fields(Request)}
    fields -= {"--prompt", "--conditions", "--shots"}
    given = {"--keyframe", "--loop", "--at", "--request"}  # what is given, in words
    talk = {"--no-visible-label", "--json", "--quiet", "--verbose", "--yes", "--dry-run", "--open", "--preview"}
    assert flags_of("generate") == fields | given | talk


def test_every_flag_says_what_it_does():
    import typer

    for parameter in typer.main.get_command(cli.app).commands["generate"].params:
        assert parameter.name in ("help",) or len(parameter.help or "") > 10, parameter.name


def test_stdout_is_the_path_and_nothing_else(tiny_folder, tmp_path):
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4", "--seed", 1)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'a.mp4'}\n"
    assert video.read_video(tmp_path / "a.mp4").frames_THWC.shape == (9, 256, 256, 3)


def test_the_plan_is_the_first_line_on_stderr(tiny_folder, tmp_path):
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4", "--seed", 5)
    first = done.stderr.splitlines()[0]
    for word in ("tiny", "32x32", "9 frames", "3 steps", "seed 5", "MB", " s on cpu"):
        assert word in first
    assert any(line.startswith("note: made at 32x32, upscaled 8x") for line in done.stderr.splitlines())


def test_json_is_one_document(tiny_folder, tmp_path):
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4", "--sheet", tmp_path / "a.png", "--json", "--quiet")
    assert done.exit_code == 0 and done.stderr == ""
    document = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert document["path"] == str(tmp_path / "a.mp4") and document["sheet"] == str(tmp_path / "a.png")
    assert (document["size"], document["num_frames"], document["fps"]) == ("256x256", 9, 8)
    assert document["request"]["prompt"] == PROMPT
    assert document["planned"]["seconds"] > 0 and document["measured"]["seconds"] > 0
    assert document["preset"]["sha256"] and document["notes"]


def test_verbose_says_what_was_chosen_and_why(tiny_folder, tmp_path):
    said = generate(tiny_folder, "-o", tmp_path / "a.mp4", "--verbose").stderr
    assert re.search(r"cpu; (bfloat16|float32): .*\d+\.\dx (as fast|faster)", said)
    assert "attention:" in said and "free memory:" in said


def test_without_o_the_file_is_named_here_and_nothing_is_replaced(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [generate(tiny_folder, "--seed", 3).stdout.strip() for _ in range(2)]
    assert paths == [str(tmp_path / f"a-red-ball-bounces-on-the-grass-at-sunset-3{end}.mp4") for end in ("", "-2")]
    assert sorted(os.listdir(tmp_path)) == sorted(os.path.basename(name) for name in paths)


def test_a_drawn_seed_is_printed_and_makes_it_again(tiny_folder, tmp_path):
    first = json.loads(generate(tiny_folder, "-o", tmp_path / "a.mp4", "--json").stdout)
    generate(tiny_folder, "-o", tmp_path / "b.mp4", "--seed", first["request"]["seed"])
    a, b = (video.read_video(tmp_path / name).frames_THWC for name in ("a.mp4", "b.mp4"))
    assert (a == b).all()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--prompt", "x"], 2, "prompt"),
        (["--seconds", "0"], 2, "seconds must be"),
        (["--seconds", "-1"], 2, "seconds must be"),
        (["--seconds", "nan"], 2, "seconds must be"),
        (["--seconds", "1e12"], 2, "seconds must be"),
        (["--num-frames", "-3"], 2, "num_frames"),
        (["--keyframe", "soon=a.png"], 2, "1.5s=FILE"),
        (["--keyframe", "0.5s=a.png"], 2, "does not take --keyframe"),
        (["--loop"], 2, "does not take --loop"),
        (["--at", "night"], 2, "10s=PROMPT"),
        (["--seconds", "1", "--at", "2s=night"], 2, "rising times"),
        (["--size", "8x32"], 2, "--size 32x32"),
        (["--size", "64000x480"], 2, "16 to 4096 pixels a side"),
        (["--size", "large"], 2, "WIDTHxHEIGHT"),
        (["--num-steps", "0"], 2, "num_steps"),
        (["--seed", "-4"], 2, "seed"),
        (["--upscale", "huge"], 2, "upscale"),
        (["--device", "toaster"], 2, "device"),
        (["--image", "/nowhere/a.png"], 2, "/nowhere/a.png"),
        (["-o", "/nowhere/a.mp4"], 2, "does not exist"),
        (["-o", "/tmp/a.docx"], 2, ".mp4"),
        (["--sheet", "/tmp/a.tga"], 2, ".png"),
    ],
)
def test_a_bad_word_is_exit_2_with_the_word(tiny_folder, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    done = generate(tiny_folder, *words)
    assert done.exit_code == code, done.stderr
    assert done.stdout == "" and said in done.stderr and "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_an_empty_prompt_is_exit_2(tiny_folder):
    done = generate(tiny_folder, prompt=" ")
    assert done.exit_code == 2 and "prompt is empty" in done.stderr


def test_an_unknown_preset_is_exit_2_with_the_nearest():
    done = generate("wurld")
    assert done.exit_code == 2 and "--preset world" in done.stderr


def test_a_missing_model_is_exit_3(tmp_path):
    done = generate(tmp_path / "no" / "model")
    assert done.exit_code == 3 and "is not a folder" in done.stderr


def test_what_does_not_fit_is_exit_4(tiny_folder, monkeypatch):
    from sorano.plan.machine import Machine

    monkeypatch.setattr(path, "choose_machine", lambda *_: Machine("cpu", "float32", 1e11, 1_000_000))
    done = generate(tiny_folder)
    assert done.exit_code == 4 and "is free" in done.stderr and "hint:" in done.stderr


def test_an_existing_file_is_exit_2_and_kept(tiny_folder, tmp_path):
    (tmp_path / "a.mp4").write_text("precious")
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4")
    assert done.exit_code == 2 and "--overwrite" in done.stderr
    assert (tmp_path / "a.mp4").read_text() == "precious"
    assert generate(tiny_folder, "-o", tmp_path / "a.mp4", "--overwrite").exit_code == 0


def test_unknown_words_are_named_on_stderr(tiny_folder, tmp_path):
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4", prompt="a red ball and a zeppelin")
    assert done.exit_code == 0 and "'zeppelin'" in done.stderr and "zeppelin" not in done.stdout
    done = generate(tiny_folder, "-o", tmp_path / "b.mp4", prompt="zeppelin")
    assert done.exit_code == 2 and "open preset" in done.stderr


def test_an_interruption_in_mid_write_is_exit_130_without_a_file(tiny_folder, tmp_path, monkeypatch):
    def interrupted(writer, frames_THWC):
        writer.temporary.write_bytes(b"half a video")
        raise KeyboardInterrupt

    monkeypatch.setattr(video.Writer, "_encode", interrupted)
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4")
    assert done.exit_code == 130 and "nothing was written" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_request_to_stop_that_something_swallows_ends_the_run_at_the_next_step(tiny_folder, tmp_path, monkeypatch):
    denoise, steps = stream.denoise, []

    def swallowing(*args):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        steps.append(1)
        return denoise(*args)

    monkeypatch.setattr(stream, "denoise", swallowing)
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4")
    assert steps and done.exit_code == 130 and "nothing was written" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.posix
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_works_is_exit_130_without_a_file(tiny_folder, tmp_path, which):
    words = ["generate", PROMPT, "--preset", tiny_folder, "-o", tmp_path / "a.mp4"]
    words += ["--num-steps", 1000, "--size", "64x64", "--seconds", 3]  # more work than a busy machine does meanwhile
    work = subprocess.Popen(
        [sys.executable, "-m", "sorano", *map(str, words)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )
    assert work.stderr is not None
    work.stderr.readline()  # the plan: the work begins
    time.sleep(0.1)
    work.send_signal(which)
    stdout, stderr = work.communicate(timeout=60)
    assert work.returncode == 130, stderr
    assert stdout == "" and "nothing was written" in stderr and "Traceback" not in stderr
    assert os.listdir(tmp_path) == []


def test_an_interruption_that_compiled_code_gives_back_as_an_error_is_one_still(tiny_folder, tmp_path, monkeypatch):
    def lost(*_, **__):
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        raise ValueError("could not determine the shape of object type 'torch.storage.UntypedStorage'")

    monkeypatch.setattr(video.Writer, "_encode", lost)
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4")
    assert done.exit_code == 130 and "nothing was written" in done.stderr and os.listdir(tmp_path) == []


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['sorano', *sys.argv[1:]]\nfrom sorano.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print([name for name in ('torch', 'av', 'numpy', 'PIL', 'numba', 'tokenizers') if name in sys.modules])\n"
    )
    for words in (["--help"], ["generate", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", words


def test_version():
    assert run("--version").stdout == f"{__version__}\n"


def test_no_words_show_the_help():
    done = run()
    assert "generate" in done.output and "Usage" in done.output


def test_the_module_is_the_command(tiny_folder, tmp_path):
    """From another folder, without a home, without standard input."""
    environment = {**os.environ, "HOME": "", "SORANO_CACHE": str(tmp_path / "cache")}
    done = shell(
        "generate", PROMPT, "--preset", tiny_folder, "-q", cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert video.read_video(done.stdout.strip()).pixel_format == "yuv420p"


def test_a_long_job_on_a_cpu_asks_for_a_yes(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LONG_SECONDS", 0)
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4")
    assert done.exit_code == 2 and "on the CPU" in done.stderr and "--yes" in done.stderr
    assert os.listdir(tmp_path) == []
    assert generate(tiny_folder, "-o", tmp_path / "a.mp4", "--yes").exit_code == 0


def test_a_dry_run_plans_and_makes_nothing(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(path, "load", lambda *_: pytest.fail("weights were loaded"))
    done = generate(tiny_folder, "-o", tmp_path / "a.mp4", "--dry-run", "--json")
    document = json.loads(done.stdout)
    assert document["path"] == str(tmp_path / "a.mp4") and document["planned"]["seconds"] > 0
    assert os.listdir(tmp_path) == []


def test_words_without_quotes_are_one_prompt_and_a_folder_is_written_into(tiny_folder, tmp_path):
    done = run("generate", "a", "red", "ball", "--preset", tiny_folder, "--device", "cpu", "--seed", 7, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "a-red-ball-7.mp4")
    assert video.read_metadata(tmp_path / "a-red-ball-7.mp4")["request"]["prompt"] == "a red ball"


def test_a_name_with_a_colon_is_a_files_name(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = generate(tiny_folder, "-o", "12:30.mp4", "--seed", 1)
    assert done.exit_code == 0, done.stderr
    assert run("show", "12:30.mp4").exit_code == 0 and os.listdir(tmp_path) == ["12:30.mp4"]


@pytest.mark.posix
def test_an_interrupt_while_python_ends_does_not_change_how_the_command_ended():
    script = """
import os, signal, sys
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
late = Late()  # goes when Python clears its modules, after it took its own signal handlers away
from sorano.cli import main
sys.argv = ["sorano", "--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_is_the_same_with_its_module_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path))
    every = typer.main.get_command(cli.app).commands
    assert sorted(every) == sorted(name for names in MODULES.values() for name in names)
    for name, command in every.items():
        program = program_for([name, "--help"])
        some = typer.main.get_command(program).commands
        assert program is not cli.app and set(some) < set(every)
        mine, theirs = (
            (one.help, [(given.name, given.opts, given.help, given.default) for given in one.params])
            for one in (some[name], command)
        )
        assert mine == theirs


def test_all_commands_are_there_where_they_may_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path))
    for words in ([], ["--help"], ["verfy"], ["--version", "verify"]):
        assert program_for(words) is cli.app
    monkeypatch.setenv("_SORANO_COMPLETE", "complete_bash")
    assert program_for(["verify"]) is cli.app
    monkeypatch.delenv("_SORANO_COMPLETE")
    for settings in ("seed = 1", "not TOML"):  # held against the options of every command
        (tmp_path / "config.toml").write_text(settings)
        assert program_for(["verify"]) is cli.app
