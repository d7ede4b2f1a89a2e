"""Pictures of a run in the terminal, step by step: kitty's protocol, sixel, or half blocks of text.

Only where stderr is a terminal. kitty, WezTerm and Ghostty are known by their environment; whether a terminal draws
sixel is asked of it (primary device attributes, xterm's control sequences); all others get half blocks, two pixels a
character, in 24 or 256 colours as COLORTERM says.

Films show the window at hand. Not covered: terminals inside others (tmux), which get half blocks.
"""

from __future__ import annotations

import base64
import io
import os
import re
import select
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

COLUMNS = 48  # of a preview in half blocks
PIXELS = 320  # the longer side of one in pixels
LEAST_SECONDS = 0.2  # between two pictures
MOST_SHARE = 0.1  # of the time that drawing may take
ANSWER_SECONDS = 0.2  # for a terminal to say what it is
KITTY_ID = 7041
KITTY_CHUNK = 4096
SIXEL_COLOURS = 64
ROW_PIXELS = 20  # of a line of text, about


def kind_of(environment: Mapping[str, str] = os.environ, ask: bool = True) -> str:
    """How this terminal shows pictures: "kitty", "sixel" or "blocks"."""
    if environment.get("TMUX") or environment.get("TERM", "").startswith(("screen", "tmux")):
        return "blocks"
    if environment.get("KITTY_WINDOW_ID") or environment.get("TERM") in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    if environment.get("TERM_PROGRAM") in ("WezTerm", "ghostty"):
        return "kitty"
    return "sixel" if ask and "4" in device_attributes() else "blocks"


def device_attributes() -> list[str]:
    """What the terminal answers when it is asked what it can (primary device attributes); nothing from a mute one."""
    with suppress(ImportError, OSError):
        import termios
        import tty

        with open("/dev/tty", "r+b", buffering=0) as terminal:
            before = termios.tcgetattr(terminal)
            try:
                tty.setcbreak(terminal.fileno())
                terminal.write(b"\x1b[c")
                answer, end = b"", time.monotonic() + ANSWER_SECONDS
                while not answer.endswith(b"c") and select.select([terminal], [], [], end - time.monotonic())[0]:
                    answer += os.read(terminal.fileno(), 64)
                    if time.monotonic() >= end:
                        break
            finally:
                termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        found = re.search(rb"\x1b\[\?([\d;]+)c", answer)
        return found[1].decode().split(";") if found else []
    return []


