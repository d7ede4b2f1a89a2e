"""What a file's structure asks of a player beyond its frames: where players may show something else than was compared.

An MP4 with a second movie box, an edit list that asks for another speed, a track that is enlarged or moved on screen;
a JPEG with more behind its end (a moving photograph, a second picture). None of it is wrong in itself; a file that
has it is not known to look alike everywhere, so it is not called a copy.

Not covered: what single players do beyond the standards (ISO/IEC 14496-12, ISO/IEC 10918-1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sorano.errors import VideoError
from sorano.trust.provenance.containers import boxes, jpeg_segments, reading, size_of, sniff, span

ONE, UNIT = 1 << 16, 1 << 30  # of the fixed-point numbers of a track's matrix (ISO/IEC 14496-12, 8.3.2)
MOST_DEPTH = 4
TAIL_BYTES = 64  # behind a JPEG's end: padding that some cameras write


def differs(path: Path) -> tuple[str, ...]:
    """Why players may show something else than the frames of a file, in words. Raises VideoError for damaged files."""
    container = sniff(path)
    with reading(path) as stream:
        if container.is_bmff:
            return tuple(dict.fromkeys(_of_boxes(stream)))
        if container.name == "jpeg":
            return tuple(_of_jpeg(stream))
    return ()


def _of_boxes(stream: BinaryIO) -> Iterator[str]:
    movies = [box for box in boxes(stream) if box.kind == b"moov"]
    if len(movies) > 1:
        yield f"it has {len(movies)} movie boxes, and players may choose another"
    for movie in movies:
        yield from _of_tracks(stream, movie.content, movie.end, 0)


def _of_tracks(stream: BinaryIO, start: int, end: int, depth: int) -> Iterator[str]:
    for box in boxes(stream, start, end):
        if box.kind in (b"trak", b"edts") and depth < MOST_DEPTH:
            yield from _of_tracks(stream, box.content, box.end, depth + 1)
        elif box.kind == b"elst" and not _plays_at_its_speed(span(stream, box.content, box.end)):
            yield "its edit list asks for another speed, which some players obey"
        elif box.kind == b"tkhd" and not _fills_the_screen(span(stream, box.content, box.end)):
            yield "its track is enlarged or moved on the screen, which some players obey"


def _plays_at_its_speed(content: bytes) -> bool:
    """Whether every edit that shows something does so at a rate of 1."""
    if len(content) < 8:
        return True
    layout = ">QqI" if content[0] == 1 else ">IiI"
    size = struct.calcsize(layout)
    (count,) = struct.unpack_from(">I", content, 4)
    entries = [struct.unpack_from(layout, content, 8 + n * size) for n in range(min(count, (len(content) - 8) // size))]
    return all(rate == ONE for _, start, rate in entries if start >= 0)


def _fills_the_screen(content: bytes) -> bool:
    """Whether a track's matrix only turns and mirrors by right angles, and moves the picture back into view."""
    at = 52 if content[:1] == b"\1" else 40
    if len(content) < at + 44:
        return True
    a, b, u, c, d, v, x, y, w = struct.unpack_from(">9i", content, at)
    width, height = struct.unpack_from(">2I", content, at + 36)
    is_turn = sorted((abs(a), abs(b))) == [0, ONE] and (abs(a), abs(b)) == (abs(d), abs(c))
    back = {0, width, height}  # where a turn or a mirror brings the corner back to
    return is_turn and (u, v, w) == (0, 0, UNIT) and abs(x) in back and abs(y) in back


def _of_jpeg(stream: BinaryIO) -> Iterator[str]:
    """More than padding behind the end of the first picture."""
    scan = [part for part in jpeg_segments(stream) if part.kind == b"\xda"]
    if not scan:
        raise VideoError("the picture has no scan")
    size = size_of(stream)
    stream.seek(scan[-1].end)
    end = _end_of_picture(stream, size)
    if size - end > TAIL_BYTES:
        yield f"{size - end:,} bytes lie behind the end of the picture: another picture, or a film"


def _end_of_picture(stream: BinaryIO, size: int) -> int:
    """The place behind the end marker (FF D9), which no scan holds (ISO/IEC 10918-1, B.1.1.5); the size without one."""
    place, before = stream.tell(), b""
    while block := stream.read(1 << 16):
        found = (before + block).find(b"\xff\xd9")
        if found >= 0:
            return place - len(before) + found + 2
        place, before = place + len(block), block[-1:]
    return size


__all__ = ["differs"]
