"""Boxes, chunks and segments: what a file is, and where MP4, PNG, JPEG, WebP, GIF, WAV and MP3 keep metadata.

Small parsers of our own, with limits, for untrusted files: no box is believed further than its parent reaches, nothing
larger than MAX_METADATA_BYTES is read into memory, nesting is bounded. Anything wrong raises VideoError.

Not covered: fragmented MP4 and 4 GB chunk offsets that would overflow (said, not written), HEIF, the pictures and the
sound themselves (PyAV and Pillow read those), repair of damaged files.
"""

from __future__ import annotations

import html
import io
import re
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sorano.errors import VideoError
from sorano.trust.provenance import gif

MAX_METADATA_BYTES = 256_000_000  # of a moov box: hours of video have tens of megabytes of tables
MAX_VALUE_BYTES = 1_000_000  # of one key's value
MAX_PARTS = 100_000  # boxes in one parent, chunks or segments in one file: a walk over them takes a third of a second
MAX_ENTRIES = 4096  # keys in a table
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
XMP_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
AIGC_NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"
SNIFF_BYTES = 4096


class TooManyParts(VideoError):
    """A file of more boxes, chunks or segments than are looked through."""


@dataclass(frozen=True)
class Container:
    """What a file is, by its first bytes. `signable`: Sorano signs it; `readable`: C2PA readers read it."""

    name: str  # mp4, heif, png, jpeg, webp, gif, tiff, jxl, svg, pdf, wav, avi, mp3, flac, matroska, other
    mime: str
    signable: bool
    readable: bool = True

    @property
    def is_image(self) -> bool:
        """A still picture that Sorano writes."""
        return self.name in ("png", "jpeg", "webp")

    @property
    def is_audio(self) -> bool:
        """Sound alone."""
        return self.name in ("wav", "mp3", "flac") or self.mime == "audio/mp4"

    @property
    def is_bmff(self) -> bool:
        """Boxes of ISO base media."""
        return self.name in ("mp4", "heif")

    @property
    def has_pictures(self) -> bool:
        """Whether frames can be looked for in it."""
        return not self.is_audio and self.name not in ("svg", "pdf", "jxl")


MP3, FLAC = Container("mp3", "audio/mpeg", True), Container("flac", "audio/flac", False)
SIGNATURES = (
    (PNG_SIGNATURE, Container("png", "image/png", True)),
    (b"\xff\xd8\xff", Container("jpeg", "image/jpeg", True)),
    (b"GIF87a", Container("gif", "image/gif", True)),
    (b"GIF89a", Container("gif", "image/gif", True)),
    (b"II*\0", Container("tiff", "image/tiff", False)),
    (b"MM\0*", Container("tiff", "image/tiff", False)),
    (b"\0\0\0\x0cJXL \r\n\x87\n", Container("jxl", "image/jxl", False)),
    (b"fLaC", FLAC),
    (b"\x1a\x45\xdf\xa3", Container("matroska", "video/x-matroska", False, readable=False)),
)
RIFF_KINDS = {
    b"WEBP": Container("webp", "image/webp", True),
    b"WAVE": Container("wav", "audio/wav", True),
    b"AVI ": Container("avi", "video/avi", False),
}


@dataclass(frozen=True)
class Part:
    """A box, chunk or segment: its kind, where its content begins and how long that is, and where it began."""

    kind: bytes
    start: int  # of the header
    content: int
    size: int  # of the content

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.content + self.size


def sniff(path: str | Path) -> Container:
    """What a file is. Raises VideoError where it cannot be opened."""
    with reading(path) as stream:
        head = stream.read(SNIFF_BYTES)
        if head.startswith(b"ID3"):  # MP3, or FLAC with a tag before it
            stream.seek(10 + _syncsafe(head[6:10]))
            return FLAC if stream.read(4) == b"fLaC" else MP3
    return sniff_head(head)


