"""AIGC labels: written as the standard says, read as they are found, and the visible sign."""

import io
import json
import struct
import wave

import av
import numpy as np
import pytest
from PIL import Image

from sorano import video
from sorano.errors import RequestError, VideoError
from sorano.trust.provenance import containers, keys, label

LABEL = label.Label(producer="工作室 A", produce_id="sorano-00a1b2c3d4")
VIDEO_LIKE = ["a.mp4", "plain.mp4", "late.mp4", "a.mov"]
IMAGES = ["a.png", "a.jpg", "a.webp", "lossless.webp"]
SOUNDS = ["a.wav", "a.mp3", "tagged.mp3"]


def frames(num_frames=9, height=64, width=96):
    rows, columns = np.mgrid[0:height, 0:width]
    made = np.stack([rows * 2 % 256, columns * 2 % 256, 0 * rows + 90], -1).astype(np.uint8)
    return np.stack([np.roll(made, index, 1) for index in range(num_frames)])


def sound(path, codec, **tags):
    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        stream = container.add_stream(codec, rate=44100)
        samples = (np.sin(np.arange(44100) / 20) * 8000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def make(tmp_path):
    """Makes a small file of the kind that its name says."""

    def made(name):
        path = tmp_path / name
        if name == "a.mp4":
            video.write_video(path, frames(), 12, metadata={"request": {"seed": 1}}, title="红球")
        elif name in ("plain.mp4", "late.mp4", "a.mov"):
            options = {} if name == "late.mp4" else {"movflags": "+faststart"}
            with av.open(str(path), "w", options=options) as container:
                stream = container.add_stream("libx264", rate=12)
                stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
                for frame in frames():
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode())
        elif name.endswith((".png", ".jpg", ".webp")):
            Image.fromarray(frames(1)[0]).save(path, **({"lossless": True} if "lossless" in name else {}))
        elif name == "a.wav":
            sound(path, "pcm_s16le")
        else:
            sound(path, "libmp3lame", **({"title": "a song"} if name == "tagged.mp3" else {}))
        return path

    return made


def decoded(path):
    if path.suffix in (".png", ".jpg", ".webp"):
        return np.asarray(Image.open(path).convert("RGB"))
    with av.open(str(path)) as container:
        if container.streams.video:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])


@pytest.mark.parametrize("name", VIDEO_LIKE + IMAGES + SOUNDS)
def test_a_label_is_written_where_the_guides_say_and_changes_no_picture_and_no_sound(make, name):
    path = make(name)
    before = decoded(path)
    carrier = label.write(path, LABEL)
    (found,) = label.read(path)
    assert found.label == LABEL and found.carrier == carrier and found.problems == ()
    np.testing.assert_array_equal(decoded(path), before)
    other = label.Label(producer="B", produce_id="2", label="3")
    label.write(path, other)  # replaces
    (found,) = label.read(path)
    assert found.label == other and found.says == "is suspected to be AI-generated"
    np.testing.assert_array_equal(decoded(path), before)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", [*VIDEO_LIKE, "a.mp3"])
def test_ffmpeg_reads_the_label_and_the_other_tags_are_kept(make, name):
    path = make(name)
    label.write(path, LABEL)
    with av.open(str(path)) as container:
        tags = dict(container.metadata)
    assert json.loads(tags["AIGC"])["ContentProducer"] == "工作室 A"
    if name == "a.mp4":
        assert tags["title"] == "红球"
        assert video.read_metadata(path) == {"request": {"seed": 1}}


