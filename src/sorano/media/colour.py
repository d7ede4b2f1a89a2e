"""What the colour numbers of a video mean, and how they become sRGB as players show it.

SDR with BT.601 or BT.709 primaries goes through swscale with the right matrix and range. BT.2020 and P3 primaries, HLG,
PQ and linear light go through what is defined here: transfer function, primaries, tone mapping.

Sources: ITU-R BT.2100-2 (HLG, PQ), ITU-R BT.2390-8 section 5.4.1 (tone mapping), ITU-R BT.2408 (diffuse white at
203 cd/m2), BT.1886 (display gamma 2.4), ITU-T H.273 (the numbers).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BT709, UNSPECIFIED, BT470BG, SMPTE170M, SMPTE240M, FCC = 1, 2, 5, 6, 7, 4
LINEAR, SRGB, PQ, HLG = 8, 13, 16, 18
BT2020_NCL, BT2020_CL = 9, 10
GAMMA22 = 4
HD_WIDTH, SD_HEIGHT = 1280, 576  # untagged video is BT.709 from 1280 columns or above 576 lines on, as mpv guesses
DIFFUSE_WHITE = 203.0  # cd/m2
DEFAULT_PEAK = 1000.0  # cd/m2, of a master that does not say
STEPS = 4096  # of the tables from light
BAND = 32  # rows that are converted at once: they stay in the cache
# The chromaticities of H.273's primaries that differ visibly from BT.709: x and y of red, green, blue and white.
D65, DCI_WHITE = (0.3127, 0.3290), (0.314, 0.351)
WIDE = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),  # BT.2020
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), DCI_WHITE),  # DCI-P3
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),  # Display P3
}
BT709_PRIMARIES = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65)
HLG_LUMA = (0.2627, 0.6780, 0.0593)
HLG_GAMMA = 1.2
# What swscale calls the matrices: its own numbers agree with H.273's here.
MATRICES = (BT709, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020_NCL)


@dataclass(frozen=True)
class Colour:
    """How a frame codes colour, in the numbers of H.273, and the brightest light that it was mastered for in cd/m2."""

    matrix: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    peak: float = DEFAULT_PEAK

    @property
    def is_hdr(self) -> bool:
        """HLG or PQ."""
        return self.transfer in (PQ, HLG)

    @property
    def needs_table(self) -> bool:
        """Whether a matrix alone does not do. BT.470's gamma of 2.8, the tag of PAL discs, is shown as it is."""
        return self.is_hdr or self.transfer == LINEAR or self.primaries in WIDE

    @property
    def name(self) -> str:
        """For people."""
        wide = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}.get(self.primaries, "BT.709")
        return {PQ: "HDR (PQ)", HLG: "HDR (HLG)"}.get(self.transfer, wide)


def colour_of(frame: Any) -> Colour:
    """What a decoded frame says, with players' guess where it says nothing."""
    matrix = frame.colorspace
    if matrix not in MATRICES:
        hd = frame.width >= HD_WIDTH or frame.height > SD_HEIGHT
        matrix = BT2020_NCL if matrix == BT2020_CL else BT709 if hd else SMPTE170M
    transfer = frame.color_trc
    peak = _peak(frame) if transfer == PQ else DEFAULT_PEAK
    return Colour(matrix, transfer, frame.color_primaries, peak)


def _peak(frame: Any) -> float:
    """The master's peak in cd/m2: its content light level, or its display's, where they are plausible."""
    peaks: list[float] = []
    for data in frame.side_data:
        kind, raw = data.type.name, bytes(data)
        if kind == "CONTENT_LIGHT_LEVEL" and len(raw) >= 4:
            peaks.insert(0, float(struct.unpack_from("=I", raw)[0]))
        elif kind == "MASTERING_DISPLAY_METADATA" and len(raw) >= 88:
            numerator, denominator, _, known = struct.unpack_from("=iiii", raw, 72)
            if known and denominator:
                peaks.append(numerator / denominator)
    return next((peak for peak in peaks if DIFFUSE_WHITE < peak <= 10_000), DEFAULT_PEAK)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    import numpy as np

    *corners, white = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in primaries]
    matrix = np.stack(corners, 1)
    return matrix * np.linalg.solve(matrix, white)


def to_bt709(primaries: int) -> NDArray[np.float64]:
    """The matrix [3, 3] from linear light in other primaries to linear BT.709; white stays white."""
    import numpy as np

    if primaries not in WIDE:
        return np.eye(3)
    matrix = np.linalg.solve(_to_xyz(BT709_PRIMARIES), _to_xyz(WIDE[primaries]))
    return matrix / matrix.sum(1, keepdims=True)


