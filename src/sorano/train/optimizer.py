"""What turns gradients into steps: Muon for the matrices inside a network, AdamW for all else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) makes the running mean of a matrix's gradients
nearly orthogonal before it is applied, so that rare directions learn as fast as common ones. Its steps are scaled to
the size that AdamW's usually have (Liu et al., arXiv:2502.16982, eq. 4), so both share one learning rate.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from sorano.device import bf16_feature

# first and last layers, embeddings and tables are not maps between hidden states: AdamW takes them
OUTER = ("patch_embedding", "proj_out", "conv_in", "conv_out", "shared", "scale_shift_table", "relative_attention_bias")
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: quickest to about 1, not exact
NEWTON_SCHULZ_STEPS = 5
ADAMW_RMS = 0.2  # the root mean square of an AdamW step, in learning rates


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonal matrices; weights of convolutions count as matrices [out, in * kernel]."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.cpu_has_bfloat16 = bool(bf16_feature())  # emulated products took seven times as long as float32's

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients at hand. Matrices of one shape are made orthogonal together."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            alike: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    matrix = parameter.flatten(1)
                    alike[matrix.shape[0], matrix.shape[1]].append(parameter)
            for (rows, columns), parameters in alike.items():
                moments = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    moments.append(state["momentum"])
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                torch._foreach_lerp_(moments, gradients, 1 - momentum)
                ahead = torch._foreach_lerp(gradients, moments, momentum)  # Nesterov's
                emulated = parameters[0].device.type == "cpu" and not self.cpu_has_bfloat16
                dtype = torch.float32 if emulated else torch.bfloat16
                steps = orthogonal(torch.stack([one.flatten(1) for one in ahead]), dtype)
                size = ADAMW_RMS * max(rows, columns) ** 0.5
                torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
                turned = [one.view_as(parameter) for one, parameter in zip(steps, parameters, strict=True)]
                torch._foreach_add_(parameters, turned, alpha=-rate * size)


STATE = {torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"), Muon: ("momentum",)}  # what a checkpoint keeps


def orthogonal(matrices_NRC: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The nearest orthogonal matrices, roughly: singular values of all but tiny ones come out between 0.7 and 1.2."""
    x = matrices_NRC.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = a * x + torch.baddbmm(square, square, square, beta=b, alpha=c) @ x
    return (x.mT if tall else x).to(matrices_NRC.dtype)


def optimizers(
    model: nn.Module, learning_rate: float, *, betas: tuple[float, float], weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon and AdamW for a network's trained parameters. Gains, biases and tables do not decay."""
    inner: list[Tensor] = []
    outer: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2 and parameter.flatten(1).shape[1] > 1
        at_edge = any(part in name for part in OUTER)
        (plain if not is_matrix else outer if at_edge else inner).append(parameter)
    groups = [{"params": outer, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    return [adamw, Muon(inner, learning_rate, weight_decay=weight_decay)] if inner else [adamw]
