"""Runs every command of the documents, in their order, and compares their figures: `scripts/docs-check`.

A command is a line of four spaces and `sorano ...`, or a cell of a table of that kind. Each document has a folder of
its own, with the files that its lines take for granted. What cannot be run here (networks, GPUs, hours) is named with
the reason. The last line is a JSON document; the exit code is 1 where anything failed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("docs/verbs.md", "README.md", "README.zh-CN.md", "docs/index.md", "docs/plan.md", "docs/trust.md",
             "docs/desk.md", "docs/device.md")  # fmt: skip
# What is not run, and why.
NOT_RUN = (
    (r"sorano (pull|rm) ", "needs the network"),
    (r"--preset wan", "needs weights that were pulled"),
    (r"sorano plan calibrate", "needs a quiet machine"),
    (r"sorano score", "takes an hour"),
    (r"--endpoint http", "needs a language model"),
    (r"sorano desk (serve|init|keys|case|posture|accept|gate)", "needs people and their devices"),
)
SHORTENED = ((r"sorano train (?!.*--dry-run)", "--dry-run"),)  # run with these words behind it
MOST_SECONDS = 300


def commands(text: str) -> Iterator[str]:
    """The lines of a document that start with sorano, without their comments."""
    for line in text.splitlines():
        if match := re.match(r"^    (sorano .*?)(?:\s{2,}#.*)?$", line):
            yield match[1].split("    or ")[0].strip()
        for cell in re.findall(r"^\| `(sorano \S+ [^`]*)` \|", line):
            yield cell.replace("\\|", "|")


def blocks(text: str, kind: str) -> list[str]:
    """What stands in the document's fences of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.M | re.S)


def furnish(folder: Path, text: str) -> None:
    """Put into a folder what the lines of a document take for granted."""
    from PIL import Image

    Image.effect_noise((96, 64), 60).convert("RGB").save(folder / "first.png")
    boards = [block for block in blocks(text, "toml") if "[[shot]]" in block]
    board = boards[0] if boards else '[[shot]]\nprompt = "a red ball"\n[[shot]]\nprompt = "a blue cube"\n'
    (folder / "board.toml").write_text(board, encoding="utf-8")
    stages = [block for block in blocks(text, "toml") if "[[stage]]" in block]
    (folder / "stages.toml").write_text((stages or [""])[0], encoding="utf-8")
    (folder / "mine.toml").write_text("[devices.h100]\nusd_h = 2.1\n", encoding="utf-8")
    (folder / "prompts.jsonl").write_text('{"prompt": "a red ball", "seed": 1, "num_steps": 2}\n', encoding="utf-8")
    (folder / "runs" / "world").mkdir(parents=True)
    (folder / "runs" / "world" / "model").symlink_to(ROOT / "src" / "sorano" / "weights" / "world")


