"""Files that are made to exhaust whoever reads them: small, and enormous once they are believed."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import av
import numpy as np

from attacks.tools import C2PA_UUID, Box, edit_list, parse, png

FTYP = bytes(Box(b"ftyp", b"isom\0\0\2\0isomiso2mp41"))


def _still_film(path: Path, width: int, height: int, count: int, fps: int = 24) -> Path:
    """A film that does not move: a few bytes a frame, however large it is."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "51", "x264-params": "keyint=100000:scenecut=0"}
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        packets = []
        for n in range(min(count, 3)):
            frame.pts = n
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet in packets:
            out.mux(packet)
        for n in range(3, count):  # the last packet skips every block; it may be repeated
            packet = av.Packet(bytes(packets[-1]))
            packet.stream, packet.time_base = stream, packets[-1].time_base
            packet.pts = packet.dts = packets[-1].pts + round((n - 2) / fps / packet.time_base)
            out.mux(packet)
    return path


def film_1080p_of_4800_frames(folder: Path) -> Path:
    """200 s of 1080p in some hundred kilobytes."""
    return _still_film(folder / "a.mp4", 1920, 1080, 4800)


def film_8k(folder: Path) -> Path:
    """Frames of 8192 x 4320 pixels."""
    return _still_film(folder / "a.mp4", 8192, 4320, 48)


def empty_boxes_80_000(folder: Path) -> Path:
    """80,000 empty boxes."""
    return _written(folder, FTYP + bytes(Box(b"free")) * 80_000)


def empty_boxes_a_million(folder: Path) -> Path:
    """A million empty boxes."""
    return _written(folder, FTYP + bytes(Box(b"free")) * 1_000_000)


def unknown_boxes_a_million(folder: Path) -> Path:
    """A million empty boxes of a kind that nobody knows."""
    return _written(folder, FTYP + bytes(Box(b"zzzz")) * 1_000_000)


def empty_boxes_in_a_signed_film(folder: Path) -> Path:
    """80,000 empty boxes behind a film."""
    return _film_with(folder, bytes(Box(b"free")) * 80_000)


def _film_with(folder: Path, more: bytes) -> Path:
    """A small film that plays, with bytes behind it."""
    return _written(folder, _still_film(folder / "film.mp4", 64, 64, 4).read_bytes() + more)


def deep_boxes(folder: Path) -> Path:
    """moov boxes within one another, 50,000 deep."""
    sizes = [8 * (50_000 - n) for n in range(50_000)]
    return _written(folder, FTYP + b"".join(struct.pack(">I4s", size, b"moov") for size in sizes))


def deep_traks(folder: Path) -> Path:
    """Boxes of every kind that holds others, 5,000 deep."""
    kinds = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"meta", b"ilst")
    sizes = [8 * (5_000 - n) for n in range(5_000)]
    return _written(folder, FTYP + b"".join(struct.pack(">I4s", s, kinds[n % 8]) for n, s in enumerate(sizes)))


def many_tracks(folder: Path) -> Path:
    """A film with 20,000 tracks."""
    file = parse(_still_film(folder / "film.mp4", 64, 64, 4).read_bytes())
    moov = file.find("moov")
    moov.inside += moov.all("trak") * 20_000
    return _written(folder, b"".join(map(bytes, file.inside)))


def edit_list_of_a_million(folder: Path) -> Path:
    """A film with a million edits, each of one tick."""
    file = parse(_still_film(folder / "film.mp4", 64, 64, 4).read_bytes())
    trak = file.find("moov").all("trak")[0]
    trak.inside = [edit_list(*[(1, n % 4000, 1.0) for n in range(1_000_000)]), *trak.inside]
    return _written(folder, b"".join(map(bytes, file.inside)))


