"""Attacks on what is heard: the picture is genuine to the last bit, the words are not."""

import numpy as np

from attacks.registry import attack
from attacks.tools import encode, joined, voice

GROUP = "sound"


def dubbed(stage, folder, sound):
    """The signed picture's own packets with another sound, or with none."""
    if sound is None:
        return joined(folder / "forged.mp4", (stage.signed, "video", 1))
    heard = encode(folder / "heard.mp4", stage.foreign[:2], sound=sound)
    return joined(folder / "forged.mp4", (stage.signed, "video", 1), (heard, "audio", 1))


@attack(GROUP, quick=True)
def sound_replaced(stage, folder):
    """Other words are put under the genuine picture."""
    return dubbed(stage, folder, stage.lies)


@attack(GROUP)
def sound_removed(stage, folder):
    """Nothing is heard: what was said is withheld."""
    return dubbed(stage, folder, None)


@attack(GROUP)
def sound_silenced(stage, folder):
    """The sound is there, and silent."""
    return dubbed(stage, folder, np.zeros_like(stage.heard))


@attack(GROUP)
def one_word_replaced(stage, folder):
    """Half a second of other words."""
    sound = stage.heard.copy()
    sound[60_000:84_000] = stage.lies[60_000:84_000]
    return dubbed(stage, folder, sound)


@attack(GROUP)
def one_word_silenced(stage, folder):
    """Half a second is silenced: a "not" is gone."""
    sound = stage.heard.copy()
    sound[60_000:84_000] = 0
    return dubbed(stage, folder, sound)


@attack(GROUP)
def words_in_another_order(stage, folder):
    """Thirds of the sound change places."""
    thirds = np.split(stage.heard, 3)
    return dubbed(stage, folder, np.concatenate([thirds[1], thirds[0], thirds[2]]))


@attack(GROUP)
def sound_backwards(stage, folder):
    """The sound plays backwards."""
    return dubbed(stage, folder, stage.heard[::-1].copy())


@attack(GROUP)
def sound_a_second_late(stage, folder):
    """The sound comes a second late: the answer seems to belong to another question."""
    return dubbed(stage, folder, np.concatenate([np.zeros(48_000, np.float32), stage.heard[:-48_000]]))


@attack(GROUP)
def other_words_over_quiet_ones(stage, folder):
    """The genuine words go on quietly under loud false ones."""
    return dubbed(stage, folder, 0.1 * stage.heard + stage.lies)


@attack(GROUP)
def sound_of_another_signed_file(stage, folder):
    """The sound of another recording that Studio A signed."""
    return dubbed(stage, folder, voice(3, 3))


@attack(GROUP)
def second_sound_plays(stage, folder):
    """Two sounds: the genuine one, and a foreign one that players choose."""
    heard = encode(folder / "heard.mp4", stage.foreign[:2], sound=stage.lies)
    parts = ((stage.signed, "video", 1), (stage.signed, "audio", 0), (heard, "audio", 1))
    return joined(folder / "forged.mkv", *parts)


@attack(GROUP)
def sound_put_under_a_silent_recording(stage, folder):
    """A recording without sound was signed; a forger adds words."""
    from sorano.trust import record

    source = encode(folder / "silent.mp4", stage.plain)
    with stage.at("alice"):
        signed = record.mark_file(source, folder / "silent.signed.mp4").path
    heard = encode(folder / "heard.mp4", stage.foreign[:2], sound=stage.lies)
    return joined(folder / "forged.mp4", (signed, "video", 1), (heard, "audio", 1))
