"""The renderer: one ray per pixel, then four more where neighbours differ, in compiled code.

A ray is traced through signed distance functions only inside the bounding spheres that it meets; sky, ridge and
ground are closed forms. Soft shadows follow the classic closest-approach rule along the ray to the sun. Light is
linear, colours are squared on the way in and rooted on the way out (gamma 2). Reflectance, depth and mask come from
the same pass. No fast-math: the same scene gives the same bytes whatever the thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sorano.world.physics import (
    CAPSULE_HALF,
    CAPSULE_RADIUS,
    CONE_BASE,
    CONE_RADIUS,
    CONE_TOP,
    CUBE_HALF,
    CYLINDER_HALF,
    CYLINDER_RADIUS,
    P_CENTER_X,
    P_CENTER_Y,
    P_SIZE,
    SWINGS,
    TORUS_RADIUS,
    TORUS_TUBE,
    Bodies,
    Cameras,
    Floats,
    Trajectories,
)
from sorano.world.scene import COLOR_RGB, FULL_GROUNDS, GROUND_RGB, Attributes, Stream, Thing, unit

# Radius of each kind's bounding sphere, in sizes; the last is the rod of a pendulum, whose size is its half length.
BOUND = np.array([1.0, 1.36, 1.12, 1.28, 1.03, 1.13, 1.06, 1.34, 1.1, 1.04, 1.2, 1.02])
ROD = 11
ROD_RADIUS = 0.022  # metres
FAR = 1e9  # the depth of the sky
CONTRAST = 0.04  # neighbouring pixels further apart than this are supersampled
ROTATED_GRID = np.array([[0.375, 0.125], [0.875, 0.375], [0.625, 0.875], [0.125, 0.625]])  # 4 more rays in a pixel

# Light and sky of each time of day: sun direction, sun light, ambient from above, ambient from below (all linear),
# zenith, horizon and glow (as displayed).
LIGHTS = {
    "dawn": (
        unit(-0.90, 0.42, 0.10), (0.86, 0.68, 0.72), (0.40, 0.39, 0.52), (0.20, 0.18, 0.20),
        (0.52, 0.55, 0.86), (0.99, 0.76, 0.86), (0.10, 0.02, 0.06),
    ),
    "noon": (
        unit(-0.35, 0.90, -0.30), (0.98, 0.95, 0.88), (0.36, 0.42, 0.52), (0.20, 0.20, 0.18),
        (0.16, 0.42, 0.90), (0.74, 0.88, 0.99), (0.0, 0.0, 0.0),
    ),
    "sunset": (
        unit(0.90, 0.36, 0.06), (1.06, 0.76, 0.47), (0.36, 0.30, 0.40), (0.20, 0.14, 0.12),
        (0.30, 0.20, 0.46), (0.98, 0.50, 0.20), (0.30, 0.16, 0.02),
    ),
    "night": (
        unit(0.40, 0.75, -0.50), (0.33, 0.37, 0.47), (0.15, 0.175, 0.26), (0.06, 0.07, 0.10),
        (0.02, 0.03, 0.11), (0.11, 0.14, 0.31), (0.0, 0.0, 0.0),
    ),
}  # fmt: skip

# columns of the environment vector
SUN, LIGHT, AMBIENT, BOUNCE, ZENITH, HORIZON, GLOW, EARTH, RIDGE, GROUND_KIND = 0, 3, 6, 9, 12, 15, 18, 21, 24, 28
FOG, SKY_SHARE, RIDGE_SHARE, WEATHER, MOMENT = 29, 30, 31, 32, 33
STARS, DISC, DISC_KIND, CLOUDS, SALT = 34, 35, 38, 39, 40
ENVIRONMENT_SIZE = 41
WATER = 4.0
WEATHER_NUMBER = {"clear": 0.0, "clouds": 1.0, "fog": 2.0, "rain": 3.0, "snowfall": 4.0}


@dataclass(frozen=True)
class RenderScene:
    """Everything that the kernel reads, as plain arrays."""

    kind_N: NDArray[np.int64]
    size_N: Floats
    paint_N6: Floats  # linear reflectance of the body and of its band
    extra_N8: Floats  # reflectance of two more parts, share of mirrored light, 1 + the thing that a rod belongs to or 0
    position_TN3: Floats
    rotation_TN33: Floats
    eye_T3: Floats
    view_T33: Floats
    focal_T: Floats
    environment_TE: Floats


def squared(rgb: tuple[float, float, float]) -> Floats:
    return np.array(rgb) ** 2


def environment(attributes: Attributes, stream: Stream, num_frames: int, fps: float, full: bool = False) -> Floats:
    """The environment of every frame [T,E]: light, sky, ground, weather, and the phases of the ridge at the horizon.

    full: with the moon and the stars of the full world.
    """
    sun, light, ambient, bounce, zenith, horizon, glow = LIGHTS[str(attributes.time)]
    earth = GROUND_RGB[str(attributes.ground)]
    values = np.zeros(ENVIRONMENT_SIZE)
    for column, rgb in ((SUN, sun), (LIGHT, light), (AMBIENT, ambient), (BOUNCE, bounce), (GLOW, glow)):
        values[column : column + 3] = rgb
    for column, rgb in ((ZENITH, zenith), (HORIZON, horizon), (EARTH, earth)):
        values[column : column + 3] = squared(rgb)
    values[RIDGE : RIDGE + 3] = [stream.uniform(0.0, 2 * math.pi) for _ in range(3)]
    values[RIDGE + 3] = stream.uniform(0.0, 50.0)  # offset of the ground's texture
    values[GROUND_KIND] = FULL_GROUNDS.index(str(attributes.ground))
    values[FOG], values[SKY_SHARE], values[RIDGE_SHARE] = 0.0011, 0.42, 0.58
    _weather(values, attributes, stream, full)
    values_TE = np.tile(values, (num_frames, 1))
    values_TE[:, MOMENT] = np.arange(num_frames) / fps
    if attributes.sun in ("rises", "sets"):
        _passing_sun(values_TE, rising=attributes.sun == "rises")
    return values_TE


def _weather(values: Floats, attributes: Attributes, stream: Stream, full: bool) -> None:
    """Light, sky and haze of the weather, and what hangs in the sky; in place."""
    weather = WEATHER_NUMBER[attributes.weather or "clear"]
    values[WEATHER] = weather
    values[SALT] = math.floor(stream.uniform(0.0, 1000.0))
    gray = values[ZENITH : ZENITH + 3].mean() * 0.4 + values[HORIZON : HORIZON + 3].mean() * 0.6
    if weather == 1.0:
        values[CLOUDS] = 1.0
    elif weather >= 2.0:
        dim, veil, haze = ((0.55, 0.8, 0.011), (0.45, 0.75, 0.004), (0.65, 0.75, 0.004))[int(weather) - 2]
        values[LIGHT : LIGHT + 3] *= dim
        values[AMBIENT : AMBIENT + 3] *= 1.1
        for column in (ZENITH, HORIZON):
            values[column : column + 3] += veil * (gray - values[column : column + 3])
        values[GLOW : GLOW + 3] *= 0.2
        values[FOG] = haze
        ridge = 0.06 if weather == 2.0 else 0.35
        values[SKY_SHARE], values[RIDGE_SHARE] = 1.0 - ridge, ridge
    if full and attributes.time == "night" and weather <= 1.0:
        azimuth, height = stream.uniform(-0.3, 0.3), stream.uniform(0.2, 0.27)
        values[DISC : DISC + 3] = unit(math.sin(azimuth), height, math.cos(azimuth))
        values[STARS], values[DISC_KIND] = 1.0, 2.0


def _passing_sun(values_TE: Floats, rising: bool) -> None:
    """A sun that climbs, or goes down, over the clip: its disc, the height of the light and its strength; in place."""
    u_T = np.linspace(0.0, 1.0, len(values_TE))
    up_T = u_T if rising else 1.0 - u_T
    side = 0.24 if values_TE[0, SUN] > 0 else -0.24
    for t, up in enumerate(up_T):
        row = values_TE[t]
        row[DISC : DISC + 3] = unit(math.sin(side), -0.05 + 0.27 * up, math.cos(side))
        row[DISC_KIND] = 1.0
        x, _, z = row[SUN : SUN + 3]
        row[SUN : SUN + 3] = unit(float(x), 0.16 + 0.36 * up, float(z))
        row[LIGHT : LIGHT + 3] *= 0.45 + 0.7 * up
        row[AMBIENT : AMBIENT + 3] *= 0.7 + 0.35 * up
        row[BOUNCE : BOUNCE + 3] *= 0.7 + 0.35 * up
        for column in (ZENITH, HORIZON):
            row[column : column + 3] *= 0.5 + 0.55 * up


def paint(color: str) -> Floats:
    """Linear reflectance of a thing [6]: its colour, and its band: darker, or lighter on black."""
    body = squared(COLOR_RGB[color])
    band = {"black": squared((0.21, 0.21, 0.24)), "white": body * 0.55}.get(color, body * 0.45)
    return np.concatenate([body, band])


# Two more parts of the kinds that have them, as displayed:
# trunk; roof and door; sail and mast; basket; tyre and window.
PARTS = {
    "tree": ((0.42, 0.28, 0.16), (0.0, 0.0, 0.0)),
    "house": ((0.36, 0.24, 0.22), (0.22, 0.15, 0.12)),
    "boat": ((0.96, 0.94, 0.86), (0.40, 0.28, 0.18)),
    "balloon": ((0.48, 0.33, 0.18), (0.0, 0.0, 0.0)),
    "car": ((0.10, 0.10, 0.11), (0.42, 0.55, 0.66)),
}


def _extra(thing: Thing) -> Floats:
    first, second = PARTS.get(str(thing.kind), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    return np.concatenate([squared(first), squared(second), [0.4 if thing.finish == "shiny" else 0.0, 0.0]])


def prepare(
    attributes: Attributes,
    bodies: Bodies,
    tracks: Trajectories,
    cameras: Cameras,
    stream: Stream,
    fps: float,
    *,
    full: bool = False,
) -> RenderScene:
    """Everything that the kernel reads; a thing that swings brings its rod."""
    things = attributes.things
    kinds, sizes = list(bodies.kind_N), list(bodies.params_NP[:, P_SIZE])
    paints = [paint(str(thing.color)) for thing in things]
    extras = [_extra(thing) for thing in things]
    positions, rotations = [tracks.position_TN3], [tracks.rotation_TN33]
    for n, motion in enumerate(bodies.motion_N):
        if motion == SWINGS:
            pivot = np.array([bodies.params_NP[n, P_CENTER_X], bodies.params_NP[n, P_CENTER_Y], bodies.state_NS[n, 2]])
            kinds.append(ROD)
            sizes.append(0.5 * float(np.linalg.norm(pivot - tracks.position_TN3[0, n])))
            paints.append(np.tile(squared((0.25, 0.22, 0.2)), 2))
            extras.append(np.array([0.0] * 7 + [n + 1.0]))
            positions.append(0.5 * (tracks.position_TN3[:, n : n + 1] + pivot))
            rotations.append(tracks.rotation_TN33[:, n : n + 1])
    return RenderScene(
        np.array(kinds),
        np.array(sizes),
        np.stack(paints),
        np.stack(extras),
        np.concatenate(positions, 1),
        np.concatenate(rotations, 1),
        cameras.eye_T3,
        cameras.rotation_T33,
        cameras.focal_T,
        environment(attributes, stream, len(tracks), fps, full),
    )


@njit(cache=True, nogil=True)
def distance(kind: int, s: float, x: float, y: float, z: float) -> float:
    """Signed distance to a thing of `kind` and size s from a point in the thing's own axes."""
    if kind == 0:
        return math.sqrt(x * x + y * y + z * z) - s
    if kind == 1:
        edge = 0.06 * s  # rounded edges
        half = CUBE_HALF * s - edge
        qx, qy, qz = abs(x) - half, abs(y) - half, abs(z) - half
        ax, ay, az = max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)
        return math.sqrt(ax * ax + ay * ay + az * az) + min(max(qx, max(qy, qz)), 0.0) - edge
    if kind == 2:
        edge = 0.04 * s
        qr, qy = math.sqrt(x * x + z * z) - CYLINDER_RADIUS * s + edge, abs(y) - CYLINDER_HALF * s + edge
        ax, ay = max(qr, 0.0), max(qy, 0.0)
        return math.sqrt(ax * ax + ay * ay) + min(max(qr, qy), 0.0) - edge
    if kind == 3:
        r = math.sqrt(x * x + z * z)
        rise, run = (CONE_TOP - CONE_BASE) * s, CONE_RADIUS * s
        slope = math.sqrt(rise * rise + run * run)
        side = (r * rise + (y - CONE_TOP * s) * run) / slope
        return max(side, CONE_BASE * s - y)
    if kind == 4:
        q = math.sqrt(x * x + y * y) - TORUS_RADIUS * s
        return math.sqrt(q * q + z * z) - TORUS_TUBE * s
    if kind == 5:
        y -= min(max(y, -CAPSULE_HALF * s), CAPSULE_HALF * s)
        return math.sqrt(x * x + y * y + z * z) - CAPSULE_RADIUS * s
    if kind == ROD:
        y -= min(max(y, -s), s)
        return math.sqrt(x * x + y * y + z * z) - ROD_RADIUS
    return s * _figure(kind, x / s, y / s, z / s)


