"""Where each format keeps its C2PA manifest store, and which bytes of a file C2PA's own hash leaves out.

Stores are found by structure (a uuid box, a caBX chunk, APP11 segments, a C2PA chunk, an ID3 GEOB frame, a GIF
application extension, a TIFF tag), never by bytes that look like one: a comment may speak of `c2pa.claim`. Parts are
counted before any other reader meets the file, because C2PA's is quadratic in boxes.

Not covered: SVG, PDF and JPEG XL, whose stores only C2PA's own reader finds (`places` says None).

Source: C2PA Technical Specification 2.4, Appendix A (embedding manifests), sections 18.5 and 18.6 (hard bindings).
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sorano.errors import VideoError
from sorano.trust.provenance.containers import (
    Part,
    TooManyParts,
    boxes,
    id3,
    id3_frames,
    jpeg_segments,
    png_chunks,
    reading,
    riff_chunks,
    sniff,
    span,
)

C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
JUMBF_C2PA = bytes.fromhex("63327061" + "00110010800000aa00389b71")  # the type of a JUMBF superbox that is a store
GEOB_MIME = b"application/c2pa"
TIFF_TAG = 0xCD41
LEFT_OUT_KINDS = (b"ftyp", b"free", b"skip", b"mfra")  # boxes that c2pa-rs leaves out of the hash of what it signs
OUR_EXCLUSIONS = frozenset({"/uuid", *(f"/{kind.decode()}" for kind in LEFT_OUT_KINDS)})
MAX_C2PA_BOXES = 20_000  # C2PA's reader takes 4 s for so many (one core), and its time grows with their square
MAX_C2PA_CHUNKS = 50_000  # of a PNG: 1.3 s
MAX_DEPTH = 16  # of boxes in boxes
MAX_DIRECTORIES, MAX_DIRECTORY_ENTRIES = 64, 4096  # of a TIFF
MAX_STORE_BYTES = 20_000_000
MAX_EMBEDDED_BYTES = 64_000_000  # of manifests in one file, their thumbnails included
MAX_GIF_BYTES = 256_000_000
MOST_LISTED = 32  # kinds of what a hash leaves out
PARENTS = frozenset(
    b"moov trak edts mdia minf dinf stbl mvex moof traf mfra udta iprp ipco tref sinf schi stsd meco meta strk".split()
)


@dataclass(frozen=True)
class Place:
    """Bytes of a file that hold a C2PA box: where they begin and end, and the purpose that the box states."""

    start: int
    end: int
    purpose: str = "manifest"


def places(path: Path, *, strict: bool = False) -> list[Place] | None:
    """Every place in a file that holds a C2PA box, in order; None for a format whose places are not known here.

    Of a file that is damaged (cut off, or with something behind its end) those before the damage, unless `strict`.
    Raises TooManyParts, and VideoError where the file cannot be opened or, if `strict`, is damaged.
    """
    container = sniff(path)
    finder = {
        "mp4": _bmff_places, "heif": _bmff_places, "png": _png_places, "jpeg": _jpeg_places, "webp": _riff_places,
        "wav": _riff_places, "avi": _riff_places, "mp3": _id3_places, "flac": _id3_places, "gif": _gif_places,
        "tiff": _tiff_places,
    }.get(container.name)  # fmt: skip
    if finder is None:
        return None if container.readable else []
    found: list[Place] = []
    try:
        with reading(path) as stream:
            for one in finder(stream):
                found.append(one)
    except TooManyParts:
        raise
    except VideoError:
        if strict:
            raise
    return found


def has_c2pa(path: Path) -> bool:
    """Whether a file has a place of C2PA with something in it, readable or not."""
    return bool(places(path))


def check_parts(path: Path) -> None:
    """Raises VideoError for more boxes, chunks or bytes of manifests than C2PA's reader takes in seconds."""
    container = sniff(path)
    size = sum(one.end - one.start for one in places(path) or () if one.purpose == "manifest")
    if size > MAX_EMBEDDED_BYTES:
        raise TooManyParts(f"{path} holds {size:,} bytes of manifests: its credential is not read")
    with reading(path) as stream:
        if container.is_bmff:
            _count_boxes(stream)
        elif container.name == "png":
            if sum(1 for _ in _until_damage(png_chunks(stream))) > MAX_C2PA_CHUNKS:
                raise TooManyParts(f"it has more than {MAX_C2PA_CHUNKS:,} chunks: its credential is not read")