def sniff_head(head: bytes) -> Container:
    """What a file is by its first bytes, of which `SNIFF_BYTES` are looked at."""
    if head[4:8] == b"ftyp":
        return _bmff(head[8:12])
    for start, container in SIGNATURES:
        if head.startswith(start):
            return container
    if head[:4] == b"RIFF" and head[8:12] in RIFF_KINDS:
        return RIFF_KINDS[head[8:12]]
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free"):
        return Container("mp4", "video/quicktime", True)
    if head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return MP3
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and b"<svg" in head:
        return Container("svg", "image/svg+xml", False)
    if b"%PDF-" in head[:1024]:
        return Container("pdf", "application/pdf", False)
    return Container("other", "application/octet-stream", False, readable=False)


def _bmff(brand: bytes) -> Container:
    """What a file of ISO base media is, by its major brand."""
    if brand in (b"avif", b"avis"):
        return Container("heif", "image/avif", False)
    if brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
        return Container("heif", "image/heic", False)
    if brand in (b"M4A ", b"M4B ", b"M4P "):
        return Container("mp4", "audio/mp4", True)
    return Container("mp4", "video/quicktime" if brand == b"qt  " else "video/mp4", True)


@contextmanager
def reading(path: str | Path) -> Iterator[BinaryIO]:
    """A file to read. Raises VideoError where it cannot be opened, and for what its structure lacks."""
    try:
        with open(path, "rb") as stream:
            yield stream
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}") from error
    except (struct.error, IndexError, zlib.error) as error:
        raise VideoError(f"{path} is damaged: {error}") from error


def read_texts(path: str | Path) -> list[tuple[str, str]]:
    """Every AIGC text in a file, with where it was found. Empty where there is none or no place for one."""
    container = sniff(path)
    reader = {"mp4": _mp4_texts, "png": _png_texts, "jpeg": _jpeg_texts, "webp": _webp_texts}.get(container.name)
    reader = reader or {"wav": _wav_texts, "mp3": _mp3_texts, "gif": _gif_texts}.get(container.name)
    if reader is None:
        return _av_texts(path) if container.name == "matroska" else []
    with reading(path) as stream:
        return reader(stream)


def xmp_of(path: str | Path) -> str:
    """The XMP packets of a JPEG, PNG, WebP or MP4 as text, up to MAX_VALUE_BYTES each; "" where there are none."""
    container = sniff(path)
    found: list[bytes] = []
    with reading(path) as stream:
        if container.name == "jpeg":
            parts = [span(stream, one.content, one.end) for one in jpeg_segments(stream) if one.kind == b"\xe1"]
            found = [one[len(XMP_JPEG) :] for one in parts if one.startswith(XMP_JPEG)]
        elif container.name == "png":
            parts = [
                span(stream, one.content, one.end)
                for one in png_chunks(stream)
                if one.kind == b"iTXt" and one.size <= MAX_VALUE_BYTES
            ]
            found = [one for one in parts if one.startswith(b"XML:com.adobe.xmp\0")]
        elif container.name == "gif":
            found = [packet for _, _, packet in gif.packets(stream)]
        elif container.name == "webp":
            for one in riff_chunks(stream):
                if one.kind == b"XMP " and one.size <= MAX_VALUE_BYTES:
                    found.append(span(stream, one.content, one.end))
        elif container.is_bmff:
            for one in boxes(stream):
                if one.kind == b"uuid" and 16 <= one.size <= MAX_VALUE_BYTES:
                    content = span(stream, one.content, one.end)
                    found += [content[16:]] if content.startswith(XMP_UUID) else []
    return "\n".join(one[:MAX_VALUE_BYTES].decode("utf-8", "replace") for one in found)


def write_text(source: Path, target: Path, key: str, text: str) -> str:
    """Copies a file with `text` under `key` in its metadata; returns the carrier's name. Raises VideoError.

    A value that is there under the key is replaced. Matroska's tags are written when it is muxed, not here.
    """
    container = sniff(source)
    if len(text.encode()) > MAX_VALUE_BYTES // 20:  # a JPEG segment holds 64 KB
        raise VideoError(f"a label of {len(text.encode()):,} bytes is too long")
    writers = {"mp4": _mp4_write, "png": _png_write, "jpeg": _jpeg_write, "webp": _webp_write}
    writer = {**writers, "wav": _wav_write, "mp3": _mp3_write, "gif": _gif_write}.get(container.name)
    if writer is None:
        raise VideoError(
            f"{source} has no place for a label that is known here",
            "MP4, MOV, PNG, JPEG, WebP, GIF, WAV and MP3 have; MKV and WebM get theirs from sorano mark",
        )
    with reading(source) as stream, open(target, "wb") as out:
        return writer(stream, out, key, text)


