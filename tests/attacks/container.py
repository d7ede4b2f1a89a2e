"""Attacks with the container: what one reader takes for the film is not what another plays."""

import struct
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from attacks.registry import attack
from attacks.stage import COUNT, HEIGHT, SECONDS, WIDTH, c2pa_box
from attacks.tools import (
    C2PA_UUID,
    DEFAULT,
    FPS,
    Box,
    Track,
    dump,
    edit_list,
    encode,
    frames_of,
    joined,
    moov_last,
    parse,
    remux,
    timescale,
    with_edits,
)

GROUP = "container"


def both(stage, folder, name="both.mp4", **words):
    """Three genuine seconds and then three foreign ones, without B frames, so that times are plain."""
    frames = np.concatenate([stage.shown, stage.foreign])
    return encode(folder / name, Track(frames, options={"bf": "0", "g": "24"}), sound=stage.heard, **words)


# Several tracks.


@attack(GROUP, quick=True)
def two_tracks_mp4(stage, folder):
    """Two video tracks in an MP4: the genuine one first, and a foreign one that players choose."""
    real, lie = Track(stage.shown, disposition=0), Track(stage.foreign, disposition=DEFAULT)
    return encode(folder / "forged.mp4", real, lie, sound=stage.heard)


@attack(GROUP)
def two_tracks_mkv(stage, folder):
    """Two video tracks in a Matroska file: the genuine one first, and a foreign one that players choose."""
    real, lie = Track(stage.shown, disposition=0), Track(stage.foreign, disposition=DEFAULT)
    return encode(folder / "forged.mkv", real, lie, sound=stage.heard)


@attack(GROUP)
def two_tracks_genuine_default(stage, folder):
    """Two video tracks, the foreign one to be chosen in a player's menu."""
    return encode(folder / "forged.mp4", stage.shown, stage.foreign, sound=stage.heard)


@attack(GROUP)
def larger_foreign_track(stage, folder):
    """A small genuine track, marked as default, and a larger foreign one: some players take the best."""
    big = stage.foreign.repeat(2, 1).repeat(2, 2)
    return encode(folder / "forged.mp4", stage.shown, Track(big, disposition=0), sound=stage.heard)


@attack(GROUP)
def first_track_disabled(stage, folder):
    """Two tracks; the header of the genuine one says that it is not enabled."""
    made = encode(folder / "made.mp4", stage.shown, Track(stage.foreign, disposition=DEFAULT), sound=stage.heard)
    file = moov_last(made)
    for number, trak in enumerate(file.find("moov").all("trak")[:2]):
        head = trak.find("tkhd")
        head.body = head.body[:3] + bytes([head.body[3] & ~1 | (number == 1)]) + head.body[4:]
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def foreign_track_in_front(stage, folder):
    """Two enabled tracks at the same place, of which the foreign one lies in the layer in front."""
    made = encode(folder / "made.mp4", stage.shown, Track(stage.foreign, disposition=DEFAULT), sound=stage.heard)
    file = moov_last(made)
    for number, trak in enumerate(file.find("moov").all("trak")[:2]):
        head = trak.find("tkhd")
        body = bytearray(head.body)
        body[3] |= 1
        struct.pack_into(">h", body, 32, -number)  # version 0: lower layers lie in front
        head.body = bytes(body)
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def two_programs(stage, folder):
    """A transport stream with two video streams, of which the foreign one comes first in the tables."""
    return encode(
        folder / "forged.ts", stage.foreign, Track(stage.shown, disposition=0), sound=stage.heard, form="mpegts"
    )


@attack(GROUP)
def two_tracks_avi(stage, folder):
    """Two video streams in an AVI."""
    return encode(
        folder / "forged.avi", *(Track(one, codec="mpeg4", options={"b": "4M"}) for one in (stage.shown, stage.foreign))
    )


# Words and pictures beside the film.


@attack(GROUP, quick=True)
def forced_subtitles_mp4(stage, folder):
    """Forced subtitles with false words in an MP4."""
    return encode(
        folder / "forged.mp4",
        stage.shown,
        sound=stage.heard,
        words=[(0, 1.5, "I took the money."), (1.5, 3, "All of it.")],
    )