def _until_damage(parts: Iterator[Part]) -> Iterator[Part]:
    """The parts of a file up to where it is damaged, which C2PA's own reader will say."""
    try:
        yield from parts
    except TooManyParts:
        raise
    except VideoError:
        return


def _count_boxes(stream: BinaryIO) -> None:
    count, ahead = 0, [(0, stream.seek(0, io.SEEK_END), 0)]
    while ahead:
        start, end, depth = ahead.pop()
        if depth > MAX_DEPTH:
            raise TooManyParts(f"boxes lie more than {MAX_DEPTH} deep in each other")
        for box in _until_damage(boxes(stream, start, end)):  # udta may end in zeros, and others hold what is no box
            count += 1
            if count > MAX_C2PA_BOXES:
                raise TooManyParts(f"it has more than {MAX_C2PA_BOXES:,} boxes: its credential is not read")
            if box.kind in PARENTS and box.size >= 8:
                ahead.append((box.content + _numbers(stream, box), box.end, depth + 1))


def _numbers(stream: BinaryIO, box: Part) -> int:
    """How many bytes of numbers a box has before the boxes in it."""
    if box.kind == b"meta" and box.size >= 8:
        return 0 if span(stream, box.content + 4, box.content + 8) == b"hdlr" else 4
    return 8 if box.kind == b"stsd" else 0


# Where the stores lie.


def _bmff_places(stream: BinaryIO) -> Iterator[Place]:
    for box in boxes(stream):
        if box.kind == b"uuid" and box.size >= 16:
            head = span(stream, box.content, min(box.end, box.content + 64))
            if head.startswith(C2PA_UUID):
                yield Place(box.start, box.end, head[20:].partition(b"\0")[0].decode("latin-1"))


def _png_places(stream: BinaryIO) -> Iterator[Place]:
    for chunk in png_chunks(stream):
        if chunk.kind == b"caBX":
            yield Place(chunk.start, chunk.end + 4)


def _jpeg_boxes(stream: BinaryIO) -> Iterator[list[Part]]:
    """The segments of each JUMBF box that is a C2PA store, in a row."""
    held: list[Part] = []
    number = b""
    for segment in jpeg_segments(stream):
        head = span(stream, segment.content, min(segment.end, segment.content + 40))
        if segment.kind != b"\xeb" or head[:2] != b"JP" or len(head) < 16 or head[12:16] != b"jumb":
            continue
        first = head[20:24] == b"jumd" and head[24:40].startswith(JUMBF_C2PA[:4])
        if first and (not held or head[2:4] != number or head[4:8] == b"\0\0\0\1"):
            if held:
                yield held
            held, number = [segment], head[2:4]
        elif held and head[2:4] == number:
            held.append(segment)
    if held:
        yield held


def _jpeg_places(stream: BinaryIO) -> Iterator[Place]:
    for segments in _jpeg_boxes(stream):
        yield Place(segments[0].start, segments[-1].end)


def _riff_places(stream: BinaryIO) -> Iterator[Place]:
    for chunk in riff_chunks(stream):
        if chunk.kind == b"C2PA":
            yield Place(chunk.start, chunk.end + chunk.size % 2)


def _id3_places(stream: BinaryIO) -> Iterator[Place]:
    version, data, _ = id3(stream)
    place = 10
    for kind, frame in id3_frames(data, version) if version in (3, 4) else ():
        mime, _, rest = frame[11:].partition(b"\0")
        if kind == b"GEOB" and mime == GEOB_MIME:
            begins = len(frame) - len(rest.partition(b"\0")[2].partition(b"\0")[2])
            yield Place(place + begins, place + len(frame))
        place += len(frame)