@njit(cache=True, nogil=True)
def _box(x: float, y: float, z: float, hx: float, hy: float, hz: float) -> float:
    qx, qy, qz = abs(x) - hx, abs(y) - hy, abs(z) - hz
    ax, ay, az = max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)
    return math.sqrt(ax * ax + ay * ay + az * az) + min(max(qx, max(qy, qz)), 0.0)


@njit(cache=True, nogil=True)
def _ball(x: float, y: float, z: float, r: float) -> float:
    return math.sqrt(x * x + y * y + z * z) - r


@njit(cache=True, nogil=True)
def _figure(kind: int, x: float, y: float, z: float) -> float:
    """Signed distance (or a lower bound) to a composed thing of size 1."""
    if kind == 6:  # tree: three balls of leaves on a trunk
        crown = min(_ball(x, y - 0.42, z, 0.56), _ball(x - 0.33, y - 0.14, z - 0.1, 0.37))
        crown = min(crown, _ball(x + 0.33, y - 0.18, z + 0.1, 0.36))
        trunk = max(math.sqrt(x * x + z * z) - 0.12, abs(y + 0.5) - 0.5)
        return min(crown, trunk)
    if kind == 7:  # house: walls and a gabled roof
        walls = _box(x, y + 0.4, z, 0.72, 0.5, 0.58)
        slope = (abs(x) * 0.75 + (y - 0.86) * 0.92) / 1.18697
        roof = max(max(slope, 0.1 - y), abs(z) - 0.68)
        return min(walls, roof)
    if kind == 8:  # boat: half an ellipsoid, a mast, a sail to either side
        ex, ey, ez = x / 1.0, (y + 0.4) / 0.57, z / 0.46
        k0 = math.sqrt(ex * ex + ey * ey + ez * ez)
        fx, fy, fz = ex / 1.0, ey / 0.57, ez / 0.46
        k1 = math.sqrt(fx * fx + fy * fy + fz * fz) + 1e-9
        hull = max(k0 * (k0 - 1.0) / k1, y + 0.42)
        mast = max(math.sqrt(x * x + z * z) - 0.04, abs(y - 0.27) - 0.72)
        main = max(max(0.06 - x, -0.28 - y), (x * 1.15 + (y - 0.92) * 0.7) / 1.34629)
        jib = max(max(x + 0.06, -0.28 - y), (-x * 0.95 + (y - 0.7) * 0.5) / 1.07355)
        sail = max(min(main, jib), abs(z) - 0.03)
        return min(hull, min(mast, sail))
    if kind == 9:  # hot air balloon: an envelope that narrows to a basket
        top = _ball(x, y - 0.32, z, 0.68)
        r = math.sqrt(x * x + z * z)
        cone = max(max((r * 0.75 - (y + 0.62) * 0.52) / 0.91263, -0.5 - y), y - 0.0)
        basket = _box(x, y + 0.82, z, 0.17, 0.15, 0.17)
        ropes = max(abs(r - 0.14) - 0.03, abs(y + 0.6) - 0.12)
        return min(min(top, cone), min(basket, ropes))
    body = _box(x, y + 0.3, z, 0.89, 0.16, 0.38) - 0.06
    cabin = _box(x + 0.08, y - 0.1, z, 0.44, 0.18, 0.32) - 0.06
    wx = abs(x) - 0.56
    wheel = max(math.sqrt(wx * wx + (y + 0.54) * (y + 0.54)) - 0.24, abs(abs(z) - 0.38) - 0.1)
    return min(min(body, cabin), wheel)