# ISO base media: MP4 and MOV.


def boxes(stream: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[Part]:
    """The boxes between two offsets. Raises VideoError for one that reaches beyond its parent."""
    end = size_of(stream) if end is None else end
    for _ in range(MAX_PARTS):
        if start >= end:
            return
        stream.seek(start)
        head = stream.read(16)
        if len(head) < 8 or start + 8 > end:
            raise VideoError(f"the file is cut off: a box begins at byte {start:,} of {end:,}")
        size, kind = struct.unpack(">I4s", head[:8])
        header = 8
        if size == 1:
            if len(head) < 16:
                raise VideoError(f"the file is cut off in the box at byte {start:,}")
            size, header = struct.unpack(">Q", head[8:16])[0], 16
        elif size == 0:
            size = end - start
        if size < header or start + size > end:
            raise VideoError(
                f"the file is cut off or damaged: box {kind!r} at byte {start:,} should end at {start + size:,}, "
                f"the file or its parent ends at {end:,}"
            )
        yield Part(kind, start, start + header, size - header)
        start += size
    raise TooManyParts(f"more than {MAX_PARTS:,} boxes")


def _mp4_texts(stream: BinaryIO) -> list[tuple[str, str]]:
    found = []
    for box in boxes(stream):
        if box.kind == b"moov":
            moov = io.BytesIO(span(stream, box.content, box.end))
            for child in boxes(moov):
                if child.kind == b"udta":
                    for meta in _metas(moov, child):
                        found += [("moov/udta/meta/keys", text) for text in _mdta(moov, meta).get("aigc", [])]
                elif child.kind == b"meta":
                    found += [("moov/meta/keys", text) for text in _mdta(moov, child).get("aigc", [])]
        elif box.kind == b"uuid" and 16 <= box.size <= MAX_VALUE_BYTES:
            content = span(stream, box.content, box.end)
            if content.startswith(XMP_UUID):
                found += [("uuid XMP", text) for text in xmp_values(content[16:])]
    return found


def _metas(moov: BinaryIO, udta: Part) -> list[Part]:
    """The meta boxes in udta, which may end in four zero bytes instead of a box."""
    found = []
    try:
        for box in boxes(moov, udta.content, udta.end):
            if box.kind == b"meta":
                found.append(box)
    except VideoError:
        tail = span(moov, max(udta.content, udta.end - 4), udta.end)
        if tail != bytes(4):
            raise
    return found


def _mdta(stream: BinaryIO, meta: Part) -> dict[str, list[str]]:
    """The texts of a meta box that has a table of keys, by key in lower case."""
    parts = {box.kind: box for box in boxes(stream, meta.content + _full(stream, meta), meta.end)}
    if b"keys" not in parts or b"ilst" not in parts:
        return {}
    names = [name for _, name in _keys(span(stream, parts[b"keys"].content, parts[b"keys"].end))]
    found: dict[str, list[str]] = {}
    for item in boxes(stream, parts[b"ilst"].content, parts[b"ilst"].end):
        index = struct.unpack(">I", item.kind)[0]
        if not 1 <= index <= len(names):
            continue
        for data in boxes(stream, item.content, item.end):
            if data.kind == b"data" and 8 <= data.size <= MAX_VALUE_BYTES:
                text = span(stream, data.content + 8, data.end).decode("utf-8", "replace")
                found.setdefault(names[index - 1].decode("utf-8", "replace").lower(), []).append(text)
    return found


def _full(stream: BinaryIO, meta: Part) -> int:
    """4 where a meta box has version and flags, 0 where it is QuickTime's kind without."""
    head = span(stream, meta.content, min(meta.end, meta.content + 12))
    return 0 if head[4:8] == b"hdlr" else 4


def _keys(content: bytes) -> list[tuple[bytes, bytes]]:
    """(namespace, name) of each entry of a keys box."""
    if len(content) < 8:
        raise VideoError("a table of keys is cut off")
    count = struct.unpack(">I", content[4:8])[0]
    if count > MAX_ENTRIES:
        raise VideoError(f"a table promises {count:,} keys")
    found, place = [], 8
    for _ in range(count):
        if place + 8 > len(content):
            raise VideoError("a table of keys is cut off")
        size, space = struct.unpack(">I4s", content[place : place + 8])
        if size < 8 or place + size > len(content):
            raise VideoError("a table of keys is damaged")
        found.append((space, content[place + 8 : place + size]))
        place += size
    return found


def _mp4_write(stream: BinaryIO, out: BinaryIO, key: str, text: str) -> str:
    top = list(boxes(stream))
    moovs = [box for box in top if box.kind == b"moov"]
    if len(moovs) != 1:
        raise VideoError(f"the file has {len(moovs)} moov boxes instead of one")
    if any(box.kind == b"moof" for box in top):
        raise VideoError(
            "the file is a fragmented MP4, in which labels are not written", "remux it: ffmpeg -i in -c copy out.mp4"
        )
    moov = moovs[0]
    content = _with_key(span(stream, moov.content, moov.end), key.encode(), text.encode())
    delta = 8 + len(content) - (moov.end - moov.start)
    content = _moved(content, moov.end, delta)
    if len(content) + 8 >= 2**32:
        raise VideoError("the index of the file is too large")
    _copy(stream, out, 0, moov.start)
    out.write(_box(b"moov", content))
    _copy(stream, out, moov.end, size_of(stream))
    return "moov/udta/meta/keys"


def _with_key(moov: bytes, key: bytes, value: bytes) -> bytes:
    """moov's content with a value under a key of its table in udta/meta, which is made where there is none."""
    stream = io.BytesIO(moov)
    children = [(box.kind, moov[box.start : box.end]) for box in boxes(stream)]
    udta = next((data for kind, data in children if kind == b"udta"), _box(b"udta", b""))
    inner = io.BytesIO(udta)
    part = next(boxes(inner))
    parts = []
    if part.size:
        with_tail = udta[part.content : part.end]
        end = part.end - 4 if with_tail.endswith(bytes(4)) and _ends_in_zeros(inner, part) else part.end
        parts = [udta[box.start : box.end] for box in boxes(inner, part.content, end)]
    for index, data in enumerate(parts):
        if data[4:8] == b"meta" and b"keys" in _kinds(data):
            parts[index] = _meta_with(data, key, value)
            break
    else:
        parts.append(_meta_with(None, key, value))
    made = _box(b"udta", b"".join(parts))
    kept = [data for kind, data in children if kind != b"udta"]
    return b"".join(kept) + made


def _ends_in_zeros(stream: BinaryIO, udta: Part) -> bool:
    """Whether udta ends in the four zero bytes that QuickTime allows after its boxes."""
    try:
        for _ in boxes(stream, udta.content, udta.end):
            pass
    except VideoError:
        return True
    return False


def _kinds(meta: bytes) -> set[bytes]:
    stream = io.BytesIO(meta)
    part = next(boxes(stream))
    return {box.kind for box in boxes(stream, part.content + _full(stream, part), part.end)}


def _meta_with(meta: bytes | None, key: bytes, value: bytes) -> bytes:
    """A meta box with a table of keys, the one that is there or a new one, with this key set."""
    names: list[tuple[bytes, bytes]] = []
    items: list[tuple[int, bytes]] = []
    if meta is not None:
        stream = io.BytesIO(meta)
        part = next(boxes(stream))
        parts = {box.kind: box for box in boxes(stream, part.content + _full(stream, part), part.end)}
        names = _keys(meta[parts[b"keys"].content : parts[b"keys"].end])
        if b"ilst" in parts:
            for item in boxes(stream, parts[b"ilst"].content, parts[b"ilst"].end):
                index = struct.unpack(">I", item.kind)[0]
                if 1 <= index <= len(names) and names[index - 1][1] != key:
                    items.append((index, meta[item.content : item.end]))
    if (b"mdta", key) not in names:
        names.append((b"mdta", key))
    items.append((names.index((b"mdta", key)) + 1, _box(b"data", struct.pack(">II", 1, 0) + value)))
    table = b"".join(struct.pack(">I", 8 + len(name)) + space + name for space, name in names)
    handler = _box(b"hdlr", struct.pack(">II4s12xB", 0, 0, b"mdta", 0))
    listed = b"".join(_box(struct.pack(">I", index), data) for index, data in items)
    return _box(b"meta", bytes(4) + handler + _box(b"keys", struct.pack(">II", 0, len(names)) + table)
                + _box(b"ilst", listed))  # fmt: skip


def _moved(moov: bytes, after: int, delta: int) -> bytes:
    """moov's content with the chunk offsets that lie behind it moved."""
    data = bytearray(moov)
    stream = io.BytesIO(moov)
    for table, width in _chunk_tables(stream, 0, len(moov), 0):
        head = moov[table.content : table.content + 8]
        count = struct.unpack(">4xI", head)[0]
        if table.size < 8 + count * width:
            raise VideoError("a table of chunk offsets is cut off")
        kind = ">Q" if width == 8 else ">I"
        for place in range(table.content + 8, table.content + 8 + count * width, width):
            offset = struct.unpack_from(kind, data, place)[0]
            if offset >= after:
                if offset + delta >= 256**width:
                    raise VideoError("the file is too large for its kind of index", "remux it with 64-bit offsets")
                struct.pack_into(kind, data, place, offset + delta)
    return bytes(data)


def _chunk_tables(stream: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[Part, int]]:
    for box in boxes(stream, start, end):
        if box.kind in (b"trak", b"mdia", b"minf", b"stbl") and depth < 4:
            yield from _chunk_tables(stream, box.content, box.end, depth + 1)
        elif box.kind in (b"stco", b"co64") and box.size >= 8:
            yield box, 8 if box.kind == b"co64" else 4


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


# PNG.


def png_chunks(stream: BinaryIO) -> Iterator[Part]:
    end, place = size_of(stream), len(PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        if place >= end:
            return
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            raise VideoError("the picture is cut off")
        size, kind = struct.unpack(">I4s", head)
        if place + 12 + size > end:
            raise VideoError(f"the picture is cut off in its chunk {kind!r}")
        yield Part(kind, place, place + 8, size)
        if kind == b"IEND":
            return
        place += 12 + size
    raise TooManyParts(f"more than {MAX_PARTS:,} chunks")


def _png_texts(stream: BinaryIO) -> list[tuple[str, str]]:
    found = []
    for chunk in png_chunks(stream):
        if chunk.kind not in (b"tEXt", b"iTXt", b"zTXt") or chunk.size > MAX_VALUE_BYTES:
            continue
        name, _, rest = span(stream, chunk.content, chunk.end).partition(b"\0")
        if chunk.kind == b"zTXt":
            rest = _inflated(rest[1:])
        elif chunk.kind == b"iTXt":
            packed, rest = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
            rest = _inflated(rest) if packed else rest
        if name.lower() == b"aigc":
            found.append((f"PNG {chunk.kind.decode()}", rest.decode("utf-8", "replace")))
        elif name == b"XML:com.adobe.xmp":
            found += [("PNG XMP", text) for text in xmp_values(rest)]
    return found


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MAX_VALUE_BYTES)


def _png_write(stream: BinaryIO, out: BinaryIO, key: str, text: str) -> str:
    chunks = list(png_chunks(stream))
    if not chunks or chunks[0].kind != b"IHDR":
        raise VideoError("the picture does not begin with its header")
    stream.seek(0)
    out.write(stream.read(len(PNG_SIGNATURE)))
    for index, chunk in enumerate(chunks):
        whole = span(stream, chunk.start, chunk.end + 4) if chunk.kind in (b"tEXt", b"iTXt") else b""
        if not whole[8:].startswith(key.encode() + b"\0"):
            _copy(stream, out, chunk.start, chunk.end + 4)
        if index == 0:
            body = b"tEXt" + key.encode() + b"\0" + _ascii(text)
            out.write(struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))
    return "PNG tEXt"


