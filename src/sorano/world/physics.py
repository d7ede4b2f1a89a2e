"""Bodies, their simulation at a fixed sub-step, and the camera.

`simulate` integrates gravity, restitution, rolling resistance and drag and records the exact state at every frame.
A flight within a sub-step is the exact parabola and an impact is solved for its moment, so free fall and the energy
of a bounce do not depend on the step. `place` draws positions and speeds until everything stays in view and apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sorano.world.scene import KINDS, MOTIONS, SIZE_METRES, Attributes, Stream, Thing

Floats = NDArray[np.float64]

GRAVITY = 9.8  # m/s^2
STEPS_PER_SECOND = 240

STAYS, ROLLS_LEFT, ROLLS_RIGHT, FALLS, BOUNCES, RISES, SPINS, JUMPS = range(8)

# Proportions of each kind as multiples of its size; the renderer uses the same numbers.
CUBE_HALF = 0.78
CYLINDER_RADIUS, CYLINDER_HALF = 0.7, 0.86
CONE_RADIUS, CONE_TOP, CONE_BASE = 0.92, 1.05, -0.85
TORUS_RADIUS, TORUS_TUBE = 0.74, 0.28
CAPSULE_RADIUS, CAPSULE_HALF = 0.44, 0.68

# state columns of a body
X, Y, Z, VX, VY, VZ, YAW, ROLL = range(8)
# parameter columns of a body
P_SPIN, P_RESTITUTION, P_FRICTION, P_DRAG, P_LEAP, P_SIZE = range(6)


@dataclass(frozen=True)
class Bodies:
    """The start of every thing: arrays over N things."""

    kind_N: NDArray[np.int64]
    motion_N: NDArray[np.int64]
    state_NS: Floats  # x y z vx vy vz yaw roll
    params_NP: Floats  # spin rad/s, restitution, rolling resistance (share of g), drag 1/s, leap m/s, size m


@dataclass(frozen=True)
class Tracks:
    """The simulated truth at every frame."""

    position_TN3: Floats
    velocity_TN3: Floats
    contact_TN: NDArray[np.bool_]
    rotation_TN33: Floats  # columns: the thing's own axes in the world

    def __len__(self) -> int:
        return len(self.position_TN3)


@dataclass(frozen=True)
class Cameras:
    """A pinhole per frame. Rows of rotation_T33 are right, up, forward; focal is in units of the shorter side."""

    eye_T3: Floats
    rotation_T33: Floats
    focal_T: Floats

    def project(self, points_TN3: Floats, height: int, width: int) -> tuple[Floats, Floats]:
        """Pixel positions [T,N,2] (x right, y down, pixel centres at .5) and depths [T,N] along the view."""
        local = np.einsum("tij,tnj->tni", self.rotation_T33, points_TN3 - self.eye_T3[:, None])
        depth = np.maximum(local[..., 2], 1e-6)
        scale = self.focal_T[:, None] * min(height, width) / depth
        return np.stack([width / 2 + local[..., 0] * scale, height / 2 - local[..., 1] * scale], -1), local[..., 2]


@njit(cache=True, nogil=True)
def support(kind: int, size: float, dx: float, dy: float, dz: float) -> float:
    """How far a thing of `kind` reaches along the unit direction d, given in the thing's own axes."""
    flat = math.sqrt(dx * dx + dz * dz)
    if kind == 0:
        return size
    if kind == 1:
        return size * CUBE_HALF * (abs(dx) + abs(dy) + abs(dz))
    if kind == 2:
        return size * (CYLINDER_RADIUS * flat + CYLINDER_HALF * abs(dy))
    if kind == 3:
        return size * max(CONE_TOP * dy, CONE_BASE * dy + CONE_RADIUS * flat)
    if kind == 4:
        return size * (TORUS_RADIUS * math.sqrt(dx * dx + dy * dy) + TORUS_TUBE)
    return size * (CAPSULE_RADIUS + CAPSULE_HALF * abs(dy))