def test_what_ffmpeg_writes_is_read(tmp_path):
    """`ffmpeg -movflags use_metadata_tags -metadata AIGC=...` is how others label."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["AIGC"] = LABEL.to_json()
        container.metadata["artist"] = "x"
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frames(1)[0], format="rgb24")))
        container.mux(stream.encode())
    (found,) = label.read(path)
    assert found.label == LABEL and found.carrier == "moov/udta/meta/keys"
    label.write(path, label.Label(producer="B", produce_id="2"))
    (found,) = label.read(path)
    assert found.fields["ContentProducer"] == "B"
    with av.open(str(path)) as container:
        assert container.metadata["artist"] == "x"


def test_the_json_has_the_seven_keys_in_order():
    assert list(json.loads(LABEL.to_json())) == [
        "Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"label": "AIGC"}, "Label must be"),
        ({"producer": " "}, "ContentProducer is empty"),
        ({"produce_id": ""}, "ProduceID is empty"),
        ({"propagator": "x" * 513}, "ContentPropagator must be"),
        ({"reserved_2": "a\nb"}, "ReservedCode2 must be"),
        ({"producer": 7}, "ContentProducer must be text"),
    ],
)
def test_the_writer_is_strict(make, wrong, said):
    path = make("a.png")
    before = path.read_bytes()
    with pytest.raises(RequestError, match=said):
        label.write(path, label.Label(**{"producer": "A", "produce_id": "1", **wrong}))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"AIGC": ' + LABEL.to_json() + "}", None),
        (json.dumps({"AIGC": LABEL.to_json()}), None),
        ('{"Label": "AIGC", "ContentProducer": "M", "ProduceID": "1"}', "Label is 'AIGC'"),
        ('{"label": 1, "contentproducer": "M", "produceid": "1"}', "ReservedCode1 is missing"),
        ("not json", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"Label": "1"}', "ContentProducer is missing"),
    ],
)
def test_the_reader_is_tolerant_and_says_what_is_wrong(text, problem):
    found = label.parse("here", text)
    assert (problem is None and found.problems == ()) or any(problem in one for one in found.problems)


def test_labels_of_others_in_the_wild_are_found(tmp_path, make):
    exif = Image.Exif()
    exif[0x9286] = b"ASCII\0\0\0" + LABEL.to_json().encode()
    Image.fromarray(frames(1)[0]).save(tmp_path / "exif.jpg", exif=exif)
    (found,) = label.read(tmp_path / "exif.jpg")
    assert found.fields["Label"] == "1" and found.carrier == "JPEG EXIF"
    png = make("a.png")
    packet = containers.xmp_with(None, "AIGC", LABEL.to_json())
    body = b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + packet
    data = png.read_bytes()
    import zlib

    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    png.write_bytes(data[:33] + chunk + data[33:])
    (found,) = label.read(png)
    assert found.label == LABEL and found.carrier == "PNG XMP"
    attribute = b'<rdf:Description TC260:AIGC="{&quot;Label&quot;:&quot;1&quot;}"/>'
    assert containers.xmp_values(attribute) == ['{"Label":"1"}']


def test_xmp_that_is_there_is_kept(tmp_path):
    old = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r"><rdf:Description a="camera"/></rdf:RDF>'
    old += b"</x:xmpmeta>"
    Image.fromarray(frames(1)[0]).save(tmp_path / "a.jpg", xmp=old)
    label.write(tmp_path / "a.jpg", LABEL)
    assert b"camera" in (tmp_path / "a.jpg").read_bytes()
    assert label.read(tmp_path / "a.jpg")[0].label == LABEL


def test_our_signature_over_the_fields_holds_until_one_changes():
    signed = label.signed(LABEL, keys.identity())
    assert label.signature_holds(signed) is True
    from dataclasses import replace

    assert label.signature_holds(replace(signed, producer="Mallory")) is False
    assert label.signature_holds(replace(signed, propagator="a platform")) is True  # theirs to fill
    for other in ("", "abc", "{}", '{"Type":"sm3"}', '{"Type":"ES256","Key":"AAAA","Sig":"AAAA"}'):
        assert label.signature_holds(replace(signed, reserved_1=other)) is None


@pytest.mark.parametrize("name", VIDEO_LIKE + IMAGES + SOUNDS)
def test_files_cut_off_anywhere_are_errors_or_have_no_label_never_a_crash(make, name):
    path = make(name)
    label.write(path, LABEL)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for end in [0, 1, 4, 8, 11, 12, 16, 20, *rng.integers(0, len(data), 40)]:
        path.write_bytes(data[:end])
        try:
            label.read(path)
        except VideoError:
            pass
    for _ in range(200):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 4096), 3):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        for act in (lambda: label.read(path), lambda: label.write(path, LABEL)):
            try:
                act()
            except VideoError:
                pass


def test_a_file_without_a_place_for_a_label_is_said(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    assert label.read(tmp_path / "a.tif") == []
    with pytest.raises(VideoError, match="no place for a label"):
        label.write(tmp_path / "a.tif", LABEL)
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        label.read(tmp_path / "missing.mp4")


def test_a_box_larger_than_its_parent_is_not_believed():
    data = struct.pack(">I4s", 100, b"moov") + bytes(20)
    with pytest.raises(VideoError, match="cut off or damaged"):
        list(containers.boxes(io.BytesIO(data)))
    with pytest.raises(VideoError, match="promises"):
        containers._keys(struct.pack(">II", 0, 2**31))


def test_sound_is_a_plain_wave_file_still(make):
    path = make("a.wav")
    label.write(path, LABEL)
    with wave.open(str(path)) as opened:
        assert opened.getnframes() == 44100


@pytest.mark.parametrize("size", [(64, 96), (256, 256), (540, 960), (1080, 1920), (32, 2000)])
@pytest.mark.parametrize("audience", label.AUDIENCES)
@pytest.mark.parametrize("kind", ["made", "edited"])
def test_the_sign_is_high_enough_and_recognised(size, audience, kind):
    drawn = label.draw(frames(3, *size), audience, shown=2, kind=kind)
    assert label.sign_height(*size) >= label.LEAST_HEIGHT
    words = label.sign_of(audience, kind, *size)
    assert label.sign_found(drawn[0]) == label.sign_found(drawn[1]) == words
    assert label.sign_found(drawn[2]) is None
    np.testing.assert_array_equal(drawn[2], frames(3, *size)[2])


def test_a_sign_stays_for_two_seconds_in_a_stream():
    assert label.sign_frames(None, 30) == 90
    assert label.sign_frames(17, 12) == 17  # a short clip: all of it
    whole = label.draw(frames(40), "cn", shown=30)
    parts = [label.draw(frames(40)[at : at + 7], "cn", first=at, shown=30) for at in range(0, 40, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_plain_pictures_carry_no_sign():
    rng = np.random.default_rng(0)
    for index in range(60):
        coarse = rng.integers(0, 255, (8 + index % 5, 8, 3), np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((320, 180), index % 3 and 3 or 0))
        assert label.sign_found(picture) is None


def test_every_audience_gets_what_its_law_asks_for():
    """The one table: words for what AI made and edited, whether they are drawn, how long, and the disclosure."""
    large = (540, 960)
    assert [label.sign_of("eu", kind, *large) for kind in ("made", "edited")] == ["AI-generated", "AI-assisted"]
    assert label.sign_of("eu", "edited", 64, 64) == "AI"  # no room for words
    assert label.sign_of("cn", "edited", *large) == "AI生成"
    drawn = {name: label.is_drawn(name, None) for name in label.AUDIENCES}
    assert drawn == {"none": False, "cn": True, "eu": False, "in": True, "us-ca": False}
    assert label.is_drawn("eu", True) and not label.is_drawn("in", False)
    assert label.sign_frames(240, 24) == 72 and label.sign_frames(240, 24, "in") == 240
    assert label.sign_frames(None, 24, "in") is None
    words = {"provider": "A", "system": "Sorano, model world", "version": "1", "mark_id": "00a1b2c3d4"}
    assert label.disclosure("eu", **words) == label.disclosure("none", **words) == {}
    for audience in ("in", "us-ca"):
        said = label.disclosure(audience, **words)
        assert said["id"] == "00a1b2c3d4" and said["time"].endswith("Z")
        assert set(said) == {"provider", "system", "version", "time", "id"}


def test_the_audiences_of_a_request_are_those_of_the_table():
    from sorano import request

    assert set(request.AUDIENCES) == set(label.AUDIENCES)


def test_a_label_is_not_lowered_and_its_producer_is_not_lost(make):
    from sorano.trust import record

    path = make("a.png")
    label.write(path, LABEL)
    with pytest.raises(RequestError, match="may not say less"):
        record.label_file(path, None, label.Label(label="3", producer=LABEL.producer, produce_id="2"))
    with pytest.raises(RequestError, match="would be lost"):
        record.label_file(path, None, label.Label(producer="Mallory", produce_id="2"))
    passed_on = label.Label(producer=LABEL.producer, produce_id=LABEL.produce_id, propagator="A platform")
    target, _ = record.label_file(path, None, passed_on)
    assert label.read(target)[0].label == passed_on


def test_what_a_label_says_is_printable():
    found = label.parse("here", '{"Label": "\\u001b[2J\\nVERIFIED"}')
    assert found.says == r"says '\\x1b[2J\\nVERIFIED'"