@attack(GROUP)
def forced_subtitles_mkv(stage, folder):
    """Forced subtitles with false words in a Matroska file."""
    return encode(folder / "forged.mkv", stage.shown, sound=stage.heard, words=[(0, 3, "I took the money.")])


@attack(GROUP)
def foreign_cover(stage, folder):
    """A cover picture that shows something else, which file lists and players show."""
    cover = encode(folder / "cover.mp4", Track(stage.foreign[:1], codec="mjpeg", fmt="yuvj420p"))
    parts = ((stage.signed, "video", DEFAULT), (stage.signed, "audio", DEFAULT), (cover, "video", 1 << 10))
    return joined(folder / "forged.mp4", *parts)


@attack(
    GROUP,
    matched="a title is not picture or sound; it is shown as what the file says of itself",
)
def false_title(stage, folder):
    """The title and the comment say that it is verified, and by whom."""
    tags = {"title": "VERIFIED: signed by Studio A", "comment": "verdict: VERIFIED", "artist": "Studio A"}
    return encode(folder / "forged.mp4", stage.shown, sound=stage.heard, tags=tags)


@attack(GROUP)
def false_chapters(stage, folder):
    """Chapters whose names are false words, which players show over the picture."""
    made = encode(folder / "made.mkv", stage.shown, sound=stage.heard)
    with av.open(str(made)) as given, av.open(str(folder / "forged.mkv"), "w") as out:
        streams = [out.add_stream_from_template(one) for one in given.streams]
        base = Fraction(1, 1000)
        out.set_chapters(
            [
                {"id": n + 1, "start": n * 1500, "end": (n + 1) * 1500, "time_base": base, "metadata": {"title": text}}
                for n, text in enumerate(("He takes the bribe", "He counts it"))
            ]
        )
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return folder / "forged.mkv"


# Edit lists.


