"""Attacks within the coded stream: what a decoder puts out is not what is meant to be seen."""

import numpy as np

from attacks.registry import attack
from attacks.stage import COUNT, HEIGHT, SECONDS, WIDTH
from attacks.tools import Track, encode, even_times, remux

GROUP = "codec"


@attack(GROUP)
def cropping_shows_the_foreign_half(stage, folder):
    """A genuine and a foreign picture side by side; the stream's own cropping shows the foreign one."""
    wide = np.concatenate([stage.shown, stage.foreign], 2)
    made = encode(folder / "made.mp4", wide, sound=stage.heard)
    return remux(made, folder / "forged.mp4", bsf=("h264_metadata", f"crop_left={WIDTH}"))


@attack(GROUP, matched="what is left of the picture is genuine, and the report says what part of it is shown")
def cropped_to_a_quarter(stage, folder):
    """The stream's own cropping leaves a quarter of the picture."""
    words = f"crop_right={WIDTH // 2}:crop_bottom={HEIGHT // 4 * 2}"
    return remux(stage.signed, folder / "forged.mp4", bsf=("h264_metadata", words))


@attack(GROUP, matched="the picture is genuine; a player that obeys the message turns it upside down, and no more")
def turned_by_a_message_in_the_stream(stage, folder):
    """A display orientation message in the stream turns the picture by 180 degrees."""
    return remux(stage.signed, folder / "forged.mp4", bsf=("h264_metadata", "display_orientation=insert:rotate=180"))


@attack(GROUP, matched="the same picture, brighter or darker in players that obey the flag")
def full_range_flag(stage, folder):
    """The stream says that its levels are those of full range."""
    return remux(stage.signed, folder / "forged.mp4", bsf=("h264_metadata", "video_full_range_flag=1"))


@attack(GROUP, matched="an unshown message in the stream changes neither picture nor sound")
def words_in_a_message(stage, folder):
    """A message in the stream that nobody shows claims to be a credential."""
    words = "sei_user_data=086f3693-b7b3-4f2c-9653-21492feee5b8+VERIFIED"
    return remux(stage.signed, folder / "forged.mp4", bsf=("h264_metadata", words))


@attack(GROUP)
def damaged_frames_that_conceal(stage, folder):
    """Packets are damaged at random, so that decoders conceal them with what they have."""
    return remux(stage.signed, folder / "forged.mp4", bsf=("noise", "amount=400"))


@attack(GROUP)
def foreign_frames_at_the_same_time(stage, folder):
    """Each genuine frame is followed, at nearly the same time, by a foreign one that is held."""
    frames = np.stack([stage.shown[::2], stage.foreign[::2]], 1).reshape(-1, HEIGHT, WIDTH, 3)
    times = [t + n for t in even_times(COUNT // 2, SECONDS) for n in range(2)]
    return encode(folder / "forged.mp4", Track(frames, times), sound=stage.heard)


@attack(GROUP)
def negative_times(stage, folder):
    """Genuine frames before time 0, which players drop, and foreign ones after it."""
    frames = np.concatenate([stage.shown, stage.foreign])
    times = [*(t - 270_000 for t in even_times(COUNT, SECONDS)), *even_times(COUNT, SECONDS)]
    return encode(
        folder / "forged.mkv", Track(frames, times), sound=stage.lies, options={"avoid_negative_ts": "disabled"}
    )


@attack(GROUP)
def decoded_and_not_shown(stage, folder):
    """Only the key frames are left of a genuine copy, each held for a second."""
    made = encode(folder / "made.mp4", Track(stage.shown, options={"g": "24", "bf": "0", "sc_threshold": "0"}))
    return remux(made, folder / "forged.mp4", bsf=("filter_units", "remove_types=1"))


@attack(GROUP, matched="the colours alone differ, as after a filter")
def colours_swapped(stage, folder):
    """Red and blue change places."""
    return encode(folder / "forged.mp4", stage.shown[..., ::-1], sound=stage.heard)
