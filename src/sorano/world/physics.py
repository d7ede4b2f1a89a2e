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

from sorano.world.scene import FULL_KINDS, FULL_MOTIONS, SIZE_METRES, Attributes, Stream, Thing

Floats = NDArray[np.float64]

GRAVITY = 9.8  # m/s^2
STEPS_PER_SECOND = 240

STAYS, ROLLS_LEFT, ROLLS_RIGHT, FALLS, BOUNCES, RISES, SPINS, JUMPS = range(8)
SLIDES_LEFT, SLIDES_RIGHT, SWINGS, FLOATS, ORBITS, COLLIDES = range(8, 14)
CAR = 10

# Proportions of each kind as multiples of its size; the renderer uses the same numbers.
CUBE_HALF = 0.78
CYLINDER_RADIUS, CYLINDER_HALF = 0.7, 0.86
CONE_RADIUS, CONE_TOP, CONE_BASE = 0.92, 1.05, -0.85
TORUS_RADIUS, TORUS_TUBE = 0.74, 0.28
CAPSULE_RADIUS, CAPSULE_HALF = 0.44, 0.68
TREE_BASE, HOUSE_BASE, BOAT_BASE, BALLOON_BASE, CAR_BASE = 1.0, 0.9, 0.97, 0.97, 0.78  # from the origin to the ground

# state columns of a body
X, Y, Z, VX, VY, VZ, YAW, ROLL, ROLL_RATE = range(9)
# parameter columns of a body
P_SPIN, P_RESTITUTION, P_FRICTION, P_DRAG, P_LEAP, P_SIZE = range(6)
P_CENTER_X, P_CENTER_Y, P_CENTER_Z, P_LENGTH, P_RATE = range(6, 11)
STATE_SIZE, PARAMS_SIZE = 9, 11


@dataclass(frozen=True)
class Bodies:
    """The start of every thing: arrays over N things."""

    kind_N: NDArray[np.int64]
    motion_N: NDArray[np.int64]
    state_NS: Floats  # x y z vx vy vz yaw roll, and the rate of roll of a pendulum
    params_NP: Floats
    """Spin rad/s, restitution, friction (share of g), drag 1/s, leap m/s, size m; the centre of a swing, of floating
    or of a circle (x, y, z), the pendulum's length, and an angular rate rad/s."""


@dataclass(frozen=True)
class Trajectories:
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
    if kind == 5:
        return size * (CAPSULE_RADIUS + CAPSULE_HALF * abs(dy))
    if kind == 6:  # these stand upright and never tumble
        return size * TREE_BASE
    if kind == 7:
        return size * HOUSE_BASE
    if kind == 8:
        return size * BOAT_BASE
    if kind == 9:
        return size * BALLOON_BASE
    return size * CAR_BASE


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
        if kind == CAR:  # its wheels turn, the car does not
            return True
        state[ROLL] -= state[VX] * dt / (size * 0.9)
        _rotation(state[YAW], state[ROLL], rotation_33)
        floor = _rest_height(kind, size, rotation_33)
        state[VY] = (floor - state[Y]) / dt
        state[Y] = floor
        return True
    if motion >= SLIDES_LEFT:
        return _further_step(kind, motion, state, params, dt)
    return True