def _ascii(text: str) -> bytes:
    """JSON in ASCII: a tEXt chunk is Latin-1, and every reader agrees on ASCII."""
    return "".join(char if ord(char) < 128 else _escaped(char) for char in text).encode("ascii")


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


# JPEG.


def jpeg_segments(stream: BinaryIO) -> Iterator[Part]:
    """The segments before the picture itself; `kind` is the marker's second byte."""
    end, place = size_of(stream), 2
    for _ in range(MAX_PARTS):
        stream.seek(place)
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            raise VideoError("the picture is cut off or damaged")
        if head[1] == 0xFF:  # padding
            place += 1
            continue
        size = struct.unpack(">H", head[2:])[0]
        if size < 2 or place + 2 + size > end:
            raise VideoError("the picture is cut off")
        yield Part(head[1:2], place, place + 4, size - 2)
        if head[1] == 0xDA:  # the scan begins
            return
        place += 2 + size
    raise TooManyParts(f"more than {MAX_PARTS:,} segments")


def _jpeg_texts(stream: BinaryIO) -> list[tuple[str, str]]:
    found = []
    for segment in jpeg_segments(stream):
        if segment.kind != b"\xe1":
            continue
        content = span(stream, segment.content, segment.end)
        if content.startswith(XMP_JPEG):
            found += [("JPEG XMP", text) for text in xmp_values(content[len(XMP_JPEG) :])]
        elif content.startswith(b"Exif\0"):
            for codec in ("utf-8", "utf-16-be", "utf-16-le"):
                text = content[6:].decode(codec, "replace")
                at = min((at for at in (text.find("AIGC"), text.find("ContentProducer")) if at >= 0), default=-1)
                begin = text.rfind("{", 0, at + 1) if at >= 0 else -1
                if begin >= 0:
                    found.append(("JPEG EXIF", text[begin : begin + 4096]))
                    break
    return found


