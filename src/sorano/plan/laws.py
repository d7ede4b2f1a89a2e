"""Scaling laws of video transformers: which size and how much data a budget of FLOPs is best spent on.

Two laws disagree by two to three times; both are shown. C is in FLOPs, N in parameters, D in tokens.

    HunyuanVideo (arXiv:2412.03603, section 4.4; C in 1e15, N and D in 1e9), from the optimum of images on:
        N = 0.0189 C^0.3618    D = 0.0108 C^0.6289
    Towards Precise Scaling Laws (arXiv:2411.17470; coefficients from notes):
        N = 1.5787 C^0.4146    batch = 2.18e4 D^0.81 N^0.19 tokens    rate = 2e-4 D^-0.045 N^-0.162
"""

from __future__ import annotations

from dataclasses import dataclass

HUNYUAN_SOURCE = "HunyuanVideo, arXiv:2412.03603 section 4.4"
PRECISE_SOURCE = "Towards Precise Scaling Laws, arXiv:2411.17470, coefficients from notes"


@dataclass(frozen=True)
class Optimum:
    """What a law says of a budget."""

    law: str
    parameters: float
    tokens: float
    tag: str
    source: str


def hunyuan(flops: float) -> Optimum:
    """HunyuanVideo's law for video, of the first stage of training; proxies of up to 6.6 B."""
    peta = flops / 1e15
    return Optimum("HunyuanVideo", 0.0189 * peta**0.3618 * 1e9, 0.0108 * peta**0.6289 * 1e9, "S", HUNYUAN_SOURCE)


def hunyuan_images(flops: float) -> Optimum:
    """The same for images, which training begins with."""
    peta = flops / 1e15
    return Optimum(
        "HunyuanVideo, images", 5.48e-4 * peta**0.5634 * 1e9, 0.324 * peta**0.4325 * 1e9, "S", HUNYUAN_SOURCE
    )


def precise(flops: float) -> Optimum:
    """The law of Yin et al.; fitted on 0.02 to 0.26 B. Its tokens follow from 6 N D = C."""
    parameters = 1.5787 * flops**0.4146
    return Optimum("Precise scaling laws", parameters, flops / 6 / parameters, "S", PRECISE_SOURCE)


def batch_tokens(parameters: float, tokens: float) -> float:
    """Tokens of a step (Yin et al.)."""
    return 2.18e4 * (tokens / 1e9) ** 0.81 * (parameters / 1e9) ** 0.19


def learning_rate(parameters: float, tokens: float) -> float:
    """Of AdamW, constant (Yin et al.)."""
    return 2e-4 * (tokens / 1e9) ** -0.045 * (parameters / 1e9) ** -0.162
