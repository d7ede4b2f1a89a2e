"""Footage that the tests of the marks make: textures with the spectrum of photographs, edges, noise, rendered worlds.

Every clip is a pure function of its name, size, length and seed, `frames_THWC` uint8 RGB. `coded` sends one through a
coder, `covered` puts something over it.
"""

import io

import av
import cv2
import numpy as np


def texture(random, height, width, power=1.1):
    """A picture with a 1/f^power amplitude spectrum, mean 0 and deviation 1, float32."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.maximum(np.hypot(fy, fx), 1.5 / max(height, width))
    spectrum = np.exp(2j * np.pi * random.random(radius.shape)) / radius**power
    spectrum[0, 0] = 0
    picture = np.fft.irfft2(spectrum, (height, width))
    return (picture / picture.std()).astype(np.float32)


def coloured(random, height, width, mean, contrast, power=1.1):
    """A textured picture in colour, float32 RGB."""
    luma = texture(random, height, width, power)[..., None] * contrast
    chroma = np.stack([texture(random, height, width, 1.4) for _ in range(3)], -1) * contrast * 0.25
    return np.asarray(mean, np.float32) + luma + chroma


def window(picture, top, left, height, width, zoom=1.0, angle=0.0):
    """A view of a larger picture at a position in fractions of a pixel."""
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    move = np.array(
        [
            [cos, -sin, left + (width - cos * width + sin * height) / 2],
            [sin, cos, top + (height - sin * width - cos * height) / 2],
        ],
        np.float32,
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, move, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)


def finished(frames, random, noise):
    """Grain of a sensor, and 8 bits."""
    grain = random.normal(size=(4, *frames[0].shape[:2], 1)).astype(np.float32) * noise
    out = np.empty((len(frames), *frames[0].shape), np.uint8)
    for number, frame in enumerate(frames):
        shift = tuple(random.integers(0, 200, 2))
        out[number] = np.clip(np.rint(frame + np.roll(grain[number % 4], shift, (0, 1))), 0, 255)
    return out


def landscape(random, height, width, frames):
    """A slow pan over hills under a smooth sky; a little grain."""
    wide = width + 2 * frames + 8
    ground = coloured(random, height + 32, wide, (90, 105, 70), 32)
    sky = coloured(random, height + 32, wide, (150, 175, 205), 14, power=1.9)
    ridge = height * 0.45 + texture(random, 1, wide, 1.5)[0] * height * 0.07
    alpha = np.clip((np.arange(height + 32)[:, None] - ridge[None]) / 3 + 0.5, 0, 1)[..., None].astype(np.float32)
    picture = ground * alpha + sky * (1 - alpha)
    views = [window(picture, 8 + 3 * np.sin(t / 9), 1.3 * t, height, width) for t in range(frames)]
    return finished(views, random, 1.2)


def speaker(random, height, width, frames):
    """A head that moves before a still, textured wall: what a meeting looks like."""
    wall = coloured(random, height, width, (120, 112, 104), 22)
    face = coloured(random, height, width, (190, 150, 125), 12, power=1.5)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    views = []
    for t in range(frames):
        cx, cy = width * (0.5 + 0.05 * np.sin(t / 11)), height * (0.48 + 0.03 * np.sin(t / 7))
        radius = np.hypot((x - cx) / (0.28 * height), (y - cy) / (0.36 * height))
        alpha = np.clip((1 - radius) * 30, 0, 1)[..., None]
        moved = np.roll(face, (int(cy), int(cx)), (0, 1))
        views.append(wall * (1 - alpha) + moved * alpha)
    return finished(views, random, 1.5)


def street(random, height, width, frames):
    """Hard edges and lettering, a pan with a slow zoom."""
    tall, wide = height + 64, width + 2 * frames + 64
    picture = coloured(random, tall, wide, (125, 120, 118), 10)
    for _ in range(240):
        y, x = random.integers(0, tall), random.integers(0, wide)
        h, w = random.integers(6, height // 4), random.integers(6, width // 8)
        picture[y : y + h, x : x + w] = 0.35 * picture[y : y + h, x : x + w] + random.integers(10, 150, 3)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    for _ in range(60):
        word = "".join(random.choice(list("AEKMORSTX017"), 6))
        place = (int(random.integers(0, wide)), int(random.integers(0, tall)))
        colour = tuple(float(v) for v in random.integers(0, 255, 3))
        cv2.putText(picture, word, place, cv2.FONT_HERSHEY_SIMPLEX, height / 600, colour, 2, cv2.LINE_AA)
    picture = picture.astype(np.float32)
    views = [window(picture, 20, 10 + 1.7 * t, height, width, 1 + 0.002 * t) for t in range(frames)]
    return finished(views, random, 0.8)


def handheld(random, height, width, frames):
    """A dim room, a shaking camera, strong grain."""
    picture = coloured(random, height + 96, width + 96, (58, 52, 48), 18, power=1.2)
    path = np.cumsum(random.normal(size=(frames, 2)), 0) * 1.2
    path = np.clip(path - path.mean(0), -40, 40) + 48
    views = [window(picture, y, x, height, width, 1, 0.004 * np.sin(t / 5)) for t, (y, x) in enumerate(path)]
    return finished(views, random, 3.0)


def leaves(random, height, width, frames):
    """Two dense textures that slide over one another: the hardest thing to code."""
    near = coloured(random, height, width + 3 * frames, (95, 120, 60), 38, power=0.9)
    far = coloured(random, height, width + frames, (70, 90, 85), 24)
    holes = np.clip(texture(random, height, width + 3 * frames, 1.3) * 4 + 0.5, 0, 1)[..., None]
    views = []
    for t in range(frames):
        x = round(2.5 * t)
        hole = holes[:, x : x + width]
        views.append(near[:, x : x + width] * hole + far[:, t // 2 : t // 2 + width] * (1 - hole))
    return finished(views, random, 1.0)


def world(random, height, width, frames):
    """A rendered world, as the embedded model is trained on, at full size."""
    from sorano.world.dataset import sample

    seed = int(random.integers(0, 10_000))
    small = sample("train", seed, world="full", num_frames=frames, height=height // 2, width=width // 2, fps=24.0)
    size = (width, height)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in small.frames_THWC])


KINDS = {kind.__name__: kind for kind in (landscape, speaker, street, handheld, leaves, world)}


def clip(kind, height=540, width=960, frames=96, seed=0):
    """A clip by name."""
    random = np.random.default_rng([seed, sum(kind.encode()), height, width])
    return KINDS[kind](random, height, width, frames)


def coded(frames, crf, fps=24, codec="libx264", *, preset="medium", pixels="gray"):
    """A clip after a coder, as luma [T, H, W] or, with `pixels` "rgb24", RGB; odd last rows and columns are cut."""
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": str(crf), "preset": preset}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format=pixels) for frame in container.decode(video=0)])


def cropped(frames, share, down=0.37, right=0.61):
    """A share of the height and width, from a place in 0..1."""
    height, width = (int(side * share) // 2 * 2 for side in frames.shape[1:3])
    top, left = int((frames.shape[1] - height) * down), int((frames.shape[2] - width) * right)
    return frames[:, top : top + height, left : left + width]


def resized(frames, share):
    """The same picture in fewer pixels."""
    return np.stack([cv2.resize(frame, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) for frame in frames])


def covered(marked, original, random, area):
    """A feathered, moving ellipse of unmarked, moved and smoothed picture over a marked clip; and where it is."""
    frames, height, width, _ = marked.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    tall = min(np.sqrt(area * height * width / np.pi) * random.uniform(0.8, 1.2), height * 0.45)
    wide = area * height * width / np.pi / tall
    middle_x, middle_y = random.uniform(wide, width - wide), random.uniform(tall, height - tall)
    out, where = marked.copy(), np.empty(marked.shape[:3], bool)
    for t in range(frames):
        moved_x, moved_y = middle_x + 0.1 * wide * np.sin(t / 13), middle_y + 0.1 * tall * np.cos(t / 17)
        radius = np.hypot((x - moved_x) / wide, (y - moved_y) / tall)
        alpha = cv2.GaussianBlur(np.clip((1.07 - radius) / 0.14, 0, 1), (0, 0), 4)[..., None]
        other = cv2.GaussianBlur(np.roll(original[t], (5, 9), (0, 1)).astype(np.float32), (0, 0), 0.8) * 1.02
        out[t] = np.clip(alpha * other + (1 - alpha) * marked[t], 0, 255)
        where[t] = alpha[..., 0] > 0.5
    return out, where