@njit(cache=True, nogil=True)
def _further_step(kind: int, motion: int, state: Floats, params: Floats, dt: float) -> bool:
    """One sub-step of the motions that only the full world has."""
    if motion == SLIDES_LEFT or motion == SLIDES_RIGHT:
        speed = max(0.0, abs(state[VX]) - params[P_FRICTION] * GRAVITY * dt)
        state[VX] = math.copysign(speed, state[VX])
        state[X] += state[VX] * dt
        return True
    if motion == SWINGS:  # velocity Verlet on the pendulum's angle
        pull = -GRAVITY / params[P_LENGTH]
        state[ROLL_RATE] += 0.5 * dt * pull * math.sin(state[ROLL])
        state[ROLL] += dt * state[ROLL_RATE]
        state[ROLL_RATE] += 0.5 * dt * pull * math.sin(state[ROLL])
        sine, cosine = math.sin(state[ROLL]), math.cos(state[ROLL])
        state[X] = params[P_CENTER_X] + params[P_LENGTH] * sine
        state[Y] = params[P_CENTER_Y] - params[P_LENGTH] * cosine
        state[VX] = params[P_LENGTH] * state[ROLL_RATE] * cosine
        state[VY] = params[P_LENGTH] * state[ROLL_RATE] * sine
        return False
    if motion == FLOATS:  # a spring to the level of rest
        state[VY] -= params[P_RATE] * params[P_RATE] * (state[Y] - params[P_CENTER_Y]) * dt
        state[Y] += state[VY] * dt
        state[X] += state[VX] * dt
        state[ROLL] = 0.08 * state[VY]
        return False
    if motion == ORBITS:  # an exact turn about the centre
        turn = params[P_RATE] * dt
        c, s = math.cos(turn), math.sin(turn)
        x, z = state[X] - params[P_CENTER_X], state[Z] - params[P_CENTER_Z]
        state[X], state[Z] = params[P_CENTER_X] + c * x - s * z, params[P_CENTER_Z] + s * x + c * z
        state[VX], state[VZ] = c * state[VX] - s * state[VZ], s * state[VX] + c * state[VZ]
        state[YAW] -= turn
        return True
    state[X] += state[VX] * dt  # collides
    if kind == 0:
        state[ROLL] -= state[VX] * dt / params[P_SIZE]
    return True


@njit(cache=True, nogil=True)
def _collide(kind_N: NDArray[np.int64], state_NS: Floats, params_NP: Floats, gap: float) -> None:
    """Exchange momentum between two bodies that meet along x, without loss; masses go with the cube of the size."""
    a, b = (0, 1) if state_NS[0, X] <= state_NS[1, X] else (1, 0)
    if state_NS[b, X] - state_NS[a, X] > gap or state_NS[a, VX] <= state_NS[b, VX]:
        return
    mass_a, mass_b = params_NP[a, P_SIZE] ** 3, params_NP[b, P_SIZE] ** 3
    center = (mass_a * state_NS[a, VX] + mass_b * state_NS[b, VX]) / (mass_a + mass_b)
    state_NS[a, VX], state_NS[b, VX] = 2.0 * center - state_NS[a, VX], 2.0 * center - state_NS[b, VX]


