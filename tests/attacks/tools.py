"""Media, boxes and certificates as a forger writes them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from sorano.trust.provenance import keys

FPS = 24
RATE = 48_000  # samples of sound a second
TICKS = Fraction(1, 90_000)
DEFAULT, FORCED = 1, 64  # dispositions


# Sound.


def voice(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A voice-like sound, float32 in -1..1: a gliding buzz through two resonances, in syllables."""
    random = np.random.default_rng([seed, 7])
    count = round(seconds * rate)
    time = np.arange(count) / rate
    syllables = np.repeat(random.uniform(0, 1, count // 4800 + 2), 4800)[:count]
    pitch = 110 + 60 * np.repeat(random.uniform(0, 1, count // 9600 + 2), 9600)[:count]
    pitch = np.convolve(np.pad(pitch, 2400, "edge"), np.ones(4801) / 4801, "valid")[:count]
    envelope = np.convolve(np.pad(syllables, 600, "edge"), np.ones(1201) / 1201, "valid")[:count]
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    formant = 1 + np.sin(2 * np.pi * np.cumsum(400 + 900 * envelope) / rate)
    noise = random.normal(size=count) * 0.03
    return (0.2 * envelope * buzz * formant + noise * envelope + 0.02 * np.sin(2 * np.pi * 50 * time)).astype(
        np.float32
    )


# Writing.


@dataclass
class Track:
    """A video track: frames, when each is shown (in 1/90000 s), its dispositions."""

    frames: np.ndarray
    times: Sequence[int] | None = None
    disposition: int = DEFAULT
    crf: int = 20
    codec: str = "libx264"
    fmt: str = "yuv420p"
    options: dict[str, str] | None = None


def encode(
    path: Path,
    *tracks: Track | np.ndarray,
    sound: np.ndarray | Sequence[np.ndarray] | None = None,
    words: Sequence[tuple[float, float, str]] = (),
    fps: float = FPS,
    tags: dict[str, str] | None = None,
    form: str | None = None,
    options: dict[str, str] | None = None,
    matrix: Sequence[int] | None = None,
) -> Path:
    """Code video tracks, sounds (mono, 48 kHz) and subtitles into one file, as any editor would."""
    videos = [
        one if isinstance(one, Track) else Track(one, disposition=DEFAULT if n == 0 else 0)
        for n, one in enumerate(tracks)
    ]
    sounds = [] if sound is None else [sound] if isinstance(sound, np.ndarray) else list(sound)
    with av.open(str(path), "w", format=form, options=options or {}) as out:
        out.metadata.update(tags or {})
        made = [_video_stream(out, one, fps, matrix) for one in videos]
        coder = "libopus" if path.suffix == ".webm" else "aac"
        heard = [out.add_stream(coder, rate=RATE, layout="mono") for _ in sounds]
        text = None
        if words:
            text = out.add_stream("mov_text" if path.suffix in (".mp4", ".mov") else "srt")
            text.disposition = DEFAULT | FORCED
            text.codec_context.subtitle_header = ASS_HEADER
        packets = []
        for one, stream in zip(videos, made, strict=True):
            packets += list(_video_packets(one, stream, fps))
        for samples, stream in zip(sounds, heard, strict=True):
            packets += list(_sound_packets(samples, stream))
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            out.mux(packet)
        if text is not None:
            _mux_words(out, text, words)
    return path


ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize\r\n"
    b"Style: Default,Arial,16\r\n\r\n[Events]\r\nFormat: Layer, Start, End, Style, Text\r\n"
)


def _video_stream(out, track: Track, fps: float, matrix) -> av.VideoStream:
    stream = out.add_stream(track.codec, rate=Fraction(fps).limit_denominator(1001))
    stream.width, stream.height, stream.pix_fmt = track.frames.shape[2], track.frames.shape[1], track.fmt
    usual = {"crf": str(track.crf), "preset": "veryfast"} if track.codec == "libx264" else {}
    if track.codec == "libx264" and track.times is not None:
        usual["bf"] = "0"
    if track.codec.startswith("libvpx"):
        usual = {"crf": str(track.crf), "b": "0", "deadline": "realtime", "cpu-used": "8"}
    stream.options = {**usual, **(track.options or {})}
    stream.disposition = track.disposition
    if track.times is not None:
        stream.time_base = stream.codec_context.time_base = TICKS
    if matrix is not None:
        stream.set_display_matrix(matrix)
    return stream


def _video_packets(track: Track, stream, fps: float) -> Iterator[av.Packet]:
    times = track.times
    gaps = None if times is None else [*np.diff(times), 90_000 // int(fps)]
    for index, frame in enumerate(track.frames):
        kind = {4: "rgba", 3: "rgb24"}[frame.shape[-1]]
        made = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=kind)
        made.pts = index if times is None else int(times[index])
        made.time_base = 1 / Fraction(fps).limit_denominator(1001) if times is None else TICKS
        if gaps is not None:
            made.duration = int(gaps[index])
        yield from stream.encode(made)
    yield from stream.encode()


def _sound_packets(samples: np.ndarray, stream) -> Iterator[av.Packet]:
    for start in range(0, len(samples), 4800):
        part = np.ascontiguousarray(samples[None, start : start + 4800])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode()


def _mux_words(out, stream, words) -> None:
    """Raw samples of subtitles: 3GPP timed text in MP4, plain text in Matroska."""
    for start, end, text in words:
        raw = text.encode()
        packet = av.Packet(struct.pack(">H", len(raw)) + raw if stream.codec_context.name == "mov_text" else raw)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = round(1000 * start)
        packet.duration = round(1000 * (end - start))
        out.mux(packet)


def frames_of(path: Path) -> np.ndarray:
    """Every frame of a video's first track, [T, H, W, 3] uint8 RGB."""
    with av.open(str(path)) as opened:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)])


