"""A corpus of clips of twelve kinds, each a pure function of (kind, seed, size, length).

    frames = corpus.clip("cartoon", seed=3, size=(270, 480), seconds=2.0, fps=24)    # uint8 RGB [T, H, W, 3]
    for kind, seed in corpus.listing(300): ...                                       # kinds take turns

Even seeds are for calibration, odd seeds are held out: what a threshold was fitted to is never what it is judged by.
The pictures that scikit-image ships are shared out by the same parity. They are read from the files of the installed
package (the `test` extra), without a download; no recording of anyone is needed beside them.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from support import footage

# Of scikit-image's wheel, an even number of each, so that a seed's parity decides which pictures it may use.
PHOTOS = (
    "astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "camera.png", "retina.jpg",
    "hubble_deep_field.jpg", "ihc.png", "coins.png", "clock_motion.png", "moon.png",
)  # fmt: skip
SURFACES = ("brick.png", "grass.png", "gravel.png", "cell.png")
PORTRAITS = ("astronaut.png", "camera.png")  # by parity; the others of this kind are rendered
PAGES = ("page.png", "text.png")
WORDS = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were all her she there would their we him been has when who will no more if out so up said what its about "
    "than into them can only other time new some could these two may first then do any like my now over such our man"
).split()


def clip(kind, seed=0, size=(270, 480), seconds=2.0, fps=24):
    """A clip, uint8 RGB [T, H, W, 3]."""
    height, width = size
    random = np.random.default_rng([seed, sum(kind.encode()), height, width])
    frames = max(1, round(seconds * fps))
    return np.ascontiguousarray(_MAKERS[kind](random, height, width, frames, seed))


def listing(count, first=0):
    """(kind, seed) of `count` clips from a seed on; kinds take turns, so that any number of them is balanced."""
    return [(KINDS[number % len(KINDS)], first + number // len(KINDS)) for number in range(count)]


def held_out(seed):
    """Whether a clip is kept out of calibration."""
    return seed % 2 == 1


@lru_cache(maxsize=8)
def picture(name):
    """A picture that scikit-image ships, float32 RGB [H, W, 3]."""
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the corpus reads pictures of scikit-image: pip install 'sorano[test]'")
    data = (Path(package.submodule_search_locations[0]) / "data" / name).read_bytes()
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.float32)


def _one_of(names, seed):
    """A name whose place has the parity of the seed."""
    half = names[seed % 2 :: 2]
    return half[seed // 2 % len(half)]


def _enlarged(photo, height, width, share=1.0):
    """A picture that covers `share` times a frame, its shape kept."""
    scale = share * max(height / photo.shape[0], width / photo.shape[1])
    size = max(width, round(photo.shape[1] * scale)), max(height, round(photo.shape[0] * scale))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _panned(photo, random, height, width, frames, zoom=0.15):
    """Views of a picture along a slow, smooth path with a zoom (Ken Burns)."""
    big = _enlarged(photo, height, width, 1.15 + zoom)
    rest = np.array([big.shape[0] - height, big.shape[1] - width])
    start, end = rest * random.random(2), rest * random.random(2)
    most = 3.0 * frames  # pixels: a pan stays slow
    end = start + (end - start) * min(1, most / (np.hypot(*(end - start)) + 1e-9))
    for t in range(frames):
        share = t / max(frames - 1, 1)
        top, left = start + (end - start) * share
        yield footage.window(big, top, left, height, width, 1 + zoom * share)


def _flat_colours(random, count):
    """Saturated colours, as flat animation uses."""
    hsv = np.stack(
        [random.integers(0, 180, count), random.integers(60, 230, count), random.integers(70, 250, count)], -1
    )
    return cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0].astype(float).tolist()


# The kinds.


def cartoon(random, height, width, frames, seed):
    """Flat colours, ink outlines, figures that move on twos; no grain at all."""
    colours = _flat_colours(random, 16)
    places, speeds = random.random((6, 2)), random.normal(0, 0.01, (6, 2))
    sizes, kinds = random.uniform(0.06, 0.22, 6), random.integers(0, 3, 6)
    ground, ink = random.uniform(0.5, 0.8), max(1, height // 120)
    frame_of = {}
    for t in range(0, frames, 2):
        frame = np.empty((height, width, 3), np.uint8)
        frame[:] = colours[0]
        hills = ground * height + height * 0.08 * np.sin(np.arange(width) / width * 7 + t / 40)
        frame[np.arange(height)[:, None] > hills] = colours[1]
        for number in range(6):
            middle = (places[number] + speeds[number] * t + [0.02 * np.sin(t / 5 + number), 0]) % 1
            y, x = int(middle[0] * height), int(middle[1] * width)
            radius, colour = int(sizes[number] * height), colours[2 + number]
            if kinds[number] == 0:
                cv2.circle(frame, (x, y), radius, colour, -1, cv2.LINE_AA)
                cv2.circle(frame, (x, y), radius, (20, 20, 20), ink, cv2.LINE_AA)
                for side in (-1, 1):
                    eye = (x + side * radius // 3, y - radius // 4)
                    cv2.circle(frame, eye, max(2, radius // 6), (250, 250, 250), -1, cv2.LINE_AA)
                    cv2.circle(frame, eye, max(1, radius // 12), (10, 10, 10), -1, cv2.LINE_AA)
                cv2.ellipse(frame, (x, y + radius // 4), (radius // 3, radius // 6), 0, 0, 180, (30, 10, 10), ink)
            else:
                corners = 4 if kinds[number] == 1 else 3
                angles = np.arange(corners) * 2 * np.pi / corners + number + t / 30
                points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], -1).astype(np.int32)
                cv2.fillPoly(frame, [points], colour, cv2.LINE_AA)
                cv2.polylines(frame, [points], True, (20, 20, 20), ink, cv2.LINE_AA)
        frame_of[t] = frame
    return np.stack([frame_of[t // 2 * 2] for t in range(frames)])


def _page(random, height, width, dark, size):
    """A page of lines of words in one of OpenCV's faces."""
    paper, ink = ((30, 32, 38), (210, 212, 205)) if dark else ((250, 250, 248), (25, 25, 30))
    page = np.empty((height, width, 3), np.uint8)
    page[:] = paper
    step, y = int(42 * size), int(50 * size)
    while y < height - 10:
        words, indent = [], int(random.integers(0, 4)) if dark else 0
        while sum(map(len, words)) + len(words) < width / (19 * size) - 6 - 3 * indent:
            words.append(str(random.choice(WORDS)))
        if random.random() < 0.15:
            words = words[: len(words) // 3]
        colour = _flat_colours(random, 1)[0] if dark and random.random() < 0.4 else ink
        place = (int((30 + 60 * indent) * size), y)
        cv2.putText(
            page, " ".join(words), place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, max(1, round(2 * size)), cv2.LINE_AA
        )
        y += step
    return page


def slides(random, height, width, frames, seed):
    """Screens of text: pages, code on a dark ground, a scrolling document, a scanned page; most of it stands still."""
    size = height / 1080 * float(random.uniform(1.2, 2.2))
    way = seed // 2 % 4
    if way == 3:
        scan = _enlarged(picture(_one_of(PAGES, seed)), height, width)[:height, :width]
        return np.repeat(np.clip(np.rint(scan), 0, 255).astype(np.uint8)[None], frames, 0)
    if way == 2:
        tall = _page(random, height + 4 * frames, width, False, size)
        return np.stack([tall[3 * t : 3 * t + height] for t in range(frames)])
    first, second = (_page(random, height, width, way == 1, size) for _ in range(2))
    change = int(frames * random.uniform(0.3, 0.9))
    out = np.stack([first if t < change else second for t in range(frames)])
    if way == 1:
        for t in range(frames):
            if t // 12 % 2:
                out[t, height // 2 : height // 2 + int(30 * size), width // 3 : width // 3 + max(2, int(14 * size))] = (
                    220
                )
    return out


def dark(random, height, width, frames, seed):
    """A night scene: black to dark grey, a few lamps, a slow pan, little or strong grain."""
    scene = footage.coloured(random, height + 40, width + 3 * frames, (18, 18, 24), float(random.uniform(4, 10)), 1.4)
    for _ in range(int(random.integers(2, 8))):
        y, x = random.integers(0, scene.shape[0]), random.integers(0, scene.shape[1])
        light = np.zeros(scene.shape[:2], np.float32)
        cv2.circle(light, (int(x), int(y)), max(2, height // 60), 255, -1, cv2.LINE_AA)
        glow = light + 2.5 * cv2.GaussianBlur(light, (0, 0), height / 20)
        scene += glow[..., None] * random.uniform(0.5, 1, 3)
    views = [footage.window(scene, 20 + 6 * np.sin(t / 15), 1.1 * t, height, width) for t in range(frames)]
    return footage.finished([np.clip(view, 2, 255) for view in views], random, float(random.choice([0.6, 2.5])))


def faces(random, height, width, frames, seed):
    """A portrait that is panned and zoomed, or a rendered head that talks, nods and blinks before a blurred room."""
    if seed // 2 % 4 == 0:
        photo = picture(_one_of(PORTRAITS, seed))
        return footage.finished(_close(photo, random, height, width, frames), random, 0.8)
    room = cv2.GaussianBlur(
        footage.coloured(random, height, width, random.uniform(60, 170, 3), 26), (0, 0), height / 90
    )
    skin = np.array([225, 180, 155]) * random.uniform(0.35, 1.05)
    coat = random.uniform(20, 160, 3)
    grain = footage.texture(random, height, width, 1.2)[..., None]
    size = 0.9 + 0.2 * (seed % 3)
    views = [_head(room, grain, skin, coat, t, float(random.uniform(-0.004, 0.004)), size) for t in range(frames)]
    return footage.finished(views, random, 1.2)


def _close(photo, random, height, width, frames):
    """Views of the upper half of a portrait."""
    half = photo[: photo.shape[0] * 2 // 3]
    return list(_panned(half, random, height, width, frames, 0.1))


def _paint(frame, cy, cx, ry, rx, colour, soft=0.04):
    """Paint an ellipse with a soft edge; `colour` is one colour or a picture [H, W, 3]."""
    height, width = frame.shape[:2]
    reach_y, reach_x = ry * (1 + soft) + 2, rx * (1 + soft) + 2
    top, bottom = (int(np.clip(value, 0, height)) for value in (cy - reach_y, cy + reach_y))
    left, right = (int(np.clip(value, 0, width)) for value in (cx - reach_x, cx + reach_x))
    y, x = np.ogrid[top:bottom, left:right]
    mask = np.clip((1 - np.hypot((y - cy) / ry, (x - cx) / rx)) / soft + 0.5, 0, 1)[..., None].astype(np.float32)
    colour = np.asarray(colour, np.float32)
    part = frame[top:bottom, left:right]
    part += mask * ((colour if colour.ndim == 1 else colour[top:bottom, left:right]) - part)


def _head(room, grain, skin, coat, t, jitter, size):
    """A frame of a head: shoulders, neck, hair, face with shading, eyes that blink, a mouth that talks."""
    frame = room.copy()
    height, width = frame.shape[:2]
    unit = size * height
    cy, cx = height * (0.45 + 0.012 * np.sin(t / 7)), width * (0.5 + 0.03 * np.sin(t / 13) + jitter)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shade = 1 - 0.35 * np.clip((x - cx) / (0.3 * unit), -1, 1)[..., None] - 0.1 * ((y - cy) / unit)[..., None]
    lit = skin.astype(np.float32) * shade + 3 * grain

    def paint(down, right, tall, wide, colour, soft=0.04):
        _paint(frame, cy + down * unit, cx + right * unit, tall * unit, wide * unit, colour, soft)

    paint(0.75, 0, 0.42, 0.55, coat + 6 * grain)
    paint(0.3, 0, 0.25, 0.1, skin * 0.8)
    paint(-0.06, 0, 0.34, 0.25, np.float32([48, 36, 28]) + 10 * grain)
    paint(0, 0, 0.3, 0.21, lit)
    shut = 0.15 if t % 60 < 4 else 1.0
    for right in (-0.085, 0.085):
        paint(-0.05, right, 0.018 * shut, 0.035, (240, 236, 232), 0.2)
        paint(-0.05, right, 0.016 * shut, 0.016, (40, 30, 25), 0.2)
        paint(-0.095, right, 0.008, 0.045, (50, 38, 30), 0.3)
    paint(0.06, 0, 0.05, 0.022, lit * 0.93, 0.6)
    wide = 0.012 + 0.03 * abs(np.sin(t / 3.1) * np.sin(t / 7.7))
    paint(0.16, 0, wide + 0.012, 0.075, skin * [0.8, 0.5, 0.5], 0.2)
    paint(0.16, 0, wide, 0.055, (60, 20, 20), 0.2)
    return frame


def textures(random, height, width, frames, seed):
    """Brick, grass, gravel, cells or a synthetic surface of any roughness, panned."""
    if seed // 2 % 3 < 2:
        surface = picture(_one_of(SURFACES, seed)) * random.uniform(0.7, 1.1) + random.uniform(-20, 20, 3)
        return footage.finished(list(_panned(surface, random, height, width, frames)), random, 0.8)
    surface = footage.coloured(
        random,
        height + 32,
        width + 3 * frames,
        random.uniform(70, 150, 3),
        float(random.uniform(15, 45)),
        random.uniform(0.7, 1.5),
    )
    views = [footage.window(surface, 8 + 2 * np.sin(t / 9), 1.7 * t, height, width) for t in range(frames)]
    return footage.finished(views, random, 1.0)


def landscape(random, height, width, frames, seed):
    """Hills under a sky, or leaves, or a street."""
    maker = (footage.landscape, footage.leaves, footage.street)[seed // 2 % 3]
    return maker(random, height, width, frames)


def world(random, height, width, frames, seed):
    """A rendered world, as the embedded model is trained on."""
    return footage.world(random, height, width, frames)


def sky(random, height, width, frames, seed):
    """Smooth gradients: a sky with or without clouds, or a studio backdrop; nearly nothing to hide in."""
    top, bottom = random.uniform(40, 240, 3), random.uniform(40, 240, 3)
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    ground = np.repeat(top * (1 - share) + bottom * share, width, 1)
    cloud = footage.texture(random, height, width + 2 * frames, 2.0)[..., None] * float(random.choice([0, 6, 22]))
    views = [np.clip(ground + cloud[:, t : t + width], 0, 255) for t in range(frames)]
    return footage.finished(views, random, float(random.choice([0.0, 0.5, 1.5])))


def grain(random, height, width, frames, seed):
    """Strong sensor noise over a dim or a bright scene from a shaking hand."""
    scene = footage.coloured(random, height + 96, width + 96, random.uniform(40, 160, 3), 18, 1.2)
    path = np.clip(np.cumsum(random.normal(size=(frames, 2)), 0) * 1.2, -40, 40) + 48
    noise, level = random.normal(size=(frames, height, width, 1)), float(random.uniform(4, 14))
    views = [footage.window(scene, y, x, height, width, 1, 0.004 * np.sin(t / 5)) for t, (y, x) in enumerate(path)]
    views = [view + level * noise[t].astype(np.float32) for t, view in enumerate(views)]
    return footage.finished(views, random, 0.0)


def fast(random, height, width, frames, seed):
    """Fast motion: a whip pan over a photograph, and things that cross the frame in half a second, motion-blurred."""
    photo = picture(_one_of(PHOTOS, seed))
    big = _enlarged(photo, height, width, 2.0)
    swing, speed = (big.shape[1] - width) / 2, float(random.uniform(0.15, 0.4))
    blur = np.full((1, max(3, height // 18)), 1 / max(3, height // 18), np.float32)
    colours, rows = _flat_colours(random, 3), random.random(3)
    views = []
    for t in range(frames):
        left = swing * (1 + np.sin(speed * t))
        view = footage.window(big, (big.shape[0] - height) / 2, left, height, width)
        for number in range(3):
            x = int((t * (0.04 + 0.015 * number) + rows[number]) % 1.3 * width) - width // 8
            place = (x, int(rows[number] * height))
            cv2.circle(view, place, height // 9, colours[number], -1, cv2.LINE_AA)
        views.append(cv2.filter2D(view, -1, blur))
    return footage.finished(views, random, 1.0)


def cuts(random, height, width, frames, seed):
    """Shots of other kinds, a third of a second to a second each."""
    others = [kind for kind in KINDS if kind not in ("cuts", "world")]
    shots, left = [], frames
    while left > 0:
        length = min(left, int(random.integers(8, 25)))
        kind = str(random.choice(others))
        shots.append(_MAKERS[kind](random, height, width, length, seed))
        left -= length
    return np.concatenate(shots)


def still(random, height, width, frames, seed):
    """A photograph that stands still, or is slowly zoomed into."""
    photo = picture(_one_of(PHOTOS, seed))
    if seed // 2 % 2:
        return footage.finished(list(_panned(photo, random, height, width, frames, 0.06)), random, 0.0)
    view = _enlarged(photo, height, width)
    top, left = (view.shape[0] - height) // 2, (view.shape[1] - width) // 2
    shot = np.clip(np.rint(view[top : top + height, left : left + width]), 0, 255).astype(np.uint8)
    return np.repeat(shot[None], frames, 0)


_MAKERS = {
    maker.__name__: maker
    for maker in (cartoon, slides, dark, faces, textures, landscape, world, sky, grain, fast, cuts, still)
}
KINDS = tuple(_MAKERS)
