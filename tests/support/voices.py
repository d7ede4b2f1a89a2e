"""Synthetic voices, and sound through coders."""

import io

import av
import numpy as np

RATE = 48_000


def speech(seed, seconds=5, rate=RATE):
    """Something with the pitch, formants and syllables of a voice, float32."""
    random = np.random.default_rng(seed)
    count = seconds * rate
    time = np.arange(count) / rate
    pitch = 120 * np.exp(np.cumsum(random.normal(size=count)) / count**0.5 / 2 + 0.1 * np.sin(4.4 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    knots = np.arange(0, seconds + 0.2, 0.2)
    voice = sum(np.cos(k * phase) / k for k in range(1, 30)) * np.interp(
        time, knots, random.uniform(0.05, 1, len(knots))
    )
    hiss = random.normal(size=count) * np.interp(time, knots, random.uniform(0, 0.15, len(knots)))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    formants = ((1, 500, 120), (0.6, 1500, 200), (0.4, 2500, 250), (0.2, 3500, 300))
    shape = 0.02 + sum(a / (1 + ((frequency - f) / w) ** 2) for a, f, w in formants)
    sound = np.fft.irfft(np.fft.rfft(voice + hiss) * shape, count)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def write_sound(file, samples, codec, format=None, bit_rate=None, rate=RATE, bits=16, sampled=None, options=None):
    """A file of audio alone, of mono samples; `rate` is the file's, `sampled` the samples' where that is another."""
    with av.open(file if isinstance(file, io.BytesIO) else str(file), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if bits > 16:
            stream.codec_context.format = "s32"
        if bit_rate:
            stream.bit_rate = bit_rate
        stream.options = options or {}
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = sampled or rate
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size or 0)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode())
    return file


def through(samples, codec, bit_rate, rate=RATE, options=None):
    """Samples at 48 kHz after a coder, float32 mono, and their rate."""
    file = write_sound(io.BytesIO(), samples, codec, "matroska", bit_rate, rate, sampled=RATE, options=options)
    file.seek(0)
    with av.open(file) as container:
        to_float = av.AudioResampler(format="flt", layout="mono")
        parts = [p.to_ndarray()[0] for f in container.decode(audio=0) for p in to_float.resample(f)]
        return np.concatenate(parts), container.streams.audio[0].rate