def _jpeg_write(stream: BinaryIO, out: BinaryIO, key: str, text: str) -> str:
    segments = list(jpeg_segments(stream))
    after = segments[0].end if segments and segments[0].kind == b"\xe0" else 2  # JFIF's segment comes first
    xmp = [s for s in segments if s.kind == b"\xe1" and span(stream, s.content, s.end).startswith(XMP_JPEG)]
    packet = span(stream, xmp[0].content + len(XMP_JPEG), xmp[0].end) if xmp else None
    content = XMP_JPEG + xmp_with(packet, key, text)
    if len(content) + 2 > 0xFFFF:
        raise VideoError("the picture's XMP is full: there is no place for a label")
    made = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    if xmp:
        _copy(stream, out, 0, xmp[0].start)
        out.write(made)
        _copy(stream, out, xmp[0].end, size_of(stream))
    else:
        _copy(stream, out, 0, after)
        out.write(made)
        _copy(stream, out, after, size_of(stream))
    return "JPEG XMP"


# XMP.


def xmp_values(packet: bytes) -> list[str]:
    """The values of properties called AIGC, by pattern: no XML parser meets an untrusted file."""
    text = packet[:MAX_VALUE_BYTES].decode("utf-8", "replace")
    found = re.findall(r"<(\w{1,20}):AIGC\b[^>]{0,200}>([^<]{0,65536})</\1:AIGC>", text)
    values = [value for _, value in found]
    values += [a or b for a, b in re.findall(r"\w{1,20}:AIGC\s*=\s*(?:\"([^\"]{0,65536})\"|'([^']{0,65536})')", text)]
    return [html.unescape(value) for value in values]


