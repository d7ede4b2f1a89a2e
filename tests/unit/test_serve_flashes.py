"""Flashes are counted as WCAG 2.2 counts them."""

import numpy as np
import pytest

from sorano.serve.flashes import count

FPS = 12


def blinking(times, low=(0, 0, 0), high=(255, 255, 255), share=1.0, seconds=2):
    """Pictures that blink so many times a second, in a share of their area."""
    for number in range(seconds * FPS):
        picture = np.full((64, 64, 3), 40, np.uint8)
        is_high = int(number * times * 2 / FPS) % 2
        picture[: round(64 * share)] = high if is_high else low
        yield number / FPS, picture


@pytest.mark.parametrize(("times", "is_safe"), [(0, True), (1, True), (2, True), (5, False), (6, False)])
def test_flashes_a_second(times, is_safe):
    assert count(blinking(times)).is_safe is is_safe


def test_small_and_faint_flashes_do_not_count():
    assert count(blinking(6, share=0.2)).general == 0
    assert count(blinking(6, low=(120, 120, 120), high=(125, 125, 125))).general == 0
    assert count(blinking(6, low=(240, 240, 240), high=(255, 255, 255))).general == 0  # both bright


def test_red_flashes_count_though_they_are_as_bright():
    found = count(blinking(5, low=(0, 0, 0), high=(150, 0, 0)))
    assert found.red > 3 and not found.is_safe


def test_a_slow_change_is_no_flash():
    ramp = ((number / FPS, np.full((32, 32, 3), 10 * number, np.uint8)) for number in range(24))
    assert count(ramp).is_safe
