"""Attacks on time: what is shown is not all that was signed, not only that, not in its order or not at its pace."""

import numpy as np
from support import footage

from attacks.registry import attack
from attacks.stage import COUNT, HEIGHT, SECONDS, WIDTH
from attacks.tools import FPS, Track, encode, even_times, frames_of, sound_of, voice
from sorano.trust import record

GROUP = "time"


def cut(stage, folder, *parts, sound=None, **words):
    """A file of frames in a row, with as much of the genuine sound as it is long."""
    frames = np.concatenate(parts)
    heard = stage.heard if sound is None else sound
    return encode(folder / "forged.mp4", frames, sound=heard[: round(len(frames) / FPS * 48_000)], **words)


@attack(GROUP, quick=True)
def middle_second_cut(stage, folder):
    """The middle second is cut out, in picture and sound."""
    sound = np.concatenate([stage.heard[:48_000], stage.heard[96_000:]])
    return cut(stage, folder, stage.shown[:24], stage.shown[48:], sound=sound)


@attack(GROUP)
def third_of_a_second_cut(stage, folder):
    """Eight frames are cut out of the middle, as one would cut a "not"."""
    sound = np.concatenate([stage.heard[:48_000], stage.heard[64_000:]])
    return cut(stage, folder, stage.shown[:24], stage.shown[32:], sound=sound)


@attack(GROUP, quick=True)
def one_foreign_frame(stage, folder):
    """One frame that was never signed is put in."""
    return cut(stage, folder, stage.shown[:36], stage.foreign[36:37], stage.shown[36:])


@attack(GROUP)
def one_foreign_frame_in_place(stage, folder):
    """One frame is replaced by one that was never signed; the length stays."""
    return cut(stage, folder, stage.shown[:36], stage.foreign[36:37], stage.shown[37:])


@attack(GROUP)
def quarter_second_inserted(stage, folder):
    """A quarter of a second of foreign frames is put in."""
    return cut(stage, folder, stage.shown[:36], stage.foreign[:6], stage.shown[36:])


@attack(GROUP)
def half_second_inserted(stage, folder):
    """Half a second of foreign frames is put in."""
    return cut(stage, folder, stage.shown[:36], stage.foreign[:12], stage.shown[36:])


@attack(GROUP)
def half_second_replaced(stage, folder):
    """Half a second is replaced by another take in the same room."""
    return cut(stage, folder, stage.shown[:30], stage.lie[30:42], stage.shown[42:])


@attack(GROUP)
def first_second_replaced(stage, folder):
    """The first second is foreign."""
    return cut(stage, folder, stage.foreign[:24], stage.shown[24:])


@attack(GROUP)
def last_second_replaced(stage, folder):
    """The last second is foreign."""
    return cut(stage, folder, stage.shown[:48], stage.foreign[48:])


@attack(GROUP)
def foreign_before(stage, folder):
    """Three foreign seconds come before the genuine ones."""
    return cut(stage, folder, stage.foreign, stage.shown, sound=np.concatenate([stage.lies, stage.heard]))


@attack(GROUP)
def foreign_after(stage, folder):
    """Three foreign seconds come after the genuine ones."""
    return cut(stage, folder, stage.shown, stage.foreign, sound=np.concatenate([stage.heard, stage.lies]))


@attack(GROUP)
def halves_swapped(stage, folder):
    """The second half is shown before the first."""
    sound = np.concatenate([stage.heard[72_000:], stage.heard[:72_000]])
    return cut(stage, folder, stage.shown[36:], stage.shown[:36], sound=sound)


@attack(GROUP)
def backwards(stage, folder):
    """It plays backwards."""
    frames = frames_of(stage.moving)[::-1]
    return encode(folder / "forged.mp4", frames, sound=sound_of(stage.moving)[: 3 * 48_000][::-1].copy())


@attack(GROUP)
def replayed(stage, folder):
    """It is shown twice."""
    return cut(stage, folder, stage.shown, stage.shown, sound=np.concatenate([stage.heard, stage.heard]))