@njit(cache=True, nogil=True)
def _rotation(yaw: float, roll: float, out_33: Floats) -> None:
    """Turn by yaw about the vertical, then by roll about the axis that points away from the camera."""
    cy, sy, cr, sr = math.cos(yaw), math.sin(yaw), math.cos(roll), math.sin(roll)
    out_33[0, 0], out_33[0, 1], out_33[0, 2] = cr * cy, -sr, cr * sy
    out_33[1, 0], out_33[1, 1], out_33[1, 2] = sr * cy, cr, sr * sy
    out_33[2, 0], out_33[2, 1], out_33[2, 2] = -sy, 0.0, cy


@njit(cache=True, nogil=True)
def _rest_height(kind: int, size: float, rotation_33: Floats) -> float:
    return support(kind, size, -rotation_33[1, 0], -rotation_33[1, 1], -rotation_33[1, 2])


@njit(cache=True, nogil=True)
def _flight(state: Floats, dt: float, floor: float, restitution: float) -> bool:
    """Exact free flight over dt with impacts on the floor; True where it touched."""
    touched = False
    for _ in range(8):
        y, v = state[Y], state[VY]
        lower = y + v * dt - 0.5 * GRAVITY * dt * dt
        if lower > floor:
            state[Y], state[VY] = lower, v - GRAVITY * dt
            return touched
        touched = True
        moment = (v + math.sqrt(max(0.0, v * v + 2.0 * GRAVITY * (y - floor)))) / GRAVITY
        dt -= min(dt, moment)
        state[Y], state[VY] = floor, restitution * (GRAVITY * moment - v)
        if state[VY] < 0.05:  # too slow to leave the ground by a millimetre
            state[VY] = 0.0
            return True
        if dt <= 0.0:
            return True
    return touched


@njit(cache=True, nogil=True)
def _step(kind: int, motion: int, state: Floats, params: Floats, dt: float, rotation_33: Floats) -> bool:
    """One sub-step of one body; True while it touches the ground."""
    size = params[P_SIZE]
    state[YAW] += params[P_SPIN] * dt
    if motion == FALLS or motion == BOUNCES or motion == JUMPS:
        _rotation(state[YAW], state[ROLL], rotation_33)
        floor = _rest_height(kind, size, rotation_33)
        if motion == JUMPS and state[Y] <= floor + 1e-9 and state[VY] == 0.0:
            state[VY] = params[P_LEAP]
        return _flight(state, dt, floor, params[P_RESTITUTION])
    if motion == RISES:
        state[VY] *= math.exp(-params[P_DRAG] * dt)
        state[Y] += state[VY] * dt
        return False
    if motion == ROLLS_LEFT or motion == ROLLS_RIGHT:
        brake = params[P_FRICTION] * GRAVITY * dt
        speed = max(0.0, abs(state[VX]) - brake)
        state[VX] = math.copysign(speed, state[VX])
        state[X] += state[VX] * dt
        state[ROLL] -= state[VX] * dt / (size * 0.9)
        _rotation(state[YAW], state[ROLL], rotation_33)
        floor = _rest_height(kind, size, rotation_33)
        state[VY] = (floor - state[Y]) / dt
        state[Y] = floor
    return True


@njit(cache=True, nogil=True)
def _simulate(
    kind_N: NDArray[np.int64],
    motion_N: NDArray[np.int64],
    state_NS: Floats,
    params_NP: Floats,
    num_frames: int,
    fps: float,
    substeps: int,
    position_TN3: Floats,
    velocity_TN3: Floats,
    contact_TN: NDArray[np.bool_],
    rotation_TN33: Floats,
) -> None:
    dt = 1.0 / fps / substeps
    for n in range(len(kind_N)):
        state = state_NS[n]
        _rotation(state[YAW], state[ROLL], rotation_TN33[0, n])
        floor = _rest_height(kind_N[n], params_NP[n, P_SIZE], rotation_TN33[0, n])
        contact_TN[0, n] = state[Y] <= floor + 1e-6
        position_TN3[0, n] = state[:3]
        velocity_TN3[0, n] = state[3:6]
        for t in range(1, num_frames):
            touched = False
            for _ in range(substeps):
                if _step(kind_N[n], motion_N[n], state, params_NP[n], dt, rotation_TN33[t, n]):
                    touched = True
            _rotation(state[YAW], state[ROLL], rotation_TN33[t, n])
            contact_TN[t, n] = touched
            position_TN3[t, n] = state[:3]
            velocity_TN3[t, n] = state[3:6]


