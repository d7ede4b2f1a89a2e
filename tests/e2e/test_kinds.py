"""GIF, WebP and WebM: what `-o` names is what is written, marked, labelled, signed where it can be, and read back."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import sorano
from sorano import cli, remix
from sorano.cli import generate as commands
from sorano.errors import RequestError
from sorano.media import read, write
from sorano.trust.provenance import credentials, label, roots
from sorano.trust.verify import Verdict

PROMPT = "a red ball bounces on the grass at sunset"


class Heard(sorano.Listener):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def make(folder, **options):
    heard = Heard()
    words = {"preset": str(folder), "seed": 1, "device": "cpu", "upscale": 8, **options}
    return sorano.generate(PROMPT, listener=heard, **words), heard.notes


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".webm"])
def test_a_video_is_written_as_its_suffix_says(tiny_folder, tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    made, notes = make(tiny_folder, output=file)
    found = read.probe(file)
    assert (found.codec, found.width, found.height) == ({".webm": "vp9"}.get(suffix, suffix[1:]), 256, 256)
    frames = list(read.pictures_of(found))
    assert abs(frames[-1].end - 9 / 8) <= 0.01
    first = made.frames_THWC[0].astype(float)
    # as the model made it, upscaled and coded: no frame is another's
    close = np.abs(frames[0].frame_HWC.astype(float) - np.asarray(first)).mean()
    assert close < 12
    assert sorano.read_metadata(file) == made.record
    assert remix.request_of(file)["prompt"] == PROMPT
    (one,) = label.read(file)
    assert one.label is not None and label.signature_holds(one.label) is True
    report = sorano.verify(file)
    assert report.mark_id == made.report.mark_id
    if suffix == ".webm":
        assert report.verdict is not Verdict.VERIFIED and any("not signed" in note for note in notes)
    else:
        assert report.verdict is Verdict.VERIFIED and credentials.read(file, roots.anchors()).state == "trusted"
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


def test_a_changed_gif_is_tampered(tiny_folder, tmp_path):
    make(tiny_folder, output=tmp_path / "a.gif")
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[-200] ^= 0x10
    (tmp_path / "a.gif").write_bytes(data)
    assert sorano.verify(tmp_path / "a.gif").verdict is Verdict.TAMPERED


@pytest.mark.parametrize("suffix", [".gif", ".webm"])
def test_a_loop_can_be_a_gif(tiny_verbs, tmp_path, suffix):
    file = tmp_path / f"round{suffix}"
    made, _ = make(tiny_verbs, output=file, seconds=3, conditions=[sorano.Loop()])
    assert made.path == file and sorano.read_metadata(file)["request"]["prompt"] == PROMPT
    assert abs(read.probe(file).seconds - made.record["made"]["num_frames"] / 8) < 0.13
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(("fps", "per_second"), [(12, 100), (24, 100), (30000 / 1001, 1000), (50, 100), (7.3, 100)])
def test_an_animation_does_not_drift_from_its_rate(fps, per_second):
    shown = write.ticks(1000, fps, per_second)
    at = np.cumsum(shown) / per_second
    assert np.abs(at - np.arange(1, 1001) / fps).max() <= 0.51 / per_second
    assert min(shown) >= 2


def test_what_a_gif_cannot_show_is_said_before_work(tiny_folder, tmp_path):
    with pytest.raises(RequestError, match="50 frames a second"):
        make(tiny_folder, output=tmp_path / "a.gif", fps=60)
    with pytest.raises(RequestError, match="too many for a WEBP"):
        write.check(".webp", fps=24, width=1920, height=1080, num_frames=1000)
    with pytest.raises(RequestError, match=".mp4 or .gif or .webp or .webm"):
        make(tiny_folder, output=tmp_path / "a.mkv")


def test_the_command_writes_one_and_opens_it(tiny_folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(commands, "show_file", opened.append)
    words = ["generate", PROMPT, "--preset", str(tiny_folder), "--seed", "1", "--device", "cpu", "--open", "--json"]
    done = CliRunner().invoke(cli.app, [*words, "-o", str(tmp_path / "a.gif")])
    assert done.exit_code == 0, done.stderr
    assert opened == [tmp_path / "a.gif"] and json.loads(done.stdout)["path"] == str(tmp_path / "a.gif")


def test_where_there_is_no_screen_open_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    commands.show_file(tmp_path / "a.mp4")
    assert "nothing here to show it with" in capsys.readouterr().err
