"""Media of many kinds, made with PyAV and Pillow: every clip shows the same eight frames, and says what a player shows.

A frame is 96 x 64: six patches of known colour, four squares along the top that say its number in binary, and a red
corner at the lower left. `MediaKind.make` writes one file; the rest is what reading it must give.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT, COUNT = 96, 64, 8
PATCHES = ((200, 40, 40), (40, 180, 60), (40, 60, 200), (230, 230, 230), (30, 30, 30), (220, 180, 120))
CORNER = (200, 30, 60)


def picture(number=0, width=WIDTH, height=HEIGHT, patches=PATCHES, corner=CORNER):
    """One frame: its number on top, the patches in two rows below, the corner."""
    frame = np.full((height, width, 3), 90, np.uint8)
    quarter = height // 4
    for bit in range(4):
        frame[:quarter, bit * width // 4 : (bit + 1) * width // 4] = 235 if number >> bit & 1 else 20
    for index, colour in enumerate(patches):
        row, column = divmod(index, 3)
        frame[(row + 1) * quarter : (row + 2) * quarter, column * width // 3 : (column + 1) * width // 3] = colour
    frame[3 * quarter :, : width // 2] = corner
    return frame


def number_of(frame):
    """The number that a frame says."""
    height, width = frame.shape[:2]
    middles = [int((bit + 0.5) * width / 4) for bit in range(4)]
    return sum(int(frame[height // 8, middle].mean() > 127) << bit for bit, middle in enumerate(middles))


def patches_of(frame):
    """The colours of the six patches, [6, 3]."""
    height, width = frame.shape[:2]
    places = [((index // 3 + 1.5) / 4, (index % 3 + 0.5) / 3) for index in range(6)]
    return np.array([frame[int(y * height), int(x * width)] for y, x in places], int)


@dataclass(frozen=True)
class MediaKind:
    """A file and what a player shows of it: `fps` apart, or from `starts` on, `size` on screen."""

    name: str
    make: Callable[[Path], None]
    numbers: tuple[int, ...] = tuple(range(COUNT))
    fps: float = 12.0
    starts: tuple[float, ...] | None = None
    size: tuple[int, int] = (WIDTH, HEIGHT)
    within: float = 4  # levels
    facts: dict = field(default_factory=dict)  # fields of Media

    @property
    def times(self):
        """When each frame is shown."""
        return self.starts or tuple(index / self.fps for index in range(len(self.numbers)))


def encode(
    path, codec="libx264", *, fps=12, pix_fmt="yuv420p", size=(WIDTH, HEIGHT), numbers=range(COUNT), stamps=None,
    matrix=1, full=False, tags=(1, 1, 1), aspect=None, display=None, options=None, container=None, formed=None,
    coder_flags=0, disposition=None, sound=None, format=None,
):  # fmt: skip
    """A video of the numbered frames; `formed` gives other pixels (as `av.VideoFrame`) for a number."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format=format, options=container or {}) as out:
        stream = out.add_stream(codec, rate=rate)
        coder = stream.codec_context
        coder.width, coder.height, coder.pix_fmt = *size, pix_fmt
        coder.color_primaries, coder.color_trc, coder.colorspace = tags
        coder.color_range = 2 if full else 1
        coder.options = {"crf": "4", **(options or {})} if codec in ("libx264", "libx265") else options or {}
        if codec == "libx265":
            coder.options |= {"x265-params": "log-level=none"}
        if stamps is not None:
            coder.time_base = Fraction(1, 1000)
        if aspect is not None:
            coder.sample_aspect_ratio = aspect
        if display is not None:
            stream.set_display_matrix(display)
        if disposition is not None:
            stream.disposition = disposition
        heard = add_sound(out, *sound) if sound is not None else None
        for index, number in enumerate(numbers):
            frame = formed(number) if formed else coloured(picture(number, *size), pix_fmt, matrix, full)
            frame.pts = index if stamps is None else stamps[index]
            frame.time_base = 1 / rate if stamps is None else Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if heard is not None:
            heard()