def sample_tables_of_four_billion(folder: Path) -> Path:
    """A film whose tables say that it has four billion samples."""
    file = parse(_still_film(folder / "film.mp4", 64, 64, 4).read_bytes())
    stbl = file.find("moov").all("trak")[0].find("mdia/minf/stbl")
    stbl.find("stts").body = struct.pack(">IIII", 0, 1, 0xFFFFFFFF, 1)
    stbl.find("stsz").body = struct.pack(">III", 0, 1, 0xFFFFFFFF)
    stbl.find("stsc").body = struct.pack(">IIIII", 0, 1, 1, 0xFFFFFFFF, 1)
    return _written(folder, b"".join(map(bytes, file.inside)))


def size_of_a_thousand_exabytes(folder: Path) -> Path:
    """A box that says it is 2^63 bytes long."""
    return _written(folder, FTYP + struct.pack(">I4sQ", 1, b"moov", 1 << 63) + bytes(64))


def film_of_a_thousand_years(folder: Path) -> Path:
    """A film whose two frames are 2^31 seconds apart."""
    file = parse(_still_film(folder / "film.mp4", 64, 64, 4).read_bytes())
    moov = file.find("moov")
    moov.all("trak")[0].find("mdia/minf/stbl/stts").body = struct.pack(">IIII", 0, 1, 4, 0x7FFFFFFF)
    moov.all("trak")[0].find("mdia/mdhd").body = struct.pack(">IIIIIHH", 0, 0, 0, 1, 0x7FFFFFFF, 0, 0)
    return _written(folder, b"".join(map(bytes, file.inside)))


def million_frames_a_second(folder: Path) -> Path:
    """A film of 60,000 frames within a second."""
    return _still_film(folder / "a.mp4", 64, 64, 60_000, 60_000)


def credential_of_zeros(folder: Path) -> Path:
    """A C2PA box of 200 MB that holds nothing."""
    body = C2PA_UUID + bytes(4) + b"manifest\0" + bytes(8)
    return _film_with(folder, bytes(Box(b"uuid", body + bytes(200_000_000))))


def deep_credential(folder: Path) -> Path:
    """A C2PA box of boxes within one another, 20,000 deep."""
    inner = b"".join(struct.pack(">I4s", 8 * (20_000 - n), b"jumb") for n in range(20_000))
    body = C2PA_UUID + bytes(4) + b"manifest\0" + bytes(8) + inner
    return _film_with(folder, bytes(Box(b"uuid", body)))


def many_credentials(folder: Path) -> Path:
    """50,000 C2PA boxes."""
    body = C2PA_UUID + bytes(4) + b"manifest\0" + bytes(40)
    return _film_with(folder, bytes(Box(b"uuid", body)) * 50_000)


def labels_a_hundred_thousand(folder: Path) -> Path:
    """A film with 100,000 tags."""
    item = bytes(Box(b"----", bytes(Box(b"mean", bytes(4) + b"x")) + bytes(Box(b"name", bytes(4) + b"AIGC"))))
    ilst = bytes(Box(b"ilst", item * 100_000))
    meta = bytes(Box(b"meta", bytes(4) + bytes(Box(b"hdlr", bytes(8) + b"mdir" + bytes(13))) + ilst))
    file = parse(_still_film(folder / "film.mp4", 64, 64, 4).read_bytes())
    file.find("moov").inside.append(Box(b"udta", meta))
    return _written(folder, b"".join(map(bytes, file.inside)))


# Pictures.


