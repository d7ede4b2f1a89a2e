"""What is put over a marked video: an object that moves, a face, or the picture itself without its mark."""

import cv2
import numpy as np

from support import corpus

WAYS = ("object", "face", "smoothed")


def put_over(marked, original, random, area, way="object", fps=24):
    """The forged frames and where the forgery is, [T, H, W] of bool; `area` is its share of the frame.

    An object is a part of a photograph in an ellipse or a rectangle that drifts by up to half its size; a face is a
    rendered head that hardly moves; "smoothed" is the unmarked picture moved by a few pixels and blurred a little, as a
    face swap leaves it. Edges are feathered. All of it is unmarked.
    """
    frames, height, width, _ = marked.shape
    tall = min(np.sqrt(area * height * width / np.pi) * random.uniform(0.8, 1.25), height * 0.48)
    wide = min(area * height * width / np.pi / tall, width * 0.48)
    middle = np.array([random.uniform(tall, height - tall), random.uniform(wide, width - wide)])
    drift = random.uniform(-1, 1, 2) * (0.5 if way == "object" else 0.1) * np.array([tall, wide])
    square = way == "object" and bool(random.integers(0, 2))
    content = _content(way, random, original, (round(2 * tall) + 9, round(2 * wide) + 9), fps)
    out, where = marked.copy(), np.empty(marked.shape[:3], bool)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for t in range(frames):
        cy, cx = np.clip(middle + drift * np.sin(2 * t / fps), (tall, wide), (height - tall, width - wide))
        down, right = (y - cy) / tall, (x - cx) / wide
        # A square of the area of the ellipse has sides of sqrt(pi) / 2 = 0.886 of its axes.
        radius = np.maximum(abs(down), abs(right)) / 0.886 if square else np.hypot(down, right)
        alpha = cv2.GaussianBlur(np.clip((1.05 - radius) / 0.1, 0, 1), (0, 0), max(0.8, height / 300))[..., None]
        other = _laid(content[t % len(content)], round(cy), round(cx), height, width)
        out[t] = np.clip(np.rint(alpha * other + (1 - alpha) * marked[t]), 0, 255)
        where[t] = alpha[..., 0] > 0.5
    return out, where


def _content(way, random, original, size, fps):
    """Frames [T, H, W, 3] float32 of what is put in; for "smoothed" as large as the video, else as the forgery."""
    frames = len(original)
    if way == "smoothed":
        shift = tuple(int(random.integers(2, 12)) for _ in range(2))
        return [cv2.GaussianBlur(np.roll(f, shift, (0, 1)).astype(np.float32), (0, 0), 0.8) * 1.02 for f in original]
    kind = "faces" if way == "face" else str(random.choice(["still", "landscape", "textures", "fast"]))
    seed = int(random.integers(1000, 2000)) // 2 * 2 + (kind == "faces")
    even = tuple(side // 2 * 2 for side in size)
    return list(corpus.clip(kind, seed, even, frames / fps, fps).astype(np.float32))


def _laid(content, cy, cx, height, width):
    """A picture of the forgery's size around (cy, cx) of a frame; of the frame's size as it is."""
    if content.shape[:2] == (height, width):
        return content
    tall, wide = content.shape[:2]
    frame = np.zeros((height, width, 3), np.float32)
    top, left = cy - tall // 2, cx - wide // 2
    a, b, c, d = max(top, 0), min(top + tall, height), max(left, 0), min(left + wide, width)
    frame[a:b, c:d] = content[a - top : b - top, c - left : d - left]
    return frame