def xmp_with(packet: bytes | None, key: str, text: str) -> bytes:
    """A packet with the property set, the given one or a new one."""
    value = html.escape(text, quote=True)
    opening = f'<rdf:Description rdf:about="" xmlns:TC260="{AIGC_NAMESPACE}"><TC260:{key}>'
    closing = f"</TC260:{key}></rdf:Description>"
    item = opening + value + closing
    if packet is not None:
        old = packet.decode("utf-8", "replace")
        old = re.sub(f"{re.escape(opening)}[^<]*{re.escape(closing)}", "", old)
        if "</rdf:RDF>" in old:
            return old.replace("</rdf:RDF>", item + "</rdf:RDF>", 1).encode()
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"{item}</rdf:RDF></x:xmpmeta>"
    ).encode()


# RIFF: WAV and WebP.


def riff_chunks(stream: BinaryIO) -> Iterator[Part]:
    end = min(size_of(stream), 8 + struct.unpack("<I", span(stream, 4, 8))[0])
    place = 12
    for _ in range(MAX_PARTS):
        if place + 8 > end:
            return
        stream.seek(place)
        kind, size = struct.unpack("<4sI", stream.read(8))
        if place + 8 + size > end:
            raise VideoError(f"the file is cut off in its chunk {kind!r}")
        yield Part(kind, place, place + 8, size)
        place += 8 + size + size % 2
    raise TooManyParts(f"more than {MAX_PARTS:,} chunks")


