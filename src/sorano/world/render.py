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
    TORUS_RADIUS,
    TORUS_TUBE,
    Cameras,
    Floats,
    Tracks,
)
from sorano.world.scene import COLOR_RGB, GROUND_RGB, GROUNDS, KINDS, Attributes, Stream, unit

BOUND = np.array([1.0, 1.36, 1.12, 1.28, 1.03, 1.13])  # radius of each kind's bounding sphere, in sizes
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
ENVIRONMENT_SIZE = 29


@dataclass(frozen=True)
class RenderScene:
    """Everything that the kernel reads, as plain arrays."""

    kind_N: NDArray[np.int64]
    size_N: Floats
    paint_N6: Floats  # linear reflectance of the body and of its band
    position_TN3: Floats
    rotation_TN33: Floats
    eye_T3: Floats
    view_T33: Floats
    focal_T: Floats
    environment: Floats


def squared(rgb: tuple[float, float, float]) -> Floats:
    return np.array(rgb) ** 2


def environment(attributes: Attributes, stream: Stream) -> Floats:
    """The environment vector of a scene: light, sky, ground, and the phases of the ridge at the horizon."""
    sun, light, ambient, bounce, zenith, horizon, glow = LIGHTS[str(attributes.time)]
    earth = GROUND_RGB[str(attributes.ground)]
    values = np.zeros(ENVIRONMENT_SIZE)
    for column, rgb in ((SUN, sun), (LIGHT, light), (AMBIENT, ambient), (BOUNCE, bounce), (GLOW, glow)):
        values[column : column + 3] = rgb
    for column, rgb in ((ZENITH, zenith), (HORIZON, horizon), (EARTH, earth)):
        values[column : column + 3] = squared(rgb)
    values[RIDGE : RIDGE + 3] = [stream.uniform(0.0, 2 * math.pi) for _ in range(3)]
    values[RIDGE + 3] = stream.uniform(0.0, 50.0)  # offset of the ground's texture
    values[GROUND_KIND] = GROUNDS.index(str(attributes.ground))
    return values


def paint(color: str) -> Floats:
    """Linear reflectance of a thing [6]: its colour, and its band: darker, or lighter on black."""
    body = squared(COLOR_RGB[color])
    band = {"black": squared((0.21, 0.21, 0.24)), "white": body * 0.55}.get(color, body * 0.45)
    return np.concatenate([body, band])


