"""What must not be accused: the signed files themselves, ordinary copies of them, and files of others.

A row with verdicts admits only those; any other admits everything but TAMPERED and SUSPICIOUS.
"""

import io
import struct

import cv2
import numpy as np
from PIL import Image

from attacks.registry import honest
from attacks.stage import SECONDS
from attacks.tools import (
    FPS,
    Box,
    Track,
    edit_list,
    encode,
    frames_of,
    moov_last,
    png,
    png_chunks,
    remux,
    timescale,
    with_edits,
)
from sorano.trust.provenance import credentials, keys, store


def names_studio_a(report):
    """The signer is said."""
    return None if "Studio A" in (report["signer"] or "") else f"the signer is {report['signer']!r}"


# As they were signed.


@honest("VERIFIED", quick=True, check=names_studio_a)
def the_signed_video(stage, folder):
    """The file as Studio A signed it."""
    return stage.signed


@honest("VERIFIED", check=names_studio_a)
def the_signed_video_renamed(stage, folder):
    """The same bytes under another name."""
    (folder / "renamed.mov").write_bytes(stage.signed.read_bytes())
    return folder / "renamed.mov"


@honest("VERIFIED", check=names_studio_a)
def the_signed_clip_made_by_ai(stage, folder):
    """A clip that Studio A signed as made by AI."""
    return stage.made


@honest("VERIFIED", quick=True, check=names_studio_a)
def the_signed_png(stage, folder):
    """A PNG as Studio A signed it."""
    return stage.photo


@honest("VERIFIED", check=names_studio_a)
def the_signed_jpeg(stage, folder):
    """A JPEG as Studio A signed it."""
    return stage.jpeg


# Copies of a video.


def copied(stage, folder, name="copy.mp4", *, frames=None, crf=23, **words):
    track = Track(stage.shown if frames is None else frames, crf=crf, **words)
    return encode(folder / name, track, sound=stage.heard)


@honest("MATCHED", quick=True, check=names_studio_a)
def streams_copied(stage, folder):
    """The same streams in a new file, without the credential."""
    return stage.copy


@honest("MATCHED", check=names_studio_a)
def streams_copied_to_matroska(stage, folder):
    """The same streams in a Matroska file."""
    return remux(stage.signed, folder / "copy.mkv")


@honest("MATCHED", quick=True, check=names_studio_a)
def coded_again(stage, folder):
    """Coded again at CRF 23."""
    return copied(stage, folder)


@honest("MATCHED", "UNVERIFIED")
def coded_again_coarsely(stage, folder):
    """Coded again at CRF 28."""
    return copied(stage, folder, crf=28)


@honest()
def coded_again_very_coarsely(stage, folder):
    """Coded again at CRF 33."""
    return copied(stage, folder, crf=33)


@honest()
def coded_three_times(stage, folder):
    """Coded again three times, as from chat to chat."""
    path = copied(stage, folder, "1.mp4", crf=26)
    for name in ("2.mp4", "3.mp4"):
        path = copied(stage, folder, name, frames=frames_of(path), crf=26)
    return path


def shrunk(frames, width, height):
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in frames])


@honest()
def half_the_size(stage, folder):
    """Half the height and width."""
    return copied(stage, folder, frames=shrunk(stage.shown, 240, 134))


@honest()
def down_and_up_again(stage, folder):
    """Made smaller and larger again."""
    small = shrunk(stage.shown, 320, 180)
    return copied(stage, folder, frames=np.stack([cv2.resize(one, (480, 270)) for one in small]))


@honest()
def enlarged(stage, folder):
    """Half as large again."""
    return copied(stage, folder, frames=np.stack([cv2.resize(one, (720, 404)) for one in stage.shown]))


@honest()
def in_vp9(stage, folder):
    """Coded again as VP9 in WebM, with Opus."""
    return encode(folder / "copy.webm", Track(stage.shown, codec="libvpx-vp9", crf=32), sound=stage.heard)


@honest()
def in_av1(stage, folder):
    """Coded again as AV1."""
    return encode(
        folder / "copy.mp4", Track(stage.shown, codec="libsvtav1", crf=35, options={"preset": "10"}), sound=stage.heard
    )


@honest()
def in_mpeg4(stage, folder):
    """Coded again as MPEG-4 Part 2 in AVI, as an old camera program does."""
    return encode(folder / "copy.avi", Track(stage.shown, codec="mpeg4", options={"b": "3M"}))