def _riff_write(stream: BinaryIO, out: BinaryIO, skip: bytes, first: bytes, last: bytes) -> None:
    """Copies the chunks but those called `skip`, with chunks before and after, and sets the file's size."""
    stream.seek(8)
    form = stream.read(4)
    out.write(b"RIFF\0\0\0\0" + form + first)
    for chunk in riff_chunks(stream):
        if chunk.kind != skip:
            _copy(stream, out, chunk.start, chunk.end)
            out.write(bytes(chunk.size % 2))
    out.write(last)
    size = out.tell() - 8
    if size >= 2**32:
        raise VideoError("the file is too large for its kind")
    out.seek(4)
    out.write(struct.pack("<I", size))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _wav_texts(stream: BinaryIO) -> list[tuple[str, str]]:
    parts = [part for part in riff_chunks(stream) if part.kind == b"AIGC" and part.size <= MAX_VALUE_BYTES]
    return [("RIFF AIGC", span(stream, p.content, p.end).rstrip(b"\0").decode("utf-8", "replace")) for p in parts]


def _wav_write(stream: BinaryIO, out: BinaryIO, key: str, text: str) -> str:
    _riff_write(stream, out, key.encode(), b"", _chunk(key.encode(), text.encode()))
    return "RIFF AIGC"


def _webp_texts(stream: BinaryIO) -> list[tuple[str, str]]:
    parts = [part for part in riff_chunks(stream) if part.kind == b"XMP " and part.size <= MAX_VALUE_BYTES]
    return [("WebP XMP", text) for p in parts for text in xmp_values(span(stream, p.content, p.end))]


def _webp_write(stream: BinaryIO, out: BinaryIO, key: str, text: str) -> str:
    parts = {part.kind: part for part in riff_chunks(stream)}
    packet = parts.get(b"XMP ")
    old = span(stream, packet.content, packet.end) if packet else None
    if b"VP8X" in parts:
        head = bytearray(span(stream, parts[b"VP8X"].content, parts[b"VP8X"].end))
    else:
        head = bytearray(_webp_header(stream, parts))
    head[0] |= 0x04  # has XMP
    first = _chunk(b"VP8X", bytes(head))
    made = io.BytesIO()
    _riff_write(stream, made, b"VP8X", first, b"")
    _riff_write(made, out, b"XMP ", b"", _chunk(b"XMP ", xmp_with(old, key, text)))
    return "WebP XMP"


def _gif_texts(stream: BinaryIO) -> list[tuple[str, str]]:
    return [(gif.CARRIER, text) for _, _, packet in gif.packets(stream) for text in xmp_values(packet)]


def _gif_write(stream: BinaryIO, out: BinaryIO, key: str, text: str) -> str:
    old = next((packet for _, _, packet in gif.packets(stream)), None)
    out.write(gif.with_packet(stream, xmp_with(old, key, text)))
    return gif.CARRIER


def _webp_header(stream: BinaryIO, parts: dict[bytes, Part]) -> bytes:
    """The extended header that a simple WebP lacks: no flags but transparency, and the size of the canvas."""
    if b"VP8L" in parts:
        bits = struct.unpack("<I", span(stream, parts[b"VP8L"].content + 1, parts[b"VP8L"].content + 5))[0]
        width, height, flags = bits & 0x3FFF, bits >> 14 & 0x3FFF, 0x10 if bits >> 28 & 1 else 0
    elif b"VP8 " in parts:
        start = parts[b"VP8 "].content
        w, h = struct.unpack("<HH", span(stream, start + 6, start + 10))
        width, height, flags = (w & 0x3FFF) - 1, (h & 0x3FFF) - 1, 0
    else:
        raise VideoError("the WebP file holds no picture")
    return bytes([flags, 0, 0, 0]) + width.to_bytes(3, "little") + height.to_bytes(3, "little")


# MP3: ID3v2.


