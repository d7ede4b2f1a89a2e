"""Digests of what fixed requests give, for a change that must not change anything.

    OMP_NUM_THREADS=1 python tests/support/fixed_requests.py record before.json
    OMP_NUM_THREADS=1 python tests/support/fixed_requests.py compare before.json  # after the change; exit 1: not equal

Every verb, films and a film that was stopped and resumed, a still, labels, a folder of each kind of the Wan family with
tiny random networks, marked recordings, plans: one thread, float32. Hashed are the latents of every denoising loop, the
frames as made, the decoded frames of the file (audio and mark included in what is coded) and the JSON of plans. The
digests belong to one machine and one build of torch and x264, so they are recorded before a change and not kept here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

PROMPT = "a red ball bounces on the grass at sunset"
OTHER = "a blue cube spins on the sand at noon"
STEPS = 3


class Digests:
    """SHA-256 of everything of one request, in order."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def array(self, values: Any) -> None:
        values = np.ascontiguousarray(values)
        self.hash.update(f"{values.dtype}{values.shape}".encode())
        self.hash.update(values.tobytes())

    def words(self, value: Any) -> None:
        self.hash.update(json.dumps(value, sort_keys=True, default=str).encode())


@contextmanager
def latents_into(digests: Digests) -> Iterator[None]:
    """Adds the last latent of every denoising loop."""
    from sorano.sampling import denoise as module

    inner = module.denoise

    def outer(*arguments: Any, **options: Any) -> Iterator[Any]:
        step = None
        for step in inner(*arguments, **options):
            yield step
        if step is not None:
            digests.array(step.latent.detach().float().cpu().numpy())

    module.denoise = outer  # type: ignore[assignment]
    try:
        yield
    finally:
        module.denoise = inner