def coloured(frame, pix_fmt, matrix=1, full=False):
    """RGB pixels as a frame of another format, by a matrix (H.273) and a range."""
    given = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    if pix_fmt == "rgb24":
        return given
    return given.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=2 if full else 1)


def clicks(seconds=1.0, at=(0.25, 0.5), rate=48000, channels=2):
    """Sound [channels, N] float32: silence with clicks of 20 ms."""
    samples = np.zeros(int(seconds * rate), np.float32)
    for time in at:
        first = int(time * rate)
        samples[first : first + rate // 50] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(rate // 50) / rate)
    return np.repeat(samples[None], channels, 0)


def add_sound(out, codec, samples, layout="stereo", rate=48000, later=0.0):
    """A track of sound in a file; call what it returns after the picture was written."""
    stream = out.add_stream(codec, rate=rate, layout=layout)

    def write():
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate)
        interleaved = np.ascontiguousarray(samples.T).reshape(1, -1)
        given = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
        given.sample_rate, given.pts, given.time_base = rate, round(later * rate), Fraction(1, rate)
        for frame in [*resampler.resample(given), *resampler.resample(None)]:
            out.mux(stream.encode(frame))
        out.mux(stream.encode())

    return write


def remux(source, path, *, cut=0, shift=0.0, options=None, format=None):
    """The packets of a file in another, from the `cut`th frame on (hidden frames keep times below 0), `shift` later."""
    with av.open(str(source)) as given, av.open(str(path), "w", options=options or {}, format=format) as out:
        video = given.streams.video[0]
        stream = out.add_stream_from_template(video)
        for packet in given.demux(video):
            if packet.size:
                later = round((shift - cut / float(video.average_rate)) / video.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, stream
                out.mux(packet)


def with_times(path, change):
    """Writes a file's bytes anew, changed."""
    path.write_bytes(change(path.read_bytes()))


def cut_by_edit_list(path):
    """Three of eight frames are hidden by an edit list."""
    whole = path.with_name("whole.mp4")
    encode(whole, options={"bf": "2", "g": "50"})
    remux(whole, path, cut=3)


def delayed_by_edit_list(path):
    """The picture begins 0.4 s after the sound."""
    whole = path.with_name("whole.mp4")
    encode(whole)
    with av.open(str(whole)) as given, av.open(str(path), "w") as out:
        video = given.streams.video[0]
        stream = out.add_stream_from_template(video)
        heard = add_sound(out, "aac", clicks(1.4, (0.65, 0.9)))
        for packet in given.demux(video):
            if packet.size:
                later = round(0.4 / video.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, stream
                out.mux(packet)
        heard()


def with_cover(path):
    """A video whose first stream is its cover art."""
    whole = path.with_name("whole.mp4")
    encode(whole)
    cover = path.with_name("cover.jpg")
    Image.new("RGB", (50, 50), (0, 0, 255)).save(cover)
    with av.open(str(whole)) as given, av.open(str(cover)) as art, av.open(str(path), "w") as out:
        first = out.add_stream_from_template(art.streams.video[0])
        first.disposition = av.stream.Disposition.attached_pic
        second = out.add_stream_from_template(given.streams.video[0])
        for container, stream in ((art, first), (given, second)):
            for packet in container.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    if stream is first:
                        packet.pts = packet.dts = 0
                    out.mux(packet)


def with_two_videos(path):
    """Two video tracks, the second of which is the default."""
    with av.open(str(path), "w") as out:
        streams = []
        for disposition in (0, 1):
            stream = out.add_stream("libx264", rate=12)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.codec_context.options = {"crf": "4"}
            stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
            stream.codec_context.colorspace = stream.codec_context.color_range = 1
            stream.disposition = disposition
            streams.append(stream)
        for number in range(COUNT):
            for stream, shown in zip(streams, (15 - number, number), strict=True):
                frame = coloured(picture(shown), "yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 12)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode())


# Colour beyond BT.709: the numbers that a camera would write, by the formulas of BT.2100 and H.273.

TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])


def hlg(linear):
    """Linear BT.2020 (1 is 203 cd/m2) as HLG."""
    display = np.clip(linear * 203 / 1000, 0, 1)
    luminance = np.maximum(display @ LUMA_2020, 1e-6)
    scene = display * (luminance ** (1 / 1.2 - 1))[..., None]
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def pq(linear):
    """Linear light (1 is 203 cd/m2) as PQ."""
    power = np.clip(linear * 203 / 10_000, 0, 1) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def deep_frame(number, to_primaries, curve, srgb=True):
    """A frame of 10 bits in BT.2020's matrix, whose light is that of `picture`."""
    frame = picture(number) / 255
    linear = np.where(frame <= 0.04045, frame / 12.92, ((frame + 0.055) / 1.055) ** 2.4) if srgb else frame**2.4
    signal = np.clip(curve(linear @ to_primaries.T), 0, 1)
    y = signal @ LUMA_2020
    planes = [64 + 876 * y]
    for channel, scale in ((2, 1.8814), (0, 1.4746)):
        chroma = (512 + 896 * (signal[..., channel] - y) / scale).reshape(HEIGHT // 2, 2, WIDTH // 2, 2)
        planes.append(chroma.mean((1, 3)))
    made = av.VideoFrame(WIDTH, HEIGHT, "yuv420p10le")
    for plane, values in zip(made.planes, planes, strict=True):
        line = plane.line_size // 2
        padded = np.zeros((values.shape[0], line), "<u2")
        padded[:, : values.shape[1]] = np.rint(values)
        plane.update(padded.tobytes())
    made.color_range = 1
    return made


def wide(path, tags, to_primaries, curve, codec="libx265", srgb=True):
    """HDR and wide colour."""
    encode(
        path, codec, pix_fmt="yuv420p10le", tags=tags, formed=lambda n: deep_frame(n, to_primaries, curve, srgb)
    )  # fmt: skip


def fields(number):
    """An interlaced frame; its fields show the same, as most broadcasts of films do."""
    return coloured(picture(number), "yuv420p")


def transparent(path, codec, pix_fmt):
    """A video whose patches are opaque and whose upper half is not."""

    def formed(number):
        rgba = np.dstack([picture(number), np.full((HEIGHT, WIDTH), 255, np.uint8)])
        return av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt, dst_colorspace=1)

    encode(path, codec, pix_fmt=pix_fmt, formed=formed)


def animated(path, **options):
    """An animation of the numbered frames, 80 ms each."""
    frames = [Image.fromarray(picture(number)) for number in range(COUNT)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=80, loop=0, **options)


def through(first, path, *args, **options):
    """A file that was made as another, then muxed anew."""
    source = path.with_name("source.mp4")
    encode(source)
    remux(source, path, *args, **options)


def turned(matrix):
    """A display matrix of the numbers a, b, c, d."""
    a, b, c, d = (value << 16 for value in matrix)
    return (a, b, 0, c, d, 0, 0, 0, 1 << 30)


def video_kinds():
    """Every kind of video."""
    kinds = [
        MediaKind("plain.mp4", encode),
        MediaKind("hevc.mp4", lambda p: encode(p, "libx265")),
        MediaKind("av1.mp4", lambda p: encode(p, "libsvtav1", options={"crf": "5", "preset": "10"})),
        MediaKind("plain.mkv", encode),
        MediaKind("plain.mov", encode),
        MediaKind("plain.flv", encode),
        MediaKind("plain.ts", encode),
        MediaKind("plain.m4v", encode),
        MediaKind("vp8.webm", lambda p: encode(p, "libvpx", matrix=5, options={"crf": "4", "b": "4M"})),
        MediaKind("vp9.webm", lambda p: encode(p, "libvpx-vp9", options={"crf": "4", "b": "0"})),
        MediaKind("prores.mov", lambda p: encode(p, "prores_ks", pix_fmt="yuv422p10le"), facts={"is_deep": True}),
        MediaKind("mjpeg.mov", lambda p: encode(
            p, "mjpeg", pix_fmt="yuvj420p", matrix=5, full=True, options={"b": "4M"})),
        MediaKind("mpeg4.avi", lambda p: encode(p, "mpeg4", matrix=5, options={"b": "4M"})),
        MediaKind("bframes.avi", lambda p: encode(p, options={"bf": "3"})),
        MediaKind("huffyuv.avi", lambda p: encode(p, "huffyuv", pix_fmt="rgb24")),
        MediaKind("raw.avi", lambda p: encode(
            p, "rawvideo", pix_fmt="bgr24", formed=lambda n: coloured(picture(n), "rgb24").reformat(format="bgr24"))),
        MediaKind("dvd.mpg", lambda p: encode(
            p, "mpeg2video", fps=25, matrix=5, tags=(5, 5, 5), options={"b": "6M", "bf": "2"}), fps=25),
        MediaKind("raw.h264", encode),
        MediaKind("raw.hevc", lambda p: encode(p, "libx265")),
        MediaKind("late.ts", lambda p: through(encode, p, shift=100.0)),
        MediaKind("fragments.mp4", lambda p: encode(p, container={"movflags": "frag_keyframe+empty_moov"})),
        MediaKind("cut.mp4", cut_by_edit_list, numbers=tuple(range(3, COUNT))),
        MediaKind("delayed.mp4", delayed_by_edit_list),
        MediaKind("cover.mp4", with_cover, facts={"num_pictures": 2, "num_video_tracks": 1}),
        MediaKind("two.mp4", with_two_videos, facts={"num_video_tracks": 2}),
        MediaKind("two.mkv", with_two_videos, facts={"num_video_tracks": 2}),
        MediaKind("lossless.mkv", lambda p: encode(p, "ffv1", pix_fmt="bgr0", tags=(1, 1, 0), full=True)),
        MediaKind("full.mp4", lambda p: encode(p, full=True)),
        MediaKind("601.mp4", lambda p: encode(p, matrix=5, tags=(6, 6, 6))),
        MediaKind("444.mp4", lambda p: encode(p, pix_fmt="yuv444p")),
        MediaKind("422-10.mp4", lambda p: encode(p, pix_fmt="yuv422p10le"), facts={"is_deep": True}),
        MediaKind("untagged-sd.mp4", lambda p: encode(p, matrix=5, tags=(2, 2, 2))),
        MediaKind("untagged-hd.mp4", lambda p: encode(p, size=(1280, 720), tags=(2, 2, 2), numbers=range(3)),
                  numbers=(0, 1, 2), size=(1280, 720)),
        MediaKind("2020.mp4", lambda p: wide(p, (9, 14, 9), TO_2020, lambda v: v ** (1 / 2.4), srgb=False),
                  facts={"is_deep": True}),
        MediaKind("p3.mp4", lambda p: wide(p, (12, 1, 9), TO_P3, lambda v: v ** (1 / 2.4), srgb=False)),
        MediaKind("hlg.mov", lambda p: wide(p, (9, 18, 9), TO_2020, hlg), within=14),
        MediaKind("pq.mp4", lambda p: wide(p, (9, 16, 9), TO_2020, pq), within=15),
        MediaKind("wide.mp4", lambda p: encode(p, aspect=Fraction(4, 3)), size=(128, 64)),
        MediaKind("narrow.mkv", lambda p: encode(p, aspect=Fraction(8, 9)), size=(96, 72)),
        MediaKind("interlaced.mp4", lambda p: encode(p, options={"flags": "+ilme+ildct", "x264-params": "tff=1"}),
                  facts={"is_interlaced": True}, within=6),
        MediaKind("alpha.webm", lambda p: transparent(p, "libvpx-vp9", "yuva420p"),
                  facts={"has_alpha": True}, within=6),
        MediaKind("alpha.mov", lambda p: transparent(p, "prores_ks", "yuva444p10le"), facts={"has_alpha": True}),
        MediaKind("alpha.avi", lambda p: transparent(p, "png", "rgba"), facts={"has_alpha": True}),
        MediaKind("animated.gif", animated, fps=12.5, within=12),
        MediaKind("animated.webp", lambda p: animated(p, lossless=True), fps=12.5, facts={"num_pictures": COUNT}),
        MediaKind("animated.png", animated, fps=12.5, facts={"num_pictures": COUNT}),
        MediaKind("animated.avif", lambda p: animated(p, quality=100), fps=12.5, facts={"num_pictures": COUNT}),
        MediaKind("film.mkv", lambda p: encode(p, fps=Fraction(24000, 1001)), fps=24000 / 1001),
        MediaKind("fast.mp4", lambda p: encode(p, fps=120), fps=120),
        MediaKind("slow.mp4", lambda p: encode(p, fps=Fraction(1, 2)), fps=0.5),
    ]  # fmt: skip
    uneven = (0, 40, 80, 400, 440, 1000, 1100, 1140)
    for name in ("varying.mp4", "varying.mkv", "varying.webm"):
        codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
        options = {"crf": "4", "b": "0"} if name.endswith("webm") else {"bf": "0"}
        kinds.append(MediaKind(
            name, lambda p, codec=codec, options=options: encode(p, codec, stamps=uneven, options=options, fps=25),
            starts=tuple(stamp / 1000 for stamp in uneven),
        ))  # fmt: skip
    return kinds


MATRICES = {  # a, b, c, d of a display matrix, and what they do to a picture
    "upright": ((1, 0, 0, 1), lambda f: f),
    "half turn": ((-1, 0, 0, -1), lambda f: f[::-1, ::-1]),
    "quarter right": ((0, 1, -1, 0), lambda f: np.rot90(f, -1)),
    "quarter left": ((0, -1, 1, 0), lambda f: np.rot90(f)),
    "mirrored": ((-1, 0, 0, 1), lambda f: f[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda f: f[::-1]),
    "transposed": ((0, 1, 1, 0), lambda f: f.swapaxes(0, 1)),
    "across": ((0, -1, -1, 0), lambda f: np.rot90(f, 2).swapaxes(0, 1)),
}


# Still pictures: each a file of `picture()`.


def png16(pixels, kind):
    """A PNG of 16 bits a channel; `kind` is its colour type."""
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def saved(mode=None, **options):
    """Writes the picture with Pillow, converted to a mode."""

    def make(path):
        image = Image.fromarray(picture())
        (image.convert(mode) if mode else image).save(path, **options)

    return make


def grey_levels():
    """A ramp [64, 96] over all of 8 bits."""
    return np.linspace(0, 255, WIDTH)[None].repeat(HEIGHT, 0)


def deep_grey(path):
    """The ramp in 16 bits."""
    Image.fromarray(np.rint(grey_levels() * 257).astype(np.uint16)).save(path)


def float_grey(path):
    """The ramp as floats in 0..1."""
    Image.fromarray((grey_levels() / 255).astype(np.float32)).save(path)


def paged(path):
    """A TIFF of three pages, or a JPEG with a second picture."""
    others = [Image.new("RGB", (WIDTH, HEIGHT), "blue")] * 2
    form = "MPO" if path.suffix == ".jpg" else None
    Image.fromarray(picture()).save(path, save_all=True, append_images=others, format=form, quality=98)


PICTURES = {
    "plain.png": saved(),
    "plain.jpg": saved(quality=98, subsampling=0),
    "cmyk.jpg": saved("CMYK", quality=98, subsampling=0),
    "plain.webp": saved(lossless=True),
    "plain.bmp": saved(),
    "plain.tif": saved(),
    "lzw.tif": saved(compression="tiff_lzw"),
    "plain.avif": saved(quality=100, subsampling="4:4:4"),
    "palette.gif": saved(),
    "palette.png": lambda path: Image.fromarray(picture()).quantize(16).save(path),
    "deep.png": lambda path: path.write_bytes(png16(picture().astype(int) * 257, 2)),
    "opaque.png": saved("RGBA"),
    "pages.tif": paged,
    "pages.jpg": paged,
}