@attack(GROUP, quick=True)
def edit_list_shows_the_foreign_part(stage, folder):
    """Genuine and foreign frames in one track; the edit list shows only the foreign ones."""
    file = moov_last(both(stage, folder))
    movie, track = timescale(file), timescale(file, 0)
    with_edits(file, edit_list((round(SECONDS * movie), round(SECONDS * track), 1.0)))
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def edit_list_in_another_order(stage, folder):
    """The edit list shows the second half before the first."""
    file = moov_last(encode(folder / "made.mp4", Track(stage.shown, options={"bf": "0", "g": "12"}), sound=stage.heard))
    movie, track = timescale(file), timescale(file, 0)
    half = (round(1.5 * movie), round(1.5 * track))
    with_edits(file, edit_list((half[0], half[1], 1.0), (half[0], 0, 1.0)))
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def edit_list_repeats(stage, folder):
    """The edit list shows the first second three times."""
    file = moov_last(encode(folder / "made.mp4", Track(stage.shown, options={"bf": "0", "g": "24"}), sound=stage.heard))
    movie = timescale(file)
    with_edits(file, edit_list(*[(movie, 0, 1.0)] * 3))
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def edit_list_cuts_the_middle(stage, folder):
    """The edit list leaves the middle second out."""
    file = moov_last(encode(folder / "made.mp4", Track(stage.shown, options={"bf": "0", "g": "24"}), sound=stage.heard))
    movie, track = timescale(file), timescale(file, 0)
    with_edits(file, edit_list((movie, 0, 1.0), (movie, 2 * track, 1.0)))
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def edit_list_at_half_speed(stage, folder):
    """The edit list asks for half the speed, which some players obey."""
    file = moov_last(encode(folder / "made.mp4", Track(stage.shown, options={"bf": "0"}), sound=stage.heard))
    with_edits(file, edit_list((round(2 * SECONDS * timescale(file)), 0, 0.5)))
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def edit_list_dwells(stage, folder):
    """The edit list holds one frame for three seconds (a rate of 0)."""
    file = moov_last(encode(folder / "made.mp4", Track(stage.shown, options={"bf": "0"}), sound=stage.heard))
    movie, track = timescale(file), timescale(file, 0)
    with_edits(file, edit_list((round(SECONDS * movie), round(1.5 * track), 0.0)))
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def sound_moved_by_an_edit_list(stage, folder):
    """An empty edit delays the sound by a second."""
    file = moov_last(encode(folder / "made.mp4", stage.shown, sound=stage.heard))
    movie = timescale(file)
    with_edits(file, edit_list((movie, -1, 1.0), (round(SECONDS * movie), 0, 1.0)), track=1)
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def signed_bytes_with_another_edit_list(stage, folder):
    """The edit list of the signed file itself is changed in place."""
    data = bytearray(stage.signed.read_bytes())
    at = data.index(b"elst")
    struct.pack_into(">I", data, at + 12, max(1, struct.unpack_from(">I", data, at + 12)[0] // 2))
    (folder / "forged.mp4").write_bytes(data)
    return folder / "forged.mp4"


# Tables and boxes.


@attack(GROUP)
def two_moov_boxes(stage, folder):
    """Two moov boxes: the first shows the genuine film, the second a foreign one."""
    first = parse(encode(folder / "a.mp4", stage.shown, sound=stage.heard).read_bytes()).inside
    second = parse(encode(folder / "b.mp4", stage.foreign, sound=stage.lies).read_bytes()).inside
    shift = sum(len(bytes(one)) for one in first) - sum(len(bytes(one)) for one in second if one.kind in (b"ftyp",))
    moov = next(one for one in second if one.kind == b"moov")
    shifted(moov, shift)
    rest = [one for one in second if one.kind not in (b"ftyp",)]
    return dump(folder / "forged.mp4", Box(b"file", inside=[*first, *rest]))


def shifted(moov, by):
    """Move every chunk offset of a moov."""
    for trak in moov.all("trak"):
        table = trak.find("mdia/minf/stbl/stco")
        count = struct.unpack(">I", table.body[4:8])[0]
        places = struct.unpack(f">{count}I", table.body[8 : 8 + 4 * count])
        table.body = table.body[:8] + struct.pack(f">{count}I", *(place + by for place in places))


@attack(GROUP)
def tables_that_point_elsewhere(stage, folder):
    """The chunk offsets of a signed file point to foreign frames that were appended to it."""
    foreign = parse(encode(folder / "b.mp4", Track(stage.foreign, options={"bf": "0"})).read_bytes())
    file = parse(stage.signed.read_bytes())
    size = len(stage.signed.read_bytes())
    theirs = foreign.find("moov").all("trak")[0]
    before = 0
    for one in foreign.inside:
        if one.kind == b"mdat":
            break
        before += len(bytes(one))
    shifted(foreign.find("moov"), size - before)
    ours = file.find("moov").all("trak")[0].find("mdia/minf")
    was = len(bytes(file.find("moov")))
    ours.inside = [theirs.find("mdia/minf/stbl") if one.kind == b"stbl" else one for one in ours.inside]
    grown = len(bytes(file.find("moov"))) - was
    shifted(Box(b"moov", inside=[file.find("moov").all("trak")[0]]), grown)
    for trak in file.find("moov").all("trak")[1:]:
        shifted(Box(b"moov", inside=[trak]), grown)
    file.inside.append(Box(b"mdat", next(one.body for one in foreign.inside if one.kind == b"mdat")))
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def hidden_frames_in_the_media(stage, folder):
    """The media data hold all genuine frames, but the sample table lists only foreign ones."""
    file = moov_last(both(stage, folder))
    stbl = file.find("moov").all("trak")[0].find("mdia/minf/stbl")
    sizes = stbl.find("stsz")
    count = struct.unpack(">I", sizes.body[8:12])[0]
    all_sizes = struct.unpack(f">{count}I", sizes.body[12:])
    places, sample = [], 0
    for place, number in chunks(stbl):
        for _ in range(number):
            places.append(place)
            place += all_sizes[sample]
            sample += 1
    kept = range(COUNT, count)
    sizes.body = sizes.body[:8] + struct.pack(f">I{len(kept)}I", len(kept), *(all_sizes[n] for n in kept))
    stbl.find("stco").body = struct.pack(f">II{len(kept)}I", 0, len(kept), *(places[n] for n in kept))
    stbl.find("stsc").body = struct.pack(">IIIII", 0, 1, 1, 1, 1)
    delta = struct.unpack(">II", stbl.find("stts").body[8:16])[1]
    stbl.find("stts").body = struct.pack(">IIII", 0, 1, len(kept), delta)
    keys = [n - COUNT for n in range(COUNT, count) if (n - COUNT) % 24 == 0]
    stbl.find("stss").body = struct.pack(f">II{len(keys)}I", 0, len(keys), *(n + 1 for n in keys))
    return dump(folder / "forged.mp4", file)


def chunks(stbl):
    """(offset, samples) of each chunk of a sample table."""
    table, runs = stbl.find("stco").body, stbl.find("stsc").body
    places = struct.unpack(f">{struct.unpack('>I', table[4:8])[0]}I", table[8:])
    entries = [struct.unpack(">III", runs[at : at + 12]) for at in range(8, len(runs), 12)]
    for number, place in enumerate(places, 1):
        yield place, [samples for first, samples, _ in entries if first <= number][-1]


@attack(GROUP)
def fragments_appended(stage, folder):
    """A film in fragments: the genuine ones, and foreign ones of the same shape appended."""
    words = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    one = encode(folder / "a.mp4", stage.shown, options=words)
    two = encode(folder / "b.mp4", stage.foreign, options=words)
    tail = [box for box in parse(two.read_bytes()).inside if box.kind in (b"moof", b"mdat")]
    (folder / "forged.mp4").write_bytes(one.read_bytes() + b"".join(map(bytes, tail)))
    return folder / "forged.mp4"


@attack(GROUP)
def fragment_appended_to_the_signed_file(stage, folder):
    """A foreign fragment is appended to the signed file."""
    words = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    two = encode(folder / "b.mp4", stage.foreign, options=words)
    tail = [box for box in parse(two.read_bytes()).inside if box.kind in (b"moof", b"mdat")]
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + b"".join(map(bytes, tail)))
    return folder / "forged.mp4"


@attack(GROUP)
def second_sample_description(stage, folder):
    """The sample description is there twice, and the second half of the chunks uses the second: a foreign coder."""
    made = encode(folder / "made.mp4", Track(stage.shown, options={"bf": "0", "g": "12"}))
    file = moov_last(made)
    stbl = file.find("moov").all("trak")[0].find("mdia/minf/stbl")
    body = stbl.find("stsd").body
    other = bytearray(body[8:])
    struct.pack_into(">HH", other, 32, WIDTH // 2, HEIGHT // 2)
    stbl.find("stsd").body = body[:4] + struct.pack(">I", 2) + body[8:] + bytes(other)
    samples = [number for _, number in chunks(stbl)]
    runs = [struct.pack(">III", n + 1, number, 1 if n < len(samples) / 2 else 2) for n, number in enumerate(samples)]
    stbl.find("stsc").body = struct.pack(">II", 0, len(runs)) + b"".join(runs)
    return dump(folder / "forged.mp4", file)


@attack(GROUP, matched="it shows the same picture upside down, and nothing else")
def turned_upside_down(stage, folder):
    """The track's matrix turns the picture by 180 degrees."""
    return encode(
        folder / "forged.mp4", stage.shown, sound=stage.heard, matrix=[-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30]
    )


@attack(GROUP)
def matrix_shows_a_corner(stage, folder):
    """The track's matrix enlarges the picture fourfold, so that players that obey it show a corner."""
    file = moov_last(encode(folder / "made.mp4", stage.shown, sound=stage.heard))
    head = file.find("moov").all("trak")[0].find("tkhd")
    body = bytearray(head.body)
    struct.pack_into(">9i", body, 40, 4 << 16, 0, 0, 0, 4 << 16, 0, -(400 << 16), -(200 << 16), 1 << 30)
    head.body = bytes(body)
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def clean_aperture(stage, folder):
    """A genuine and a foreign picture side by side in each frame; the clean aperture shows the foreign one."""
    wide = np.concatenate([stage.shown, stage.foreign], 2)
    file = moov_last(encode(folder / "made.mp4", wide, sound=stage.heard))
    stsd = file.find("moov").all("trak")[0].find("mdia/minf/stbl/stsd")
    clap = struct.pack(">8i", WIDTH, 1, HEIGHT, 1, WIDTH // 2, 1, 0, 1)
    size = struct.unpack(">I", stsd.body[8:12])[0]
    entry = stsd.body[8 : 8 + size] + struct.pack(">I4s", 8 + len(clap), b"clap") + clap
    stsd.body = stsd.body[:8] + struct.pack(">I", len(entry)) + entry[4:] + stsd.body[8 + size :]
    return dump(folder / "forged.mp4", file)


@attack(GROUP)
def half_the_frames_never_come(stage, folder):
    """A copy that breaks off in the middle, and says that it is whole."""
    data = remux(stage.signed, folder / "a.mp4", movflags="faststart").read_bytes()
    (folder / "forged.mp4").write_bytes(data[: len(data) * 6 // 10])
    return folder / "forged.mp4"


@attack(GROUP)
def two_matroska_files_in_a_row(stage, folder):
    """A Matroska file with a second, foreign one behind it, which some players go on to play."""
    one = encode(folder / "a.mkv", stage.shown, sound=stage.heard)
    two = encode(folder / "b.mkv", stage.foreign, sound=stage.lies)
    (folder / "forged.mkv").write_bytes(one.read_bytes() + two.read_bytes())
    return folder / "forged.mkv"


@attack(GROUP)
def transport_streams_in_a_row(stage, folder):
    """Two transport streams in a row are one film for every player."""
    one = encode(folder / "a.ts", stage.shown, sound=stage.heard, form="mpegts")
    two = encode(folder / "b.ts", stage.foreign, sound=stage.lies, form="mpegts")
    (folder / "forged.ts").write_bytes(one.read_bytes() + two.read_bytes())
    return folder / "forged.ts"


# Bytes beside what is signed.


@attack("bytes", quick=True)
def second_credential_box(stage, folder):
    """A second C2PA box of the purpose `hello` is appended to the signed file."""
    return with_second_box(stage, folder, b"hello", 200)


@attack("bytes")
def second_credential_box_of_50_mb(stage, folder):
    """A second C2PA box of 50 MB is appended to the signed file."""
    return with_second_box(stage, folder, b"hello", 50_000_000)


@attack("bytes")
def second_credential_box_of_purpose_manifest(stage, folder):
    """A second C2PA box of the purpose `manifest` is appended: the other recording's."""
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + c2pa_box(stage.other))
    return folder / "forged.mp4"


@attack("bytes")
def second_credential_box_of_purpose_merkle(stage, folder):
    """A second C2PA box of the purpose `merkle`, which the standard knows, is appended."""
    return with_second_box(stage, folder, b"merkle", 3000)


def with_second_box(stage, folder, purpose, size):
    body = C2PA_UUID + bytes(4) + purpose + b"\0" + bytes(size)
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + bytes(Box(b"uuid", body)))
    return folder / "forged.mp4"


@attack("bytes")
def box_of_nearly_the_same_uuid(stage, folder):
    """A box is appended whose UUID is C2PA's but for its last byte."""
    data = stage.signed.read_bytes()
    body = C2PA_UUID[:15] + b"\0" + b"another film" * 100
    (folder / "forged.mp4").write_bytes(data + bytes(Box(b"uuid", body)))
    return folder / "forged.mp4"


@attack("bytes", quick=True)
def free_box_appended(stage, folder):
    """A `free` box full of other content is appended to the signed file."""
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + bytes(Box(b"free", b"another film" * 100)))
    return folder / "forged.mp4"


@attack("bytes")
def mfra_box_appended(stage, folder):
    """An `mfra` box, which C2PA's hash leaves out, is appended to the signed file."""
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + bytes(Box(b"mfra", bytes(100))))
    return folder / "forged.mp4"


@attack("bytes")
def unknown_boxes_appended(stage, folder):
    """Boxes of kinds that nobody knows are appended to the signed file."""
    more = b"".join(bytes(Box(kind, b"x" * 64)) for kind in (b"skip", b"wide", b"pnot", b"zzzz", b"emsg", b"prft"))
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + more)
    return folder / "forged.mp4"