def simulate(bodies: Bodies, num_frames: int, fps: float) -> Tracks:
    """Run the bodies for num_frames at fps. A contact means: touched the ground since the frame before."""
    count = len(bodies.kind_N)
    tracks = Tracks(
        np.zeros((num_frames, count, 3)),
        np.zeros((num_frames, count, 3)),
        np.zeros((num_frames, count), np.bool_),
        np.zeros((num_frames, count, 3, 3)),
    )
    substeps = max(1, math.ceil(STEPS_PER_SECOND / fps))
    _simulate(
        bodies.kind_N,
        bodies.motion_N,
        bodies.state_NS.copy(),
        bodies.params_NP,
        num_frames,
        fps,
        substeps,
        tracks.position_TN3,
        tracks.velocity_TN3,
        tracks.contact_TN,
        tracks.rotation_TN33,
    )
    return tracks


# Ranges in training, and outside of it for the split "physics" (a choice of intervals each).
RANGES: dict[str, tuple[tuple[float, float], tuple[tuple[float, float], ...]]] = {
    "roll": ((1.0, 1.9), ((0.7, 0.85), (2.1, 2.4))),  # m/s
    "height": ((0.9, 1.6), ((0.65, 0.8), (1.75, 2.0))),  # m above the ground, where falls and bounces begin
    "rise": ((1.2, 1.9), ((0.9, 1.1), (2.05, 2.4))),  # m/s
    "spin": ((3.2, 5.0), ((2.2, 2.8), (5.6, 6.6))),  # rad/s
    "leap": ((2.9, 3.9), ((2.3, 2.7), (4.1, 4.5))),  # m/s
}


def _draw(stream: Stream, name: str, outside: bool) -> float:
    inner, outer = RANGES[name]
    low, high = stream.choice(outer) if outside else inner
    return stream.uniform(low, high)


def camera_path(
    move: str, stream: Stream, num_things: int, num_frames: int, fps: float, farther: float = 1.0
) -> Cameras:
    """The camera for a move over a clip; `farther` scales its distance."""
    duration = (num_frames - 1) / fps
    distance = (4.0 if num_things == 1 else 5.2) * stream.uniform(0.97, 1.03) * farther
    height = stream.uniform(1.65, 1.85)
    time_T = np.arange(num_frames) / fps
    u_T = time_T / max(duration, 1e-9)
    focal_T = np.full(num_frames, 1.15)
    yaw_T = np.zeros(num_frames)
    swing = 0.36 if num_things == 1 else 0.31
    if move == "pans left":
        yaw_T = swing * (0.5 - u_T)
    elif move == "pans right":
        yaw_T = swing * (u_T - 0.5)
    elif move == "zooms in":
        focal_T = 0.84 * (1.24 / 0.84) ** u_T
    elif move == "zooms out":
        focal_T = 1.24 * (0.84 / 1.24) ** u_T
    eye_T3 = np.tile([0.0, height, -distance], (num_frames, 1))
    pitch = math.atan2(1.12 - height, distance)
    return Cameras(eye_T3, look(yaw_T, np.full(num_frames, pitch)), focal_T)


def look(yaw_T: Floats, pitch_T: Floats) -> Floats:
    """Rotations [T,3,3] (rows right, up, forward) of a camera turned right by yaw and up by pitch."""
    cy, sy, cp, sp = np.cos(yaw_T), np.sin(yaw_T), np.cos(pitch_T), np.sin(pitch_T)
    zero = np.zeros_like(cy)
    right = np.stack([cy, zero, -sy], -1)
    up = np.stack([-sy * sp, cp, -cy * sp], -1)
    forward = np.stack([sy * cp, sp, cy * cp], -1)
    return np.stack([right, up, forward], -2)


def _travel(speed: float, brake: float, duration: float) -> float:
    moving = min(duration, speed / brake)
    return speed * moving - 0.5 * brake * moving * moving