@honest()
def as_a_transport_stream(stage, folder):
    """As a transport stream, which begins at 1.4 s."""
    return encode(folder / "copy.ts", stage.shown, sound=stage.heard, form="mpegts")


@honest()
def as_a_gif(stage, folder):
    """An animation of every third frame, at half the size, in 256 colours."""
    frames = [Image.fromarray(one) for one in shrunk(stage.shown[::3], 240, 135)]
    frames[0].save(folder / "copy.gif", save_all=True, append_images=frames[1:], duration=125)
    return folder / "copy.gif"


@honest("MATCHED")
def start_cut_off(stage, folder):
    """The first second is cut off."""
    return encode(folder / "copy.mp4", stage.shown[24:], sound=stage.heard[48_000:])


@honest("MATCHED")
def end_cut_off(stage, folder):
    """The last second is cut off."""
    return encode(folder / "copy.mp4", stage.shown[:48], sound=stage.heard[:96_000])


@honest("MATCHED")
def end_cut_off_without_coding(stage, folder):
    """The last second is cut off by the edit list, without coding again."""
    file = moov_last(remux(stage.signed, folder / "a.mp4"))
    movie, track = timescale(file), timescale(file, 0)
    start = struct.unpack(">i", file.find("moov").all("trak")[0].find("edts/elst").body[12:16])[0]
    with_edits(file, edit_list((2 * movie, max(start, 0), 1.0)))
    with_edits(file, edit_list((2 * movie, 1024, 1.0)), track=1)
    del track
    (folder / "copy.mp4").write_bytes(b"".join(map(bytes, file.inside)))
    return folder / "copy.mp4"


@honest()
def more_frames_a_second(stage, folder):
    """Converted from 24 to 30 frames a second by repeating frames."""
    places = (np.arange(round(SECONDS * 30)) * FPS / 30).astype(int)
    return encode(folder / "copy.mp4", Track(stage.shown[places]), fps=30, sound=stage.heard)


@honest()
def fewer_frames_a_second(stage, folder):
    """Converted to 12 frames a second."""
    return encode(folder / "copy.mp4", Track(stage.shown[::2]), fps=12, sound=stage.heard)


@honest()
def brighter(stage, folder):
    """A little brighter and with more contrast."""
    frames = np.clip(stage.shown.astype(np.float32) * 1.12 + 6, 0, 255).astype(np.uint8)
    return copied(stage, folder, frames=frames)


@honest()
def warmer(stage, folder):
    """Warmer colours, as by a filter."""
    frames = np.clip(stage.shown * np.array([1.08, 1.0, 0.9], np.float32), 0, 255).astype(np.uint8)
    return copied(stage, folder, frames=frames)


@honest()
def sharpened(stage, folder):
    """Sharpened."""
    frames = [cv2.addWeighted(one, 1.5, cv2.GaussianBlur(one, (0, 0), 1.5), -0.5, 0) for one in stage.shown]
    return copied(stage, folder, frames=np.stack(frames))


@honest()
def smoothed(stage, folder):
    """Smoothed a little."""
    return copied(stage, folder, frames=np.stack([cv2.GaussianBlur(one, (0, 0), 0.8) for one in stage.shown]))


@honest()
def edges_cut_off(stage, folder):
    """A tenth is cut off at the sides."""
    return copied(stage, folder, frames=np.ascontiguousarray(stage.shown[:, 14:-14, 24:-24]))


@honest()
def mirrored(stage, folder):
    """Left and right are exchanged."""
    return copied(stage, folder, frames=stage.shown[:, :, ::-1])


@honest()
def with_bars(stage, folder):
    """Black bars above and below."""
    return copied(stage, folder, frames=np.pad(stage.shown, ((0, 0), (46, 46), (0, 0), (0, 0))))


def upright(stage, ground):
    frames = np.ascontiguousarray(ground).copy()
    frames[:, 292 : 292 + stage.shown.shape[1]] = stage.shown
    return frames


@honest("MATCHED", check=names_studio_a)
def upright_between_black_bars(stage, folder):
    """An upright video of 9:16, black above and below."""
    return copied(stage, folder, frames=upright(stage, np.zeros((len(stage.shown), 854, 480, 3), np.uint8)))


