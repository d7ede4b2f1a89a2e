"""The polar code of the marks."""

import numpy as np
import pytest
from support.counts import FULL

from sorano.trust.watermark.polar import PolarCode, checksum, to_bits, to_int

CODE = PolarCode(size=1024, message_bits=44, crc_bits=28)


def noisy(random, messages, decibels):
    """Soft values of code words at a ratio of energy per message bit to noise."""
    words = 1 - 2.0 * np.stack([CODE.encode(message) for message in messages])
    deviation = (CODE.size / (2 * CODE.message_bits * 10 ** (decibels / 10))) ** 0.5
    return (words + deviation * random.normal(size=words.shape)).astype(np.float32)


def test_numbers_become_bits_and_return():
    assert to_int(to_bits(0x123456789A, 40)) == 0x123456789A
    assert to_bits(5, 4).tolist() == [0, 1, 0, 1]


def test_encoding_is_linear_but_for_the_checksum():
    """The transform is its own inverse: applied to a word, it shows frozen zeros and the message."""
    message = np.random.default_rng(0).integers(0, 2, 44).astype(np.uint8)
    inputs = CODE.encode(message)
    half = 1
    while half < CODE.size:
        pairs = inputs.reshape(-1, 2, half)
        pairs[:, 0] ^= pairs[:, 1]
        half *= 2
    assert not inputs[~CODE.is_free_N].any()
    assert np.array_equal(inputs[CODE.is_free_N], np.concatenate([message, checksum(message, 28)]))


def test_words_come_through_noise():
    random = np.random.default_rng(1)
    messages = random.integers(0, 2, (40, 44)).astype(np.uint8)
    decoded = CODE.decode(noisy(random, messages, 4.0))
    right = [word is not None and np.array_equal(word, sent) for word, sent in zip(decoded, messages, strict=True)]
    assert np.mean(right) == 1


def test_a_word_decodes_the_same_alone_and_in_a_batch_at_any_scale():
    random = np.random.default_rng(2)
    messages = random.integers(0, 2, (8, 44)).astype(np.uint8)
    soft = noisy(random, messages, 2.0)
    together = CODE.decode(soft)
    for row, found in zip(soft, together, strict=True):
        alone = CODE.decode(7.5 * row[None])[0]
        assert (alone is None) == (found is None) and (found is None or np.array_equal(alone, found))


def test_noise_is_not_accepted():
    random = np.random.default_rng(3)
    for _ in range(100 if FULL else 2):
        soft = random.normal(size=(100, 1024)).astype(np.float32)
        assert CODE.decode(soft) == [None] * 100
    assert CODE.false_accept_rate(10_000) < 1e-3


@pytest.mark.parametrize("size, message, crc", [(1000, 44, 28), (64, 60, 28), (64, 8, 33), (64, 8, 0)])
def test_impossible_codes_are_refused(size, message, crc):
    with pytest.raises(ValueError, match="no polar code"):
        PolarCode(size=size, message_bits=message, crc_bits=crc)