@attack("bytes")
def bytes_after_the_last_box(stage, folder):
    """Seven bytes that are no box follow the signed file."""
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + b"\0\0\0\7hid")
    return folder / "forged.mp4"


@attack("bytes")
def another_brand(stage, folder):
    """The signed file calls itself QuickTime."""
    data = stage.signed.read_bytes()
    (folder / "forged.mov").write_bytes(data[:8] + b"qt  " + data[12:])
    return folder / "forged.mov"


@attack("bytes")
def boxes_swapped(stage, folder):
    """Two boxes of the signed file change places, with the offsets as they were."""
    file = parse(stage.signed.read_bytes())
    kinds = [one.kind for one in file.inside]
    a, b = kinds.index(b"moov"), kinds.index(b"mdat")
    file.inside[a], file.inside[b] = file.inside[b], file.inside[a]
    return dump(folder / "forged.mp4", file)


@attack("bytes")
def size_to_the_end_of_the_file(stage, folder):
    """The last box's size becomes 0 ("to the end of the file"), and other content follows in it."""
    data = bytearray(stage.signed.read_bytes())
    file = parse(bytes(data))
    last = len(data) - len(bytes(file.inside[-1]))
    struct.pack_into(">I", data, last, 0)
    (folder / "forged.mp4").write_bytes(bytes(data) + b"another film" * 50)
    return folder / "forged.mp4"