def prepare(attributes: Attributes, size_N: Floats, tracks: Tracks, cameras: Cameras, stream: Stream) -> RenderScene:
    return RenderScene(
        np.array([KINDS.index(str(thing.kind)) for thing in attributes.things]),
        size_N.copy(),
        np.stack([paint(str(thing.color)) for thing in attributes.things]),
        tracks.position_TN3,
        tracks.rotation_TN33,
        cameras.eye_T3,
        cameras.rotation_T33,
        cameras.focal_T,
        environment(attributes, stream),
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
    y -= min(max(y, -CAPSULE_HALF * s), CAPSULE_HALF * s)
    return math.sqrt(x * x + y * y + z * z) - CAPSULE_RADIUS * s


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
        tone += 0.20 * math.sin(7.3 * x + 2.0 * math.sin(3.1 * z)) * math.sin(6.1 * z + 1.7) / (1.0 + 50.0 * spot * spot)
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
def _sky(dx: float, dy: float, dz: float, env: Floats, out_3: Floats) -> None:
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
    if dy < ridge * flat:
        for c in range(3):
            out_3[c] = 0.42 * out_3[c] + 0.58 * (0.45 * env[EARTH + c] * env[AMBIENT + c] + 0.12 * env[HORIZON + c])


@njit(cache=True, nogil=True)
def _trace(
    kind_N: NDArray[np.int64],
    size_N: Floats,
    bound_K: Floats,
    paint_N6: Floats,
    position_N3: Floats,
    rotation_N33: Floats,
    eye: Floats,
    dx: float,
    dy: float,
    dz: float,
    pixel: float,
    env: Floats,
    out_3: Floats,
) -> tuple[float, int]:
    """Linear light along one unit ray into out_3; returns (distance along the ray, thing or -1)."""
    count = len(kind_N)
    nearest, thing = FAR, -1
    if dy < -1e-6:
        nearest = -eye[1] / dy
    for n in range(count):
        cx, cy, cz = eye[0] - position_N3[n, 0], eye[1] - position_N3[n, 1], eye[2] - position_N3[n, 2]
        bound = bound_K[kind_N[n]] * size_N[n]
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
        _sky(dx, dy, dz, env, out_3)
        return FAR, -1
    x, y, z = eye[0] + dx * nearest, eye[1] + dy * nearest, eye[2] + dz * nearest
    sx, sy, sz = env[SUN], env[SUN + 1], env[SUN + 2]
    nx, ny, nz = 0.0, 1.0, 0.0
    red, green, blue = 1.0, 1.0, 1.0
    open_sky, gloss = 1.0, 0.0
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
        column = 3 if banded(k, lx, ly, lz) else 0
        red, green, blue = paint_N6[n, column], paint_N6[n, column + 1], paint_N6[n, column + 2]
        hx, hy, hz = sx - dx, sy - dy, sz - dz
        half = max(0.0, (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz))
        half *= half
        half *= half
        half *= half
        half *= half
        gloss = 0.30 * half * half  # to the power of 32
        if ny < 0.0:  # darker towards the ground it stands on
            open_sky = 1.0 + 0.45 * ny * max(0.0, 1.0 - y / (1.2 * s))
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
        bound = bound_K[kind_N[n]] * s
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
    haze = 1.0 - math.exp(-nearest * nearest * 0.0011)
    for c in range(3):
        ambient = (env[BOUNCE + c] + (env[AMBIENT + c] - env[BOUNCE + c]) * above_share) * open_sky
        base = red if c == 0 else (green if c == 1 else blue)
        light = base * (ambient + env[LIGHT + c] * facing) + env[LIGHT + c] * gloss
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
    bound_K: Floats,
    paint_N6: Floats,
    position_TN3: Floats,
    rotation_TN33: Floats,
    eye_T3: Floats,
    view_T33: Floats,
    focal_T: Floats,
    env: Floats,
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
    light = np.empty(3)
    for t in range(first, last):
        view, focal, eye = view_T33[t], focal_T[t], eye_T3[t]
        pixel = 1.0 / (focal * short)
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
                            kind_N, size_N, bound_K, paint_N6, position_TN3[t], rotation_TN33[t], eye,
                            dx * scale, dy * scale, dz * scale, pixel, env, light,
                        )  # fmt: skip
                        red += _display(light[0])
                        green += _display(light[1])
                        blue += _display(light[2])
                        if fine_pass == 0:
                            mask_THW[t, j, i] = thing + 1
                            depth_THW[t, j, i] = depth * scale if depth < FAR else FAR
                    if fine_pass == 0:
                        value_HW3[j, i, 0], value_HW3[j, i, 1], value_HW3[j, i, 2] = red, green, blue
                    elif antialias == 1:  # the first ray counts as well
                        red, green, blue = red + value_HW3[j, i, 0], green + value_HW3[j, i, 1], blue + value_HW3[j, i, 2]
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
    first, last, _ = (frames or slice(None)).indices(num_frames)
    render_frames(
        first, last, antialias,
        scene.kind_N, scene.size_N, BOUND, scene.paint_N6, scene.position_TN3, scene.rotation_TN33,
        scene.eye_T3, scene.view_T33, scene.focal_T, scene.environment,
        frames_THWC, mask_THW, depth_THW,
    )  # fmt: skip
    return frames_THWC[first:last], mask_THW[first:last], depth_THW[first:last]
