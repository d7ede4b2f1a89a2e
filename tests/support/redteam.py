"""The steps of a face swap and of a voice's imitation, on rendered faces, licensed pictures and synthetic voices.

Detect, landmarks, align, cover, blend: what such tools do, so that traces are looked for in what they leave. Never for
a person's own pictures: there is no command for it.
"""

import ctypes
from functools import lru_cache

import cv2
import numpy as np
from attacks.tools import voice

from support import corpus
from support.voices import speech

BLENDS = ("hard", "feather", "colour", "seamless")
VOCODERS = ("griffin-lim", "lpc", "noise-vocoder")
RATE = 16_000
POINTS = np.array([[-0.45, -0.17], [0.45, -0.17], [0.0, 0.15], [-0.35, 0.58], [0.35, 0.58], [0.0, 1.0]], np.float32)


def head(number, size=(270, 480), seconds=2.0):
    """Frames of a rendered head that talks: corpus.faces without its photographs."""
    return corpus.clip("faces", 8 * (number // 3) + 2 * (number % 3 + 1) + 1, size, seconds)


def detect(frame):
    """Where a rendered head is: centre (y, x) and half axes. They are rendered in the middle, and nod there."""
    height, width = frame.shape[:2]
    return (0.45 * height, 0.5 * width), (0.36 * height, 0.25 * height)


def landmarks(place):
    """Eyes, nose, mouth and chin (x, y) of a detected face."""
    (cy, cx), (ry, rx) = place
    return POINTS * np.array([rx, ry], np.float32) + np.array([cx, cy], np.float32)


def aligned(source, source_points, target_points, shape):
    """The source moved onto the target's landmarks by a similarity transform."""
    transform, _ = cv2.estimateAffinePartial2D(source_points, target_points)
    return cv2.warpAffine(source, transform, shape[::-1], flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)


def cover(points, place, shape):
    """The mask that is covered: the convex hull of the face."""
    (cy, cx), (ry, rx) = place
    angle = np.linspace(0, 2 * np.pi, 40)
    outline = np.stack([cx + 0.95 * rx * np.cos(angle), cy + 0.95 * ry * np.sin(angle)], 1)
    hull = cv2.convexHull(np.concatenate([points, outline]).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, 255)


def blended(target, source, mask, way):
    """One frame with the source's face in it."""
    if way == "seamless":
        rows, columns = np.nonzero(mask)
        centre = int((columns.min() + columns.max()) / 2), int((rows.min() + rows.max()) / 2)
        return cv2.seamlessClone(source, target, mask.copy(), centre, cv2.NORMAL_CLONE)
    inside = mask > 0
    source = source.astype(np.float32)
    if way == "colour":  # Reinhard et al. 2001: means and deviations of each channel
        for channel in range(3):
            theirs, ours = source[inside, channel], target[inside, channel].astype(np.float32)
            source[..., channel] = (source[..., channel] - theirs.mean()) * (ours.std() + 1) / (theirs.std() + 1)
            source[..., channel] += ours.mean()
    soft = mask.astype(np.float32)[..., None] / 255
    if way != "hard":
        soft = cv2.GaussianBlur(soft, (0, 0), mask.shape[0] / 60)[..., None]
    return np.clip(np.rint(soft * source + (1 - soft) * target), 0, 255).astype(np.uint8)


def swapped(frames, way, seed):
    """Frames of a head with another one's face put over its own, and the mask [H, W]."""
    height, width = frames.shape[1:3]
    sources = head(seed, (height, width), len(frames) / 24)
    if seed % 3 == 0:  # a photograph that scikit-image ships
        photo = cv2.resize(corpus.picture("astronaut.png")[:260, 90:350], (height, height))
        pad = (width - height) // 2
        photo = cv2.copyMakeBorder(photo, 0, 0, pad, width - height - pad, cv2.BORDER_REFLECT)
        sources = np.repeat(np.asarray(photo, np.uint8)[None], len(frames), 0)
    out = frames.copy()
    for index, frame in enumerate(frames):
        place = detect(frame)
        points = landmarks(place)
        moved = aligned(sources[index % len(sources)], landmarks(detect(sources[0])), points, (height, width))
        mask = cover(points, place, (height, width))
        out[index] = blended(frame, moved, mask, way)
    return out, mask


# Voices.


def voices(kind, seed, seconds=4):
    """A voice that was not imitated, 16 kHz float32: two synthetic kinds, and espeak-ng where it is installed."""
    if kind == "espeak":
        return spoken(seed, seconds)
    wide = voice(float(seconds), seed) if kind == "buzz" else speech(seed, seconds)
    return cv2.resize(wide[None], (seconds * RATE, 1), interpolation=cv2.INTER_AREA)[0]


def kinds_of_voices():
    """Those that can be had here."""
    return ("buzz", "formants", *(["espeak"] if _espeak() is not None else []))


def imitated(samples, way, seed=0):
    """The voice through a vocoder: its magnitudes with invented phases, its linear prediction with a pulse train or
    noise, or the envelopes of its bands on noise.
    """
    return {"griffin-lim": _griffin_lim, "lpc": _lpc, "noise-vocoder": _noise_vocoder}[way](samples, seed)


def _stft(samples, size=512, hop=128):
    padded = np.pad(samples, size)
    spots = np.arange((len(padded) - size) // hop + 1)[:, None] * hop + np.arange(size)
    return np.fft.rfft(padded[spots] * np.hanning(size), axis=1)


def _istft(spectrum, length, size=512, hop=128):
    out, weight = np.zeros(length + 2 * size + hop), np.full(length + 2 * size + hop, 1e-6)
    window = np.hanning(size)
    for index, frame in enumerate(np.fft.irfft(spectrum, size, axis=1)):
        out[index * hop : index * hop + size] += frame * window
        weight[index * hop : index * hop + size] += window**2
    return (out / weight)[size : size + length]


def _griffin_lim(samples, seed, rounds=24):
    """Griffin and Lim 1984: phases that fit the magnitudes, from random ones on."""
    magnitude = np.abs(_stft(samples))
    phase = np.exp(2j * np.pi * np.random.default_rng(seed).random(magnitude.shape))
    for _ in range(rounds):
        again = _stft(_istft(magnitude * phase, len(samples)))
        phase = again / np.maximum(np.abs(again), 1e-9)
    return _istft(magnitude * phase, len(samples)).astype(np.float32)


def _lpc(samples, seed, order=18, size=480):
    """Linear prediction of 30 ms with a pulse train or noise, as the vocoders of the telephone."""
    random = np.random.default_rng(seed)
    out, last = np.zeros(len(samples)), 0
    for start in range(0, len(samples) - size, size // 2):
        frame = samples[start : start + size] * np.hanning(size)
        power = float((frame**2).mean())
        if power < 1e-8:
            continue
        correlation = np.correlate(frame, frame, "full")[size - 1 :]
        matrix = correlation[np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]
        taps = np.linalg.solve(matrix + 1e-6 * correlation[0] * np.eye(order), correlation[1 : order + 1])
        lag = 60 + int(correlation[60:260].argmax())
        source = random.normal(size=size)
        if correlation[lag] > 0.35 * correlation[0]:
            source = np.zeros(size)
            source[(last - start) % lag :: lag] = 1
            last = start + size
        made = _filtered(source, taps)
        made *= np.hanning(size) * np.sqrt(power / max(float((made * np.hanning(size)) @ made / size), 1e-12))
        out[start : start + size] += made
    return out.astype(np.float32)


def _filtered(source, taps):
    from scipy.signal import lfilter

    return lfilter([1.0], np.concatenate([[1.0], -taps]), source)


def _noise_vocoder(samples, seed, bands=20):
    """The envelopes of twenty bands on noise (Shannon et al. 1995)."""
    spectrum = _stft(samples)
    noise = _stft(np.random.default_rng(seed).normal(size=len(samples)))
    edges = np.unique(np.geomspace(3, spectrum.shape[1], bands + 1).astype(int))
    made = np.zeros_like(spectrum)
    for low, high in zip(edges, edges[1:], strict=False):
        level = np.sqrt(
            (np.abs(spectrum[:, low:high]) ** 2).mean(1) / ((np.abs(noise[:, low:high]) ** 2).mean(1) + 1e-9)
        )
        made[:, low:high] = noise[:, low:high] * level[:, None]
    return _istft(made, len(samples)).astype(np.float32)


@lru_cache(maxsize=1)
def _espeak():
    """espeak-ng's library from the package espeakng-loader, or None."""
    try:
        import espeakng_loader
    except ImportError:
        return None
    library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    library.espeak_Initialize.restype = ctypes.c_int
    rate = library.espeak_Initialize(2, 0, str(espeakng_loader.get_data_path()).encode(), 0)  # 2: sound is returned
    return (library, rate) if rate > 0 else None


SENTENCES = (
    "Please transfer the amount today and tell nobody about it.", "The blue cube spins on the snow at night.",
    "We will meet again on Thursday in the large room.", "Could you read me the last four digits of the account?",
    "It rained for nine days before the river rose.", "Her brother plays the violin better than anyone I know.",
)  # fmt: skip


def said(text, voice, speed, pitch, spread=50):
    """What espeak-ng says: words a minute, pitch and its range of 100; float32 at the library's own rate."""
    library, _ = _espeak()
    heard = []
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def take(samples, count, _):
        if samples and count:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = kind(take)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    for number, value in ((1, speed), (3, pitch), (4, spread)):
        library.espeak_SetParameter(number, value, 0)
    words = text.encode() + b"\0"
    library.espeak_Synth(words, len(words), 0, 0, 0, 1, None, None)
    library.espeak_Synchronize()
    return np.concatenate(heard).astype(np.float32) / 32768


def spoken(seed, seconds=4):
    """Sentences by espeak-ng: voice, pitch and speed by the seed; 16 kHz float32."""
    _, rate = _espeak()
    random = np.random.default_rng(seed)
    how = (
        ["en", "en-us", "de", "fr", "es", "it"][seed % 6],
        *(int(random.integers(low, high)) for low, high in ((120, 210), (20, 80), (30, 80))),
    )
    heard = []
    while sum(map(len, heard)) < seconds * rate:
        heard.append(said(SENTENCES[int(random.integers(len(SENTENCES)))], *how))
    sound = np.concatenate(heard)[: seconds * rate]
    return cv2.resize(sound[None], (seconds * RATE, 1), interpolation=cv2.INTER_LINEAR)[0]


def spoken_words(text, voice, speed, pitch):
    """What espeak-ng says, with half a second of a quiet room before and after it; 48 kHz float32."""
    rate, made = _espeak()[1], said(text, voice, speed, pitch)
    wide = np.interp(np.arange(len(made) * 48_000 // rate) * rate / 48_000, np.arange(len(made)), made)
    room = np.random.default_rng(len(text)).normal(0, 0.001, len(wide) + 48_000)
    room[24_000:-24_000] += 0.5 * wide / np.abs(wide).max()
    return room.astype(np.float32)


def spoken_wide(seed, seconds=4):
    """The same at 48 kHz, float32."""
    low = spoken(seed, seconds)
    return np.interp(np.arange(3 * len(low)) / 3, np.arange(len(low)), low).astype(np.float32)