@honest("MATCHED", "UNVERIFIED")
def upright_before_itself_blurred(stage, folder):
    """An upright video of 9:16, before itself, enlarged, blurred and darker, as players and sites do."""
    ground = []
    for frame in stage.shown:
        big = cv2.resize(frame, None, fx=854 / 270, fy=854 / 270)
        left = (big.shape[1] - 480) // 2
        ground.append(cv2.GaussianBlur(big[:854, left : left + 480], (0, 0), 24) * 0.7)
    return copied(stage, folder, frames=upright(stage, np.stack(ground).astype(np.uint8)))


@honest("UNVERIFIED")
def with_a_logo_bar(stage, folder):
    """An upright video of 9:16 with a bar of one colour and letters on it: nobody signed those."""
    frames = upright(stage, np.zeros((len(stage.shown), 854, 480, 3), np.uint8))
    frames[:, 600:680] = (240, 60, 40)
    for frame in frames:
        cv2.putText(frame, "CHANNEL 5", (120, 655), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 3)
    return copied(stage, folder, frames=frames)


@honest("UNVERIFIED")
def a_comment_beside_a_quoted_film(stage, folder):
    """A film of somebody else that shows the recording in it, with a second left out: a quotation, no forgery."""
    from support import footage

    frames = footage.clip("landscape", 540, 960, 48, 9)
    frames[:, 118:388, 346:826] = np.concatenate([stage.shown[:24], stage.shown[48:]])
    return copied(stage, folder, frames=frames)


@honest("MATCHED", "UNVERIFIED")
def without_sound(stage, folder):
    """The sound is left out."""
    return encode(folder / "copy.mp4", stage.shown)


@honest()
def quieter_sound(stage, folder):
    """The sound at half its loudness."""
    return encode(folder / "copy.mp4", stage.shown, sound=0.5 * stage.heard)


@honest()
def turned_by_the_phone(stage, folder):
    """Filmed sideways and turned by the track's matrix, as phones do."""
    frames = np.ascontiguousarray(np.rot90(stage.shown, 1, (1, 2)))
    return encode(folder / "copy.mp4", frames, sound=stage.heard, matrix=[0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30])


@honest()
def with_a_cover(stage, folder):
    """A copy whose cover picture is one of its own frames."""
    from attacks.tools import joined

    cover = encode(folder / "cover.mp4", Track(stage.shown[:1], codec="mjpeg", fmt="yuvj420p"))
    parts = ((stage.signed, "video", 1), (stage.signed, "audio", 1), (cover, "video", 1 << 10))
    return joined(folder / "copy.mp4", *parts)


# Copies of a picture.


@honest("MATCHED", quick=True, check=names_studio_a)
def picture_as_jpeg(stage, folder):
    """A signed PNG saved as JPEG."""
    Image.fromarray(stage.picture).save(folder / "copy.jpg", quality=90)
    return folder / "copy.jpg"


@honest()
def picture_half_the_size(stage, folder):
    """A signed picture at half its size."""
    Image.fromarray(stage.picture).reduce(2).save(folder / "copy.jpg", quality=85)
    return folder / "copy.jpg"


@honest()
def picture_as_webp(stage, folder):
    """A signed picture as WebP."""
    Image.fromarray(stage.picture).save(folder / "copy.webp", quality=80)
    return folder / "copy.webp"


@honest()
def picture_with_its_thumbnail(stage, folder):
    """A copy whose EXIF has a small preview of itself."""
    from attacks.stills import thumbnail_exif

    small = io.BytesIO()
    Image.fromarray(stage.picture).resize((160, 90)).save(small, "JPEG")
    Image.fromarray(stage.picture).save(folder / "copy.jpg", quality=92, exif=thumbnail_exif(small.getvalue()))
    return folder / "copy.jpg"