def _png_of(width: int, height: int, kind: int = 2, rows: bytes | None = None, more: list | None = None) -> bytes:
    """A PNG of one colour, packed well, with further chunks before its pixels."""
    depth = {0: 1, 2: 3, 6: 4}[kind]
    if rows is None:
        packer = zlib.compressobj(9)
        line = bytes(1 + width * depth)
        rows = b"".join([*(packer.compress(line) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return png([(b"IHDR", header), *(more or []), (b"IDAT", rows), (b"IEND", b"")])


def png_of_49_megapixels(folder: Path) -> Path:
    """A picture of 7000 x 7000 pixels in some ten kilobytes."""
    return _written(folder, _png_of(7000, 7000), "a.png")


def png_of_49_megapixels_with_alpha(folder: Path) -> Path:
    """The same with transparency."""
    return _written(folder, _png_of(7000, 7000, 6), "a.png")


def png_that_says_it_is_huge(folder: Path) -> Path:
    """A picture that says it has 2^31 - 1 pixels a side."""
    return _written(folder, _png_of(0x7FFFFFFF, 0x7FFFFFFF, rows=zlib.compress(bytes(100))), "a.png")


def png_chunks_a_million(folder: Path) -> Path:
    """A million empty chunks."""
    return _written(folder, _png_of(8, 8, more=[(b"teSt", b"")] * 1_000_000), "a.png")


def png_text_bomb(folder: Path) -> Path:
    """A text that unpacks to 300 MB."""
    return _written(folder, _png_of(8, 8, more=[(b"zTXt", b"Comment\0\0" + _bomb(300))]), "a.png")


def png_profile_bomb(folder: Path) -> Path:
    """A colour profile that unpacks to 300 MB."""
    return _written(folder, _png_of(8, 8, more=[(b"iCCP", b"icc\0\0" + _bomb(300))]), "a.png")


def png_texts_that_unpack(folder: Path) -> Path:
    """500 texts that unpack to a megabyte each."""
    return _written(folder, _png_of(8, 8, more=[(b"zTXt", b"Comment\0\0" + _bomb(1))] * 500), "a.png")


def _bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(megabytes)), packer.flush()])


def apng_of_many_large_frames(folder: Path) -> Path:
    """An animation of 2,000 frames of 4000 x 4000 pixels."""
    width = height = 4000
    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(bytes(1 + 3 * width)) for _ in range(height)), packer.flush()])
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"acTL", struct.pack(">II", 2000, 0))]
    head = struct.pack(">IIIIHHBB", width, height, 0, 0, 1, 10, 0, 0)
    parts += [(b"fcTL", struct.pack(">I", 0) + head), (b"IDAT", rows)]
    for n in range(1, 2000):
        parts += [(b"fcTL", struct.pack(">I", 2 * n - 1) + head), (b"fdAT", struct.pack(">I", 2 * n) + rows)]
    return _written(folder, png([*parts, (b"IEND", b"")]), "a.png")