class Requests:
    """The requests by name; each adds to the digests what it gave."""

    def __init__(self, folder: Path, given: Path, preset: str) -> None:
        self.folder, self.given, self.preset = folder, given, preset

    def make(self, digests: Digests, name: str, prompt: str = PROMPT, **options: Any) -> Path:
        import sorano
        from sorano.video import read_video

        output = self.folder / f"{name}.mp4"
        words: dict[str, Any] = {"preset": self.preset, "num_steps": STEPS, "seed": 7, "overwrite": True, **options}
        video = sorano.generate(prompt, output=output, device="cpu", dtype="float32", **words)
        for one in video.variations:
            if one.path is not None:
                digests.array(read_video(one.path).frames_THWC)
            digests.array(one.frames_THWC)
            digests.words({key: one.record.get(key) for key in ("request", "made")})
        return output

    def clip(self, name: str = "given", prompt: str = PROMPT, seed: int = 3) -> Path:
        """A finished video to go on from, made once."""
        output = self.given / f"{name}.mp4"  # kept: a signature is never the same twice, and digests of inputs count
        if not output.exists():
            output.parent.mkdir(exist_ok=True)
            self.make(Digests(), name, prompt, seed=seed).rename(output)
        return output

    def picture(self) -> Path:
        from sorano.video import read_video, write_image

        path = self.given / "first.png"
        if not path.exists():
            write_image(path, read_video(self.clip()).frames_THWC[0])
        return path

    def all(self) -> dict[str, Callable[[Digests], object]]:
        from sorano.conditions import Blend, Continue, Edit, Keyframe, Loop, Region
        from sorano.storyboard import Shot

        make, clip, picture = self.make, self.clip, self.picture
        box = (64.0, 64.0, 96.0, 96.0)
        return {
            "text": lambda d: make(d, "text"),
            "text-chinese": lambda d: make(d, "chinese", "一个红色的球在草地上弹跳"),
            "guidance-1": lambda d: make(d, "guidance-1", guidance=1.0),
            "negative": lambda d: make(d, "negative", negative_prompt=OTHER),
            "wide": lambda d: make(d, "wide", size="96x64", upscale=2),
            "scaled": lambda d: make(d, "scaled", size="200x120"),
            "private-eu": lambda d: make(d, "private", private=True, audience="eu", visible_label=True),
            "variations": lambda d: make(d, "variations", variations=2, sheet=self.folder / "sheet.png"),
            "still": lambda d: make(d, "still", num_frames=1),
            "image": lambda d: make(d, "image", image=picture()),
            "image-and-last": lambda d: make(d, "both", image=picture(), last=picture()),
            "keyframe": lambda d: make(d, "keyframe", conditions=[Keyframe(0.5, picture())]),
            "film": lambda d: make(d, "film", seconds=4.0),
            "film-with-image": lambda d: make(d, "film-image", seconds=3.0, image=picture()),
            "shots": lambda d: make(
                d,
                "shots",
                shots=[Shot(prompt=PROMPT, seconds=1.5), Shot(prompt=OTHER, seconds=1.5, join="blend")]
                + [Shot(prompt=PROMPT, seconds=1.0, join="cut")],
            ),
            "shots-with-video": lambda d: make(
                d,
                "shots-video",
                shots=[Shot(video=clip()), Shot(prompt=OTHER, seconds=1.0, join="blend")]
                + [Shot(video=clip("second", OTHER, 5))],
            ),
            "loop": lambda d: make(d, "loop", seconds=2.0, conditions=[Loop()]),
            "loop-of-video": lambda d: make(d, "loop-video", conditions=[Loop(clip())]),
            "extend": lambda d: make(d, "extend", seconds=1.0, conditions=[Continue(clip())]),
            "extend-backward": lambda d: make(d, "back", seconds=1.0, conditions=[Continue(clip(), "backward")]),
            "blend": lambda d: make(d, "blend", conditions=[Blend(clip(), clip("second", OTHER, 5))]),
            "edit": lambda d: make(d, "edit", OTHER, conditions=[Edit(clip(), 0.7)]),
            "region": lambda d: make(d, "region", OTHER, conditions=[Region(clip(), box)]),
            "region-in-time": lambda d: make(
                d, "region-time", OTHER, conditions=[Region(clip(), box, start=0.4, end=0.9, strength=0.8)]
            ),
            "film-resumed": self._resumed,
            "wan-text": lambda d: self._family(d, "text"),
            "wan-image-channels": lambda d: self._family(d, "channels"),
            "wan-two-experts": lambda d: self._family(d, "experts"),
            "marked-recording": self._marked,
            "plan-generate": lambda d: self._plan(d, "generate", "--preset", "wan2.2-ti2v-5b", "--device", "h100"),
            "plan-train": lambda d: self._plan(d, "train", "--preset", "wan2.1-t2v-14b"),
        }

    def _resumed(self, digests: Digests) -> None:
        """A film that is stopped after its first checkpoint and goes on."""
        import sorano
        from sorano import stream
        from sorano.engine import resume
        from sorano.listener import Listener
        from sorano.video import read_video

        class Stops(Listener):
            def progress(self, stage: str, done: int, total: int) -> None:
                if stage == "film" and done > total / 2:
                    raise KeyboardInterrupt

        kept, stream.WORTH_KEEPING_SECONDS = stream.WORTH_KEEPING_SECONDS, 0.0
        every, stream.CHECKPOINT_SECONDS = stream.CHECKPOINT_SECONDS, 0.0
        output = self.folder / "resumed.mp4"
        try:
            sorano.generate(
                PROMPT, output=output, seconds=4.0, preset=self.preset, num_steps=STEPS, seed=7, overwrite=True,
                device="cpu", dtype="float32", listener=Stops(),
            )  # fmt: skip
        except KeyboardInterrupt:
            resume(output)
        finally:
            stream.WORTH_KEEPING_SECONDS, stream.CHECKPOINT_SECONDS = kept, every
        digests.array(read_video(output).frames_THWC)

    def _family(self, digests: Digests, kind: str) -> None:
        import tiny
        import torch

        from sorano.models import checkpoint

        folder = self.folder / f"wan-{kind}"
        bundle = replace(tiny.bundle(), vae=tiny.vae(tiny.VAE_2_1), expand_timesteps=False)
        if kind == "channels":
            config = replace(tiny.TRANSFORMER, in_channels=36, image_dim=32, added_kv_proj_dim=48)
            bundle = replace(
                bundle, transformer=tiny.transformer(config), image_encoder=tiny.image_encoder(),
                image_processor=tiny.image_processor(),
            )  # fmt: skip
        if kind == "experts":
            bundle = replace(bundle, transformer_2=tiny.transformer(seed=9), boundary=0.8)
        checkpoint.save(folder, bundle, dtype=torch.float32)
        given = {"image": self.picture()} if kind == "channels" else {}
        self.make(digests, f"wan-{kind}", "a red ball", preset=str(folder), size="64x64", num_frames=9, **given)

    def _marked(self, digests: Digests) -> None:
        from sorano.trust.record import Marking, mark_file
        from sorano.trust.verify import verify
        from sorano.video import read_video, write_video
        from support import footage

        source, target = self.folder / "recorded.mp4", self.folder / "marked.mp4"
        write_video(source, footage.clip("leaves", 96, 128, 24, 1), 12.0)
        mark_file(source, target, Marking(), overwrite=True)
        digests.words([read_video(target).frames_THWC.shape, verify(target).verdict])  # its mark is drawn at random

    def _plan(self, digests: Digests, *words: str) -> None:
        from typer.testing import CliRunner

        from sorano.cli import app

        done = CliRunner().invoke(app, ["plan", *words, "--json"])
        digests.words([done.exit_code, done.stdout])


def run(preset: str, given: Path, only: list[str] | None) -> dict[str, str]:
    """The digest of each request, or what it raised."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("CACHE", "CONFIG", "STORE", "LIBRARY"):
            os.environ[f"SORANO_{name}"] = str(Path(temporary) / name.lower())
        import torch

        from sorano import video

        torch.set_num_threads(1)
        video.CODER["x264-params"] = "mbtree=0"  # which reads what it has not written, one run in twenty
        requests = Requests(Path(temporary), given, preset)
        for name, request in requests.all().items():
            if only and name not in only:
                continue
            digests, began = Digests(), time.perf_counter()
            try:
                with latents_into(digests):
                    request(digests)
                found[name] = digests.hash.hexdigest()
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
            print(f"{name:20} {found[name][:60]}  {time.perf_counter() - began:.1f} s", flush=True)
    return found


def main() -> int:
    """Records or compares; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--preset", default="world", help="a preset, or a folder whose weights are the same both times")
    parser.add_argument("--only", nargs="*")
    words = parser.parse_args()
    found = run(words.preset, words.file.with_suffix(".given"), words.only)
    if words.what == "record":
        words.file.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    before = json.loads(words.file.read_text())
    differ = [name for name, digest in found.items() if before.get(name) != digest]
    print(f"{len(found) - len(differ)} of {len(found)} equal" + (f"; not: {', '.join(differ)}" if differ else ""))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