def is_a_change(report):
    """The verdict is TAMPERED."""
    return None if report["verdict"] == "TAMPERED" else f"the verdict is {report['verdict']}"


@attack("bytes", quick=True, check=is_a_change, refused=False)
def stray_bytes_behind_the_last_box(stage, folder):
    """A few bytes that are no box stand behind the last box of the signed file, so that FFmpeg does not open it."""
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + struct.pack(">I4s", 16, b"uuid") + b"abc")
    return folder / "forged.mp4"


@attack("bytes", check=is_a_change, refused=False)
def zeros_behind_the_last_box(stage, folder):
    """The signed file ends in zeros, as a disk that was not written leaves them."""
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + bytes(7))
    return folder / "forged.mp4"


@attack("bytes")
def polyglot_html(stage, folder):
    """The signed file is also a page, with a script behind the film."""
    (folder / "forged.mp4").write_bytes(stage.signed.read_bytes() + b"<html><script>alert('VERIFIED')</script></html>")
    return folder / "forged.mp4"


@attack(GROUP)
def genuine_film_inside_a_gif(stage, folder):
    """An animation that shows the genuine frames in its first tenth, and then foreign ones."""
    frames = [Image.fromarray(one[::2, ::2]) for one in [*stage.shown[:8:2], *stage.foreign[::2]]]
    frames[0].save(folder / "forged.gif", save_all=True, append_images=frames[1:], duration=80)
    return folder / "forged.gif"


@attack(GROUP)
def hidden_by_transparency(stage, folder):
    """A WebM whose alpha hides the genuine film, shown on a page with a foreign background."""
    alpha = np.full((*stage.shown.shape[:3], 1), 12, np.uint8)
    frames = np.concatenate([stage.shown, alpha], -1)[::2]
    track = Track(frames, codec="libvpx-vp9", fmt="yuva420p", crf=30)
    return encode(folder / "forged.webm", track, fps=FPS / 2)


@attack(GROUP)
def foreign_attachment(stage, folder):
    """A Matroska file with a second film as an attached picture that is in motion."""
    real, lie = Track(stage.shown), Track(stage.foreign, disposition=1 << 10)
    return encode(folder / "forged.mkv", real, lie, sound=stage.heard)


@attack(GROUP)
def frames_of_another_size(stage, folder):
    """In the middle the stream changes its size, and goes on with foreign frames."""
    one = encode(folder / "a.ts", stage.shown[:36], form="mpegts")
    two = encode(folder / "b.ts", stage.foreign[36:, ::2, ::2][:, :134, :240], form="mpegts")
    (folder / "forged.ts").write_bytes(one.read_bytes() + two.read_bytes())
    return folder / "forged.ts"


__all__ = ["frames_of"]