def sound_of(path: Path) -> np.ndarray:
    """The first sound of a file, mono at 48 kHz, float32."""
    resampler = av.AudioResampler("fltp", "mono", RATE)
    parts = []
    with av.open(str(path)) as opened:
        for frame in opened.decode(audio=0):
            parts += [one.to_ndarray()[0] for one in resampler.resample(frame)]
    return np.concatenate(parts)


def remux(
    source: Path, target: Path, *, bsf: tuple[str, str] | None = None, form: str | None = None, **options
) -> Path:
    """Copy the streams as they are into a new file, without the metadata; `bsf` filters the video's packets."""
    with av.open(str(source)) as given, av.open(str(target), "w", format=form, options=options) as out:
        streams = {
            one.index: out.add_stream_from_template(one) for one in given.streams if one.type in ("video", "audio")
        }
        filtering = None
        if bsf is not None:
            filtering = av.BitStreamFilterContext(f"{bsf[0]}={bsf[1]}" if bsf[1] else bsf[0], given.streams.video[0])
        for packet in given.demux():
            if packet.dts is None or packet.stream.index not in streams:
                continue
            made = filtering.filter(packet) if filtering and packet.stream.type == "video" else [packet]
            for one in made:
                one.stream = streams[packet.stream.index]
                out.mux(one)
    return target


def joined(target: Path, *parts: tuple[Path, str, int]) -> Path:
    """One file of the streams of others: (source, "video" or "audio", disposition), copied as they are."""
    with av.open(str(target), "w") as out:
        opened = [av.open(str(source)) for source, _, _ in parts]
        try:
            streams = []
            for given, (_, kind, disposition) in zip(opened, parts, strict=True):
                streams.append((given, getattr(given.streams, kind)[0]))
                out.add_stream_from_template(streams[-1][1]).disposition = disposition
            for made, (given, stream) in zip(list(out.streams), streams, strict=True):
                for packet in given.demux(stream):
                    if packet.dts is not None:
                        packet.stream = made
                        out.mux(packet)
        finally:
            for given in opened:
                given.close()
    return target


def even_times(count: int, seconds: float, start: float = 0.0) -> list[int]:
    """When `count` frames are shown that fill `seconds` evenly, in 1/90000 s."""
    return [round(90_000 * (start + seconds * n / count)) for n in range(count)]


# Boxes of MP4.

C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
NESTED = {b"moov", b"trak", b"edts", b"mdia", b"minf", b"dinf", b"stbl", b"udta", b"mvex", b"moof", b"traf"}