def gif_of_many_frames(folder: Path) -> Path:
    """An animated GIF of 20,000 frames of 2000 x 2000 pixels, each a few bytes."""
    head = b"GIF89a" + struct.pack("<HHBBB", 2000, 2000, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    frame = b"\x21\xf9\x04\0\1\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 2000, 2000, 0) + b"\2\2\x44\1\0"
    return _written(folder, head + frame * 20_000 + b"\x3b", "a.gif")


def tiff_of_many_pages(folder: Path) -> Path:
    """A TIFF whose directory leads to itself."""
    directory = struct.pack("<HHHIII", 1, 256, 3, 1, 8, 8)
    return _written(folder, b"II*\0" + struct.pack("<I", 8) + directory, "a.tif")


def tiff_of_a_hundred_thousand_pages(folder: Path) -> Path:
    """A TIFF with 100,000 tiny pages."""
    from PIL import Image

    held = io.BytesIO()
    Image.new("L", (4, 4)).save(held, "TIFF")
    data = bytearray(held.getvalue())
    at = struct.unpack_from("<I", data, 4)[0]
    size = 2 + 12 * struct.unpack_from("<H", data, at)[0]
    directory = bytes(data[at : at + size])
    out = bytearray(data[: at + size])
    for _ in range(100_000):
        out += struct.pack("<I", len(out) + 4) + directory
    return _written(folder, bytes(out) + bytes(4), "a.tif")


def jpeg_segments_a_million(folder: Path) -> Path:
    """A JPEG with a million comments."""
    from PIL import Image

    held = io.BytesIO()
    Image.new("RGB", (8, 8)).save(held, "JPEG")
    data = held.getvalue()
    return _written(folder, data[:2] + b"\xff\xfe\0\2" * 1_000_000 + data[2:], "a.jpg")


def jpeg_scans_a_thousand(folder: Path) -> Path:
    """A progressive JPEG of 8000 x 6000 pixels with a thousand scans."""
    from PIL import Image

    held = io.BytesIO()
    Image.new("RGB", (8000, 6000)).save(held, "JPEG", progressive=True, quality=10)
    data = held.getvalue()
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return _written(folder, data[:-2] + scan * 1000 + b"\xff\xd9", "a.jpg")


def webp_of_many_frames(folder: Path) -> Path:
    """An animated WebP of 4,000 frames of 2048 x 2048 pixels."""
    from PIL import Image

    held = io.BytesIO()
    one = Image.new("RGB", (2048, 2048))
    one.save(held, "WEBP", save_all=True, append_images=[Image.new("RGB", (2048, 2048), (1, 2, 3))], lossless=True)
    data = held.getvalue()
    at = data.index(b"ANMF", data.index(b"ANMF") + 4)
    size = 8 + struct.unpack("<I", data[at + 4 : at + 8])[0]
    body = data[8:] + data[at : at + size + size % 2] * 4000
    return _written(folder, b"RIFF" + struct.pack("<I", len(body)) + body, "a.webp")


def matroska_of_deep_elements(folder: Path) -> Path:
    """A Matroska file of tags within one another."""
    inner = b""
    for _ in range(2000):
        inner = b"\x67\xc8\x08" + struct.pack(">I", len(inner))[1:] + inner if len(inner) < 1 << 20 else inner
    head = b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska"
    return _written(folder, head + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" + inner, "a.mkv")


def noise(folder: Path) -> Path:
    """Ten megabytes of noise that begin as an MP4."""
    return _written(folder, FTYP + np.random.default_rng(0).bytes(10_000_000))


def zeros(folder: Path) -> Path:
    """A hundred megabytes of zeros that take no place on the disk."""
    path = folder / "a.mp4"
    with open(path, "wb") as stream:
        stream.write(FTYP)
        stream.truncate(100_000_000)
    return path


def _written(folder: Path, data: bytes, name: str = "a.mp4") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


# What is no file.


def named_pipe(folder: Path) -> Path:
    """A pipe that nobody writes to."""
    os.mkfifo(folder / "a.mp4")
    return folder / "a.mp4"


def device(folder: Path) -> Path:
    """A device that never ends, by a link."""
    (folder / "a.mp4").symlink_to("/dev/zero")
    return folder / "a.mp4"


def directory(folder: Path) -> Path:
    """A folder with the name of a film."""
    (folder / "a.mp4").mkdir()
    return folder / "a.mp4"


def link_to_itself(folder: Path) -> Path:
    """A link that leads to itself."""
    (folder / "a.mp4").symlink_to(folder / "a.mp4")
    return folder / "a.mp4"


FILES = (
    film_1080p_of_4800_frames, film_8k, empty_boxes_80_000, empty_boxes_a_million, unknown_boxes_a_million,
    empty_boxes_in_a_signed_film, deep_boxes, deep_traks, many_tracks, edit_list_of_a_million,
    sample_tables_of_four_billion, size_of_a_thousand_exabytes, film_of_a_thousand_years, million_frames_a_second,
    credential_of_zeros, deep_credential, many_credentials, labels_a_hundred_thousand, png_of_49_megapixels,
    png_of_49_megapixels_with_alpha, png_that_says_it_is_huge, png_chunks_a_million, png_text_bomb, png_profile_bomb,
    png_texts_that_unpack, apng_of_many_large_frames, gif_of_many_frames, tiff_of_many_pages,
    tiff_of_a_hundred_thousand_pages, jpeg_segments_a_million, jpeg_scans_a_thousand, webp_of_many_frames,
    matroska_of_deep_elements, noise, zeros,
)  # fmt: skip
NO_FILES = (named_pipe, device, directory, link_to_itself)
