"""What the world knows about every latent: targets that a middle block of the transformer learns to name.

A flow model's loss hardly tells a cone from a cube. The world knows what covers each cell of the latent grid, how it
moves and how the camera does; small heads read this from the tokens of a middle block, so that the network has it at
hand early (the oracle's version of representation alignment, Yu et al., arXiv:2410.06940). The heads are left behind
when the model is exported, and their loss is switched off for the last third of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sorano.models.layers import Linear
from sorano.world.dataset import Laid
from sorano.world.scene import COLORS, FULL_CAMERAS, FULL_KINDS, FULL_MOTIONS, SIZES

MAX_THINGS = 3
WORDS = {  # of a thing; 0 is "nothing here"
    "kind": FULL_KINDS,
    "color": COLORS,
    "size": SIZES,
    "motion": FULL_MOTIONS,
}
WEIGHTS = {"kind": 1.0, "color": 1.0, "size": 0.5, "motion": 0.5, "thing_motion": 0.5, "camera": 0.5, "turn": 0.5}
COVERED = 0.3  # share of a cell that things must cover for it to be theirs
EMPTY_WEIGHT = 0.2  # of a cell without a thing, against 1: most are empty
TURN_SCALE = 5.0  # cameras turn by about 0.2 rad/s and zoom by about 0.2 a second (logarithm)


@dataclass(frozen=True)
class Truth:
    """Targets of N clips on the latent grid [T, H, W]."""

    cells_NTHW: Tensor  # uint8: 0, or 1 + the thing that covers most of the cell
    words_NSF: Tensor  # uint8: 1 + the index of each thing's kind, colour, size and motion; 0 where there is no thing
    thing_motion_NTS4: Tensor  # float16: velocity in m/s (right, up, away) and the logarithm of the depth
    camera_N: Tensor  # uint8: the index of its movement
    turn_NT2: Tensor  # float16: yaw and logarithm of the focal length, change a second, times TURN_SCALE

    def __len__(self) -> int:
        return len(self.camera_N)

    def to_dict(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def joined(parts: Sequence[Truth]) -> Truth:
        return Truth(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Truth)))

    def window(self, clips: Tensor, start: int, length: int) -> Truth:
        """The targets of a window of latent frames of some clips."""
        time = slice(start, start + length)
        return Truth(
            self.cells_NTHW[clips, time],
            self.words_NSF[clips],
            self.thing_motion_NTS4[clips, time],
            self.camera_N[clips],
            self.turn_NT2[clips, time],
        )


def truth_of(laid: Laid, mask_THW: NDArray[np.uint8], fps: float, spatial: int, temporal: int) -> Truth:
    """The targets of one clip, on the latent grid of an autoencoder with these factors."""
    things = laid.attributes.things
    words = np.zeros((1, MAX_THINGS, len(WORDS)), np.uint8)
    for number, thing in enumerate(things):
        words[0, number] = [1 + labels.index(str(getattr(thing, name))) for name, labels in WORDS.items()]
    motion_TS4 = np.zeros((len(mask_THW), MAX_THINGS, 4))
    motion_TS4[:, : len(things), :3] = laid.velocities_TN3
    _, depth_TN = laid.cameras.project(laid.tracks_TN3, *mask_THW.shape[1:])
    motion_TS4[:, : len(things), 3] = np.log(np.maximum(depth_TN, 0.1))
    forward_T3 = laid.cameras.rotation_T33[:, 2]
    turn_T2 = np.stack([np.arctan2(forward_T3[:, 0], forward_T3[:, 2]), np.log(laid.cameras.focal_T)], 1)
    rate_T2 = np.gradient(turn_T2, 1 / fps, axis=0) if len(turn_T2) > 1 else np.zeros_like(turn_T2)
    return Truth(
        torch.from_numpy(cells_of(mask_THW, spatial, temporal))[None],
        torch.from_numpy(words),
        _by_latent(motion_TS4, temporal),
        torch.tensor([FULL_CAMERAS.index(str(laid.attributes.camera))], dtype=torch.uint8),
        _by_latent(TURN_SCALE * rate_T2, temporal),
    )


def cells_of(mask_THW: NDArray[np.uint8], spatial: int, temporal: int) -> NDArray[np.uint8]:
    """Which thing covers each cell of the latent grid: the one with most pixels, where things have enough of them."""
    t, h, w = mask_THW.shape
    first, rest = mask_THW[:1], mask_THW[1:]
    groups = [np.repeat(first, temporal, 0)[None], rest.reshape((t - 1) // temporal, temporal, h, w)]
    cells = np.concatenate(groups).reshape(-1, temporal, h // spatial, spatial, w // spatial, spatial)
    shares = np.stack([(cells == number).mean((1, 3, 5)) for number in range(1, MAX_THINGS + 1)])
    found = (1 + shares.argmax(0)) * (shares.sum(0) > COVERED)
    return found.astype(np.uint8)


def _by_latent(values_TX: NDArray[np.float64], temporal: int) -> Tensor:
    """Per-frame values as means over the frames of each latent [1, T', ...]; the first latent has one frame."""
    rest = values_TX[1:].reshape(-1, temporal, *values_TX.shape[1:]).mean(1)
    return torch.from_numpy(np.concatenate([values_TX[:1], rest])).half()[None]


class TruthHeads(nn.Module):
    """Reads the truth from tokens [B, L, D], each of which covers a patch of rows and columns of cells."""

    def __init__(self, width: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.patch = patch
        cells = patch[0] * patch[1]
        self.sizes = {name: cells * (1 + len(labels)) for name, labels in WORDS.items()}
        self.sizes |= {"thing_motion": 4 * cells, "camera": len(FULL_CAMERAS), "turn": 2}
        self.mix = Linear(width, width)
        self.read = Linear(width, sum(self.sizes.values()))
        for layer in (self.mix, self.read):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens_BLD: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """Logits and values, float32: [B, L, cells, ...] of cells, [B, L, ...] of the camera."""
        x = F.layer_norm(tokens_BLD, tokens_BLD.shape[-1:]).to(dtype)
        read = self.read(F.gelu(self.mix(x))).float().split(list(self.sizes.values()), dim=-1)
        cells = self.patch[0] * self.patch[1]
        found = dict(zip(self.sizes, read, strict=True))
        return {
            name: value if name in ("camera", "turn") else value.unflatten(-1, (cells, -1))
            for name, value in found.items()
        }

    def loss(self, tokens_BLD: Tensor, truth: Truth, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of what the heads get wrong, and how often kind, colour, motion and camera are right.

        `tokens_BLD` are those of the truth's latent frames only.
        """
        found = self(tokens_BLD, dtype)
        device = tokens_BLD.device
        cells_BLC = self._by_token(truth.cells_NTHW.to(device)).long()
        rows_B = torch.arange(len(cells_BLC), device=device)[:, None, None]
        thing_BLC = (cells_BLC - 1).clamp(min=0)
        here_BLC = cells_BLC > 0
        weight_BLC = torch.where(here_BLC, 1.0, EMPTY_WEIGHT)
        tokens = cells_BLC.shape[1] // truth.turn_NT2.shape[1]  # of a latent frame
        words_BSF = truth.words_NSF.to(device).long()
        parts: dict[str, Tensor] = {}
        numbers: dict[str, Tensor] = {}
        for index, name in enumerate(WORDS):
            target = words_BSF[rows_B, thing_BLC, index] * here_BLC
            wrong = F.cross_entropy(found[name].flatten(0, 2), target.flatten(), reduction="none")
            parts[name] = (wrong * weight_BLC.flatten()).sum() / weight_BLC.sum()
            right = (found[name].detach().argmax(-1) == target) & here_BLC
            numbers[f"read_{name}"] = right.sum() / here_BLC.sum().clamp_min(1)
        motion_BTS4 = truth.thing_motion_NTS4.to(device).float()
        time_L = torch.arange(motion_BTS4.shape[1], device=device).repeat_interleave(tokens)
        target = motion_BTS4[rows_B, time_L[:, None], thing_BLC]
        apart = F.smooth_l1_loss(found["thing_motion"], target, reduction="none", beta=0.2).mean(-1)
        parts["thing_motion"] = (apart * here_BLC).sum() / here_BLC.sum().clamp_min(1)
        camera_BL = truth.camera_N.to(device).long()[:, None].expand(cells_BLC.shape[:2])
        parts["camera"] = F.cross_entropy(found["camera"].flatten(0, 1), camera_BL.flatten())
        numbers["read_camera"] = (found["camera"].detach().argmax(-1) == camera_BL).float().mean()
        turn_BL2 = truth.turn_NT2.to(device).float().repeat_interleave(tokens, dim=1)
        parts["turn"] = F.smooth_l1_loss(found["turn"], turn_BL2, beta=0.2)
        return torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum(), numbers

    def _by_token(self, cells_BTHW: Tensor) -> Tensor:
        """Cells [B, T, H, W] as [B, L, cells of a token], in the order of tokens."""
        b, t, h, w = cells_BTHW.shape
        q, r = self.patch
        return cells_BTHW.reshape(b, t, h // q, q, w // r, r).transpose(3, 4).reshape(b, -1, q * r)