@dataclass
class Box:
    """A box with its bytes, or with the boxes in it."""

    kind: bytes
    body: bytes = b""
    inside: list[Box] | None = None

    def __bytes__(self) -> bytes:
        body = self.body if self.inside is None else b"".join(map(bytes, self.inside))
        return struct.pack(">I4s", len(body) + 8, self.kind) + body

    def find(self, path: str) -> Box:
        """The first box along a path such as "trak/mdia/minf"."""
        here = self
        for name in path.split("/"):
            here = next(one for one in here.inside or [] if one.kind == name.encode())
        return here

    def all(self, name: str) -> list[Box]:
        """The boxes of a kind that lie directly in it."""
        return [one for one in self.inside or [] if one.kind == name.encode()]


def parse(data: bytes) -> Box:
    """A file as one box without a header of its own."""
    return Box(b"file", inside=_parse(data))


def _parse(data: bytes) -> list[Box]:
    found, place = [], 0
    while place + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", data[place + 8 : place + 16])[0], 16
        size = size or len(data) - place
        body = data[place + head : place + size]
        found.append(Box(kind, inside=_parse(body)) if kind in NESTED else Box(kind, body))
        place += size
    return found


def dump(path: Path, file: Box) -> Path:
    """Write the boxes of a file in a row."""
    path.write_bytes(b"".join(map(bytes, file.inside or [])))
    return path


def moov_last(path: Path) -> Box:
    """The boxes of an MP4 whose moov lies behind its mdat, so that moov may grow."""
    file = parse(path.read_bytes())
    kinds = [one.kind for one in file.inside]
    if kinds.index(b"moov") < kinds.index(b"mdat"):
        raise ValueError(f"{path}: moov comes first")
    return file


def edit_list(*edits: tuple[int, int, float]) -> Box:
    """edts with edits (length in the movie's ticks, start in the track's ticks or -1 for empty, rate)."""
    body = b"".join(struct.pack(">Iii", length, start, round(rate * 65536)) for length, start, rate in edits)
    return Box(b"edts", inside=[Box(b"elst", struct.pack(">II", 0, len(edits)) + body)])


def with_edits(file: Box, edts: Box, track: int = 0) -> None:
    """Give a track an edit list instead of its own."""
    trak = file.find("moov").all("trak")[track]
    trak.inside = [one for one in trak.inside if one.kind != b"edts"]
    trak.inside.insert(1, edts)


def timescale(file: Box, track: int | None = None) -> int:
    """Ticks a second of the movie, or of a track."""
    moov = file.find("moov")
    head = moov.find("mvhd") if track is None else moov.all("trak")[track].find("mdia/mdhd")
    return struct.unpack(">I", head.body[12:16])[0]


# Chunks of PNG and RIFF.


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, content) of a PNG."""
    found, place = [], 8
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        found.append((kind, data[place + 8 : place + 8 + size]))
        place += size + 12
    return found


def png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks, with right checksums."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        parts += [struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(kind + content))]
    return b"".join(parts)


# Certificates.


@dataclass
class Authority:
    """A certificate and its key, which can sign others."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    def leaf(
        self, name: str, *, begins: datetime | None = None, ends: datetime | None = None, authority: bool = False
    ) -> Authority:
        """A certificate under this one; `name` is whatever is typed."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, ObjectIdentifier(keys.CLAIM_SIGNING)]
        built = (
            x509.CertificateBuilder(self.cert.subject, _named(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(begins or now - timedelta(hours=1))
            .not_valid_after(ends or now + timedelta(days=300))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(_usage(authority), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Authority(built, key, (built, *(self.chain or (self.cert,))))

    def identity(self) -> keys.Identity:
        """What signs with it."""
        return keys.Identity("".join(map(keys.to_pem, self.chain)), keys.signer_of(self.key))


def root(name: str) -> Authority:
    """A root of one's own; a name is whatever is typed."""
    key = ec.generate_private_key(ec.SECP256R1())
    now, subject = datetime.now(UTC), _named(name)
    built = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=3000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(built, key)


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _named(name: str) -> x509.Name:
    short = name.encode()[:64].decode(errors="ignore")  # X.520's upper bound
    return x509.Name([x509.NameAttribute(one, short) for one in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)])


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