def id3_frames(data: bytes, version: int) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 10 <= len(data) and data[place : place + 4].isalnum():
        raw = data[place + 4 : place + 8]
        size = _syncsafe(raw) if version == 4 else struct.unpack(">I", raw)[0]
        if place + 10 + size > len(data):
            raise VideoError("the ID3 tag is cut off")
        yield data[place : place + 4], data[place : place + 10 + size]
        place += 10 + size


def id3(stream: BinaryIO) -> tuple[int, bytes, int]:
    """(version, frames, where the sound begins) of an MP3; version 0 where there is no tag."""
    stream.seek(0)
    head = stream.read(10)
    if not head.startswith(b"ID3"):
        return 0, b"", 0
    size = _syncsafe(head[6:10])
    if 10 + size > size_of(stream):
        raise VideoError("the ID3 tag is cut off")
    return head[3], span(stream, 10, 10 + size), 10 + size + (10 if head[5] & 0x10 else 0)


def _mp3_texts(stream: BinaryIO) -> list[tuple[str, str]]:
    version, data, _ = id3(stream)
    found = []
    for kind, frame in id3_frames(data, version) if version in (3, 4) else ():
        if kind == b"TXXX" and len(frame) > 11:
            codec = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}.get(frame[10], "utf-8")
            name, _, value = frame[11:].decode(codec, "replace").partition("\0")
            if name.lstrip("\ufeff").lower() == "aigc":
                found.append(("ID3 TXXX", value.strip("\0\ufeff")))
    return found


def _mp3_write(stream: BinaryIO, out: BinaryIO, key: str, text: str) -> str:
    version, data, start = id3(stream)
    if version not in (0, 3, 4):
        raise VideoError(f"the MP3's tag is ID3v2.{version}, which is not written here", "convert it to ID3v2.4")
    version = version or 4
    stream.seek(5)
    if data and stream.read(1)[0] & 0xC0:
        raise VideoError("the MP3's tag is unsynchronised or extended, which is not written here")
    body = b"\3" + key.encode() + b"\0" + text.encode() if version == 4 else b"\0" + key.encode() + b"\0" + _ascii(text)
    size = _to_syncsafe(len(body)) if version == 4 else struct.pack(">I", len(body))
    old = [frame for kind, frame in id3_frames(data, version) if not (kind == b"TXXX" and key.encode() in frame[:40])]
    frames = b"".join(old) + b"TXXX" + size + b"\0\0" + body
    out.write(b"ID3" + bytes([version, 0, 0]) + _to_syncsafe(len(frames)) + frames)
    _copy(stream, out, start, size_of(stream))
    return "ID3 TXXX"


def _syncsafe(raw: bytes) -> int:
    return sum((byte & 0x7F) << (7 * (3 - at)) for at, byte in enumerate(raw[:4]))


def _to_syncsafe(size: int) -> bytes:
    if size >= 2**28:
        raise VideoError("the ID3 tag is too large")
    return bytes(size >> (7 * (3 - at)) & 0x7F for at in range(4))


# What they share.


def _av_texts(path: str | Path) -> list[tuple[str, str]]:
    import av

    try:
        with av.open(f"file:{path}") as container:
            return [("Matroska tag", value) for name, value in container.metadata.items() if name.lower() == "aigc"]
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VideoError(f"{path} cannot be read: {error}") from error


def size_of(stream: BinaryIO) -> int:
    return stream.seek(0, io.SEEK_END)


def span(stream: BinaryIO, start: int, end: int) -> bytes:
    if end - start > MAX_METADATA_BYTES:
        raise VideoError(f"{end - start:,} bytes of metadata are more than is read")
    stream.seek(start)
    data = stream.read(end - start)
    if len(data) != end - start:
        raise VideoError(f"the file is cut off at byte {start + len(data):,}")
    return data


def _copy(stream: BinaryIO, out: BinaryIO, start: int, end: int) -> None:
    stream.seek(start)
    left = end - start
    if left > 1 << 24 and end == size_of(stream):
        stream.seek(start)
        shutil.copyfileobj(stream, out, 1 << 20)
        return
    stream.seek(start)
    while left > 0:
        block = stream.read(min(left, 1 << 20))
        if not block:
            raise VideoError("the file is cut off")
        out.write(block)
        left -= len(block)
