"""Clips of the world on disk: rendered once, read at random, finished after a kill.

`frames.u8` [N, T, H, W, 3] and `masks.u8` [N, T, H, W] (0 where there is no thing) are plain arrays; `captions.jsonl`
has one line per finished clip, written after its pixels, so the number of lines is the number of usable clips.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sorano.train.loop import write_text

if TYPE_CHECKING:
    from sorano.world.dataset import Sample
    from sorano.world.scene import Attributes

NUM_CAPTIONS = {"en": 4, "zh": 2}  # phrasings kept for each clip: as many that leave things out as that name all


@dataclass(frozen=True)
class ClipSpec:
    """What is rendered."""

    world: str = "core"
    split: str = "train"
    num_clips: int = 8000
    num_frames: int = 25
    height: int = 64
    width: int = 64
    fps: float = 12.0


class ClipStore:
    """Clips of one spec in a folder."""

    def __init__(self, folder: Path, spec: ClipSpec) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.spec = folder, spec
        described = json.dumps(asdict(spec))
        spec_path = folder / "spec.json"
        if spec_path.exists() and spec_path.read_text() != described:
            raise ValueError(f"{folder} holds other clips ({spec_path.read_text()}); choose another folder")
        write_text(spec_path, described)
        shape = (spec.num_clips, spec.num_frames, spec.height, spec.width)
        self.frames_NTHWC = _array(folder / "frames.u8", (*shape, 3))
        self.masks_NTHW = _array(folder / "masks.u8", shape)
        self.captions = _read_captions(folder / "captions.jsonl")

    def __len__(self) -> int:
        return len(self.captions)

    def read_captions(self) -> None:
        """Finds the clips that another process has rendered meanwhile."""
        self.captions = _read_captions(self.folder / "captions.jsonl")

    def render(self, log: Callable[[str], None], batch: int = 50, count: int | None = None) -> None:
        """Renders what is missing of the first `count` clips (all), `batch` at a time.

        Clip n is sample (split, n), whatever was there before.
        """
        began, first = time.perf_counter(), len(self)
        wanted = min(self.spec.num_clips, count or self.spec.num_clips)
        with (self.folder / "captions.jsonl").open("a") as file:
            while len(self) < wanted:
                start = len(self)
                for clip, sample in enumerate(self._samples(start, min(batch, wanted - start))):
                    self.frames_NTHWC[start + clip] = sample.frames_THWC
                    self.masks_NTHW[start + clip] = sample.mask_THW
                    captions = phrasings(sample.attributes, start + clip)
                    file.write(json.dumps(captions, ensure_ascii=False) + "\n")
                    self.captions.append(captions)
                file.flush()
                if len(self) % 500 < batch or len(self) == wanted:
                    rate = (len(self) - first) / (time.perf_counter() - began)
                    log(f"rendered {len(self)}/{wanted} clips  {rate:.1f} clips/s")

    def _samples(self, start: int, count: int) -> list[Sample]:
        from sorano.world import dataset

        spec = self.spec
        size: dict[str, Any] = {"num_frames": spec.num_frames, "height": spec.height, "width": spec.width}
        size |= {"fps": spec.fps, "world": spec.world}
        seeds = range(start, start + count)
        return dataset.samples(spec.split, seeds, workers=os.cpu_count() or 1, **size)


def phrasings(attributes: Attributes, seed: int) -> list[str]:
    """The captions kept for a clip, in both languages: several that leave things out, and as many that name all."""
    from sorano.world import caption

    return [
        caption.describe(attributes, f"{seed}:{number}", language, full=full)
        for full in (False, True)
        for language, count in NUM_CAPTIONS.items()
        for number in range(count)
    ]


def _array(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """A memory-mapped array of bytes, made (sparse) where it is missing."""
    size = int(np.prod(shape))
    if not path.exists() or path.stat().st_size != size:
        with path.open("wb") as file:
            file.truncate(size)
    return np.memmap(path, np.uint8, "r+", shape=shape)


def _read_captions(path: Path) -> list[list[str]]:
    """The finished clips' captions; a line cut short by a kill is dropped from the file too."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    return [json.loads(line) for line in whole.splitlines()]
