"""The renderer of `render.py` as tensors: many clips at once, on any device, the same pixels within rounding.

Every function here does what its namesake in `render.py` does for one ray, for all rays of a batch. Rays are kept as
flat lists [P]; where only few of them matter (those that meet a bounding sphere, the pixels at an edge) the list is
shortened first. That costs the device a handful of waits per batch, none per clip, frame or step of a ray.

Axes: P rays, Q pairs of a ray and a thing, F frames of all clips (clip * T + frame), N things (padded).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sorano.world import render as reference
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
)
from sorano.world.render import (
    AMBIENT,
    BOUNCE,
    CLOUDS,
    CONTRAST,
    DISC,
    DISC_KIND,
    EARTH,
    FAR,
    FOG,
    GLOW,
    GROUND_KIND,
    HORIZON,
    LIGHT,
    MOMENT,
    RIDGE,
    RIDGE_SHARE,
    ROD,
    ROD_RADIUS,
    ROTATED_GRID,
    SALT,
    SKY_SHARE,
    STARS,
    SUN,
    WATER,
    WEATHER,
    ZENITH,
    RenderScene,
)

MAX_RAYS = 1 << 22  # rays in flight at once: about 3 GB in float32


@dataclass(frozen=True)
class _Scenes:
    """A batch of scenes on the device; things padded to N with kind -1."""

    kind_FN: Tensor
    size_FN: Tensor
    bound_FN: Tensor
    owner_FN: Tensor
    mirror_FN: Tensor
    paint_FNP: Tensor
    position_FN3: Tensor
    rotation_FN33: Tensor
    eye_F3: Tensor
    view_F33: Tensor
    focal_F: Tensor
    env_FE: Tensor
    kinds: tuple[int, ...]  # the kinds present
    heavens: bool  # whether any sky has stars, a disc or clouds
    mirrors: bool  # whether anything mirrors
    falling: bool  # whether it rains or snows anywhere

    def frames(self, first: int, last: int) -> _Scenes:
        tensors = {name: value[first:last] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return _Scenes(**tensors, kinds=self.kinds, heavens=self.heavens, mirrors=self.mirrors, falling=self.falling)


def _gather(scenes: Sequence[RenderScene], device: torch.device, dtype: torch.dtype) -> _Scenes:
    """Pad, repeat what is fixed over a clip for every frame, and move to the device in few copies."""
    most, num_frames = max(len(scene.kind_N) for scene in scenes), len(scenes[0].eye_T3)

    def each(values: Callable[[RenderScene], np.ndarray], fill: float) -> np.ndarray:
        rows = []
        for scene in scenes:
            value = values(scene)
            pad = [(0, most - len(value))] + [(0, 0)] * (value.ndim - 1)
            padded = np.pad(value.astype(np.float64), pad, constant_values=fill)
            rows.append(np.broadcast_to(padded, (num_frames, *padded.shape)))
        return np.concatenate(rows)

    def moving(values: Callable[[RenderScene], np.ndarray]) -> np.ndarray:
        rows = []
        for scene in scenes:
            value = values(scene)
            rows.append(np.pad(value, [(0, 0), (0, most - value.shape[1])] + [(0, 0)] * (value.ndim - 2)))
        return np.concatenate(rows)

    def owner(scene: RenderScene) -> np.ndarray:
        own = scene.extra_N8[: len(scene.kind_N), 7]
        return np.where(own > 0, own - 1, np.arange(len(own)))

    def tensor(values: np.ndarray, kind: torch.dtype = dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device, kind)

    env_FE = np.concatenate([scene.environment_TE for scene in scenes])
    kind_FN = each(lambda scene: scene.kind_N, -1)
    mirror_FN = each(lambda scene: scene.extra_N8[: len(scene.kind_N), 6], 0)
    return _Scenes(
        kind_FN=tensor(kind_FN, torch.long),
        size_FN=tensor(each(lambda scene: scene.size_N, 1)),
        bound_FN=tensor(each(lambda scene: reference.BOUND[scene.kind_N] * scene.size_N, 0)),
        owner_FN=tensor(each(owner, 0), torch.long),
        mirror_FN=tensor(mirror_FN),
        paint_FNP=tensor(
            each(lambda s: np.concatenate([s.paint_N6, s.extra_N8[: len(s.kind_N), :6]], 1), 0),
        ),
        position_FN3=tensor(moving(lambda scene: scene.position_TN3)),
        rotation_FN33=tensor(moving(lambda scene: scene.rotation_TN33)),
        eye_F3=tensor(np.concatenate([scene.eye_T3 for scene in scenes])),
        view_F33=tensor(np.concatenate([scene.view_T33 for scene in scenes])),
        focal_F=tensor(np.concatenate([scene.focal_T for scene in scenes])),
        env_FE=tensor(env_FE),
        kinds=tuple(sorted({int(kind) for scene in scenes for kind in scene.kind_N})),
        heavens=bool((env_FE[:, [STARS, DISC_KIND, CLOUDS]] > 0).any()),
        mirrors=bool((mirror_FN > 0).any() or (env_FE[:, GROUND_KIND] == WATER).any()),
        falling=bool((env_FE[:, WEATHER] >= 3).any()),
    )


class _Rays:
    """Rays of known frames, with their frame's environment at hand: `rays[FOG]` is [P], `rays.rgb(LIGHT)` [P,3]."""

    def __init__(self, scenes: _Scenes, frame_P: Tensor, pixel_P: Tensor) -> None:
        self.scenes, self.frame_P, self.pixel_P = scenes, frame_P, pixel_P

    def __getitem__(self, column: int) -> Tensor:
        return self.scenes.env_FE[:, column][self.frame_P]

    def rgb(self, column: int) -> Tensor:
        return self.scenes.env_FE[:, column : column + 3][self.frame_P]

    def some(self, chosen: Tensor) -> _Rays:
        return _Rays(self.scenes, self.frame_P[chosen], self.pixel_P[chosen])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _norm(*parts: Tensor) -> Tensor:
    return torch.stack([part * part for part in parts]).sum(0).sqrt()