@attack(GROUP)
def one_second_repeated(stage, folder):
    """One second in the middle is shown again at once."""
    sound = np.concatenate([stage.heard[:96_000], stage.heard[48_000:]])
    return cut(stage, folder, stage.shown[:48], stage.shown[24:], sound=sound)


@attack(GROUP)
def every_second_frame_foreign(stage, folder):
    """Genuine and foreign frames alternate."""
    frames = stage.shown.copy()
    frames[1::2] = stage.foreign[1::2]
    return cut(stage, folder, frames)


@attack(GROUP)
def subliminal_frames(stage, folder):
    """Every twelfth frame is foreign."""
    frames = stage.shown.copy()
    frames[6::12] = stage.foreign[6::12]
    return cut(stage, folder, frames)


@attack(GROUP)
def one_genuine_of_60(stage, folder):
    """One genuine frame, and 59 that were never signed."""
    return cut(stage, folder, stage.shown[:1], stage.foreign[:59])


@attack(GROUP, quick=True)
def one_genuine_of_24(stage, folder):
    """One genuine frame of a second; nothing is marked again, no key is used."""
    return cut(stage, folder, stage.lie[:12], stage.shown[12:13], stage.lie[13:24])


@attack(GROUP)
def one_genuine_frame_a_second(stage, folder):
    """Foreign film, in which one frame of each second is genuine and in its place."""
    frames = stage.foreign.copy()
    frames[::24] = stage.shown[::24]
    return cut(stage, folder, frames)


@attack(GROUP)
def two_minutes_of_foreign_film(stage, folder):
    """120 s of foreign film with three genuine frames."""
    film = np.concatenate([stage.foreign[::2]] * 17)[: 120 * 5]
    for number, at in enumerate((1, 200, 500)):
        film[at] = stage.shown[24 * number]
    return encode(folder / "forged.mp4", film, fps=5, sound=voice(120, 8))


@attack(GROUP)
def foreign_after_two_minutes(stage, folder):
    """The first 121 s are genuine, and then 179 s are foreign."""
    panorama = footage.coloured(np.random.default_rng(11), 180, 320 + 2 * 968, (110, 100, 90), 34)
    frames = np.stack([panorama[:, 2 * n : 2 * n + 320] for n in range(121 * 8)]).clip(0, 255).astype(np.uint8)
    source = encode(folder / "long.mp4", frames, fps=8, sound=voice(121, 9))
    with stage.at("alice"):
        signed = record.mark_file(source, folder / "long.signed.mp4").path
    shown, heard = frames_of(signed), sound_of(signed)
    foreign = np.roll(shown[::-1], 77, 2)[: 179 * 8]
    foreign = np.concatenate([foreign, foreign])[: 179 * 8]
    return encode(
        folder / "forged.mp4", np.concatenate([shown, foreign]), fps=8, sound=np.concatenate([heard, voice(179, 10)])
    )


@attack(GROUP)
def four_ticks_of_truth(stage, folder):
    """A foreign film in which four genuine frames are shown for 1/90000 s each."""
    frames = np.concatenate([stage.foreign[:18], stage.shown[18:22], stage.foreign[18:]])
    times = even_times(COUNT, SECONDS)
    times = [*times[:18], *(times[18] + n for n in range(4)), *(t + 4 for t in times[18:])]
    return encode(folder / "forged.mp4", Track(frames, times), sound=stage.lies)


@attack(GROUP)
def truth_in_ticks(stage, folder):
    """All genuine frames within a tenth of a second, then one foreign frame that stands for three."""
    frames = np.concatenate([stage.shown, stage.foreign[:2]])
    times = [*even_times(COUNT, 0.1), 9001, 9001 + 270_000]
    return encode(folder / "forged.mp4", Track(frames, times), sound=stage.heard)


@attack(GROUP)
def ticks_of_lies_held_by_the_screen(stage, folder):
    """Foreign frames of one tick before each held genuine frame: a screen shows what comes first in a refresh."""
    frames = np.stack([stage.foreign[:24], stage.shown[::3]], 1).reshape(-1, HEIGHT, WIDTH, 3)
    times = [t + n for t in even_times(24, SECONDS) for n in range(2)]
    return encode(folder / "forged.mp4", Track(frames, times), sound=stage.heard)