@njit(cache=True, nogil=True)
def _simulate_collision(
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
    """Two bodies that may meet, in step with each other."""
    dt = 1.0 / fps / substeps
    gap = 0.0
    for n in range(2):
        _rotation(state_NS[n, YAW], state_NS[n, ROLL], rotation_TN33[0, n])
        side = 1.0 if (state_NS[n, X] < state_NS[1 - n, X]) else -1.0
        m = rotation_TN33[0, n]
        if kind_N[n] == CAR:
            gap += 0.95 * params_NP[n, P_SIZE]
        else:
            gap += support(kind_N[n], params_NP[n, P_SIZE], side * m[0, 0], side * m[0, 1], side * m[0, 2])
    for t in range(num_frames):
        for _ in range(substeps if t else 0):
            for n in range(2):
                _step(kind_N[n], motion_N[n], state_NS[n], params_NP[n], dt, rotation_TN33[t, n])
            _collide(kind_N, state_NS, params_NP, gap)
        for n in range(2):
            _rotation(state_NS[n, YAW], state_NS[n, ROLL], rotation_TN33[t, n])
            contact_TN[t, n] = True
            position_TN3[t, n] = state_NS[n, :3]
            velocity_TN3[t, n] = state_NS[n, 3:6]


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


def simulate(bodies: Bodies, num_frames: int, fps: float) -> Trajectories:
    """Run the bodies for num_frames at fps. A contact means: touched the ground since the frame before."""
    count = len(bodies.kind_N)
    tracks = Trajectories(
        np.zeros((num_frames, count, 3)),
        np.zeros((num_frames, count, 3)),
        np.zeros((num_frames, count), np.bool_),
        np.zeros((num_frames, count, 3, 3)),
    )
    substeps = max(1, math.ceil(STEPS_PER_SECOND / fps))
    together = count == 2 and bool((bodies.motion_N == COLLIDES).all())
    (_simulate_collision if together else _simulate)(
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
    "slide": ((1.6, 2.4), ((1.2, 1.4), (2.6, 3.0))),  # m/s
    "swing": ((0.5, 0.8), ((0.35, 0.45), (0.85, 1.0))),  # rad, where the pendulum is let go
    "float": ((0.7, 1.2), ((0.45, 0.6), (1.3, 1.6))),  # m/s at the level of rest
    "orbit": ((1.8, 2.8), ((1.3, 1.6), (3.0, 3.5))),  # rad/s
    "collide": ((1.2, 1.9), ((0.9, 1.1), (2.1, 2.5))),  # m/s
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
    distance = (4.0, 5.2, 6.0)[num_things - 1] * stream.uniform(0.97, 1.03) * farther
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
    if move == "orbits":
        yaw_T = stream.choice((-0.9, 0.9)) * (0.5 - u_T)
        eye_T3[:, 0], eye_T3[:, 2] = -distance * np.sin(yaw_T), -distance * np.cos(yaw_T)
    elif move == "rises":
        eye_T3[:, 1] = 0.8 + 2.2 * u_T
        return Cameras(eye_T3, look(yaw_T, np.arctan2(1.12 - eye_T3[:, 1], distance)), focal_T)
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
    kind, motion = FULL_KINDS.index(thing.kind), FULL_MOTIONS.index(thing.motion)
    size = SIZE_METRES[thing.size] * stream.uniform(0.96, 1.04)
    state, params = np.zeros(STATE_SIZE), np.zeros(PARAMS_SIZE)
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
    elif motion >= SLIDES_LEFT:
        _start_further(kind, motion, anchor, state, params, stream, outside, duration)
    return motion, state, params


def _start_further(
    kind: int, motion: int, anchor: float, state: Floats, params: Floats, stream: Stream, outside: bool, duration: float
) -> None:
    """Start state and parameters of the motions that only the full world has; in place."""
    size = params[P_SIZE]
    if motion in (SLIDES_LEFT, SLIDES_RIGHT):
        speed = _draw(stream, "slide", outside)
        params[P_FRICTION] = stream.uniform(0.08, 0.14)
        side = -1.0 if motion == SLIDES_LEFT else 1.0
        state[X] = anchor - side * 0.5 * _travel(speed, params[P_FRICTION] * GRAVITY, duration)
        state[VX] = side * speed
    elif motion == SWINGS:
        params[P_LENGTH] = stream.uniform(1.5, 1.9) + size
        params[P_CENTER_X], params[P_CENTER_Y] = anchor, state[Y] + stream.uniform(0.25, 0.45) + params[P_LENGTH]
        state[YAW] = 0.0
        state[ROLL] = _draw(stream, "swing", outside) * stream.choice((-1.0, 1.0)) * min(1.0, 0.8 / size)
        state[X] = anchor + params[P_LENGTH] * math.sin(state[ROLL])
        state[Y] = params[P_CENTER_Y] - params[P_LENGTH] * math.cos(state[ROLL])
    elif motion == FLOATS:
        params[P_CENTER_Y] = state[Y] + stream.uniform(0.4, 0.7)
        params[P_RATE] = stream.uniform(3.8, 4.8)
        state[Y] = params[P_CENTER_Y]
        state[VY] = _draw(stream, "float", outside) * stream.choice((-1.0, 1.0))
        state[VX] = stream.uniform(-0.15, 0.15)
    elif motion == ORBITS:
        params[P_CENTER_X], params[P_LENGTH] = anchor, 0.5 + 0.5 * size  # about a point, unless `place` finds a thing
        params[P_RATE] = _draw(stream, "orbit", outside) * stream.choice((-1.0, 1.0))
        _enter_orbit(state, params, stream.uniform(0.0, 2.0 * math.pi))
    else:  # collides: `place` sends the two towards each other
        state[VX] = _draw(stream, "collide", outside) * (1.0 if anchor < 0.0 else -1.0)
        state[Z] *= 0.2


def _enter_orbit(state: Floats, params: Floats, angle: float) -> None:
    radius, rate = params[P_LENGTH], params[P_RATE]
    state[X], state[Z] = params[P_CENTER_X] + radius * math.cos(angle), params[P_CENTER_Z] + radius * math.sin(angle)
    state[VX], state[VZ] = -radius * rate * math.sin(angle), radius * rate * math.cos(angle)


def _settle(attributes: Attributes, drawn: list[tuple[int, Floats, Floats]], stream: Stream) -> None:
    """What depends on the other things and the ground, in place: orbits about a thing, depth, water, heading."""
    for n, (thing, (motion, state, params)) in enumerate(zip(attributes.things, drawn, strict=True)):
        size = params[P_SIZE]
        if attributes.relation == "in front of":
            state[Z] += -0.95 if n == 0 else 0.95
        if motion == ORBITS and len(drawn) == 2:
            other = drawn[1 - n]
            params[P_CENTER_X], params[P_CENTER_Z] = other[1][X], other[1][Z]
            params[P_LENGTH] = 1.1 * (size + other[2][P_SIZE]) + 0.1
            _enter_orbit(state, params, stream.uniform(0.0, 2.0 * math.pi))
        drives = motion in (ROLLS_LEFT, SLIDES_LEFT, COLLIDES)
        if thing.kind in ("car", "boat") and drives and state[VX] < 0:
            state[YAW] += math.pi
        swims = motion in (FLOATS, SLIDES_LEFT, SLIDES_RIGHT) and thing.kind != "balloon"
        if attributes.ground == "water" and swims:
            sunk = 0.3 if thing.kind == "boat" else 0.45
            params[P_CENTER_Y] = state[Y] = (BOAT_BASE if thing.kind == "boat" else 0.8) * size - sunk * size
            state[VY] *= 0.6


def _misfit(
    tracks: Trajectories, cameras: Cameras, size_N: Floats, height: int, width: int, relation: str | None = "left of"
) -> float:
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
            between_T3 = position[:, j] - position[:, i]
            room = 0.98 * (size_N[i] + size_N[j])
            if relation == "left of":
                gap_T = between_T3[:, 0] - room
            elif relation == "in front of":
                gap_T = between_T3[:, 2] - 0.8 * room
            else:
                gap_T = np.sqrt((between_T3**2).sum(-1)) - (room if relation is None else 0.0)
            apart += max(0.0, -float(gap_T.min()))
    return edge / short + apart


def _anchors(attributes: Attributes, spread: float, shift: float) -> list[float]:
    """Where along x each thing is meant to be."""
    count = len(attributes.things)
    if count == 1:
        return [shift]
    if count == 3:
        return [shift - 1.4 * spread, shift, shift + 1.4 * spread]
    if attributes.relation == "in front of":
        side = 0.5 if shift > 0 else -0.5
        return [shift - side, shift + side]
    if attributes.relation is None:  # one circles the other
        return [shift, shift]
    if attributes.things[0].motion == "collides":
        return [-1.2 * spread, 1.2 * spread]
    return [shift - spread, shift + spread]


def place(
    attributes: Attributes, stream: Stream, *, outside: bool, num_frames: int, fps: float, height: int, width: int
) -> tuple[Bodies, Trajectories, Cameras]:
    """Draw a layout for the attributes in which everything stays in view and apart; the best of 40 tries.

    outside: draw speeds and heights outside the training ranges.
    """
    duration = (num_frames - 1) / fps
    count = len(attributes.things)
    apart = "collision" if any(thing.motion == "collides" for thing in attributes.things) else attributes.relation
    best: tuple[float, Bodies, Trajectories, Cameras] | None = None
    for attempt in range(40):
        cameras = camera_path(attributes.camera or "still", stream, count, num_frames, fps, 1.0 + 0.006 * attempt)
        spread = stream.uniform(0.85, 1.3) + 0.01 * attempt
        shift = stream.uniform(-0.2, 0.2)
        anchors = _anchors(attributes, spread, shift)
        drawn = [_body(t, x, stream, outside, duration) for t, x in zip(attributes.things, anchors, strict=True)]
        _settle(attributes, drawn, stream)
        bodies = Bodies(
            np.array([FULL_KINDS.index(str(t.kind)) for t in attributes.things]),
            np.array([motion for motion, _, _ in drawn]),
            np.stack([state for _, state, _ in drawn]),
            np.stack([params for _, _, params in drawn]),
        )
        tracks = simulate(bodies, num_frames, fps)
        misfit = _misfit(tracks, cameras, bodies.params_NP[:, P_SIZE], height, width, apart)
        if best is None or misfit < best[0]:
            best = (misfit, bodies, tracks, cameras)
        if misfit == 0.0:
            break
    assert best is not None
    return best[1:]
