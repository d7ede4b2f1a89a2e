"""The challenge by coded light, on simulated faces through VP8, and the words that are said."""

import numpy as np
import pytest
from support.calling import answer_light
from support.counts import FULL

from sorano.desk.call.light import DECOYS, GREY, STEPS, LightChallenge, codes_of
from sorano.desk.call.words import WORDS, call_words

TIMES = 1000.0
SEEDS = range(24 if FULL else 3)


def test_faces_that_follow_their_screen_pass():
    found = [answer_light(LightChallenge.draw(TIMES), seed, share=0.1) for seed in SEEDS]
    assert sum(one.passed for one in found) >= len(found) - (1 + len(found) // 20)
    assert all(0 < one.delay < 0.8 for one in found if one.passed)


def test_recordings_of_another_challenge_do_not():
    found = [answer_light(LightChallenge.draw(TIMES), seed, share=0.15, shows=False) for seed in SEEDS]
    assert sum(one.passed for one in found) <= len(found) // 12  # none of three, two of 24
    assert all(one.rank > 1 for one in found)


def test_noise_passes_as_often_as_the_ranks_say():
    """Pictures that know nothing of the code rank evenly among the decoys: 1 in 200 passes."""
    random, ranks = np.random.default_rng(5), []
    for _ in range(60 if FULL else 10):
        challenge = LightChallenge.draw(TIMES)
        for number in range(140):
            challenge.add(challenge.began - 2 + number / 14, 120 + random.normal(0, 2, 3).cumsum())
        ranks.append(challenge.result().rank)
    assert 0.25 < np.mean(ranks) / (DECOYS + 1) < 0.75


def test_codes_are_drawn_anew_and_even_and_the_screen_can_show_them():
    first, second = LightChallenge.draw(TIMES), LightChallenge.draw(TIMES)
    assert not np.array_equal(first.codes_2N, second.codes_2N)
    assert np.all(codes_of(np.random.default_rng(1)).sum(1) == 0)
    assert len(first.screen()) == STEPS and all(0 <= one <= 255 for row in first.screen() for one in row)
    assert abs(np.mean(first.screen()) - GREY) < 3


def test_too_few_pictures_do_not_pass():
    challenge = LightChallenge.draw(TIMES)
    for number in range(20):
        challenge.add(TIMES + number / 2, np.array([1.0, 2.0, 3.0]))
    assert not challenge.result().passed
    assert not challenge.is_over(TIMES) and challenge.is_over(TIMES + 60)


def test_the_same_words_from_both_sides():
    assert len(WORDS) == len(set(WORDS)) == 256
    assert call_words("c", "a", "b") == call_words("c", "b", "a") != call_words("d", "a", "b")
    told = [call_words("call", "key", f"other {number}") for number in range(200)]
    assert len({one["en"] for one in told}) > 195 and len({one["zh"] for one in told}) > 195
    assert all(len(one["zh"]) == 5 for one in told)


@pytest.mark.parametrize("word", ["", "x" * 4000])
def test_words_of_any_names(word):
    assert call_words(word, word, word)["en"]