def _body(thing: Thing, anchor: float, stream: Stream, outside: bool, duration: float) -> tuple[int, Floats, Floats]:
    """Kind, start state and parameters of one thing that shall be about x = anchor."""
    assert thing.kind and thing.size and thing.motion
    kind, motion = KINDS.index(thing.kind), MOTIONS.index(thing.motion)
    size = SIZE_METRES[thing.size] * stream.uniform(0.96, 1.04)
    state, params = np.zeros(8), np.zeros(6)
    params[P_SIZE] = size
    state[X], state[Z] = anchor, stream.uniform(-0.3, 0.3)
    state[YAW] = stream.uniform(-0.5, 0.5) if kind != 1 else stream.uniform(0.2, 0.7)
    rotation_33 = np.zeros((3, 3))
    _rotation(state[YAW], 0.0, rotation_33)
    state[Y] = _rest_height(kind, size, rotation_33)
    if motion in (ROLLS_LEFT, ROLLS_RIGHT):
        speed = _draw(stream, "roll", outside)
        params[P_FRICTION] = stream.uniform(0.02, 0.05)
        side = -1.0 if motion == ROLLS_LEFT else 1.0
        state[X] = anchor - side * 0.5 * _travel(speed, params[P_FRICTION] * GRAVITY, duration)
        state[VX] = side * speed
    elif motion in (FALLS, BOUNCES):
        state[Y] += _draw(stream, "height", outside)
        params[P_RESTITUTION] = stream.uniform(0.7, 0.8) if motion == BOUNCES else 0.0
    elif motion == RISES:
        state[VY] = _draw(stream, "rise", outside)
        params[P_DRAG] = stream.uniform(0.6, 0.8)
    elif motion == SPINS:
        params[P_SPIN] = _draw(stream, "spin", outside) * stream.choice((-1.0, 1.0))
    elif motion == JUMPS:
        params[P_LEAP] = _draw(stream, "leap", outside)
    return motion, state, params


def _misfit(tracks: Tracks, cameras: Cameras, size_N: Floats, height: int, width: int) -> float:
    """How far things are out of view or into each other, over the clip; 0 is a good layout. In shorter sides."""
    pixel_TN2, depth_TN = cameras.project(tracks.position_TN3, height, width)
    short = min(height, width)
    reach_TN = 0.92 * size_N * cameras.focal_T[:, None] * short / np.maximum(depth_TN, 0.5)
    edge = 0.0
    for axis, extent in ((0, width), (1, height)):
        outside_TN = np.maximum(reach_TN - pixel_TN2[..., axis], pixel_TN2[..., axis] + reach_TN - extent)
        edge += max(0.0, float(outside_TN.max()))
    apart = 0.0
    position = tracks.position_TN3
    for i in range(len(size_N)):
        for j in range(i + 1, len(size_N)):
            gap_T = position[:, j, 0] - position[:, i, 0] - 0.98 * (size_N[i] + size_N[j])
            apart += max(0.0, -float(gap_T.min()))
    return edge / short + apart


def place(
    attributes: Attributes, stream: Stream, *, outside: bool, num_frames: int, fps: float, height: int, width: int
) -> tuple[Bodies, Tracks, Cameras]:
    """Draw a layout for the attributes in which everything stays in view and apart; the best of 40 tries.

    outside: draw speeds and heights outside the training ranges.
    """
    duration = (num_frames - 1) / fps
    count = len(attributes.things)
    best: tuple[float, Bodies, Tracks, Cameras] | None = None
    for attempt in range(40):
        cameras = camera_path(attributes.camera or "still", stream, count, num_frames, fps, 1.0 + 0.006 * attempt)
        spread = stream.uniform(0.85, 1.3) + 0.01 * attempt
        shift = stream.uniform(-0.2, 0.2)
        anchors = [shift] if count == 1 else [shift - spread, shift + spread]
        drawn = [_body(t, x, stream, outside, duration) for t, x in zip(attributes.things, anchors, strict=True)]
        bodies = Bodies(
            np.array([KINDS.index(str(t.kind)) for t in attributes.things]),
            np.array([motion for motion, _, _ in drawn]),
            np.stack([state for _, state, _ in drawn]),
            np.stack([params for _, _, params in drawn]),
        )
        tracks = simulate(bodies, num_frames, fps)
        misfit = _misfit(tracks, cameras, bodies.params_NP[:, P_SIZE], height, width)
        if best is None or misfit < best[0]:
            best = (misfit, bodies, tracks, cameras)
        if misfit == 0.0:
            break
    assert best is not None
    return best[1:]