class Preview:
    """Draws one picture over the other on a terminal, with a line of text below."""

    def __init__(self, stream: IO[str], kind: str | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        self.kind = kind_of(environment) if kind is None else kind
        self._full_colour = environment.get("COLORTERM", "") in ("truecolor", "24bit")
        self._rows = 0  # of text that the last picture took
        self._next = 0.0

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed since the last picture."""
        return time.monotonic() >= self._next

    def show(self, frame_HWC: Frames, text: str, spent: float = 0.0) -> None:
        """Draw a picture [H, W, 3]. `spent` is how many seconds making it took."""
        began = time.monotonic()
        back = f"\x1b[{self._rows}F" if self._rows else ""
        if self.kind == "blocks":
            lines = half_blocks(frame_HWC, COLUMNS, self._full_colour)
            self._rows, drawn = len(lines) + 1, "\n".join(lines)
        else:
            small = _within(frame_HWC, PIXELS)
            rows = -(-small.shape[0] // ROW_PIXELS)
            drawn = kitty(small, rows) if self.kind == "kitty" else sixel(small)
            # room is made first, so that drawing never scrolls: then the cursor goes where the text stands
            drawn = "\n" * rows + f"\x1b[{rows}A\x1b7{drawn}\x1b8\x1b[{rows}B"
            self._rows = rows + 1
        self._stream.write(f"{back}{drawn}\r\n\x1b[2K{text}\n")
        self._stream.flush()
        cost = time.monotonic() - began + spent
        self._next = time.monotonic() + max(LEAST_SECONDS, cost / MOST_SHARE)

    def close(self) -> None:
        """Take kitty's picture away; those of text and of sixel stay where they are."""
        if self.kind == "kitty" and self._rows:
            self._stream.write(f"\x1b_Ga=d,d=I,i={KITTY_ID},q=2\x1b\\")
            self._stream.flush()


def half_blocks(frame_HWC: Frames, columns: int, full_colour: bool) -> list[str]:
    """A picture as lines of text: each character is two pixels, one above the other."""
    import numpy as np
    from PIL import Image

    height, width = frame_HWC.shape[:2]
    columns = min(columns, width)
    rows = max(2, round(columns * height / width / 2) * 2)
    small = np.asarray(Image.fromarray(frame_HWC).resize((columns, rows), Image.Resampling.BOX))
    lines = []
    for above, below in zip(small[::2], small[1::2], strict=True):
        pairs = zip(above, below, strict=True)
        cells = (f"{_colour(38, up, full_colour)}{_colour(48, down, full_colour)}▀" for up, down in pairs)
        lines.append("".join(cells) + "\x1b[0m")
    return lines


def _colour(where: int, pixel: Any, full_colour: bool) -> str:
    red, green, blue = (int(part) for part in pixel)
    if full_colour:
        return f"\x1b[{where};2;{red};{green};{blue}m"
    cube = [round(part / 255 * 5) for part in (red, green, blue)]
    return f"\x1b[{where};5;{16 + 36 * cube[0] + 6 * cube[1] + cube[2]}m"


def kitty(frame_HWC: Frames, rows: int) -> str:
    """A picture in kitty's graphics protocol: a PNG in chunks of base64, over the one before it."""
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(frame_HWC).save(held, format="PNG", compress_level=1)
    data = base64.b64encode(held.getvalue()).decode()
    chunks = [data[at : at + KITTY_CHUNK] for at in range(0, len(data), KITTY_CHUNK)]
    said = []
    for index, chunk in enumerate(chunks):
        first = f"a=T,f=100,i={KITTY_ID},p=1,r={rows},C=1,q=2," if index == 0 else ""
        said.append(f"\x1b_G{first}m={int(index < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(said)


def sixel(frame_HWC: Frames) -> str:
    """A picture as sixels (DEC's, as in VT340 terminals): a palette, then bands of six rows, colour by colour."""
    import numpy as np
    from PIL import Image

    image = Image.fromarray(frame_HWC).quantize(SIXEL_COLOURS, dither=Image.Dither.NONE)
    values, palette = np.asarray(image), image.getpalette() or []
    height, width = values.shape
    parts = [f'\x1bPq"1;1;{width};{height}']
    for colour in range(len(palette) // 3):
        red, green, blue = (round(100 * part / 255) for part in palette[3 * colour : 3 * colour + 3])
        parts.append(f"#{colour};2;{red};{green};{blue}")
    weights = (1 << np.arange(6))[:, None]
    for top in range(0, height, 6):
        band = values[top : top + 6]
        for colour in np.unique(band):
            bits = ((band == colour) * weights[: len(band)]).sum(0)
            parts.append(f"#{colour}{_runs(bits)}$")
        parts.append("-")
    return "".join(parts) + "\x1b\\"


def _runs(bits: Any) -> str:
    """Sixels of a line, with equal ones counted."""
    said, start = [], 0
    for at in range(1, len(bits) + 1):
        if at < len(bits) and bits[at] == bits[start]:
            continue
        letter, count = chr(63 + int(bits[start])), at - start
        said.append(f"!{count}{letter}" if count > 3 else letter * count)
        start = at
    return "".join(said)


def _within(frame_HWC: Frames, most: int) -> Frames:
    import numpy as np
    from PIL import Image

    image = Image.fromarray(frame_HWC)
    scale = most / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX))