@honest()
def picture_with_its_profile(stage, folder):
    """A copy with an ordinary sRGB profile."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(stage.picture).save(folder / "copy.jpg", quality=92, icc_profile=profile)
    return folder / "copy.jpg"


@honest()
def picture_with_gain_map(stage, folder):
    """A copy with a smaller second picture, the gain map that phones write."""
    small = Image.fromarray(stage.picture).convert("L").reduce(4)
    held = Image.fromarray(stage.picture)
    held.save(folder / "copy.jpg", format="MPO", save_all=True, append_images=[small.convert("RGB")], quality=92)
    return folder / "copy.jpg"


@honest()
def picture_whose_credential_a_site_stripped(stage, folder):
    """A JPEG whose manifest is gone, while its XMP still names it."""
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dcterms="http://purl.org/dc/terms/" '
        'dcterms:provenance="self#jumbf=/c2pa/urn:uuid:01234567-89ab-cdef-0123-456789abcdef"/></rdf:RDF></x:xmpmeta>'
    )
    Image.fromarray(stage.false_picture).save(folder / "other.jpg", quality=90, xmp=packet.encode())
    return folder / "other.jpg"


# Files of others, and words in them.


def unsigned(stage, folder, name="other.mp4", **words):
    return encode(folder / name, stage.foreign[:24, 1:133, :240], sound=stage.lies[:48_000], **words)


@honest("UNVERIFIED", quick=True)
def a_comment_that_names_the_standard(stage, folder):
    """A file in whose comment the bytes c2pa.claim occur."""
    return unsigned(stage, folder, tags={"comment": "made with c2pa.claim, c2pa.signature and jumb c2pa"})


@honest("UNVERIFIED")
def a_free_box_that_names_the_standard(stage, folder):
    """A file with a `free` box in which c2pa.claim occurs."""
    path = unsigned(stage, folder)
    path.write_bytes(path.read_bytes() + bytes(Box(b"free", b"jumb c2pa.claim c2pa.signature")))
    return path


@honest("UNVERIFIED")
def a_png_text_that_names_the_standard(stage, folder):
    """A PNG with a text in which c2pa.claim occurs."""
    held = io.BytesIO()
    Image.fromarray(stage.false_picture).save(held, "PNG")
    parts = png_chunks(held.getvalue())
    parts.insert(1, (b"tEXt", b"Comment\0jumb c2pa.claim caBX"))
    (folder / "other.png").write_bytes(png(parts))
    return folder / "other.png"


@honest("UNVERIFIED")
def signed_by_a_stranger(stage, folder):
    """A file that somebody signed who is not trusted here."""
    return stage.signed_by(unsigned(stage, folder), stage.mallory.leaf("A stranger"))


@honest("UNVERIFIED")
def a_strangers_edit_of_a_signed_file(stage, folder):
    """A stranger's signed edit whose ingredient is Studio A's file."""
    source = credentials.Ingredient(stage.signed, "parentOf", "signed.mp4")
    return stage.signed_by(unsigned(stage, folder), stage.mallory.leaf("M"), kind="edited", ingredients=(source,))


@honest("VERIFIED")
def a_trusted_edit_of_a_strangers_file(stage, folder):
    """House B's signed edit whose ingredient is signed by somebody unknown."""
    source = stage.signed_by(unsigned(stage, folder, "source.mp4"), stage.mallory.leaf("M"))
    ingredient = credentials.Ingredient(source, "parentOf", "source.mp4")
    path = encode(folder / "edit.mp4", stage.foreign[:, ::-1], sound=stage.lies)
    return stage.signed_by(path, stage.house.leaf("House B"), kind="edited", ingredients=(ingredient,))


@honest("UNVERIFIED")
def an_unsigned_file(stage, folder):
    """A file that nobody signed or marked."""
    return unsigned(stage, folder)


@honest("MATCHED", quick=True, check=names_studio_a)
def found_among_junk_manifests(stage, folder):
    """17 manifests of others, junk and a dangling link lie in a store under the copy's id."""
    mark_id = stage.id_of(stage.signed)
    place = folder / "store" / store.name_of(mark_id)
    for n in range(17):
        store.put(mark_id, bytes([n]) * 400, folder / "store")
    source = encode(folder / "theirs.mp4", stage.foreign[:12])
    words = credentials.Statement("captured", mark_id=mark_id, fingerprint=bytes(64))
    for n in range(17):
        leaf = stage.mallory.leaf(f"Mallory {n}").identity()
        target = folder / f"theirs{n}.mp4"
        target.write_bytes(source.read_bytes())
        store.put(mark_id, credentials.sign(target, words, leaf), folder / "store")
    (place / "0dangling.c2pa").symlink_to(folder / "nowhere.c2pa")
    (place / "0folder.c2pa").mkdir()
    return stage.copy


@honest("MATCHED", check=names_studio_a)
def signed_with_a_leaf_that_was_replaced(stage, folder):
    """Studio A has a new leaf since: its root still stands behind the old one."""
    with stage.at("alice"):
        keys.rotate()
    return stage.copy
