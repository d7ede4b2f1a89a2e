"""AIGC labels in GIF: an XMP packet in an application extension, as the XMP specification (part 3, 1.1.2) has it.

A packet has no sub-blocks of its own. Behind it stand 258 bytes, 01 FF FE .. 00 00, from each of which a reader that
walks sub-blocks comes to the end.

Not covered: packets of other writers without these bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from sorano.errors import VideoError

EXTENSION = b"\x21\xff\x0bXMP DataXMP"
TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
HEADER = 13  # bytes
MOST_BYTES = 256_000_000
CARRIER = "GIF XMP"


def packets(stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Where each XMP extension begins and ends, and its packet. Raises VideoError for a GIF that is too large."""
    data = _all_of(stream)
    if len(data) < HEADER:
        return
    place = _after_palette(data)
    while place < len(data) and data[place] in (0x21, 0x2C):
        start = place
        if data[place] == 0x21:
            place = _after_blocks(data, place + 2)
            if data.startswith(EXTENSION, start) and data.endswith(TRAILER, start, place):
                yield start, place, data[start + len(EXTENSION) : place - len(TRAILER)]
        else:
            flags = data[place + 9]
            place = _after_blocks(data, place + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))


def with_packet(stream: BinaryIO, packet: bytes) -> bytes:
    """The file with an XMP packet in the place of those that it has, before its first picture."""
    data = _all_of(stream)
    if len(data) < HEADER:
        raise VideoError(f"a GIF has {HEADER} bytes at least: got {len(data)}")
    for start, end, _ in reversed(list(packets(stream))):
        data = data[:start] + data[end:]
    place = _after_palette(data)
    return b"GIF89a" + data[6:place] + EXTENSION + packet + TRAILER + data[place:]


def _all_of(stream: BinaryIO) -> bytes:
    stream.seek(0)
    data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise VideoError(f"the GIF is larger than {MOST_BYTES:,} bytes")
    return data


def _after_palette(data: bytes) -> int:
    return 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)


def _after_blocks(data: bytes, place: int) -> int:
    while place < len(data) and data[place]:
        place += 1 + data[place]
    return place + 1
