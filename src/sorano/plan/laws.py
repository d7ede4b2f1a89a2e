"""Scaling laws of video transformers: which size and how much data a budget of FLOPs is best spent on.

Two laws disagree by two to three times; both are shown. The coefficients are rows of data/laws.csv; a row gives

    factor x (C / c_unit)^c_power x (D / 1e9)^d_power x (N / 1e9)^n_power x result_unit

of C FLOPs, N parameters and D tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from sorano.plan.assumptions import Assumptions, number


@dataclass(frozen=True)
class Optimum:
    """What a law says of a budget."""

    law: str
    parameters: float
    tokens: float
    tag: str
    source: str


def hunyuan(assumptions: Assumptions, flops: float, kind: str = "hunyuanvideo") -> Optimum:
    """HunyuanVideo's law for video; with `kind` "hunyuanvideo-images" for the images that training begins with."""
    row = assumptions.row("laws", f"{kind}.parameters")
    tokens = _law(assumptions, f"{kind}.tokens", flops=flops)
    return Optimum("HunyuanVideo", _law(assumptions, row["name"], flops=flops), tokens, row["tag"], row["source"])


def precise(assumptions: Assumptions, flops: float) -> Optimum:
    """The law of Yin et al. Its tokens follow from 6 N D = C."""
    row = assumptions.row("laws", "precise.parameters")
    parameters = _law(assumptions, row["name"], flops=flops)
    return Optimum("Precise scaling laws", parameters, flops / 6 / parameters, row["tag"], row["source"])


def batch_tokens(assumptions: Assumptions, parameters: float, tokens: float) -> float:
    """Tokens of a step (Yin et al.)."""
    return _law(assumptions, "precise.batch", parameters=parameters, tokens=tokens)


def learning_rate(assumptions: Assumptions, parameters: float, tokens: float) -> float:
    """Of AdamW, constant (Yin et al.)."""
    return _law(assumptions, "precise.rate", parameters=parameters, tokens=tokens)


def _law(
    assumptions: Assumptions, name: str, *, flops: float = 1.0, tokens: float = 1e9, parameters: float = 1e9
) -> float:
    row = assumptions.row("laws", name)

    def cell(column: str, default: float | None = None) -> float:
        return number(row, column, "laws", default)

    grown = (flops / cell("c_unit")) ** cell("c_power", 0.0)
    grown *= (tokens / 1e9) ** cell("d_power", 0.0) * (parameters / 1e9) ** cell("n_power", 0.0)
    return cell("factor") * grown * cell("result_unit")
