"""Attacks on what the frames show: something is painted, laid or blended over the genuine picture."""

import cv2
import numpy as np
from support import footage

from attacks.registry import attack
from attacks.stage import COUNT, HEIGHT, WIDTH
from attacks.tools import FPS, Track, encode, frames_of
from sorano.trust.watermark import embed, payload

GROUP = "picture"
SMALL = "a region of 1 % of the picture is below the smallest change that a match finds"


def forged(stage, folder, frames, *, crf=20, sound=None):
    """Frames with the genuine sound."""
    return encode(folder / "forged.mp4", Track(frames, crf=crf), sound=stage.heard if sound is None else sound)


def patched(stage, area, *, source=None, where=(0.5, 0.55), span=slice(None)):
    """An ellipse of another picture, with a soft edge, over a share of the frame."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    radius = np.sqrt(area * HEIGHT * WIDTH / np.pi)
    away = np.hypot((x - where[0] * WIDTH) / (1.2 * radius), (y - where[1] * HEIGHT) / (radius / 1.2))
    alpha = np.clip((1 - away) * radius / 3 + 0.5, 0, 1)[None, ..., None]
    frames = stage.shown.copy()
    over = (stage.lie if source is None else source)[span]
    frames[span] = np.rint(frames[span] * (1 - alpha) + over * alpha).astype(np.uint8)
    return frames


@attack(GROUP, quick=True, matched=SMALL)
def mouth_repainted(stage, folder):
    """The mouth is repainted: 1 % of the picture, all the time."""
    return forged(stage, folder, patched(stage, 0.01))


@attack(GROUP)
def mouth_and_chin_repainted(stage, folder):
    """2 % of the picture is repainted with foreign texture for two seconds."""
    return forged(stage, folder, patched(stage, 0.02, source=stage.foreign, span=slice(12, 60)))


@attack(GROUP)
def face_replaced(stage, folder):
    """10 % of the picture, where the face is, shows somebody else."""
    return forged(stage, folder, patched(stage, 0.10, source=stage.foreign))


@attack(GROUP)
def face_replaced_coarsely_coded(stage, folder):
    """10 % of the picture shows somebody else, coded at CRF 28."""
    return forged(stage, folder, patched(stage, 0.10, source=stage.foreign), crf=28)


@attack(GROUP, quick=True)
def fifth_of_the_picture_replaced(stage, folder):
    """20 % of the picture is replaced."""
    return forged(stage, folder, patched(stage, 0.20, source=stage.foreign))


@attack(GROUP)
def face_replaced_for_half_a_second(stage, folder):
    """20 % of the picture is replaced for half a second."""
    return forged(stage, folder, patched(stage, 0.20, source=stage.foreign, span=slice(30, 42)))


@attack(GROUP)
def face_replaced_and_marked_again(stage, folder):
    """10 % is replaced before marking: the forger re-marks all with the public key and the stolen id."""
    stolen = payload.Payload(1, "captured", stage.id_of(stage.signed))
    return forged(stage, folder, embed.mark_frames(patched(stage, 0.10, source=stage.foreign), stolen, fps=FPS))


@attack(GROUP)
def somebody_added(stage, folder):
    """A dark figure is put into the background: 6 % of the picture."""
    frames = stage.shown.copy()
    for frame in frames:
        cv2.ellipse(frame, (80, 190), (32, 80), 0, 0, 360, (35, 30, 30), -1, cv2.LINE_AA)
        cv2.circle(frame, (80, 92), 20, (150, 120, 100), -1, cv2.LINE_AA)
    return forged(stage, folder, frames)


@attack(GROUP)
def somebody_removed(stage, folder):
    """A quarter of the picture is filled with the wall beside it."""
    frames = stage.shown.copy()
    frames[:, 60:250, 160:320] = frames[:, 60:250, 0:160]
    return forged(stage, folder, frames)


@attack(GROUP)
def face_pixelated(stage, folder):
    """The face is hidden under large squares: 12 % of the picture."""
    frames = stage.shown.copy()
    for frame in frames:
        face = frame[80:200, 180:310]
        small = cv2.resize(face, (6, 6), interpolation=cv2.INTER_AREA)
        frame[80:200, 180:310] = cv2.resize(small, (130, 120), interpolation=cv2.INTER_NEAREST)
    return forged(stage, folder, frames)


@attack(GROUP)
def right_half_replaced(stage, folder):
    """The right half is foreign."""
    frames = stage.shown.copy()
    frames[:, :, WIDTH // 2 :] = stage.foreign[:, :, WIDTH // 2 :]
    return forged(stage, folder, frames)


@attack(GROUP)
def split_screen(stage, folder):
    """The genuine picture, squeezed, beside a foreign one."""
    halves = [
        np.concatenate([cv2.resize(a, (WIDTH // 2, HEIGHT)), cv2.resize(b, (WIDTH // 2, HEIGHT))], 1)
        for a, b in zip(stage.shown, stage.foreign, strict=True)
    ]
    return forged(stage, folder, np.stack(halves))


@attack(GROUP)
def genuine_in_a_corner(stage, folder):
    """The genuine picture, small, in a corner of foreign film."""
    frames = stage.foreign.copy()
    for frame, real in zip(frames, stage.shown, strict=True):
        frame[-108:, -192:] = cv2.resize(real, (192, 108), interpolation=cv2.INTER_AREA)
    return forged(stage, folder, frames)


@attack(GROUP)
def foreign_in_a_corner(stage, folder):
    """Foreign film in a corner of the genuine picture: 16 %."""
    frames = stage.shown.copy()
    for frame, lie in zip(frames, stage.foreign, strict=True):
        frame[:108, :192] = cv2.resize(lie, (192, 108), interpolation=cv2.INTER_AREA)
    return forged(stage, folder, frames)


def written(frames, text, place, size, colour=(255, 255, 255), thick=2):
    """Letters over frames."""
    out = frames.copy()
    for frame in out:
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thick, cv2.LINE_AA)
    return out


@attack(GROUP)
def false_banner(stage, folder):
    """A news banner with false words over the lower tenth."""
    frames = stage.shown.copy()
    frames[:, -32:] = (160, 10, 10)
    return forged(stage, folder, written(frames, "HE RESIGNED TODAY", (20, HEIGHT - 9), 0.8))


@attack(GROUP)
def false_words_large(stage, folder):
    """Large words across the picture."""
    return forged(stage, folder, written(stage.shown, "I AM GUILTY", (20, 150), 2.2, thick=6))


@attack(GROUP, matched="letters that cover 1 to 2 % of the picture are below the smallest change that a match finds")
def false_subtitles_burnt_in(stage, folder):
    """One line of thin subtitles is drawn into the picture."""
    return forged(stage, folder, written(stage.shown, "I confess it all", (150, 250), 0.6, thick=1))


@attack(GROUP)
def words_in_the_bars(stage, folder):
    """Bars above and below, with false words in them."""
    tall = np.zeros((COUNT, HEIGHT + 160, WIDTH, 3), np.uint8)
    tall[:, 80:-80] = stage.shown
    tall = written(written(tall, "LIVE FROM THE COUP", (30, 55), 1.3), "THE PRESIDENT FLEES", (30, HEIGHT + 135), 1.3)
    return forged(stage, folder, tall)


def surrounded(frames, ground, place):
    """Frames on a larger ground [T, H, W, 3], their corner at a place."""
    out = np.ascontiguousarray(ground).copy()
    out[:, place[0] : place[0] + HEIGHT, place[1] : place[1] + WIDTH] = frames
    return out


def says_what_is_not_covered(report):
    """The part that was signed is named, and that the rest was not."""
    if report["box"] is None:
        return "the genuine part was not found"
    return None if "is not covered" in report["summary"] else f"it does not say so: {report['summary']}"


@attack(GROUP, quick=True, check=says_what_is_not_covered)
def genuine_within_a_foreign_film(stage, folder):
    """The genuine picture, whole and sharp, in the middle of a foreign film four times as large."""
    ground = footage.clip("landscape", 2 * HEIGHT, 2 * WIDTH, COUNT, 9)
    return forged(stage, folder, surrounded(stage.shown, ground, (118, 346)))


@attack(GROUP, check=says_what_is_not_covered)
def foreign_film_in_the_bars(stage, folder):
    """Upright video: the genuine picture, above and below it foreign film."""
    ground = footage.clip("handheld", 854, WIDTH, COUNT, 5)
    return forged(stage, folder, surrounded(stage.shown, ground, (292, 0)))


@attack(GROUP, check=says_what_is_not_covered)
def another_picture_blurred_around(stage, folder):
    """Upright video: around the genuine picture a foreign one, enlarged and blurred as players do with the own one."""
    ground = footage.clip("street", 854, WIDTH, COUNT, 5)
    ground = np.stack([cv2.GaussianBlur(frame, (0, 0), 16) for frame in ground])
    return forged(stage, folder, surrounded(stage.shown, ground, (292, 0)))


@attack(GROUP, check=says_what_is_not_covered)
def words_in_the_bars_for_half_a_second(stage, folder):
    """Black bars, with small grey words in them for half a second."""
    ground = np.zeros((COUNT, 854, WIDTH, 3), np.uint8)
    ground[30:42] = written(ground[30:42], "he lies about all of this", (20, 700), 0.7, (110, 110, 110), 1)
    return forged(stage, folder, surrounded(stage.shown, ground, (292, 0)))


@attack(GROUP, check=says_what_is_not_covered)
def one_foreign_frame_in_the_bars(stage, folder):
    """Black bars, in one frame a foreign picture."""
    ground = np.zeros((COUNT, 854, WIDTH, 3), np.uint8)
    ground[40] = footage.clip("street", 854, WIDTH, 1, 5)[0]
    return forged(stage, folder, surrounded(stage.shown, ground, (292, 0)))


@attack(GROUP)
def lie_between_bars(stage, folder):
    """The face is replaced (10 %), and plain bars are put around the picture."""
    frames = patched(stage, 0.1, source=stage.foreign)
    return forged(stage, folder, surrounded(frames, np.full((COUNT, 854, WIDTH, 3), 24, np.uint8), (292, 0)))


@attack(GROUP)
def cut_between_bars(stage, folder):
    """The middle second is cut out, and plain bars are put around the picture."""
    frames = surrounded(stage.shown, np.zeros((COUNT, 854, WIDTH, 3), np.uint8), (292, 0))
    heard = np.concatenate([stage.heard[:48_000], stage.heard[96_000:]])
    return forged(stage, folder, np.concatenate([frames[:24], frames[48:]]), sound=heard)


@attack(GROUP)
def foreign_before_and_after_bars(stage, folder):
    """A second of foreign film that fills the upright frame, then the genuine picture between black bars."""
    frames = surrounded(stage.shown, np.zeros((COUNT, 854, WIDTH, 3), np.uint8), (292, 0))
    frames[:24] = footage.clip("street", 854, WIDTH, 24, 5)
    return forged(stage, folder, frames)


@attack(GROUP)
def ghost_over_the_picture(stage, folder):
    """Foreign film at half strength over the genuine one."""
    return forged(stage, folder, ((stage.shown.astype(np.uint16) + stage.foreign) // 2).astype(np.uint8))


@attack(GROUP)
def foreign_in_every_other_line(stage, folder):
    """Every other line is foreign, as the second field of interlaced film is."""
    frames = stage.shown.copy()
    frames[:, 1::2] = stage.foreign[:, 1::2]
    return forged(stage, folder, frames)


@attack(GROUP)
def hybrid_with_foreign_detail(stage, folder):
    """Coarse light and shade of the genuine frames, all detail of foreign ones: the thumbnails agree."""
    mixed = [hybrid(a, b, 16) for a, b in zip(stage.shown, stage.foreign, strict=True)]
    return forged(stage, folder, np.stack(mixed))


def hybrid(coarse, fine, step):
    """The means of `coarse` in cells of `step` pixels, and the detail of `fine` within them."""
    height, width = coarse.shape[:2]
    grid = (round(width / step), round(height / step))

    def means(frame):
        small = cv2.resize(frame.astype(np.float32), grid, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)

    return np.clip(np.rint(means(coarse) + 1.2 * (fine - means(fine))), 0, 255).astype(np.uint8)


@attack(GROUP, quick=True)
def hybrid_marked_again(stage, folder):
    """The same, and marked with the stolen id: thumbnails and mark agree."""
    mixed = np.stack([hybrid(a, b, 16) for a, b in zip(stage.shown, stage.foreign, strict=True)])
    return forged(stage, folder, marked_again(stage, mixed))


@attack(GROUP)
def hybrid_in_the_cells_marked_again(stage, folder):
    """The means of every cell of the signed pictures are genuine, all finer detail is foreign; marked again."""
    mixed = np.stack([hybrid(a, b, 7.5) for a, b in zip(stage.shown, stage.foreign, strict=True)])
    return forged(stage, folder, marked_again(stage, mixed))


def marked_again(stage, frames):
    """Frames with the public mark of the signed recording's id."""
    return embed.mark_frames(frames, payload.Payload(1, "captured", stage.id_of(stage.signed)), fps=FPS)