@njit(cache=True, nogil=True)
def _part(kind: int, x: float, y: float, z: float) -> int:
    """Column of the paint at a surface point of a composed thing of size 1: 0 body, 3 band, 6 and 9 its parts."""
    if kind == 6:
        return 6 if x * x + z * z < 0.0196 and y < -0.1 else 0
    if kind == 7:
        if y > 0.1:
            return 6
        if abs(x) < 0.15 and y < -0.35 and abs(z) > 0.5:
            return 9
        return 3 if abs(abs(x) - 0.44) < 0.13 and abs(y + 0.25) < 0.15 and abs(z) > 0.5 else 0
    if kind == 8:
        if y < -0.40:
            return 0
        return 9 if x * x + z * z < 0.0029 else 6
    if kind == 9:
        if y < -0.5:
            return 6
        c = (z * z - x * x) / (x * x + z * z + 1e-12)
        return 3 if 2.0 * c * c - 1.0 < -0.1 else 0
    if kind == ROD:
        return 0
    wx = abs(x) - 0.56
    if wx * wx + (y + 0.54) * (y + 0.54) < 0.0625 and abs(z) > 0.27:
        return 6
    return 9 if y > 0.02 and y < 0.24 and (abs(z) > 0.33 or abs(x + 0.08) > 0.45) else 0