@attack(GROUP, quick=True)
def slowed_to_75_percent(stage, folder):
    """It is slowed to 75 %, as one makes a speaker look drunk."""
    return encode(
        folder / "forged.mp4", Track(stage.shown, even_times(COUNT, SECONDS / 0.75)), sound=stretched(stage.heard, 0.75)
    )


def stretched(sound, speed):
    """A sound at another speed."""
    places = np.arange(0, len(sound) - 1, speed)
    return np.interp(places, np.arange(len(sound)), sound).astype(np.float32)


@attack(GROUP)
def doubled_speed(stage, folder):
    """It plays at twice its speed."""
    return encode(folder / "forged.mp4", stage.shown[::2], sound=stretched(stage.heard, 2.0))


@attack(GROUP)
def slowed_by_5_percent(stage, folder):
    """It is slowed by 5 %."""
    return encode(
        folder / "forged.mp4", Track(stage.shown, even_times(COUNT, SECONDS / 0.95)), sound=stretched(stage.heard, 0.95)
    )


@attack(GROUP)
def slow_then_fast(stage, folder):
    """The first half is slowed, the second hurried; the length stays."""
    times = even_times(36, 2.0) + even_times(36, 1.0, 2.0)
    return encode(folder / "forged.mp4", Track(stage.shown, times), sound=stage.heard)


@attack(GROUP)
def frozen_for_a_second(stage, folder):
    """The picture stands still for a second, and goes on where it was."""
    frames = np.concatenate([stage.shown[:36], np.repeat(stage.shown[35:36], 24, 0), stage.shown[36:]])
    sound = np.concatenate([stage.heard[:72_000], np.zeros(48_000, np.float32), stage.heard[72_000:]])
    return cut(stage, folder, frames, sound=sound)


@attack(GROUP)
def frozen_over_the_sound(stage, folder):
    """The picture stands still for a second while the sound goes on; the length stays."""
    frames = frames_of(stage.moving)
    frames[24:48] = frames[24]
    return encode(folder / "forged.mp4", frames, sound=sound_of(stage.moving)[: 3 * 48_000])


@attack(GROUP)
def spliced_from_two_genuine(stage, folder):
    """Half of one signed recording and half of another of the same signer."""
    sound = np.concatenate([stage.heard[:72_000], sound_of(stage.other)[72_000:144_000]])
    return cut(stage, folder, stage.shown[:36], frames_of(stage.other)[36:], sound=sound)


@attack(GROUP)
def dissolve_to_foreign(stage, folder):
    """It dissolves into foreign film and back again."""
    share = np.clip(1 - np.abs(np.arange(COUNT) - 36) / 18, 0, 1)[:, None, None, None]
    return cut(stage, folder, np.rint(stage.shown * (1 - share) + stage.foreign * share).astype(np.uint8))


@attack(GROUP, quick=True)
def talking_video_of_a_signed_photo(stage, folder):
    """A two-second "talking" video is made of a signed photograph."""
    frames = np.repeat(stage.picture[None], 48, 0)
    for n, frame in enumerate(frames):
        height = 6 + int(4 * np.sin(n / 2))
        frame[150 : 150 + height, 228:256] = (60, 20, 20)
    return encode(folder / "forged.mp4", frames, sound=stage.lies[:96_000])


@attack(GROUP)
def still_video_of_a_signed_photo(stage, folder):
    """A video that only shows a signed photograph, under words that were never spoken."""
    return encode(folder / "forged.mp4", np.repeat(stage.picture[None], 48, 0), sound=stage.lies[:96_000])


@attack(GROUP)
def another_take_between(stage, folder):
    """The middle second is another take of the same person in the same room, marked again with the stolen id."""
    from sorano.trust.watermark import embed, payload

    frames = stage.plain.copy()
    frames[24:48] = stage.lie[24:48]
    stolen = payload.Payload(1, "captured", stage.id_of(stage.signed))
    return cut(stage, folder, embed.mark_frames(frames, stolen, fps=FPS))