def recoloured(stage, area, blue, red):
    """An ellipse whose colour differences are moved by so many levels, at equal luma."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    radius = np.sqrt(area * HEIGHT * WIDTH / np.pi)
    alpha = np.clip((1 - np.hypot(x - 0.5 * WIDTH, y - 0.85 * HEIGHT) / radius) * radius / 3 + 0.5, 0, 1)[..., None]
    shift = np.float32([1.402, -0.714136, 0]) * red + np.float32([0, -0.344136, 1.772]) * blue
    shift -= shift @ np.float32([0.2126, 0.7152, 0.0722])
    return np.clip(np.rint(stage.shown + alpha * shift), 0, 255).astype(np.uint8)


@attack(GROUP, quick=True)
def coat_of_another_colour(stage, folder):
    """A twentieth of the picture, a coat, gets another colour at equal luma: blue becomes red."""
    return forged(stage, folder, marked_again(stage, recoloured(stage, 0.05, -35, 35)))


@attack(GROUP)
def negative(stage, folder):
    """Dark is bright and bright is dark."""
    return forged(stage, folder, 255 - stage.shown)


@attack(GROUP)
def day_for_night(stage, folder):
    """The scene is darkened to a fifth and made blue, as if at night."""
    dark = stage.shown * np.array([0.12, 0.15, 0.3], np.float32)
    return forged(stage, folder, dark.astype(np.uint8))


@attack(GROUP)
def another_take_of_the_same_scene(stage, folder):
    """The same person in the same room at another time, unmarked."""
    return forged(stage, folder, stage.lie, sound=stage.lies)


@attack("mark", quick=True)
def another_take_with_the_id(stage, folder):
    """The same person in the same room at another time, marked with the public key and the stolen id."""
    stolen = payload.Payload(1, "captured", stage.id_of(stage.signed))
    return forged(stage, folder, embed.mark_frames(stage.lie, stolen, fps=FPS), sound=stage.lies)


@attack("mark")
def id_on_foreign_film(stage, folder):
    """Foreign film is marked with the public key and the stolen id."""
    stolen = payload.Payload(1, "captured", stage.id_of(stage.signed))
    return forged(stage, folder, embed.mark_frames(stage.foreign, stolen, fps=FPS))


@attack("mark")
def mark_copied_by_difference(stage, folder):
    """The difference of the marked and the original frames is added to foreign ones."""
    difference = stage.shown.astype(np.int16) - stage.plain
    return forged(stage, folder, np.clip(stage.foreign + difference, 0, 255).astype(np.uint8))


@attack("mark")
def mark_copied_by_smoothing(stage, folder):
    """The mark is estimated as what smoothing takes away, and added to foreign frames; no original is needed."""
    out = []
    for real, lie in zip(stage.shown, stage.foreign, strict=True):
        taken = real.astype(np.float32) - cv2.medianBlur(real, 5)
        out.append(np.clip(cv2.GaussianBlur(lie, (0, 0), 1) + 1.5 * np.clip(taken, -6, 6), 0, 255))
    return forged(stage, folder, np.rint(np.stack(out)).astype(np.uint8))


@attack("mark")
def another_kind_with_the_id(stage, folder):
    """An AI-made clip is marked as recorded by a camera, with its own id."""
    stolen = payload.Payload(1, "captured", stage.id_of(stage.made))
    frames = embed.mark_frames(frames_of(stage.made), stolen, fps=FPS)
    return forged(stage, folder, frames, sound=stage.heard)


@attack("mark")
def two_ids_in_one_file(stage, folder):
    """The first half carries one signed recording's mark, the second is foreign under another's."""
    second = embed.mark_frames(stage.foreign, payload.Payload(1, "captured", stage.id_of(stage.other)), fps=FPS)
    return forged(stage, folder, np.concatenate([stage.shown[:36], second[36:]]))


@attack("mark")
def genuine_under_a_veil(stage, folder):
    """A bright veil hides the picture; only the mark and a trace of it shine through, with foreign film in front."""
    veil = 0.25 * stage.shown + 0.75 * stage.foreign
    return forged(stage, folder, np.rint(veil).astype(np.uint8))


@attack("mark")
def similar_scenes_with_a_copied_id(stage, folder):
    """Rendered worlds of another seed, marked with the id of the signed one."""
    stolen = payload.Payload(1, "made", stage.id_of(stage.made))
    frames = embed.mark_frames(footage.clip("world", HEIGHT, WIDTH, COUNT, 6), stolen, fps=FPS)
    return forged(stage, folder, frames)
