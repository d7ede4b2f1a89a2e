"""The error-correcting code of the marks: a polar code whose list decoder is aided by a CRC.

A message of `K` bits becomes `N` code bits (a power of two) by Arikan's transform (arXiv:0807.3917). The message rides
on the `K` most reliable of the `N` inputs, ranked by polarization weight with beta = 2^(1/4) (3GPP R1-1708833); the
others are frozen to 0. The decoder is successive cancellation with a list (Tal and Vardy, arXiv:1206.0050), in min-sum
form, so that soft values of any scale will do. It works on many candidates at once and prunes the parts of the tree
that carry no message (rate 0) or one bit (repetition).

Covered: whether a message is accepted is decided by the CRC alone; `false_accept_rate` bounds how often noise passes.
Not covered: secrecy and authenticity. A CRC is no signature: whoever knows the code can make a valid word.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
Floats = NDArray[np.float32]

LIST_SIZE = 16  # paths that the decoder keeps


def to_bits(value: int, count: int) -> Bits:
    """The `count` lowest bits of a number, the highest first."""
    return np.array([value >> shift & 1 for shift in range(count - 1, -1, -1)], np.uint8)


def to_int(bits: Bits) -> int:
    """The number that bits spell, the highest first."""
    return int("".join(map(str, bits.tolist())), 2)


def checksum(message: Bits, count: int) -> Bits:
    """The `count` (at most 32) highest bits of the CRC-32 (IEEE 802.3) of a message, packed into whole bytes."""
    return to_bits(zlib.crc32(np.packbits(message).tobytes()) >> (32 - count), count)


@dataclass(frozen=True)
class PolarCode:
    """A code of `size` bits for `message_bits` followed by `crc_bits` of CRC."""

    size: int
    message_bits: int
    crc_bits: int
    is_free_N: NDArray[np.bool_] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        carried = self.message_bits + self.crc_bits
        if self.size & (self.size - 1) or not 0 < carried <= self.size or not 0 < self.crc_bits <= 32:
            raise ValueError(f"no polar code of {self.size} bits for {self.message_bits} + {self.crc_bits} bits")
        stages = self.size.bit_length() - 1
        index = np.arange(self.size)
        weight = sum((index >> stage & 1) * 2.0 ** (stage / 4) for stage in range(stages))
        is_free = np.zeros(self.size, bool)
        is_free[np.argsort(weight, kind="stable")[-carried:]] = True
        object.__setattr__(self, "is_free_N", is_free)

    def false_accept_rate(self, candidates: int, list_size: int = LIST_SIZE) -> float:
        """How often, at most, noise passes the CRC when `candidates` words are decoded (union bound)."""
        return min(1.0, candidates * list_size * 2.0**-self.crc_bits)

    def encode(self, message: Bits) -> Bits:
        """The code word, `size` bits, of a message of `message_bits` bits."""
        if message.shape != (self.message_bits,):
            raise ValueError(f"the message must have {self.message_bits} bits: got {message.shape}")
        word = np.zeros(self.size, np.uint8)
        word[self.is_free_N] = np.concatenate([message, checksum(message, self.crc_bits)])
        half = 1
        while half < self.size:  # u F^(x)n, in place
            pairs = word.reshape(-1, 2, half)
            pairs[:, 0] ^= pairs[:, 1]
            half *= 2
        return word

    def decode(self, soft_BN: Floats, list_size: int = LIST_SIZE) -> list[Bits | None]:
        """The message in each row of soft values (positive where the bit is more likely 0), or None."""
        paths = _Paths(self, np.asarray(soft_BN, np.float32), list_size)
        paths.walk(self.size.bit_length() - 1, 0)
        found: list[Bits | None] = []
        for metric_L, bits_LK in zip(paths.metric_BL, paths.bits_BLK, strict=True):
            found.append(None)
            for path in np.argsort(metric_L, kind="stable"):
                message, crc = bits_LK[path, : self.message_bits], bits_LK[path, self.message_bits :]
                if metric_L[path] < np.inf and np.array_equal(crc, checksum(message, self.crc_bits)):
                    found[-1] = message
                    break
        return found


class _Paths:
    """The list decoder's state for B words: L paths each, with their beliefs at every stage of the tree."""

    def __init__(self, code: PolarCode, soft_BN: Floats, list_size: int) -> None:
        batch, size = soft_BN.shape
        if size != code.size:
            raise ValueError(f"a word has {code.size} soft values: got {size}")
        stages = size.bit_length() - 1
        self.is_free_N = code.is_free_N
        self.metric_BL = np.full((batch, list_size), np.inf, np.float32)  # penalties; the first path lives
        self.metric_BL[:, 0] = 0
        self.bits_BLK = np.zeros((batch, list_size, code.message_bits + code.crc_bits), np.uint8)
        self.known = 0
        self.soft = [np.zeros((batch, list_size, 1 << stage), np.float32) for stage in range(stages + 1)]
        self.soft[stages][:] = soft_BN[:, None]
        self.left = [np.zeros((batch, list_size, 1 << stage), np.uint8) for stage in range(stages)]
        self.soft_needed: list[int] = []  # stages whose beliefs, and whose left halves, are still to be used
        self.left_needed: list[int] = []

    def walk(self, stage: int, first: int) -> Bits:
        """Decides the inputs first .. first + 2^stage; returns their code bits, [B, L, 2^stage]."""
        free = self.is_free_N[first : first + (1 << stage)]
        if not free[:-1].any():
            return self._repeat(stage) if free[-1] else self._nothing(stage)
        half = 1 << (stage - 1)
        a, b = self.soft[stage][..., :half], self.soft[stage][..., half:]
        self.soft[stage - 1] = np.copysign(np.minimum(np.abs(a), np.abs(b)), a * b)
        self.soft_needed.append(stage)
        self.left[stage - 1] = self.walk(stage - 1, first)
        self.soft_needed.pop()
        a, b = self.soft[stage][..., :half], self.soft[stage][..., half:]  # paths may have been reordered
        self.soft[stage - 1] = b + np.where(self.left[stage - 1] == 1, -a, a)
        self.left_needed.append(stage - 1)
        right = self.walk(stage - 1, first + half)
        self.left_needed.pop()
        return np.concatenate([self.left[stage - 1] ^ right, right], -1)

    def _nothing(self, stage: int) -> Bits:
        """All frozen: the word is 0, and beliefs that say otherwise count against the path."""
        self.metric_BL += np.maximum(-self.soft[stage], 0).sum(-1)
        return np.zeros(self.soft[stage].shape, np.uint8)

    def _repeat(self, stage: int) -> Bits:
        """One free bit, repeated: each path goes on as 0 and as 1, and the best L stay."""
        soft_BLn = self.soft[stage]
        lists = soft_BLn.shape[1]
        both = [self.metric_BL + np.maximum(sign * soft_BLn, 0).sum(-1) for sign in (-1, 1)]
        metric = np.concatenate(both, -1)
        best_BL = np.argsort(metric, -1, kind="stable")[:, :lists]
        parent_BL, bit_BL = best_BL % lists, (best_BL // lists).astype(np.uint8)
        self.metric_BL = np.take_along_axis(metric, best_BL, -1)
        row = (np.arange(len(parent_BL))[:, None] * lists + parent_BL).ravel()
        self.bits_BLK = _rows(self.bits_BLK, row)
        self.bits_BLK[..., self.known] = bit_BL
        self.known += 1
        for needed in self.soft_needed:
            if needed < len(self.soft) - 1:  # what was received is the same for all paths
                self.soft[needed] = _rows(self.soft[needed], row)
        for needed in self.left_needed:
            self.left[needed] = _rows(self.left[needed], row)
        return np.repeat(bit_BL[..., None], 1 << stage, -1)


def _rows(kept_BLn: NDArray[Any], row: NDArray[np.int64]) -> NDArray[Any]:
    """The paths of each word that go on, in their new order."""
    return kept_BLn.reshape(-1, kept_BLn.shape[2])[row].reshape(kept_BLn.shape)
