"""What is odd about a video that nothing vouches for: frozen and repeated frames, joined streams, contradictions.

Each indicator names what was seen and where. They are triage: calibrated to at most 1 % false alarms on ordinary clips
that were coded again and forwarded (docs/LOG.md), and silent about everything else. A clean clip is not a true one.

Not covered: faces, voices, anything a generator or an editor does without these traces; cuts (editing is ordinary);
variable frame rates and dropped frames (phones and chats do that); loops that are meant (they are repeated frames).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.media import read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sorano.trust.copies.fingerprint import Thumbs

FROZEN_SECONDS = 0.5
STILL = 0.1  # levels of mean change between thumbnails: none but a codec's
MOVING = 1.0  # levels: clear motion just before and after
MOSTLY_MOVING = 0.95  # of all other frames: slides, scrolled screens and pauses are ordinary
AROUND_SECONDS = 0.34  # looked at before and after a stop
REPEATED_SECONDS = 1.0
REPEATED_MOVING = 0.6  # levels: a piece without motion is like every other
REPEATED, REPEATED_SHARE = 1.3, 0.5  # most levels between a second and its repetition; of its change frame by frame
ENCODER_NAMES = 16  # of a stream's messages that are kept
MAX_MESSAGE_BYTES = 4096
X264_UUID = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")  # x264 says once, in its first packet, how it was set
ODD_SHARE = 0.01  # of ordinary files whose noise may be called odd
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
CLOCK_SLACK = timedelta(days=2)  # zones and clocks that are a little off


@dataclass(frozen=True)
class Indicator:
    """Something odd: its kind, what was seen, and the seconds where."""

    kind: str  # frozen, repeated, joined, contradiction
    words: str
    seconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Trace:
    """How foreign the noise of a region is. `percentile`: the share of ordinary files, 0 to 100, with a lower score."""

    score: float
    percentile: float
    box: tuple[float, float, float, float]  # where it is most unusual: left, top, right, bottom, 0 to 1

    @property
    def is_odd(self) -> bool:
        """Whether it is beyond all but `ODD_SHARE` of ordinary files."""
        return self.percentile >= 100 * (1 - ODD_SHARE)

    @property
    def words(self) -> str:
        """It in a report's words."""
        left, top, right, bottom = self.box
        where = f"{left:.0%}-{right:.0%} across, {top:.0%}-{bottom:.0%} down"
        if not self.is_odd:
            return f"no noise is foreign to the rest by more than is usual (percentile {self.percentile:.0f}, {where})"
        return f"the noise at {where} is foreign to the rest, more than in {self.percentile:.0f} % of ordinary files"


def of_frames(seen: Thumbs) -> list[Indicator]:
    """Frozen and repeated frames, from the thumbnails of every frame."""
    import numpy as np

    thumbs = seen.thumbs_NYX.astype(np.int16)
    if len(thumbs) < 8 or len(seen.seconds_N) < 2:
        return []
    fps = 1 / max(1e-3, float(np.median(np.diff(seen.seconds_N))))
    change_N = np.abs(np.diff(thumbs, axis=0)).mean((1, 2))
    return _frozen(change_N, fps) + _repeated(thumbs, change_N, fps)


def _frozen(change_N: NDArray[Any], fps: float) -> list[Indicator]:
    import numpy as np

    least, around = max(8, round(FROZEN_SECONDS * fps)), max(4, round(AROUND_SECONDS * fps))
    found, start = [], 0
    still = np.append(change_N <= STILL, False)
    moving_share = 1 - still.sum() / max(1, len(change_N))
    for at, is_still in enumerate(still):
        if is_still:
            continue
        before, after = change_N[max(0, start - around) : start], change_N[at : at + around]
        if at - start >= least and len(before) == len(after) == around:
            rest = moving_share * len(change_N) / max(1, len(change_N) - (at - start))
            if min(np.median(before), np.median(after)) >= MOVING and rest >= MOSTLY_MOVING:
                span = (start / fps, at / fps)
                found.append(Indicator("frozen", f"motion stops dead for {span[1] - span[0]:.1f} s and goes on", span))
        start = at + 1
    return found


def _repeated(thumbs: NDArray[np.int16], change_N: NDArray[Any], fps: float) -> list[Indicator]:
    import numpy as np

    length = max(8, round(REPEATED_SECONDS * fps))
    if len(thumbs) < 2 * length:
        return []
    flat = thumbs.reshape(len(thumbs), -1)
    starts = np.arange(0, len(thumbs) - length + 1)
    motion = np.convolve(change_N, np.ones(length - 1), "valid")[: len(starts)] / (length - 1)
    anchor = flat[:, :: max(1, flat.shape[1] // 96)].astype(np.float32)
    for first in starts[:: max(1, length // 4)]:
        if motion[first] < REPEATED_MOVING:
            continue
        limit = min(REPEATED, REPEATED_SHARE * float(motion[first]))
        close = np.abs(anchor[first + length :] - anchor[first]).mean(1) <= 2 * limit
        for later in np.flatnonzero(close) + first + length:
            if later + length > len(thumbs):
                break
            apart = np.abs(flat[first : first + length] - flat[later : later + length]).mean(1)
            if apart.max() <= limit and not _periodic(flat, int(first), int(later), length, limit):
                span = (later / fps, (later + length) / fps)
                words = f"{length / fps:.1f} s are shown again: first at {first / fps:.1f} s"
                return [Indicator("repeated", words, span)]
    return []


def _periodic(flat: NDArray[np.int16], first: int, later: int, length: int, limit: float) -> bool:
    """Whether what lies between repeats too: a thing that turns or swings, not a piece that was put in again."""
    import numpy as np

    gap = later - first
    for period in range(4, gap):
        if gap % period == 0 and period < gap:
            apart = np.abs(flat[first : first + length] - flat[first + period : first + period + length]).mean()
            if apart <= limit:
                return True
    return False


def of_stream(path: Path) -> list[Indicator]:
    """Streams that were joined without coding again: the encoder introduces itself more than once."""
    found: list[float] = []
    with read.inspected(path) as given:
        video = read.video_stream(given, path)
        if video.codec_context.name != "h264":
            return []
        for count, packet in enumerate(given.demux(video)):
            if packet.size and X264_UUID in bytes(packet)[:MAX_MESSAGE_BYTES]:
                found.append(float((packet.pts or 0) * (packet.time_base or 0)))
            if count > 200_000 or len(found) > ENCODER_NAMES:
                break
    if len(found) < 2:
        return []
    places = ", ".join(f"{second:.1f} s" for second in found[1:4])
    return [Indicator("joined", f"pieces that were coded apart were joined at {places}", (found[1], found[1]))]


def of_metadata(tags: Mapping[str, str], ai_labelled: bool, now: datetime | None = None) -> list[Indicator]:
    """Statements in the file that cannot all be true."""
    found = []
    now = now or datetime.now(UTC)
    made = _time(tags.get("creation_time", ""))
    if made is not None and (made > now + CLOCK_SLACK or made < EARLIEST):
        found.append(Indicator("contradiction", f"it says that it was made on {made:%Y-%m-%d}"))
    camera = next((tags[name] for name in tags if re.search(r"(quicktime\.model|^model$|^make$)", name.lower())), None)
    if camera and ai_labelled:
        found.append(Indicator("contradiction", f"it is labelled AI-generated and names a camera, {camera[:40]!r}"))
    return found


def _time(text: str) -> datetime | None:
    try:
        made = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def words(indicators: Sequence[Indicator]) -> str:
    """What was seen, in one line."""
    return "; ".join(one.words for one in indicators)
