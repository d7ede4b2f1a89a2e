"""The spoken call code, heard by pocketsphinx where it is installed (the extra `speech`); its model comes with it.

    heard_code(sound.recent())      # "river prism", or None

The grammar has two of the code's words and nothing else, so whatever is said becomes some two words, and those of
somebody in another call are others but once in 65,536. It needs no network and 0.2 s of processor time.

Covered: English words, said within the last seconds. Not covered: the Chinese digits, which are checked by ear; who
speaks: a cloned voice can say the words too.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.desk.call.sound import RATE
from sorano.desk.call.words import WORDS
from sorano.extras import is_installed

HEARD_RATE = 16_000  # samples a second, of the model
LEAST_SECONDS = 0.5
NOISE = 1e-3  # of full scale
_turn = threading.Lock()


@lru_cache(maxsize=1)  # pages ask twice a second
def is_available() -> bool:
    """Whether words can be heard here."""
    return is_installed("pocketsphinx")


def heard_code(mono_N: NDArray[np.float32]) -> str | None:
    """The two words in sound, mono at 48 kHz, floats in -1..1; None where nothing is made out of it."""
    if len(mono_N) < LEAST_SECONDS * RATE:
        return None
    each = RATE // HEARD_RATE
    slow = mono_N[: len(mono_N) // each * each].reshape(-1, each).mean(1)
    loud = slow * (0.5 / max(float(np.abs(slow).max()), 1e-3))
    loud = loud + np.random.default_rng(0).normal(0, NOISE, len(loud))  # the model knows no digital silence
    with _turn:
        decoder = _decoder()
        decoder.start_utt()
        decoder.process_raw(np.rint(loud * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
    return found.hypstr or None if found is not None else None


@lru_cache(maxsize=1)
def _decoder() -> Any:
    import pocketsphinx  # type: ignore[import-untyped]

    model = Path(pocketsphinx.get_model_path()) / "en-us"
    words = {"hmm": str(model / "en-us"), "dict": str(model / "cmudict-en-us.dict"), "lm": None}
    decoder = pocketsphinx.Decoder(pocketsphinx.Config(**words, loglevel="FATAL"))
    code = f"#JSGF V1.0;\ngrammar code;\n<word> = {' | '.join(WORDS)};\npublic <code> = <word> <word>;\n"
    decoder.add_jsgf_string("code", code)
    decoder.activate_search("code")
    return decoder