@njit(cache=True, nogil=True)
def banded(kind: int, x: float, y: float, z: float) -> bool:
    """Whether a surface point, in the thing's own axes, lies on the darker band that makes turning visible."""
    if kind == 4:
        c = (x * x - y * y) / (x * x + y * y + 1e-12)
        return 2.0 * c * c - 1.0 > 0.1
    c = (z * z - x * x) / (x * x + z * z + 1e-12)
    return 2.0 * c * c - 1.0 < -0.1


@njit(cache=True, nogil=True)
def _hit(kind: int, s: float, bound: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    """Distance along a unit ray, in the thing's own axes, to its surface; negative where it misses."""
    middle = -(ox * dx + oy * dy + oz * dz)
    inside = bound * bound - (ox * ox + oy * oy + oz * oz) + middle * middle
    if inside <= 0.0:
        return -1.0
    half = math.sqrt(inside)
    t, end = max(middle - half, 0.05), middle + half
    if kind == 0:
        return t if middle > half else -1.0  # the bounding sphere is the ball
    for _ in range(48):
        if t >= end:
            return -1.0
        d = distance(kind, s, ox + dx * t, oy + dy * t, oz + dz * t)
        if d < 0.0008 * s:
            return t
        t += d
    return -1.0


@njit(cache=True, nogil=True)
def _shade_through(
    kind: int, s: float, bound: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> float:
    """Share of the sun's light that passes a thing: the closest approach of the ray, relative to how far it went."""
    reach = bound * 1.25 + 0.1
    middle = -(ox * dx + oy * dy + oz * dz)
    inside = reach * reach - (ox * ox + oy * oy + oz * oz) + middle * middle
    if inside <= 0.0 or middle + math.sqrt(inside) <= 0.0:
        return 1.0
    half = math.sqrt(inside)
    t, end = max(middle - half, 0.02), middle + half
    light = 1.0
    for _ in range(24):
        if t >= end:
            break
        d = distance(kind, s, ox + dx * t, oy + dy * t, oz + dz * t)
        light = min(light, 10.0 * d / t)
        if light < 0.004:
            return 0.0
        t += max(d, 0.05 * s)
    light = min(1.0, max(0.0, light))
    return light * light * (3.0 - 2.0 * light)


@njit(cache=True, nogil=True)
def _ground_tone(kind: int, x: float, z: float, spot: float, offset: float) -> float:
    """Texture of the ground about 1, fixed to the world; `spot` is the pixel's footprint in metres, for fading."""
    x += offset
    broad = math.sin(1.9 * x + 1.5 * math.sin(0.8 * z)) * math.sin(2.1 * z + 1.4 * math.sin(1.1 * x + 0.7))
    tone = 1.0 + 0.16 * broad / (1.0 + 4.0 * spot * spot)
    if kind == 0:  # tufts
        tufts = math.sin(7.3 * x + 2.0 * math.sin(3.1 * z)) * math.sin(6.1 * z + 1.7)
        tone += 0.20 * tufts / (1.0 + 50.0 * spot * spot)
    elif kind == 1:  # ripples
        tone += 0.16 * math.sin(9.0 * z + 1.2 * math.sin(1.3 * x)) / (1.0 + 80.0 * spot * spot)
    elif kind == 2:  # drifts
        tone += 0.06 * math.sin(3.7 * x + 2.2 * z) / (1.0 + 20.0 * spot * spot)
    else:  # slabs with dark joints
        row = math.floor(z * 0.8)
        u, v = x * 0.8 + 0.5 * row, z * 0.8
        joint = min(abs(u - math.floor(u + 0.5)), abs(v - math.floor(v + 0.5))) * 1.25
        width = 0.035 + 0.6 * spot
        tone -= 0.42 * max(0.0, 1.0 - joint / width) * 0.035 / width * 1.6
        tone += 0.14 * math.sin(12.9898 * math.floor(u) + 78.233 * row) / (1.0 + 6.0 * spot * spot)
    return tone


@njit(cache=True, nogil=True)
def _hash(i: int, j: int, salt: int) -> int:
    """A 32-bit hash of two integers, in 64-bit arithmetic so that tensors can do the same."""
    h = (i * 374761393 + j * 668265263 + salt * 974634541) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 668265263) & 0xFFFFFFFF
    return h ^ (h >> 16)


@njit(cache=True, nogil=True)
def _heavens(dx: float, dy: float, dz: float, azimuth: float, pixel: float, env: Floats, out_3: Floats) -> None:
    """Stars, sun or moon, and clouds over the plain sky; in place."""
    if env[STARS] > 0.0:
        a, e = azimuth / 0.055, dy / 0.055
        i, j = math.floor(a), math.floor(e)
        h = _hash(int(i), int(j), int(env[SALT]))
        if h % 100 < 40:
            ox, oy = 0.2 + 0.6 * ((h >> 8) & 255) / 255.0, 0.2 + 0.6 * ((h >> 16) & 255) / 255.0
            far = math.sqrt((a - i - ox) * (a - i - ox) + (e - j - oy) * (e - j - oy)) * 0.055
            star = max(0.0, 1.0 - far / max(0.004, 0.75 * pixel)) * (0.4 + 0.6 * ((h >> 24) & 255) / 255.0)
            for c in range(3):
                out_3[c] += (0.75 - out_3[c]) * star
    if env[DISC_KIND] > 0.0:
        near = dx * env[DISC] + dy * env[DISC + 1] + dz * env[DISC + 2]
        far = math.sqrt(max(0.0, 2.0 - 2.0 * near))
        halo = max(0.0, 1.0 - far / 0.35)
        halo = 0.28 * halo * halo
        disc = min(1.0, max(0.0, (0.062 - far) / pixel + 0.5))
        if env[DISC_KIND] > 1.5:
            tone = 0.9 - 0.35 * min(1.0, max(0.0, math.sin(70.0 * dx + 1.0) * math.sin(80.0 * dy)))
            for c in range(3):
                out_3[c] += 0.25 * halo * (1.0 if c < 2 else 1.3)
                out_3[c] += (tone * (0.95 if c < 2 else 0.85) - out_3[c]) * disc
        else:
            for c in range(3):
                out_3[c] += halo * (1.2 if c == 0 else (0.8 if c == 1 else 0.4))
                out_3[c] += ((2.2 if c == 0 else (1.5 if c == 1 else 0.55)) - out_3[c]) * disc
    if env[CLOUDS] > 0.0 and dy > 0.02:
        drift = 1.3 * env[MOMENT] + env[SALT]
        x, z = 0.55 * dx / dy + 0.55 * drift, 0.55 * dz / dy
        n = 0.5 + 0.28 * math.sin(1.1 * x + 1.6 * math.sin(0.7 * z + 0.3 * env[SALT]))
        n += 0.22 * math.sin(1.7 * z + 1.5 * math.sin(1.3 * x + 1.0))
        n += 0.10 * math.sin(3.9 * x + 2.0 * math.sin(2.3 * z))
        n = min(1.0, max(0.0, (n - 0.48) / 0.3))
        cover = n * n * (3.0 - 2.0 * n) * min(1.0, 7.0 * (dy - 0.02)) * 0.9
        for c in range(3):
            bright = 0.85 * env[AMBIENT + c] + 0.65 * env[LIGHT + c]
            out_3[c] += (bright - out_3[c]) * cover


@njit(cache=True, nogil=True)
def _falling(weather: int, u: float, v: float, pixel: float, moment: float, salt: int) -> float:
    """How much of a raindrop or snowflake covers a screen position (in shorter sides): three layers of cells."""
    cover = 0.0
    for layer in range(3):
        near = 1.0 - 0.25 * layer
        if weather == 3:
            wide, tall = 0.075 * near, 0.42 * near
            x, y = u + 0.12 * v, v + (2.6 - 0.5 * layer) * moment
        else:
            wide, tall = 0.17 * near, 0.17 * near
            x = u + 0.02 * math.sin(2.0 * moment + 5.0 * layer) + 0.31 * layer
            y = v + (0.42 - 0.08 * layer) * moment
        i, j = math.floor(x / wide), math.floor(y / tall)
        h = _hash(int(i), int(j), salt + 57 * layer)
        ox = (0.2 + 0.6 * ((h >> 8) & 255) / 255.0) * wide
        oy = (0.3 + 0.4 * ((h >> 16) & 255) / 255.0) * tall
        px, py = x - i * wide - ox, y - j * tall - oy
        if weather == 3:
            if h % 100 < 55:
                half = 0.004 * near
                across = min(1.0, max(0.0, (half - abs(px)) / pixel + 0.5)) * min(1.0, 2.0 * half / pixel)
                along = min(1.0, max(0.0, (0.27 * tall - abs(py)) / pixel + 0.5))
                cover = max(cover, 0.4 * across * along)
        elif h % 100 < 40:
            radius = (0.009 + 0.009 * ((h >> 24) & 255) / 255.0) * near
            far = math.sqrt(px * px + py * py)
            cover = max(cover, 0.92 * min(1.0, max(0.0, (radius - far) / max(pixel, 0.008) + 0.5)))
    return cover


@njit(cache=True, nogil=True)
def _sky(dx: float, dy: float, dz: float, pixel: float, env: Floats, out_3: Floats) -> None:
    """Linear light from the sky, or from the far ridge, along a unit direction with dy >= 0."""
    flat = math.sqrt(dx * dx + dz * dz) + 1e-9
    azimuth = math.atan2(dx, dz)
    ridge = (
        0.045
        + 0.022 * math.sin(5.0 * azimuth + env[RIDGE])
        + 0.014 * math.sin(11.0 * azimuth + env[RIDGE + 1])
        + 0.008 * math.sin(23.0 * azimuth + env[RIDGE + 2])
    )
    toward = max(0.0, dx * env[SUN] + dy * env[SUN + 1] + dz * env[SUN + 2])
    glow = toward * toward
    up = min(1.0, dy * 2.4)
    up = up * (2.0 - up)
    for c in range(3):
        out_3[c] = env[HORIZON + c] + (env[ZENITH + c] - env[HORIZON + c]) * up + env[GLOW + c] * glow
    if env[STARS] + env[DISC_KIND] + env[CLOUDS] > 0.0:
        _heavens(dx, dy, dz, azimuth, pixel, env, out_3)
    if dy < ridge * flat:
        for c in range(3):
            far = 0.45 * env[EARTH + c] * env[AMBIENT + c] + 0.12 * env[HORIZON + c]
            out_3[c] = env[SKY_SHARE] * out_3[c] + env[RIDGE_SHARE] * far


@njit(cache=True, nogil=True)
def _waves(x: float, z: float, spot: float, moment: float) -> tuple[float, float]:
    """Slope of the water at a point, fading where the pixel covers more than a wave."""
    near = 1.0 / (1.0 + 6.0 * spot * spot)
    fine = 1.0 / (1.0 + 60.0 * spot * spot)
    a = 0.085 * near * math.cos(1.9 * x + 1.3 * z + 2.6 * moment)
    b = 0.075 * near * math.cos(-1.2 * x + 2.6 * z + 3.2 * moment + 1.0)
    c = 0.050 * fine * math.cos(5.1 * x + 3.7 * z + 5.0 * moment + 2.0)
    d = 0.050 * fine * math.cos(-3.4 * x + 6.3 * z + 5.6 * moment)
    return a * 0.9 - b * 0.5 + c * 0.8 - d * 0.5, a * 0.6 + b * 1.0 + c * 0.6 + d * 1.0


@njit(cache=True, nogil=True)
def _glimpse(
    skip: int,
    kind_N: NDArray[np.int64],
    size_N: Floats,
    bound_N: Floats,
    paint_NP: Floats,
    position_N3: Floats,
    rotation_N33: Floats,
    x: float,
    y: float,
    z: float,
    dx: float,
    dy: float,
    dz: float,
    pixel: float,
    env: Floats,
    out_3: Floats,
) -> None:
    """What a mirrored ray sees, simply lit: the nearest thing but `skip`, or the ground, or the sky."""
    nearest, thing = FAR, -1
    for n in range(len(kind_N)):
        if n == skip:
            continue
        cx, cy, cz = x - position_N3[n, 0], y - position_N3[n, 1], z - position_N3[n, 2]
        along = cx * dx + cy * dy + cz * dz
        if cx * cx + cy * cy + cz * cz - along * along > bound_N[n] * bound_N[n]:
            continue
        m = rotation_N33[n]
        t = _hit(
            kind_N[n], size_N[n], bound_N[n],
            m[0, 0] * cx + m[1, 0] * cy + m[2, 0] * cz,
            m[0, 1] * cx + m[1, 1] * cy + m[2, 1] * cz,
            m[0, 2] * cx + m[1, 2] * cy + m[2, 2] * cz,
            m[0, 0] * dx + m[1, 0] * dy + m[2, 0] * dz,
            m[0, 1] * dx + m[1, 1] * dy + m[2, 1] * dz,
            m[0, 2] * dx + m[1, 2] * dy + m[2, 2] * dz,
        )  # fmt: skip
        if 0.0 < t < nearest:
            nearest, thing = t, n
    if thing < 0 and dy >= 0.0:
        _sky(dx, dy, dz, pixel, env, out_3)
        return
    facing = env[SUN + 1]
    if thing >= 0:
        n = thing
        nx = x + dx * nearest - position_N3[n, 0]
        ny = y + dy * nearest - position_N3[n, 1]
        nz = z + dz * nearest - position_N3[n, 2]
        length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
        facing = max(0.0, (nx * env[SUN] + ny * env[SUN + 1] + nz * env[SUN + 2]) / length)
    for c in range(3):
        base = paint_NP[thing, c] if thing >= 0 else env[EARTH + c]
        out_3[c] = base * (env[AMBIENT + c] + env[LIGHT + c] * facing)


@njit(cache=True, nogil=True)
def _trace(
    kind_N: NDArray[np.int64],
    size_N: Floats,
    bound_N: Floats,
    mirror_N: Floats,
    paint_NP: Floats,
    position_N3: Floats,
    rotation_N33: Floats,
    eye: Floats,
    dx: float,
    dy: float,
    dz: float,
    pixel: float,
    env: Floats,
    out_3: Floats,
    mirrored_3: Floats,
) -> tuple[float, int]:
    """Linear light along one unit ray into out_3; returns (distance along the ray, thing or -1)."""
    count = len(kind_N)
    nearest, thing = FAR, -1
    if dy < -1e-6:
        nearest = -eye[1] / dy
    for n in range(count):
        cx, cy, cz = eye[0] - position_N3[n, 0], eye[1] - position_N3[n, 1], eye[2] - position_N3[n, 2]
        bound = bound_N[n]
        along = cx * dx + cy * dy + cz * dz
        if cx * cx + cy * cy + cz * cz - along * along > bound * bound:
            continue
        m = rotation_N33[n]
        t = _hit(
            kind_N[n], size_N[n], bound,
            m[0, 0] * cx + m[1, 0] * cy + m[2, 0] * cz,
            m[0, 1] * cx + m[1, 1] * cy + m[2, 1] * cz,
            m[0, 2] * cx + m[1, 2] * cy + m[2, 2] * cz,
            m[0, 0] * dx + m[1, 0] * dy + m[2, 0] * dz,
            m[0, 1] * dx + m[1, 1] * dy + m[2, 1] * dz,
            m[0, 2] * dx + m[1, 2] * dy + m[2, 2] * dz,
        )  # fmt: skip
        if 0.0 < t < nearest:
            nearest, thing = t, n
    if nearest == FAR:
        _sky(dx, dy, dz, pixel, env, out_3)
        return FAR, -1
    x, y, z = eye[0] + dx * nearest, eye[1] + dy * nearest, eye[2] + dz * nearest
    sx, sy, sz = env[SUN], env[SUN + 1], env[SUN + 2]
    nx, ny, nz = 0.0, 1.0, 0.0
    red, green, blue = 1.0, 1.0, 1.0
    open_sky, gloss, mirror = 1.0, 0.0, 0.0
    if thing >= 0:
        n, m = thing, rotation_N33[thing]
        px, py, pz = x - position_N3[n, 0], y - position_N3[n, 1], z - position_N3[n, 2]
        lx = m[0, 0] * px + m[1, 0] * py + m[2, 0] * pz
        ly = m[0, 1] * px + m[1, 1] * py + m[2, 1] * pz
        lz = m[0, 2] * px + m[1, 2] * py + m[2, 2] * pz
        k, s = kind_N[n], size_N[n]
        e = 0.003 * s  # normal from four distances at the corners of a tetrahedron
        a = distance(k, s, lx + e, ly - e, lz - e)
        b = distance(k, s, lx - e, ly - e, lz + e)
        c = distance(k, s, lx - e, ly + e, lz - e)
        d = distance(k, s, lx + e, ly + e, lz + e)
        gx, gy, gz = a - b - c + d, -a - b + c + d, -a + b - c + d
        length = math.sqrt(gx * gx + gy * gy + gz * gz) + 1e-12
        gx, gy, gz = gx / length, gy / length, gz / length
        nx = m[0, 0] * gx + m[0, 1] * gy + m[0, 2] * gz
        ny = m[1, 0] * gx + m[1, 1] * gy + m[1, 2] * gz
        nz = m[2, 0] * gx + m[2, 1] * gy + m[2, 2] * gz
        if k < 6:
            column = 3 if banded(k, lx, ly, lz) else 0
        else:
            column = _part(k, lx / s, ly / s, lz / s)
        red, green, blue = paint_NP[n, column], paint_NP[n, column + 1], paint_NP[n, column + 2]
        grazing = 1.0 - max(0.0, -(nx * dx + ny * dy + nz * dz))
        mirror = mirror_N[n] * (0.4 + grazing * grazing)
        hx, hy, hz = sx - dx, sy - dy, sz - dz
        half = max(0.0, (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz))
        half *= half
        half *= half
        half *= half
        half *= half
        gloss = (0.30 + 1.5 * mirror_N[n]) * half * half  # to the power of 32
        if ny < 0.0:  # darker towards the ground it stands on
            open_sky = 1.0 + 0.45 * ny * max(0.0, 1.0 - y / (1.2 * s))
    elif env[GROUND_KIND] == WATER:
        spot = nearest * pixel / max(0.05, -dy)
        nx, nz = _waves(x, z, spot, env[MOMENT])
        scale = 1.0 / math.sqrt(1.0 + nx * nx + nz * nz)
        nx, ny, nz = nx * scale, scale, nz * scale
        grazing = 1.0 - max(0.0, -(nx * dx + ny * dy + nz * dz))
        mirror = 0.06 + 0.8 * grazing * grazing * grazing
        red, green, blue = env[EARTH], env[EARTH + 1], env[EARTH + 2]
        hx, hy, hz = sx - dx, sy - dy, sz - dz
        half = max(0.0, (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz))
        half *= half
        half *= half
        half *= half
        half *= half
        gloss = 0.6 * half * half
    else:
        spot = nearest * pixel / max(0.05, -dy)
        tone = _ground_tone(int(env[GROUND_KIND]), x, z, spot, env[RIDGE + 3])
        red, green, blue = env[EARTH] * tone, env[EARTH + 1] * tone, env[EARTH + 2] * tone
    facing = max(0.0, nx * sx + ny * sy + nz * sz)
    lit = 1.0 if facing > 0.0 else 0.0
    for n in range(count):
        cx, cy, cz = x - position_N3[n, 0], y - position_N3[n, 1], z - position_N3[n, 2]
        if n == thing:
            continue
        s = size_N[n]
        square = cx * cx + cy * cy + cz * cz
        above = -(cx * nx + cy * ny + cz * nz)  # occlusion of the sky by a ball of about the same size
        if above > 0.0:
            reach = square + 1e-9
            open_sky *= 1.0 - min(0.8, 0.62 * s * s * above / (reach * math.sqrt(reach)))
        if lit <= 0.0:
            continue
        bound = bound_N[n]
        along = cx * sx + cy * sy + cz * sz
        reach = bound * 1.25 + 0.1
        if square - along * along > reach * reach or (along > 0.0 and square > reach * reach):
            continue
        m = rotation_N33[n]
        cx, cy, cz = cx + 0.01 * nx, cy + 0.01 * ny, cz + 0.01 * nz
        lit *= _shade_through(
            kind_N[n], s, bound,
            m[0, 0] * cx + m[1, 0] * cy + m[2, 0] * cz,
            m[0, 1] * cx + m[1, 1] * cy + m[2, 1] * cz,
            m[0, 2] * cx + m[1, 2] * cy + m[2, 2] * cz,
            m[0, 0] * sx + m[1, 0] * sy + m[2, 0] * sz,
            m[0, 1] * sx + m[1, 1] * sy + m[2, 1] * sz,
            m[0, 2] * sx + m[1, 2] * sy + m[2, 2] * sz,
        )  # fmt: skip
    gloss *= lit
    facing *= lit
    above_share = 0.5 + 0.5 * ny
    haze = 1.0 - math.exp(-nearest * nearest * env[FOG])
    if mirror > 0.0:
        along = 2.0 * (nx * dx + ny * dy + nz * dz)
        rx, ry, rz = dx - along * nx, dy - along * ny, dz - along * nz
        if thing < 0:
            ry = abs(ry)
        _glimpse(
            thing, kind_N, size_N, bound_N, paint_NP, position_N3, rotation_N33,
            x, y, z, rx, ry, rz, pixel, env, mirrored_3,
        )  # fmt: skip
    for c in range(3):
        ambient = (env[BOUNCE + c] + (env[AMBIENT + c] - env[BOUNCE + c]) * above_share) * open_sky
        base = red if c == 0 else (green if c == 1 else blue)
        light = base * (ambient + env[LIGHT + c] * facing) + env[LIGHT + c] * gloss
        if mirror > 0.0:
            light = light + (mirrored_3[c] - light) * mirror
        out_3[c] = light + (env[HORIZON + c] * 0.72 - light) * haze
    return nearest, thing


@njit(cache=True, nogil=True)
def _display(light: float) -> float:
    """Linear light to 0..1 as displayed: gamma 2 with a soft shoulder above 0.8."""
    value = math.sqrt(max(light, 0.0))
    if value > 0.8:
        value = 0.8 + 0.2 * (1.0 - 1.0 / (1.0 + (value - 0.8) / 0.2))
    return value


@njit(cache=True, nogil=True)
def _edge(value_HW3: Floats, i: int, j: int) -> bool:
    """Whether pixel (i, j) differs from one of its four neighbours."""
    height, width = value_HW3.shape[0], value_HW3.shape[1]
    for c in range(3):
        v = value_HW3[j, i, c]
        if (
            (i > 0 and abs(v - value_HW3[j, i - 1, c]) > CONTRAST)
            or (i < width - 1 and abs(v - value_HW3[j, i + 1, c]) > CONTRAST)
            or (j > 0 and abs(v - value_HW3[j - 1, i, c]) > CONTRAST)
            or (j < height - 1 and abs(v - value_HW3[j + 1, i, c]) > CONTRAST)
        ):
            return True
    return False


@njit(cache=True, nogil=True)
def render_frames(
    first: int,
    last: int,
    antialias: int,
    kind_N: NDArray[np.int64],
    size_N: Floats,
    bound_N: Floats,
    owner_N: NDArray[np.int64],
    mirror_N: Floats,
    paint_NP: Floats,
    position_TN3: Floats,
    rotation_TN33: Floats,
    eye_T3: Floats,
    view_T33: Floats,
    focal_T: Floats,
    environment_TE: Floats,
    frames_THWC: NDArray[np.uint8],
    mask_THW: NDArray[np.uint8],
    depth_THW: NDArray[np.float32],
) -> None:
    """Render frames first..last-1 into the outputs.

    antialias: 0 one ray per pixel; 1 five rays where neighbours differ; n > 1 n*n rays everywhere (a reference).
    """
    height, width = mask_THW.shape[1], mask_THW.shape[2]
    short = min(height, width)
    value_HW3 = np.empty((height, width, 3))
    light, mirrored = np.empty(3), np.empty(3)
    for t in range(first, last):
        view, focal, eye = view_T33[t], focal_T[t], eye_T3[t]
        pixel = 1.0 / (focal * short)
        env = environment_TE[t]
        weather = int(env[WEATHER])
        for fine_pass in range(2):
            if fine_pass == 1 and antialias == 0:
                break
            for j in range(height):
                for i in range(width):
                    rays = 1
                    if fine_pass == 1:
                        rays = antialias * antialias if antialias > 1 else 4
                        if antialias == 1 and not _edge(value_HW3, i, j):
                            continue
                    red, green, blue = 0.0, 0.0, 0.0
                    for ray in range(rays):
                        if fine_pass == 0:
                            a, b = 0.5, 0.5
                        elif antialias == 1:
                            a, b = ROTATED_GRID[ray, 0], ROTATED_GRID[ray, 1]
                        else:
                            a, b = (ray % antialias + 0.5) / antialias, (ray // antialias + 0.5) / antialias
                        u = (i + a - 0.5 * width) * pixel
                        v = (0.5 * height - j - b) * pixel
                        dx = view[2, 0] + view[0, 0] * u + view[1, 0] * v
                        dy = view[2, 1] + view[0, 1] * u + view[1, 1] * v
                        dz = view[2, 2] + view[0, 2] * u + view[1, 2] * v
                        scale = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
                        depth, thing = _trace(
                            kind_N, size_N, bound_N, mirror_N, paint_NP, position_TN3[t], rotation_TN33[t], eye,
                            dx * scale, dy * scale, dz * scale, pixel, env, light, mirrored,
                        )  # fmt: skip
                        if weather >= 3:
                            cover = _falling(weather, u * focal, v * focal, 1.0 / short, env[MOMENT], int(env[SALT]))
                            for c in range(3):
                                bright = 0.25 * env[HORIZON + c] + 1.3 * env[AMBIENT + c]
                                light[c] = light[c] + (bright - light[c]) * cover
                        red += _display(light[0])
                        green += _display(light[1])
                        blue += _display(light[2])
                        if fine_pass == 0:
                            mask_THW[t, j, i] = owner_N[thing] + 1 if thing >= 0 else 0
                            depth_THW[t, j, i] = depth * scale if depth < FAR else FAR
                    if fine_pass == 0:
                        value_HW3[j, i, 0], value_HW3[j, i, 1], value_HW3[j, i, 2] = red, green, blue
                    elif antialias == 1:  # the first ray counts as well
                        red += value_HW3[j, i, 0]
                        green += value_HW3[j, i, 1]
                        blue += value_HW3[j, i, 2]
                        rays = 5
                    frames_THWC[t, j, i, 0] = int(red / rays * 255.0 + 0.5)
                    frames_THWC[t, j, i, 1] = int(green / rays * 255.0 + 0.5)
                    frames_THWC[t, j, i, 2] = int(blue / rays * 255.0 + 0.5)


def render(
    scene: RenderScene, height: int, width: int, *, antialias: int = 1, frames: slice | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """frames_THWC uint8, mask_THW (0 none, i+1 thing i at the pixel's centre), depth_THW (metres; sky FAR).

    It releases the interpreter lock: threads may render different clips, or slices of frames, side by side.
    """
    num_frames = len(scene.eye_T3)
    frames_THWC = np.empty((num_frames, height, width, 3), np.uint8)
    mask_THW = np.empty((num_frames, height, width), np.uint8)
    depth_THW = np.empty((num_frames, height, width), np.float32)
    count = len(scene.kind_N)
    owner_N = np.where(scene.extra_N8[:count, 7] > 0, scene.extra_N8[:count, 7] - 1, np.arange(count)).astype(np.int64)
    first, last, _ = (frames or slice(None)).indices(num_frames)
    render_frames(
        first, last, antialias,
        scene.kind_N, scene.size_N, BOUND[scene.kind_N] * scene.size_N, owner_N, scene.extra_N8[:count, 6].copy(),
        np.concatenate([scene.paint_N6, scene.extra_N8[:count, :6]], 1),
        scene.position_TN3, scene.rotation_TN33, scene.eye_T3, scene.view_T33, scene.focal_T, scene.environment_TE,
        frames_THWC, mask_THW, depth_THW,
    )  # fmt: skip
    return frames_THWC[first:last], mask_THW[first:last], depth_THW[first:last]