# --- shapes -----------------------------------------------------------------------------------------------------------


def _box(x: Tensor, y: Tensor, z: Tensor, hx: float | Tensor, hy: float | Tensor, hz: float | Tensor) -> Tensor:
    qx, qy, qz = x.abs() - hx, y.abs() - hy, z.abs() - hz
    outside = _norm(qx.clamp(min=0), qy.clamp(min=0), qz.clamp(min=0))
    return outside + torch.maximum(qx, torch.maximum(qy, qz)).clamp(max=0)


def distance(kind: int, s: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Signed distances to things of one kind and sizes s from points in the things' own axes."""
    if kind == 0:
        return _norm(x, y, z) - s
    if kind == 1:
        half = CUBE_HALF * s - 0.06 * s
        return _box(x, y, z, half, half, half) - 0.06 * s
    if kind == 2:
        edge = 0.04 * s
        qr, qy = _norm(x, z) - CYLINDER_RADIUS * s + edge, y.abs() - CYLINDER_HALF * s + edge
        return _norm(qr.clamp(min=0), qy.clamp(min=0)) + torch.maximum(qr, qy).clamp(max=0) - edge
    if kind == 3:
        rise, run = CONE_TOP - CONE_BASE, CONE_RADIUS
        side = (_norm(x, z) * rise + (y - CONE_TOP * s) * run) / math.hypot(rise, run)
        return torch.maximum(side, CONE_BASE * s - y)
    if kind == 4:
        return _norm(_norm(x, y) - TORUS_RADIUS * s, z) - TORUS_TUBE * s
    if kind == 5:
        y = y - torch.minimum(torch.maximum(y, -CAPSULE_HALF * s), CAPSULE_HALF * s)
        return _norm(x, y, z) - CAPSULE_RADIUS * s
    if kind == ROD:
        y = y - torch.minimum(torch.maximum(y, -s), s)
        return _norm(x, y, z) - ROD_RADIUS
    return s * _figure(kind, x / s, y / s, z / s)


def _figure(kind: int, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    low, high = torch.minimum, torch.maximum
    if kind == 6:
        crown = low(_norm(x, y - 0.42, z) - 0.56, _norm(x - 0.33, y - 0.14, z - 0.1) - 0.37)
        crown = low(crown, _norm(x + 0.33, y - 0.18, z + 0.1) - 0.36)
        return low(crown, high(_norm(x, z) - 0.12, (y + 0.5).abs() - 0.5))
    if kind == 7:
        slope = (x.abs() * 0.75 + (y - 0.86) * 0.92) / 1.18697
        roof = high(high(slope, 0.1 - y), z.abs() - 0.68)
        return low(_box(x, y + 0.4, z, 0.72, 0.5, 0.58), roof)
    if kind == 8:
        ex, ey, ez = x, (y + 0.4) / 0.57, z / 0.46
        k0, k1 = _norm(ex, ey, ez), _norm(ex, ey / 0.57, ez / 0.46) + 1e-9
        hull = high(k0 * (k0 - 1.0) / k1, y + 0.42)
        mast = high(_norm(x, z) - 0.04, (y - 0.27).abs() - 0.72)
        main = high(high(0.06 - x, -0.28 - y), (x * 1.15 + (y - 0.92) * 0.7) / 1.34629)
        jib = high(high(x + 0.06, -0.28 - y), (-x * 0.95 + (y - 0.7) * 0.5) / 1.07355)
        return low(hull, low(mast, high(low(main, jib), z.abs() - 0.03)))
    if kind == 9:
        r = _norm(x, z)
        cone = high(high((r * 0.75 - (y + 0.62) * 0.52) / 0.91263, -0.5 - y), y)
        ropes = high((r - 0.14).abs() - 0.03, (y + 0.6).abs() - 0.12)
        return low(low(_norm(x, y - 0.32, z) - 0.68, cone), low(_box(x, y + 0.82, z, 0.17, 0.15, 0.17), ropes))
    body = _box(x, y + 0.3, z, 0.89, 0.16, 0.38) - 0.06
    cabin = _box(x + 0.08, y - 0.1, z, 0.44, 0.18, 0.32) - 0.06
    wheel = high(_norm(x.abs() - 0.56, y + 0.54) - 0.24, (z.abs() - 0.38).abs() - 0.1)
    return low(low(body, cabin), wheel)


def _column(kind: int, s: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Column of the paint at surface points: 0 body, 3 band, 6 and 9 further parts."""
    zero = torch.zeros_like(x, dtype=torch.long)
    if kind < 6:
        if kind == 4:
            c = (x * x - y * y) / (x * x + y * y + 1e-12)
            return torch.where(2.0 * c * c - 1.0 > 0.1, 3, zero)
        c = (z * z - x * x) / (x * x + z * z + 1e-12)
        return torch.where(2.0 * c * c - 1.0 < -0.1, 3, zero)
    x, y, z = x / s, y / s, z / s
    if kind == 6:
        return torch.where((x * x + z * z < 0.0196) & (y < -0.1), 6, zero)
    if kind == 7:
        front = z.abs() > 0.5
        window = ((x.abs() - 0.44).abs() < 0.13) & ((y + 0.25).abs() < 0.15) & front
        wall = torch.where((x.abs() < 0.15) & (y < -0.35) & front, 9, torch.where(window, 3, zero))
        return torch.where(y > 0.1, 6, wall)
    if kind == 8:
        return torch.where(y < -0.40, zero, torch.where(x * x + z * z < 0.0029, 9, 6))
    if kind == 9:
        c = (z * z - x * x) / (x * x + z * z + 1e-12)
        return torch.where(y < -0.5, 6, torch.where(2.0 * c * c - 1.0 < -0.1, 3, zero))
    if kind == ROD:
        return zero
    wx = x.abs() - 0.56
    wheel = (wx * wx + (y + 0.54) * (y + 0.54) < 0.0625) & (z.abs() > 0.27)
    window = (y > 0.02) & (y < 0.24) & ((z.abs() > 0.33) | ((x + 0.08).abs() > 0.45))
    return torch.where(wheel, 6, torch.where(window, 9, zero))


# --- rays and things --------------------------------------------------------------------------------------------------


def _march(kind: int, s: Tensor, bound: Tensor, origin_Q3: Tensor, direction_Q3: Tensor) -> Tensor:
    """Distances along unit rays, in the thing's own axes, to its surface; -1 where they miss."""
    middle = -_dot(origin_Q3, direction_Q3)
    inside = bound * bound - _dot(origin_Q3, origin_Q3) + middle * middle
    half = inside.clamp(min=0).sqrt()
    t, end = (middle - half).clamp(min=0.05), middle + half
    missed = torch.full_like(t, -1.0)
    if kind == 0:
        return torch.where((inside > 0) & (middle > half), t, missed)
    found = missed.clone()
    active = (inside > 0).nonzero()[:, 0]
    for _ in range(4):  # 48 steps; rays that arrived or left are dropped between the dozens
        if len(active) == 0:
            break
        o, d, size, stop, at = origin_Q3[active], direction_Q3[active], s[active], end[active], t[active]
        going = torch.ones_like(at, dtype=torch.bool)
        here = torch.full_like(at, -1.0)
        for _ in range(12):
            p = o + d * at[:, None]
            near = distance(kind, size, p[:, 0], p[:, 1], p[:, 2])
            going = going & (at < stop)
            arrived = going & (near < 0.0008 * size)
            here = torch.where(arrived, at, here)
            going = going & ~arrived
            at = torch.where(going, at + near, at)
        found[active] = here
        t[active] = at
        active = active[going]
    return found


def _local(rays: _Rays, n_Q: Tensor, ray_Q: Tensor, vector_P3: Tensor) -> Tensor:
    """World vectors of some rays in the axes of one thing each."""
    return torch.einsum("qij,qi->qj", rays.scenes.rotation_FN33[rays.frame_P[ray_Q], n_Q], vector_P3[ray_Q])


def _pairs(candidate_PN: Tensor) -> tuple[Tensor, Tensor]:
    pairs_Q2 = candidate_PN.nonzero()
    return pairs_Q2[:, 0], pairs_Q2[:, 1]


def _first_hit(rays: _Rays, origin_P3: Tensor, direction_P3: Tensor, skip_P: Tensor | None) -> tuple[Tensor, Tensor]:
    """Distance to the first thing along every ray (FAR where none) and its number (-1)."""
    scenes, frame_P = rays.scenes, rays.frame_P
    most = scenes.kind_FN.shape[1]
    near_PN = []
    for n in range(most):
        c = origin_P3 - scenes.position_FN3[:, n][frame_P]
        along = _dot(c, direction_P3)
        bound = scenes.bound_FN[:, n][frame_P]
        near = (_dot(c, c) - along * along <= bound * bound) & (bound > 0)
        near_PN.append(near if skip_P is None else near & (skip_P != n))
    ray_Q, n_Q = _pairs(torch.stack(near_PN, 1))
    center = scenes.position_FN3[frame_P[ray_Q], n_Q]
    rotation = scenes.rotation_FN33[frame_P[ray_Q], n_Q]
    o_Q3 = torch.einsum("qij,qi->qj", rotation, origin_P3[ray_Q] - center)
    d_Q3 = torch.einsum("qij,qi->qj", rotation, direction_P3[ray_Q])
    kind_Q, s_Q = scenes.kind_FN[frame_P[ray_Q], n_Q], scenes.size_FN[frame_P[ray_Q], n_Q]
    bound_Q = scenes.bound_FN[frame_P[ray_Q], n_Q]
    t_Q = torch.full_like(s_Q, FAR)
    for kind in scenes.kinds:
        which = (kind_Q == kind).nonzero()[:, 0]
        t = _march(kind, s_Q[which], bound_Q[which], o_Q3[which], d_Q3[which])
        t_Q[which] = torch.where(t > 0, t, FAR)
    nearest_P = torch.full_like(origin_P3[:, 0], FAR).scatter_reduce(0, ray_Q, t_Q, "amin")
    winner_Q = torch.where((t_Q == nearest_P[ray_Q]) & (t_Q < FAR), n_Q, most)
    thing_P = torch.full_like(frame_P, most).scatter_reduce(0, ray_Q, winner_Q, "amin")
    return nearest_P, torch.where(thing_P < most, thing_P, -1)


def _shade_through(kind: int, s: Tensor, bound: Tensor, o_Q3: Tensor, d_Q3: Tensor) -> Tensor:
    """Share of the sun's light that passes things of one kind."""
    reach = bound * 1.25 + 0.1
    middle = -_dot(o_Q3, d_Q3)
    inside = reach * reach - _dot(o_Q3, o_Q3) + middle * middle
    half = inside.clamp(min=0).sqrt()
    meets = (inside > 0) & (middle + half > 0)
    t, end = (middle - half).clamp(min=0.02), middle + half
    light = torch.ones_like(t)
    for _ in range(24):
        going = meets & (t < end) & (light >= 0.004)
        p = o_Q3 + d_Q3 * t[:, None]
        near = distance(kind, s, p[:, 0], p[:, 1], p[:, 2])
        light = torch.where(going, torch.minimum(light, 10.0 * near / t), light)
        t = torch.where(going, t + torch.maximum(near, 0.05 * s), t)
    light = torch.where(light < 0.004, 0.0, light.clamp(0, 1))
    return light * light * (3.0 - 2.0 * light)


# --- ground and sky ---------------------------------------------------------------------------------------------------


def _ground_tone(kind: Tensor, x: Tensor, z: Tensor, spot: Tensor, offset: Tensor) -> Tensor:
    x = x + offset
    broad = torch.sin(1.9 * x + 1.5 * torch.sin(0.8 * z)) * torch.sin(2.1 * z + 1.4 * torch.sin(1.1 * x + 0.7))
    square = spot * spot
    tufts = 0.20 * torch.sin(7.3 * x + 2.0 * torch.sin(3.1 * z)) * torch.sin(6.1 * z + 1.7) / (1.0 + 50.0 * square)
    ripples = 0.16 * torch.sin(9.0 * z + 1.2 * torch.sin(1.3 * x)) / (1.0 + 80.0 * square)
    drifts = 0.06 * torch.sin(3.7 * x + 2.2 * z) / (1.0 + 20.0 * square)
    row = torch.floor(z * 0.8)
    u, v = x * 0.8 + 0.5 * row, z * 0.8
    joint = torch.minimum((u - torch.floor(u + 0.5)).abs(), (v - torch.floor(v + 0.5)).abs()) * 1.25
    width = 0.035 + 0.6 * spot
    slabs = 0.14 * torch.sin(12.9898 * torch.floor(u) + 78.233 * row) / (1.0 + 6.0 * square)
    slabs = slabs - 0.42 * (1.0 - joint / width).clamp(min=0) * 0.035 / width * 1.6
    fine = torch.where(kind == 0, tufts, torch.where(kind == 1, ripples, torch.where(kind == 2, drifts, slabs)))
    return 1.0 + 0.16 * broad / (1.0 + 4.0 * square) + fine


def _waves(x: Tensor, z: Tensor, spot: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
    near, fine = 1.0 / (1.0 + 6.0 * spot * spot), 1.0 / (1.0 + 60.0 * spot * spot)
    a = 0.085 * near * torch.cos(1.9 * x + 1.3 * z + 2.6 * moment)
    b = 0.075 * near * torch.cos(-1.2 * x + 2.6 * z + 3.2 * moment + 1.0)
    c = 0.050 * fine * torch.cos(5.1 * x + 3.7 * z + 5.0 * moment + 2.0)
    d = 0.050 * fine * torch.cos(-3.4 * x + 6.3 * z + 5.6 * moment)
    return a * 0.9 - b * 0.5 + c * 0.8 - d * 0.5, a * 0.6 + b * 1.0 + c * 0.6 + d * 1.0


def _hash(i: Tensor, j: Tensor, salt: Tensor) -> Tensor:
    h = (i * 374761393 + j * 668265263 + salt * 974634541) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 668265263) & 0xFFFFFFFF
    return h ^ (h >> 16)


def _byte(h: Tensor, shift: int, like: Tensor) -> Tensor:
    return ((h >> shift) & 255).to(like.dtype) / 255.0


def _heavens(rays: _Rays, direction_P3: Tensor, azimuth: Tensor, light_P3: Tensor) -> Tensor:
    """Stars, sun or moon, and clouds over the plain sky."""
    dx, dy, dz = direction_P3.unbind(-1)
    pixel, salt = rays.pixel_P, rays[SALT]
    a, e = azimuth / 0.055, dy / 0.055
    i, j = torch.floor(a), torch.floor(e)
    h = _hash(i.long(), j.long(), salt.long())
    ox, oy = 0.2 + 0.6 * _byte(h, 8, dx), 0.2 + 0.6 * _byte(h, 16, dx)
    far = _norm(a - i - ox, e - j - oy) * 0.055
    star = (1.0 - far / (0.75 * pixel).clamp(min=0.004)).clamp(min=0) * (0.4 + 0.6 * _byte(h, 24, dx))
    star = torch.where((h % 100 < 40) & (rays[STARS] > 0), star, 0.0)[:, None]
    light_P3 = light_P3 + (0.75 - light_P3) * star

    disc_kind = rays[DISC_KIND]
    far = (2.0 - 2.0 * _dot(direction_P3, rays.rgb(DISC))).clamp(min=0).sqrt()
    halo = (1.0 - far / 0.35).clamp(min=0)
    halo = torch.where(disc_kind > 0, 0.28 * halo * halo, 0.0)[:, None]
    disc = torch.where(disc_kind > 0, ((0.062 - far) / pixel + 0.5).clamp(0, 1), 0.0)[:, None]
    tone = 0.9 - 0.35 * (torch.sin(70.0 * dx + 1.0) * torch.sin(80.0 * dy)).clamp(0, 1)
    moon = light_P3 + 0.25 * halo * dx.new_tensor([1.0, 1.0, 1.3])
    moon = moon + (tone[:, None] * dx.new_tensor([0.95, 0.95, 0.85]) - moon) * disc
    sun = light_P3 + halo * dx.new_tensor([1.2, 0.8, 0.4])
    sun = sun + (dx.new_tensor([2.2, 1.5, 0.55]) - sun) * disc
    light_P3 = torch.where((disc_kind > 1.5)[:, None], moon, sun)

    drift = 1.3 * rays[MOMENT] + salt
    height = dy.clamp(min=0.02)
    x, z = 0.55 * dx / height + 0.55 * drift, 0.55 * dz / height
    n = 0.5 + 0.28 * torch.sin(1.1 * x + 1.6 * torch.sin(0.7 * z + 0.3 * salt))
    n = n + 0.22 * torch.sin(1.7 * z + 1.5 * torch.sin(1.3 * x + 1.0))
    n = n + 0.10 * torch.sin(3.9 * x + 2.0 * torch.sin(2.3 * z))
    n = ((n - 0.48) / 0.3).clamp(0, 1)
    cover = n * n * (3.0 - 2.0 * n) * (7.0 * (dy - 0.02)).clamp(0, 1) * 0.9
    cover = torch.where(rays[CLOUDS] > 0, cover, 0.0)[:, None]
    return light_P3 + (0.85 * rays.rgb(AMBIENT) + 0.65 * rays.rgb(LIGHT) - light_P3) * cover


def _sky(rays: _Rays, direction_P3: Tensor) -> Tensor:
    """Linear light from the sky, or from the far ridge."""
    dx, dy, dz = direction_P3.unbind(-1)
    flat, azimuth = _norm(dx, dz) + 1e-9, torch.atan2(dx, dz)
    ridge = (
        0.045
        + 0.022 * torch.sin(5.0 * azimuth + rays[RIDGE])
        + 0.014 * torch.sin(11.0 * azimuth + rays[RIDGE + 1])
        + 0.008 * torch.sin(23.0 * azimuth + rays[RIDGE + 2])
    )
    toward = _dot(direction_P3, rays.rgb(SUN)).clamp(min=0)
    up = (dy * 2.4).clamp(max=1)
    up = (up * (2.0 - up))[:, None]
    horizon = rays.rgb(HORIZON)
    light = horizon + (rays.rgb(ZENITH) - horizon) * up + rays.rgb(GLOW) * (toward * toward)[:, None]
    if rays.scenes.heavens:
        light = _heavens(rays, direction_P3, azimuth, light)
    far = 0.45 * rays.rgb(EARTH) * rays.rgb(AMBIENT) + 0.12 * horizon
    behind = rays[SKY_SHARE][:, None] * light + rays[RIDGE_SHARE][:, None] * far
    return torch.where((dy < ridge * flat)[:, None], behind, light)


def _glimpse(rays: _Rays, skip_P: Tensor, origin_P3: Tensor, direction_P3: Tensor) -> Tensor:
    """What mirrored rays see, simply lit."""
    nearest, thing = _first_hit(rays, origin_P3, direction_P3, skip_P)
    hit = thing >= 0
    number, frame = thing.clamp(min=0), rays.frame_P
    normal = origin_P3 + direction_P3 * torch.where(hit, nearest, 0.0)[:, None]
    normal = normal - rays.scenes.position_FN3[frame, number]
    facing = (_dot(normal, rays.rgb(SUN)) / (_dot(normal, normal).sqrt() + 1e-9)).clamp(min=0)
    facing = torch.where(hit, facing, rays[SUN + 1])
    base = torch.where(hit[:, None], rays.scenes.paint_FNP[frame, number, :3], rays.rgb(EARTH))
    light = base * (rays.rgb(AMBIENT) + rays.rgb(LIGHT) * facing[:, None])
    return torch.where((~hit & (direction_P3[:, 1] >= 0))[:, None], _sky(rays, direction_P3), light)


# --- a whole ray ------------------------------------------------------------------------------------------------------


def _trace(rays: _Rays, direction_P3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Linear light [P,3], distance (FAR for the sky) and thing (-1 for none) along unit rays from the eye."""
    eye_P3 = rays.scenes.eye_F3[rays.frame_P]
    dy = direction_P3[:, 1]
    ground = torch.where(dy < -1e-6, -eye_P3[:, 1] / dy.clamp(max=-1e-6), FAR)
    nearest, thing = _first_hit(rays, eye_P3, direction_P3, None)
    thing = torch.where(nearest < ground, thing, -1)
    nearest = torch.minimum(nearest, ground)
    light_P3 = torch.empty_like(direction_P3)
    up, down = (nearest == FAR).nonzero()[:, 0], (nearest < FAR).nonzero()[:, 0]
    light_P3[up] = _sky(rays.some(up), direction_P3[up])
    light_P3[down] = _surface(rays.some(down), eye_P3[down], direction_P3[down], nearest[down], thing[down])
    return light_P3, nearest, thing


def _power_32(half: Tensor) -> Tensor:
    for _ in range(5):
        half = half * half
    return half


def _thing_surface(rays: _Rays, point_P3: Tensor, thing_P: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normals, reflectances, sizes and mirror shares where rays meet things."""
    scenes, frame_P = rays.scenes, rays.frame_P
    rotation = scenes.rotation_FN33[frame_P, thing_P]
    local = torch.einsum("pij,pi->pj", rotation, point_P3 - scenes.position_FN3[frame_P, thing_P])
    size, kind_P = scenes.size_FN[frame_P, thing_P], scenes.kind_FN[frame_P, thing_P]
    gradient, column = torch.zeros_like(local), torch.zeros_like(kind_P)
    for kind in scenes.kinds:
        which = (kind_P == kind).nonzero()[:, 0]
        x, y, z = local[which].unbind(-1)
        s = size[which]
        e = 0.003 * s
        a, b = distance(kind, s, x + e, y - e, z - e), distance(kind, s, x - e, y - e, z + e)
        c, d = distance(kind, s, x - e, y + e, z - e), distance(kind, s, x + e, y + e, z + e)
        gradient[which] = torch.stack([a - b - c + d, -a - b + c + d, -a + b - c + d], -1)
        column[which] = _column(kind, s, x, y, z)
    gradient = gradient / (_dot(gradient, gradient).sqrt() + 1e-12)[:, None]
    normal = torch.einsum("pij,pj->pi", rotation, gradient)
    paint = scenes.paint_FNP[frame_P, thing_P]
    base = torch.stack([paint.gather(1, (column + c)[:, None])[:, 0] for c in range(3)], -1)
    return normal, base, size, scenes.mirror_FN[frame_P, thing_P]


def _surface(rays: _Rays, eye_P3: Tensor, direction_P3: Tensor, nearest: Tensor, thing: Tensor) -> Tensor:
    """Linear light from points on things and on the ground."""
    point = eye_P3 + direction_P3 * nearest[:, None]
    sun = rays.rgb(SUN)
    half_way = sun - direction_P3
    half_way = half_way / _dot(half_way, half_way).sqrt()[:, None]
    normal = torch.zeros_like(point)
    normal[:, 1] = 1.0
    spot = nearest * rays.pixel_P / (-direction_P3[:, 1]).clamp(min=0.05)
    tone = _ground_tone(rays[GROUND_KIND], point[:, 0], point[:, 2], spot, rays[RIDGE + 3])
    base, mirror = rays.rgb(EARTH) * tone[:, None], torch.zeros_like(nearest)
    strength = torch.zeros_like(nearest)
    if rays.scenes.mirrors:
        water = rays[GROUND_KIND] == WATER
        slope_x, slope_z = _waves(point[:, 0], point[:, 2], spot, rays[MOMENT])
        wavy = torch.stack([slope_x, torch.ones_like(slope_x), slope_z], -1)
        wavy = wavy / _dot(wavy, wavy).sqrt()[:, None]
        grazing = 1.0 - (-_dot(wavy, direction_P3)).clamp(min=0)
        normal = torch.where(water[:, None], wavy, normal)
        base = torch.where(water[:, None], rays.rgb(EARTH), base)
        mirror = torch.where(water, 0.06 + 0.8 * grazing * grazing * grazing, mirror)
        strength = torch.where(water, 0.6, strength)
    open_sky = torch.ones_like(nearest)
    on_thing = (thing >= 0).nonzero()[:, 0]
    on_normal, on_base, on_size, on_mirror = _thing_surface(rays.some(on_thing), point[on_thing], thing[on_thing])
    grazing = 1.0 - (-_dot(on_normal, direction_P3[on_thing])).clamp(min=0)
    normal[on_thing], base[on_thing] = on_normal, on_base
    mirror[on_thing], strength[on_thing] = on_mirror * (0.4 + grazing * grazing), 0.30 + 1.5 * on_mirror
    below = 1.0 + 0.45 * on_normal[:, 1] * (1.0 - point[on_thing, 1] / (1.2 * on_size)).clamp(min=0)
    open_sky[on_thing] = torch.where(on_normal[:, 1] < 0, below, 1.0)
    gloss = strength * _power_32(_dot(normal, half_way).clamp(min=0))
    facing = _dot(normal, sun).clamp(min=0)
    occlusion, lit = _shadows(rays, point, normal, sun, thing, facing)
    open_sky = open_sky * occlusion
    gloss, facing = gloss * lit, facing * lit
    bounce, light = rays.rgb(BOUNCE), rays.rgb(LIGHT)
    above_share = (0.5 + 0.5 * normal[:, 1])[:, None]
    ambient = (bounce + (rays.rgb(AMBIENT) - bounce) * above_share) * open_sky[:, None]
    total = base * (ambient + light * facing[:, None]) + light * gloss[:, None]
    if rays.scenes.mirrors:
        shiny = (mirror > 0).nonzero()[:, 0]
        n, d = normal[shiny], direction_P3[shiny]
        bent = d - (2.0 * _dot(n, d))[:, None] * n
        bent[:, 1] = torch.where(thing[shiny] < 0, bent[:, 1].abs(), bent[:, 1])
        seen = _glimpse(rays.some(shiny), thing[shiny], point[shiny], bent)
        total[shiny] = total[shiny] + (seen - total[shiny]) * mirror[shiny][:, None]
    haze = (1.0 - torch.exp(-nearest * nearest * rays[FOG]))[:, None]
    return total + (rays.rgb(HORIZON) * 0.72 - total) * haze


def _shadows(
    rays: _Rays, point: Tensor, normal: Tensor, sun: Tensor, thing: Tensor, facing: Tensor
) -> tuple[Tensor, Tensor]:
    """Share of the sky that things leave open, and share of the sun's light that reaches each point."""
    scenes, frame_P = rays.scenes, rays.frame_P
    open_sky = torch.ones_like(facing)
    candidates = []
    for n in range(scenes.kind_FN.shape[1]):
        c = point - scenes.position_FN3[:, n][frame_P]
        size, bound = scenes.size_FN[:, n][frame_P], scenes.bound_FN[:, n][frame_P]
        other = (thing != n) & (bound > 0)
        square, above = _dot(c, c), -_dot(c, normal)
        reach = square + 1e-9
        shut = (0.62 * size * size * above / (reach * reach.sqrt())).clamp(max=0.8)
        open_sky = torch.where(other & (above > 0), open_sky * (1.0 - shut), open_sky)
        along, far = _dot(c, sun), bound * 1.25 + 0.1
        misses = (square - along * along > far * far) | ((along > 0) & (square > far * far))
        candidates.append(other & ~misses & (facing > 0))
    lit = (facing > 0).to(facing.dtype)
    ray_Q, n_Q = _pairs(torch.stack(candidates, 1))
    offset = point + 0.01 * normal
    center = scenes.position_FN3[frame_P[ray_Q], n_Q]
    rotation = scenes.rotation_FN33[frame_P[ray_Q], n_Q]
    o_Q3 = torch.einsum("qij,qi->qj", rotation, offset[ray_Q] - center)
    d_Q3 = torch.einsum("qij,qi->qj", rotation, sun[ray_Q])
    kind_Q, s_Q = scenes.kind_FN[frame_P[ray_Q], n_Q], scenes.size_FN[frame_P[ray_Q], n_Q]
    bound_Q = scenes.bound_FN[frame_P[ray_Q], n_Q]
    passed_Q = torch.ones_like(s_Q)
    for kind in scenes.kinds:
        which = (kind_Q == kind).nonzero()[:, 0]
        passed_Q[which] = _shade_through(kind, s_Q[which], bound_Q[which], o_Q3[which], d_Q3[which])
    return open_sky, lit.scatter_reduce(0, ray_Q, passed_Q, "prod")


def _falling(rays: _Rays, u: Tensor, v: Tensor, pixel: float) -> Tensor:
    """How much of a raindrop or snowflake covers screen positions."""
    rain, moment, salt = rays[WEATHER] == 3.0, rays[MOMENT], rays[SALT].long()
    cover = torch.zeros_like(u)
    for layer in range(3):
        near = 1.0 - 0.25 * layer
        wide = torch.where(rain, 0.075 * near, 0.17 * near)
        tall = torch.where(rain, 0.42 * near, 0.17 * near)
        x = torch.where(rain, u + 0.12 * v, u + 0.02 * torch.sin(2.0 * moment + 5.0 * layer) + 0.31 * layer)
        y = v + torch.where(rain, 2.6 - 0.5 * layer, 0.42 - 0.08 * layer) * moment
        i, j = torch.floor(x / wide), torch.floor(y / tall)
        h = _hash(i.long(), j.long(), salt + 57 * layer)
        px = x - i * wide - (0.2 + 0.6 * _byte(h, 8, u)) * wide
        py = y - j * tall - (0.3 + 0.4 * _byte(h, 16, u)) * tall
        half = 0.004 * near
        across = ((half - px.abs()) / pixel + 0.5).clamp(0, 1) * min(1.0, 2.0 * half / pixel)
        drop = 0.4 * across * ((0.27 * tall - py.abs()) / pixel + 0.5).clamp(0, 1)
        radius = (0.009 + 0.009 * _byte(h, 24, u)) * near
        flake = 0.92 * ((radius - _norm(px, py)) / max(pixel, 0.008) + 0.5).clamp(0, 1)
        number = h % 100
        here = torch.where(rain, torch.where(number < 55, drop, 0.0), torch.where(number < 40, flake, 0.0))
        cover = torch.maximum(cover, here)
    return torch.where(rays[WEATHER] >= 3.0, cover, 0.0)


def _display(light: Tensor) -> Tensor:
    value = light.clamp(min=0).sqrt()
    soft = 0.8 + 0.2 * (1.0 - 1.0 / (1.0 + (value - 0.8).clamp(min=0) / 0.2))
    return torch.where(value > 0.8, soft, value)


def _look(
    scenes: _Scenes, frame_P: Tensor, row_P: Tensor, column_P: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Displayed colour, depth along the view and mask at screen positions (in pixels)."""
    short = min(height, width)
    focal = scenes.focal_F[frame_P]
    pixel = 1.0 / (focal * short)
    u, v = (column_P - 0.5 * width) * pixel, (0.5 * height - row_P) * pixel
    view = scenes.view_F33[frame_P]
    direction = view[:, 2] + view[:, 0] * u[:, None] + view[:, 1] * v[:, None]
    scale = 1.0 / _dot(direction, direction).sqrt()
    rays = _Rays(scenes, frame_P, pixel)
    light, nearest, thing = _trace(rays, direction * scale[:, None])
    if scenes.falling:
        cover = _falling(rays, u * focal, v * focal, 1.0 / short)[:, None]
        bright = 0.25 * rays.rgb(HORIZON) + 1.3 * rays.rgb(AMBIENT)
        light = light + (bright - light) * cover
    owner = scenes.owner_FN[frame_P, thing.clamp(min=0)] + 1
    return _display(light), torch.where(nearest < FAR, nearest * scale, FAR), torch.where(thing >= 0, owner, 0)


def _render_frames(scenes: _Scenes, height: int, width: int, antialias: int) -> tuple[Tensor, Tensor, Tensor]:
    count, device, dtype = len(scenes.eye_F3), scenes.eye_F3.device, scenes.eye_F3.dtype
    index = torch.arange(count * height * width, device=device)

    def at(index_P: Tensor, down: float, right: float) -> tuple[Tensor, Tensor, Tensor]:
        frame_P, rest = index_P // (height * width), index_P % (height * width)
        row, column = (rest // width).to(dtype) + down, (rest % width).to(dtype) + right
        return _look(scenes, frame_P, row, column, height, width)

    value_P3, depth_P, mask_P = at(index, 0.5, 0.5)
    if antialias:
        value = value_P3.view(count, height, width, 3)
        edge = torch.zeros(count, height, width, dtype=torch.bool, device=device)
        across = ((value[:, :, 1:] - value[:, :, :-1]).abs() > CONTRAST).any(-1)
        down = ((value[:, 1:] - value[:, :-1]).abs() > CONTRAST).any(-1)
        edge[:, :, 1:] |= across
        edge[:, :, :-1] |= across
        edge[:, 1:] |= down
        edge[:, :-1] |= down
        fine = edge.view(-1).nonzero()[:, 0]
        total = value_P3[fine]
        for right, below in ROTATED_GRID:
            total = total + at(fine, float(below), float(right))[0]
        value_P3 = value_P3.index_copy(0, fine, total / 5)
    frames = (value_P3 * 255.0 + 0.5).to(torch.uint8).view(count, height, width, 3)
    return frames, mask_P.to(torch.uint8).view(count, height, width), depth_P.float().view(count, height, width)


@torch.no_grad()
def render_batch(
    scenes: Sequence[RenderScene],
    height: int,
    width: int,
    *,
    device: str | torch.device = "cpu",
    antialias: int = 1,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """frames_BTHWC uint8, mask_BTHW uint8 and depth_BTHW float32 on the device, of clips of equal length.

    antialias: 0 one ray per pixel, 1 five where neighbours differ. Raises ValueError for clips of several lengths.
    """
    if len({len(scene.eye_T3) for scene in scenes}) != 1:
        raise ValueError("the clips of a batch have one length")
    device = torch.device(device)
    batch = _gather(scenes, device, dtype)
    total, clips = len(batch.eye_F3), len(scenes)
    step = max(1, MAX_RAYS // (height * width))
    parts = [
        _render_frames(batch.frames(first, min(first + step, total)), height, width, antialias)
        for first in range(0, total, step)
    ]
    frames, mask, depth = (torch.cat(part) for part in zip(*parts, strict=True))
    return (
        frames.view(clips, -1, height, width, 3),
        mask.view(clips, -1, height, width),
        depth.view(clips, -1, height, width),
    )
