"""The simulation against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from sorano.world import physics
from sorano.world.physics import Bodies, simulate
from sorano.world.scene import FULL_KINDS, FULL_MOTIONS, KINDS


def one_body(motion: str, *, kind: str = "ball", height: float = 0.0, vx: float = 0.0, **params: float) -> Bodies:
    """A body of size 0.5 at x = 0, `height` above the ground, with parameters by name."""
    size = 0.5
    state, values = np.zeros(physics.STATE_SIZE), np.zeros(physics.PARAMS_SIZE)
    state[physics.X], state[physics.VX] = 0.0, vx
    values[physics.P_SIZE] = size
    state[physics.Y] = height + physics.support(KINDS.index(kind), size, 0.0, -1.0, 0.0)
    for name, value in params.items():
        values[getattr(physics, f"P_{name.upper()}")] = value
    return Bodies(np.array([FULL_KINDS.index(kind)]), np.array([FULL_MOTIONS.index(motion)]), state[None], values[None])


@pytest.mark.parametrize("fps", [12.0, 24.0, 50.0])
def test_free_fall_has_the_acceleration_of_gravity(fps: float) -> None:
    tracks = simulate(one_body("falls", height=50.0), int(fps) + 1, fps)
    time_T = np.arange(len(tracks)) / fps
    curve = np.polyfit(time_T, tracks.position_TN3[:, 0, 1], 2)
    assert -2 * curve[0] == pytest.approx(physics.GRAVITY, rel=0.01)
    assert tracks.velocity_TN3[-1, 0, 1] == pytest.approx(-physics.GRAVITY * time_T[-1], rel=1e-6)


def test_what_falls_lands_and_stays() -> None:
    tracks = simulate(one_body("falls", height=1.0, kind="cube"), 17, 12.0)
    landing = int(np.ceil(np.sqrt(2 * 1.0 / physics.GRAVITY) * 12))
    assert not tracks.contact_TN[:landing].any() and tracks.contact_TN[landing:].all()
    assert np.allclose(tracks.position_TN3[landing:, 0, 1], 0.5 * physics.CUBE_HALF)


@pytest.mark.parametrize("restitution", [0.5, 0.75, 0.9])
def test_a_bounce_returns_the_square_of_the_restitution(restitution: float) -> None:
    tracks = simulate(one_body("bounces", height=1.0, restitution=restitution), 2400, 1200.0)
    height_T = tracks.position_TN3[:, 0, 1] - 0.5
    first = int(np.argmax(tracks.contact_TN[:, 0]))
    later = np.flatnonzero(tracks.contact_TN[first + 1 :, 0])[0] + first + 1
    assert height_T[first:later].max() == pytest.approx(restitution**2, rel=0.01)


def test_a_roll_slows_by_its_friction_and_turns_with_its_travel() -> None:
    tracks = simulate(one_body("rolls right", vx=2.0, friction=0.05), 25, 12.0)
    speed_T = tracks.velocity_TN3[:, 0, 0]
    assert speed_T[12] == pytest.approx(2.0 - 0.05 * physics.GRAVITY, rel=1e-6)
    assert tracks.position_TN3[12, 0, 0] == pytest.approx(2.0 - 0.5 * 0.05 * physics.GRAVITY, rel=0.01)
    turned = np.arctan2(tracks.rotation_TN33[6, 0, 1, 0], tracks.rotation_TN33[6, 0, 0, 0])
    travel = tracks.position_TN3[6, 0, 0]
    assert -turned % (2 * np.pi) == pytest.approx(travel / (0.5 * 0.9) % (2 * np.pi), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tumbling_thing_touches_the_ground_and_never_sinks_in(kind: str) -> None:
    from sorano.world.render import distance

    tracks = simulate(one_body("rolls left", vx=-1.5, kind=kind, friction=0.02), 17, 12.0)
    number = KINDS.index(kind)
    x, z = np.meshgrid(np.linspace(-0.6, 0.6, 61), np.linspace(-0.6, 0.6, 61))
    for t in range(len(tracks)):
        ground = np.stack([x, np.full_like(x, -tracks.position_TN3[t, 0, 1]), z], -1) @ tracks.rotation_TN33[t, 0]
        nearest = min(distance(number, 0.5, *point) for point in ground.reshape(-1, 3)[::2])
        assert -0.003 < nearest < 0.03


def test_a_jump_returns_to_the_ground_and_leaps_again() -> None:
    tracks = simulate(one_body("jumps", leap=3.0), 200, 120.0)
    height_T = tracks.position_TN3[:, 0, 1] - 0.5
    assert height_T.max() == pytest.approx(3.0**2 / (2 * physics.GRAVITY), rel=0.01)
    period = 2 * 3.0 / physics.GRAVITY
    assert height_T[int(1.5 * period * 120)] == pytest.approx(height_T.max(), rel=0.02)


def test_the_substep_does_not_change_the_tracks() -> None:
    body = one_body("bounces", height=1.3, restitution=0.75)
    coarse, fine = simulate(body, 17, 12.0), simulate(body, 17 * 20 - 19, 240.0)
    assert np.allclose(coarse.position_TN3, fine.position_TN3[::20], atol=1e-9)


def test_what_slides_slows_by_its_friction_and_stops() -> None:
    tracks = simulate(one_body("slides left", vx=-1.0, friction=0.1), 25, 12.0)
    stopping = 1.0 / (2 * 0.1 * physics.GRAVITY)
    assert tracks.position_TN3[-1, 0, 0] == pytest.approx(-stopping, rel=0.01)
    assert tracks.velocity_TN3[-1, 0, 0] == 0.0
    assert np.allclose(tracks.rotation_TN33, tracks.rotation_TN33[0])


def test_a_pendulum_keeps_its_energy_and_its_period() -> None:
    length, angle = 2.0, 0.1
    body = one_body("swings", length=length, center_y=3.0)
    body.state_NS[0, physics.ROLL] = angle
    body.state_NS[0, physics.X], body.state_NS[0, physics.Y] = length * np.sin(angle), 3.0 - length * np.cos(angle)
    tracks = simulate(body, 1200, 240.0)
    speed_T = (tracks.velocity_TN3[:, 0] ** 2).sum(-1)
    energy_T = 0.5 * speed_T + physics.GRAVITY * tracks.position_TN3[:, 0, 1]
    assert np.ptp(energy_T[1:]) < 1e-3 * physics.GRAVITY * length * (1 - np.cos(angle)) * 10
    crossings = np.flatnonzero(np.diff(np.sign(tracks.position_TN3[:, 0, 0])) != 0)
    assert 2 * np.diff(crossings).mean() / 240 == pytest.approx(2 * np.pi * np.sqrt(length / physics.GRAVITY), rel=0.01)


def test_what_floats_returns_with_its_own_rate() -> None:
    tracks = simulate(one_body("floats", rate=4.0, center_y=0.5), 480, 240.0)
    assert np.allclose(tracks.position_TN3[:, 0, 1], 0.5)  # at rest at its level
    body = one_body("floats", rate=4.0, center_y=0.5)
    body.state_NS[0, physics.VY] = 0.8
    tracks = simulate(body, 480, 240.0)
    assert tracks.position_TN3[:, 0, 1].max() - 0.5 == pytest.approx(0.8 / 4.0, rel=0.02)


def test_a_circle_is_closed_and_its_speed_is_constant() -> None:
    radius, rate = 1.5, 2.0
    body = one_body("orbits", length=radius, rate=rate)
    body.state_NS[0, physics.X], body.state_NS[0, physics.VZ] = radius, radius * rate
    tracks = simulate(body, 200, 60.0)
    away_T = np.linalg.norm(tracks.position_TN3[:, 0, [0, 2]], axis=-1)
    assert np.allclose(away_T, radius) and np.allclose(np.linalg.norm(tracks.velocity_TN3[:, 0], axis=-1), 3.0)


@pytest.mark.parametrize("sizes", [(0.5, 0.5), (0.4, 0.9)])
def test_an_elastic_collision_keeps_momentum_and_energy(sizes: tuple[float, float]) -> None:
    state, params = np.zeros((2, physics.STATE_SIZE)), np.zeros((2, physics.PARAMS_SIZE))
    state[:, physics.X], state[:, physics.VX] = (-1.5, 1.5), (1.8, -1.1)
    params[:, physics.P_SIZE] = sizes
    state[:, physics.Y] = sizes
    motion = FULL_MOTIONS.index("collides")
    tracks = simulate(Bodies(np.zeros(2, np.int64), np.full(2, motion), state, params), 25, 12.0)
    mass_N, speed_TN = np.array(sizes) ** 3, tracks.velocity_TN3[:, :, 0]
    momentum_T, energy_T = (mass_N * speed_TN).sum(-1), (mass_N * speed_TN**2).sum(-1)
    assert np.allclose(momentum_T, momentum_T[0]) and np.allclose(energy_T, energy_T[0])
    assert speed_TN[0, 0] > speed_TN[0, 1] and speed_TN[-1, 0] < speed_TN[-1, 1]  # they met and parted
    gap_T = tracks.position_TN3[:, 1, 0] - tracks.position_TN3[:, 0, 0]
    assert gap_T.min() > sum(sizes) - 0.02