def _pq_to_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """PQ to cd/m2."""
    import numpy as np

    root = np.clip(signal, 0, 1) ** (1 / 78.84375)
    return 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def _light_to_pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """cd/m2 to PQ."""
    import numpy as np

    power = np.clip(light / 10_000, 0, 1) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def _hlg_scene(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """HLG to the light of the scene, 0..1."""
    import numpy as np

    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _tone_mapped_hlg(scene: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scene [..., 3] of HLG as on a display of 1000 cd/m2 with the system gamma of 1.2, brought to SDR."""
    import numpy as np

    luminance = scene @ np.array(HLG_LUMA)
    light = 1000 * scene * (np.maximum(luminance, 1e-6) ** (HLG_GAMMA - 1))[..., None]
    return _tone_mapped(light, 1000.0) / DIFFUSE_WHITE


def _tone_mapped(light: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """cd/m2 up to `peak` brought to 0..203 with BT.2390's curve: shadows and skin stay, highlights roll off."""
    import numpy as np

    top = float(_light_to_pq(np.array(peak)))
    most = float(_light_to_pq(np.array(DIFFUSE_WHITE))) / top
    knee = 1.5 * most - 0.5
    signal = np.clip(_light_to_pq(light) / top, 0, 1)
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    )  # Hermite, from the knee with slope 1 to the top with slope 0
    return _pq_to_light(np.where(signal < knee, signal, spline) * top)


def to_display(signal: NDArray[np.float64], colour: Colour) -> NDArray[np.float64]:
    """R'G'B' [..., 3] in 0..1, coded as `colour` says, as R'G'B' for an SDR screen, 0..1: the definition."""
    import numpy as np

    linear = _tone_mapped_hlg(_hlg_scene(signal)) if colour.transfer == HLG else _to_linear(signal, colour)
    return _to_signal(np.clip(linear @ to_bt709(colour.primaries).T, 0, 1), colour)


def _to_linear(signal: NDArray[np.float64], colour: Colour) -> NDArray[np.float64]:
    """One channel's signal as light on the screen, 1 for its white, where channels do not depend on one another."""
    if colour.transfer == PQ:
        return _tone_mapped(_pq_to_light(signal), colour.peak) / DIFFUSE_WHITE
    return signal ** {LINEAR: 1.0, GAMMA22: 2.2}.get(colour.transfer, 2.4)


def _to_signal(linear: NDArray[np.float64], colour: Colour) -> NDArray[np.float64]:
    """Light on the screen as the signal for it."""
    import numpy as np

    if colour.is_hdr or colour.transfer == LINEAR:
        return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return linear ** (1 / (2.2 if colour.transfer == GAMMA22 else 2.4))


class Converter:
    """Pixels [H, W, 3], uint16, coded in a colour, to uint8 for an SDR screen: `to_display` by one table a channel."""

    def __init__(self, colour: Colour) -> None:
        import numpy as np

        steps = np.linspace(0, 1, STEPS)
        self.is_hlg = colour.transfer == HLG
        every = np.linspace(0, 1, 1 << 16)
        first = _hlg_scene(every) if self.is_hlg else _to_linear(every, colour)
        self.first = first.astype(np.float32)
        self.tone = (_tone_mapped(1000 * steps**2, 1000.0) / DIFFUSE_WHITE).astype(np.float32)
        self.matrix = to_bt709(colour.primaries).astype(np.float32)
        self.last = np.rint(255 * _to_signal(steps**2, colour)).astype(np.uint8)

    def __call__(self, signal_HWC: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """One frame, a band of rows at a time."""
        import numpy as np

        made = np.empty(signal_HWC.shape, np.uint8)
        for top in range(0, len(made), BAND):
            made[top : top + BAND] = self._band(signal_HWC[top : top + BAND])
        return made

    def _band(self, signal_HWC: NDArray[np.uint16]) -> NDArray[np.uint8]:
        import cv2
        import numpy as np

        linear = self.first[signal_HWC]
        if self.is_hlg:
            luminance = cv2.transform(linear, np.array([HLG_LUMA], np.float32))
            linear *= cv2.pow(np.maximum(luminance, 1e-6), HLG_GAMMA - 1).reshape(*linear.shape[:2], 1)
            linear = self.tone[_root_index(linear)]
        return self.last[_root_index(cv2.transform(linear, self.matrix))]


def _root_index(linear: NDArray[Any]) -> NDArray[np.uint16]:
    """Light in 0..1 as an index into a table that is finer in the dark."""
    import numpy as np

    root = np.sqrt(np.clip(linear, 0, 1, out=linear), out=linear)
    root *= STEPS - 1
    root += 0.5
    return root.astype(np.uint16)