def _gif_places(stream: BinaryIO) -> Iterator[Place]:
    """Application extensions called C2PA_GIF, up to the end of the file's blocks."""
    if stream.seek(0, io.SEEK_END) > MAX_GIF_BYTES:
        raise VideoError(f"the GIF is larger than {MAX_GIF_BYTES:,} bytes")
    stream.seek(0)
    data = stream.read()  # a GIF's blocks have no lengths of their own: they are walked 255 bytes at a time
    place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while place < len(data):
        start, kind = place, data[place]
        if kind == 0x21:
            is_c2pa = data[place + 1] == 0xFF and data[place + 3 : place + 11] == b"C2PA_GIF"
            place = _after_blocks(data, place + 2)
            if is_c2pa:
                yield Place(start, place)
        elif kind == 0x2C:
            flags = data[place + 9]
            place = _after_blocks(data, place + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
        else:
            return


def _after_blocks(data: bytes, place: int) -> int:
    while data[place]:
        place += data[place] + 1
    return place + 1


def _tiff_places(stream: BinaryIO) -> Iterator[Place]:
    stream.seek(0)
    head = stream.read(8)
    order = "<" if head[:2] == b"II" else ">"
    (offset,) = struct.unpack(order + "I", head[4:8])
    for _ in range(MAX_DIRECTORIES):
        if not offset:
            return
        (count,) = struct.unpack(order + "H", span(stream, offset, offset + 2))
        if count > MAX_DIRECTORY_ENTRIES:
            raise VideoError(f"a directory of the TIFF promises {count:,} entries")
        table = span(stream, offset + 2, offset + 2 + 12 * count + 4)
        for at in range(0, 12 * count, 12):
            tag, _, size, value = struct.unpack_from(order + "HHII", table, at)
            if tag == TIFF_TAG:
                yield Place(value, value + size)
        (offset,) = struct.unpack_from(order + "I", table, 12 * count)
    raise VideoError(f"the TIFF has more than {MAX_DIRECTORIES} directories")


# The store itself.


def c2pa_store(path: Path) -> bytes | None:
    """The C2PA manifest store in a file, byte for byte; None where there is none, or no place that is read here.

    Raises VideoError where the place it lies in is not exactly as the standard writes it.
    """
    container = sniff(path)
    with reading(path) as stream:
        if container.is_bmff:
            return _bmff_store(stream)
        if container.name == "png":
            for chunk in png_chunks(stream):
                if chunk.kind == b"caBX":
                    data = span(stream, chunk.start + 4, chunk.end + 4)
                    if struct.pack(">I", zlib.crc32(data[:-4])) != data[-4:]:
                        raise VideoError(f"{path}: the checksum of its C2PA chunk is wrong")
                    return data[4:-4]
        if container.name == "jpeg":
            return _jpeg_store(stream)
        if container.name in ("webp", "wav", "avi"):
            for chunk in riff_chunks(stream):
                if chunk.kind == b"C2PA":
                    return span(stream, chunk.content, chunk.end)
        if container.name == "gif":
            return next((_sub_blocks(span(stream, one.start, one.end)) for one in _gif_places(stream)), None)
        if container.name in ("mp3", "flac", "tiff"):
            finder = _tiff_places if container.name == "tiff" else _id3_places
            return next((span(stream, one.start, one.end) for one in finder(stream)), None)
    return None


def _sub_blocks(extension: bytes) -> bytes:
    """What the sub-blocks of a GIF's application extension hold, behind its name and code of 11 bytes."""
    found, place = b"", 14
    while extension[place]:
        found += extension[place + 1 : place + 1 + extension[place]]
        place += 1 + extension[place]
    return found


def _bmff_store(stream: BinaryIO) -> bytes | None:
    for box in boxes(stream):
        if box.kind == b"uuid" and box.size >= 16 and span(stream, box.content, box.content + 16) == C2PA_UUID:
            content = span(stream, box.content + 16, box.end)
            head = bytes(4) + b"manifest\0" + bytes(8)  # version and flags, purpose, no Merkle tree
            if not content.startswith(head):
                raise VideoError("the C2PA box does not begin as the standard says")
            return content[len(head) :]
    return None


def _jpeg_store(stream: BinaryIO) -> bytes | None:
    found, wanted = b"", 1
    for segment in next(_jpeg_boxes(stream), []):
        content = span(stream, segment.content, segment.end)
        if struct.unpack(">I", content[4:8])[0] != wanted:
            raise VideoError("the APP11 segments are out of order")
        found += content[8:] if wanted == 1 else content[16:]
        wanted += 1
    return found or None


def check_jumbf(store: bytes) -> None:
    """Raises VideoError where a manifest store has room for bytes that no hash and no signature covers.

    C2PA readers pass over labels, high bytes of sizes, and the padding of the signature. Here boxes must nest exactly,
    the parts have their names, and the last manifest's padding is zeros.
    """
    stream = io.BytesIO(store)
    top = list(boxes(stream))
    if len(top) != 1 or top[0].kind != b"jumb" or _jumbf_label(stream, top[0]) != b"c2pa":
        raise VideoError("the manifest store is not one box called c2pa")
    manifests = list(boxes(stream, top[0].content, top[0].end))[1:]
    if not manifests:
        raise VideoError("the manifest store is empty")
    _check_superboxes(stream, top[0], 0)
    labels = set()
    for part in list(boxes(stream, manifests[-1].content, manifests[-1].end))[1:]:
        name = _jumbf_label(stream, part)
        labels.add(name)
        inner = list(boxes(stream, part.content, part.end))
        if name == b"c2pa.signature":
            _check_padding(b"".join(span(stream, box.content, box.end) for box in inner[1:]))
    if not {b"c2pa.assertions", b"c2pa.signature"} <= labels or not labels & {b"c2pa.claim", b"c2pa.claim.v2"}:
        raise VideoError("a part of the manifest has another name than the standard gives it")
    if labels - {b"c2pa.assertions", b"c2pa.signature", b"c2pa.claim", b"c2pa.claim.v2", b"c2pa.databoxes"}:
        raise VideoError("the manifest has a part that the standard does not name")


def _check_superboxes(stream: BinaryIO, box: Part, depth: int) -> None:
    """Every superbox nests exactly and is described with the switches that are in use, no others."""
    inner = list(boxes(stream, box.content, box.end))
    _jumbf_label(stream, box)
    if depth > 8 or span(stream, inner[0].content + 16, inner[0].content + 17) not in (b"\x03", b"\x13"):
        raise VideoError("a superbox has switches that are not in use")
    for part in inner[1:]:
        if part.kind == b"jumb":
            _check_superboxes(stream, part, depth + 1)


def _jumbf_label(stream: BinaryIO, box: Part) -> bytes:
    if box.kind != b"jumb":
        raise VideoError(f"a box {box.kind!r} where a superbox belongs")
    inner = next(boxes(stream, box.content, box.end))
    content = span(stream, inner.content, inner.end)
    if inner.kind != b"jumd" or len(content) < 18:
        raise VideoError("a superbox does not begin with its description")
    return content[17:].partition(b"\0")[0]


def _check_padding(cose: bytes) -> None:
    """The signature's unprotected header holds `pad`: in CBOR, a string of bytes, all of them zeros.

    What follows it is the signature itself (or the second padding), so only the length of the string is walked.
    """
    at = cose.find(b"cpad")
    if at < 0:
        raise VideoError("the signature's padding is missing or has another name")
    major, place = cose[at + 4], at + 5
    if major == 0x59:
        size, place = struct.unpack(">H", cose[place : place + 2])[0], place + 2
    elif major == 0x58:
        size, place = cose[place], place + 1
    elif 0x40 <= major <= 0x57:
        size = major - 0x40
    else:
        raise VideoError("the signature's padding is no string of bytes")
    if cose[place : place + size] != bytes(size):
        raise VideoError("the signature's padding is not zeros")


# What C2PA's hash leaves out.


def digest_left_out(path: Path) -> str | None:
    """SHA-256 (hexadecimal) of the boxes that C2PA's hash leaves out, in a row; None for files without boxes.

    It is signed with what Sorano makes, so that these are covered too; the credential's own box is not among them.
    """
    if not sniff(path).is_bmff:
        return None
    digest = hashlib.sha256()
    with reading(path) as stream:
        for box in boxes(stream):
            if box.kind in LEFT_OUT_KINDS:
                stream.seek(box.start)
                left = box.end - box.start
                while left > 0 and (block := stream.read(min(left, 1 << 20))):
                    digest.update(block)
                    left -= len(block)
    return digest.hexdigest()


def left_out(path: Path, assertions: Mapping[str, Any]) -> tuple[str, ...]:
    """What a file's own hash assertions leave out beside the credential, in words; `assertions` as in crJSON."""
    found = places(path)
    if found is None:
        return ()
    said: list[str] = []
    for label, data in assertions.items():
        if not isinstance(data, Mapping):
            continue
        exclusions = [one for one in data.get("exclusions") or [] if isinstance(one, Mapping)]
        if label.startswith("c2pa.hash.data"):
            said += _ranges_beyond(exclusions, found)
        elif label.startswith("c2pa.hash.bmff"):
            said += _boxes_beyond(path, exclusions)
    return tuple(said)


def _ranges_beyond(exclusions: Sequence[Mapping[str, Any]], found: Sequence[Place]) -> list[str]:
    """The excluded byte ranges that reach beyond the first place of C2PA (the one that is read)."""
    said = []
    for one in exclusions:
        start, length = one.get("start"), one.get("length")
        if not isinstance(start, int) or not isinstance(length, int):
            continue
        own = found[0] if found else Place(0, 0)
        covered = max(0, min(start + length, own.end) - max(start, own.start))
        if length > covered:
            said.append(f"{length - covered:,} bytes at byte {start:,}")
    return said[:MOST_LISTED]


def _boxes_beyond(path: Path, exclusions: Sequence[Mapping[str, Any]]) -> list[str]:
    """The boxes at the top of the file that are left out, and further rules by their paths."""
    paths = [str(one.get("xpath")) for one in exclusions]
    kinds: dict[str, list[int]] = {}
    seen_own = False
    with reading(path) as stream:
        for box in boxes(stream):
            name = f"/{box.kind.decode('latin-1')}"
            if name not in paths:
                continue
            if box.kind == b"uuid":
                if box.size < 16 or span(stream, box.content, box.content + 16) != C2PA_UUID:
                    continue
                if not seen_own:
                    seen_own = True
                    continue
                purpose = span(stream, box.content, min(box.end, box.content + 64))[20:].partition(b"\0")[0]
                kinds.setdefault(f"further C2PA box of purpose {purpose.decode('latin-1')!r}", []).append(box.size)
            else:
                kinds.setdefault(f"{name[1:]} box", []).append(box.size)
    said = [
        f"a {kind}, {sizes[0]:,} bytes" if len(sizes) == 1 else f"{len(sizes):,} times a {kind}, {sum(sizes):,} bytes"
        for kind, sizes in list(kinds.items())[:MOST_LISTED]
    ]
    deeper = [one for one in paths if one.count("/") > 1]
    return said + [f"boxes at {one}" for one in deeper[:MOST_LISTED]]


def uncovered(path: Path, assertions: Mapping[str, Any], signed_digest: str | None) -> str | None:
    """Why a file of ours is not covered byte for byte outside its credential's own box; None where it is."""
    found = places(path, strict=True)
    if found is None or len(found) != 1:
        return f"it has {len(found or ())} places for a credential instead of one"
    digest = digest_left_out(path)
    if digest is not None:
        rules = [one for label, data in assertions.items() if label.startswith("c2pa.hash.bmff")
                 for one in data.get("exclusions") or []]  # fmt: skip
        if {str(one.get("xpath")) for one in rules} - OUR_EXCLUSIONS or not rules:
            return "its hash leaves out other boxes than Sorano's do"
        if digest != signed_digest:
            return "bytes that C2PA's own hash leaves out (ftyp, free, skip or mfra boxes) were changed"
    else:
        ranges = [one for label, data in assertions.items() if label.startswith("c2pa.hash.data")
                  for one in data.get("exclusions") or []]  # fmt: skip
        beyond = _ranges_beyond(ranges, found)
        if beyond or not ranges:
            return f"its hash leaves out {'; '.join(beyond) or 'what is not known'}"
    store = c2pa_store(path)
    if store is None:
        return "its credential does not lie where the standard puts it"
    check_jumbf(store)
    return None