def prepared(folder: Path) -> dict[str, str]:
    """An environment whose keys, stores and caches are the folder's own."""
    state = folder.with_name(f"{folder.name}-state")
    own = {f"SORANO_{name}": str(state / name.lower()) for name in ("CONFIG", "STORE", "LIBRARY", "CACHE")}
    return {**os.environ, **own, "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}


def run(words: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """A command's exit code and its last words."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sorano", *words], cwd=folder, env=environment, capture_output=True, text=True,
            timeout=MOST_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"longer than {MOST_SECONDS} s"
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


def shown_files(folder: Path, environment: dict[str, str]) -> None:
    """Videos that documents begin with: one of ours, a recording, and another user's root."""
    ours = ["generate", "a red ball bounces on the grass at sunset", "--seed", "5", "-q", "-o", "clip.mp4"]
    run(ours, folder, environment)
    import av
    import numpy as np

    for name in ("meeting.mp4", "call.mp4"):
        with av.open(str(folder / name), "w") as out:
            stream = out.add_stream("libx264", rate=12)
            stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
            for index in range(24):
                noise = np.random.default_rng(index).integers(0, 255, (128, 192, 3), np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
            out.mux(stream.encode())
    with wave.open(str(folder / "voice.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        noise = np.random.default_rng(0).normal(0, 3000, 5 * 16_000)
        out.writeframes(noise.clip(-32768, 32767).astype("<i2").tobytes())
    if not (folder / "ball.mp4").exists():
        shutil.copy(folder / "clip.mp4", folder / "ball.mp4")
        for name, seed in (("spin.mp4", "1"), ("cube.mp4", "2")):
            run(["generate", "a blue cube", "--seed", seed, "-q", "-o", name], folder, environment)
    other = {**environment, "SORANO_CONFIG": environment["SORANO_CONFIG"] + "-other"}
    for name in ("studio-a.pem", "press.pem", "me.pem"):
        run(["keys", "export", "-o", name], folder, other)
        other["SORANO_CONFIG"] += "-"


def check(document: str, folder: Path) -> list[dict[str, object]]:
    """What became of each command of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    environment = prepared(folder)
    furnish(folder, text)
    if document != "docs/verbs.md":
        shown_files(folder, environment)
    made: list[dict[str, object]] = []
    for line in commands(text):
        reason = next((why for pattern, why in NOT_RUN if re.search(pattern, line)), None)
        words = shlex.split(line)[1:]
        carrier = next((p.stem for p in (folder.parent / f"{folder.name}-state").rglob("carriers/*")), None)
        words = [carrier if word == "0123456789abcdef" and carrier else word for word in words]
        words = ["a red ball" if word == "..." else word for word in words]
        for pattern, more in SHORTENED:
            words += [more] if re.search(pattern, line) else []
        # a document may name one output twice
        if "-o" in words and (named := folder / words[words.index("-o") + 1]).is_file():
            named.unlink()
        began = time.monotonic()
        begins = words[:2] == ["keys", "init"]  # for a user without keys
        own = {**environment, "SORANO_CONFIG": environment["SORANO_CONFIG"] + "-new"} if begins else environment
        code, last = (0, reason) if reason else run(words, folder, own)
        allowed = (0, 8) if words[0] in ("verify", "label") else (0,)
        state = "not run" if reason else "ok" if code in allowed else "FAILED"
        made.append({"document": document, "line": line, "state": state, "code": code, "last": last,
                     "seconds": round(time.monotonic() - began, 1)})  # fmt: skip
        print(f"{state:<8} {document}: {line}" + (f"   [{code}: {last}]" if state != "ok" else ""), flush=True)
    return made


def figures() -> Iterator[tuple[str, str, str]]:
    """Each figure of the documents that a command prints: the document, the words around it, and as it is printed."""
    from sorano.plan import plan_generate
    from sorano.presets import PRESETS

    plan = plan_generate("movie-gen-30b", size="1280x720", fps=24.0, device="h100")
    clip = plan_generate("wan2.2-t2v-a14b", device="h100")
    times = next(table for table in plan.tables if table.title.startswith("Longer films")).rows
    hour, ten = float(times[2][3]), float(times[1][3])  # type: ignore[arg-type]
    yield "README.md", "An hour with full attention costs as much as {} minutes of film", f"{hour:,.0f}"
    yield "docs/plan.md", "ten minutes cost {} times one minute", f"{ten:.0f}"
    yield "docs/plan.md", "an hour {} times", f"{hour:,.0f}"
    yield "docs/plan.md", "81 frames of 1280x720 are {}", f"{clip['tokens']:,}"
    world = PRESETS["world"].read_configs()
    yield "README.md", "| `world` | {} M |", f"{world.parameters() / 1e6:.1f}"


def main() -> int:
    chosen = sys.argv[1:] or list(DOCUMENTS)
    made: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as place:
        for number, document in enumerate(chosen):
            folder = Path(place) / f"{number}"
            folder.mkdir()
            made += check(document, folder)
    wrong = [
        f"{document}: {words.format(number)!r} is not there"
        for document, words, number in figures()
        if words.format(number) not in (ROOT / document).read_text(encoding="utf-8")
    ]
    print("\n".join(wrong))
    failed = [one for one in made if one["state"] == "FAILED"]
    print(json.dumps({"commands": len(made), "failed": len(failed), "wrong_figures": wrong}))
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
