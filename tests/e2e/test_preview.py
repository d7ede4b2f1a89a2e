"""Pictures in the terminal: each way of drawing holds the picture, and nothing is drawn where there is no terminal."""

import base64
import io
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

import sorano
from sorano import cli
from sorano.cli import preview
from sorano.cli.progress import ConsoleListener


@pytest.fixture
def picture():
    """Red above, blue below; green in the upper right."""
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:24, :, 0], frame[24:, :, 2] = 250, 240
    frame[:12, 32:] = (0, 200, 0)
    return frame


def test_half_blocks_are_two_pixels_a_character(picture):
    lines = preview.half_blocks(picture, 16, full_colour=True)
    assert len(lines) == 6 and all(line.count("▀") == 16 and line.endswith("\x1b[0m") for line in lines)
    assert "\x1b[38;2;250;0;0m\x1b[48;2;250;0;0m▀" in lines[0] and "\x1b[38;2;0;200;0m" in lines[0]
    assert "\x1b[38;2;0;0;240m\x1b[48;2;0;0;240m▀" in lines[-1]
    few = preview.half_blocks(picture, 16, full_colour=False)
    assert "\x1b[38;5;196m" in few[0] and ";2;" not in "".join(few)


def test_kitty_gets_a_png_in_chunks(picture, monkeypatch):
    monkeypatch.setattr(preview, "KITTY_CHUNK", 64)
    said = preview.kitty(picture, 5)
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", said)
    assert "a=T" in parts[0][0] and "f=100" in parts[0][0] and [one[0][-3:] for one in parts][-1] == "m=0"
    assert all(one[0].endswith("m=1") and len(one[1]) <= 64 for one in parts[:-1])
    data = base64.b64decode("".join(one[1] for one in parts))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), picture)


def test_sixels_hold_the_picture(picture):
    said = preview.sixel(picture)
    np.testing.assert_allclose(drawn(said).astype(int), picture.astype(int), atol=3)


def drawn(text):
    """The picture that a terminal would draw of sixels."""
    head = re.match(r'\x1bPq"1;1;(\d+);(\d+)', text)
    width, height = int(head[1]), int(head[2])
    frame, colours = np.zeros((height + 6, width, 3), np.uint8), {}
    x = top = 0
    for word in re.findall(r"#\d+;2;\d+;\d+;\d+|#\d+|!\d+[?-~]|[?-~]|\$|-", text[head.end() : -2]):
        if ";" in word:
            number, _, *parts = (int(part) for part in word[1:].split(";"))
            colours[number] = [round(2.55 * part) for part in parts]
        elif word[0] == "#":
            now = colours[int(word[1:])]
        elif word == "$":
            x = 0
        elif word == "-":
            x, top = 0, top + 6
        else:
            count, bits = (int(word[1:-1]), ord(word[-1]) - 63) if word[0] == "!" else (1, ord(word) - 63)
            for row in range(6):
                if bits >> row & 1:
                    frame[top + row, x : x + count] = now
            x += count
    return frame[:height]


@pytest.mark.parametrize(
    ("environment", "kind"),
    [({"KITTY_WINDOW_ID": "1"}, "kitty"), ({"TERM_PROGRAM": "WezTerm"}, "kitty"), ({"TERM": "xterm"}, "blocks"),
     ({"KITTY_WINDOW_ID": "1", "TMUX": "x"}, "blocks"), ({}, "blocks")],
)  # fmt: skip
def test_the_terminal_is_known_by_what_it_says(environment, kind):
    assert preview.kind_of(environment, ask=False) == kind


def test_a_terminal_that_answers_draws_sixel(monkeypatch):
    monkeypatch.setattr(preview, "device_attributes", lambda: ["62", "4", "22"])
    assert preview.kind_of({"TERM": "xterm"}) == "sixel"


def test_a_second_picture_is_drawn_over_the_first_and_drawing_costs_little(picture):
    out = io.StringIO()
    shown = preview.Preview(out, "blocks", {})
    assert shown.is_due
    shown.show(picture, "step 1 of 2", spent=10.0)
    assert not shown.is_due and shown._next > 50  # a picture that took long waits ten times as long
    length = len(out.getvalue())
    shown.show(picture, "step 2 of 2")
    second = out.getvalue()[length:]
    rows = out.getvalue()[:length].count("\n")
    assert second.startswith(f"\x1b[{rows}F") and "step 2 of 2" in second


def test_the_first_frame_becomes_clear_step_by_step(tiny_folder):
    seen = []

    class Watch(sorano.Listener):
        def preview(self, step, num_steps, look):
            seen.append((step, num_steps, look()))

    made = sorano.generate(
        "a red ball", preset=str(tiny_folder), seed=1, device="cpu", num_steps=6, dtype="float32", upscale=1,
        listener=Watch(),
    )  # fmt: skip
    assert [one[0] for one in seen] == [1, 2, 3, 4, 5, 6] and seen[0][1] == 6
    frame = made.frames_THWC[0].astype(float)
    wrong = [np.abs(one[2].astype(float) - frame).mean() for one in seen]
    assert seen[-1][2].shape == frame.shape and wrong[-1] < 1.0 and wrong[-1] < wrong[0]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="pseudo-terminals")
def test_the_command_draws_only_on_a_terminal(tmp_path, tiny_folder, monkeypatch):
    words = ["generate", "a red ball", "--preset", str(tiny_folder), "--seed", "1", "--device", "cpu", "--preview"]
    from typer.testing import CliRunner

    done = CliRunner().invoke(cli.app, [*words, "-o", str(tmp_path / "a.mp4")])
    assert done.exit_code == 0 and "\x1b[" not in done.stderr and "▀" not in done.stderr
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(preview, "kind_of", lambda environment: "blocks")
        listener = ConsoleListener(quiet=False, verbose=False, previews=True)
        with listener:
            listener.preview(1, 2, lambda: np.zeros((8, 8, 3), np.uint8))
        terminal.flush()
        assert "▀".encode() in os.read(ours, 65536)
    os.close(ours)


def test_a_film_is_seen_window_by_window(tiny_verbs, tmp_path):
    seen = []

    class Watch(sorano.Listener):
        def preview(self, step, num_steps, look):
            seen.append((step, num_steps, look()))

    made = sorano.generate(
        "a red ball", preset=str(tiny_verbs), seed=1, device="cpu", num_steps=3, upscale=1, seconds=6,
        output=tmp_path / "a.mp4", listener=Watch(),
    )  # fmt: skip
    windows = [one for one in seen if one[0] == 1]
    assert len(windows) >= 2 and len(seen) == 3 * len(windows)
    assert {one[2].shape for one in seen} == {(*made.frames_THWC.shape[1:3], 3)}
    assert not np.array_equal(seen[-1][2], seen[2][2])  # the window at hand, not what the film began with
