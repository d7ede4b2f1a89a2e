"""Learning to read: the text encoder names what its captions state before it has to steer a video by them.

What a caption says changes the flow model's loss very little, and a text encoder that learns from that alone takes most
of a run to tell a cone from a cube. The world knows what each caption states, so the encoder first learns that for a
minute: one query for each slot ("the colour of the left thing", "the camera") attends to its tokens, as the
transformer's blocks will, and names the slot's value or says that the caption is silent. The queries are then dropped.

A text encoder that was grown from another one (`sorano.train.grow`) stays near to what that one makes of the same
captions, so that a transformer which knows that one understands it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorano.models.layers import Linear
from sorano.models.wan.text_encoder import TextEncoder, TextTokens, Tokenizer
from sorano.train.loop import Batch
from sorano.world.caption import parse
from sorano.world.scene import Attributes, Thing

MAX_THINGS = 3


def slots(stated: Attributes) -> dict[str, str | None]:
    """What a caption states, slot by slot; None where it is silent. Things are in canonical order, left first."""
    found: dict[str, str | None] = {}
    for number in range(MAX_THINGS):
        thing = stated.things[number] if number < len(stated.things) else Thing(None)
        found |= {f"{field.name} {number}": getattr(thing, field.name) for field in dataclasses.fields(Thing)}
    rest = [field.name for field in dataclasses.fields(Attributes) if field.name != "things"]
    return found | {name: getattr(stated, name) for name in rest}


class Reader(nn.Module):
    """The text encoder with a query and a classifier for each slot; it is given the number of values of each."""

    def __init__(self, text_encoder: TextEncoder, num_values: list[int]) -> None:
        super().__init__()
        width = text_encoder.config.d_model
        self.text_encoder = text_encoder
        self.query_QD = nn.Parameter(torch.randn(len(num_values), width))
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.name_QDV = nn.Parameter(torch.randn(len(num_values), width, max(num_values)) * width**-0.5)
        for layer in (self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        absent_QV = torch.arange(max(num_values)) >= torch.tensor(num_values)[:, None]
        self.register_buffer("absent_QV", absent_QV)

    def forward(self, ids: list[list[int]], dtype: torch.dtype) -> Tensor:
        """Scores [B, Q, V] of each slot's values."""
        return self.read(self.text_encoder.encode(ids, dtype=dtype))

    def read(self, text: TextTokens) -> Tensor:
        """The same of captions that are encoded."""
        scores_BQS = self.query_QD @ self.key(text.text_BSD).float().mT * self.query_QD.shape[1] ** -0.5
        position_S = torch.arange(text.text_BSD.shape[1], device=scores_BQS.device)
        beyond_BS = position_S >= text.lengths_B.to(scores_BQS.device)[:, None]
        weight_BQS = scores_BQS.masked_fill(beyond_BS[:, None], -torch.inf).softmax(-1)
        read_BQD = F.rms_norm(weight_BQS @ self.value(text.text_BSD).float(), (self.query_QD.shape[1],))
        values_BQV = torch.einsum("bqd,qdv->bqv", read_BQD, self.name_QDV)
        return values_BQV.masked_fill(self.absent_QV, -torch.inf)  # type: ignore[arg-type]


class TextPretrainingTask:
    """Batches of captions with what they state, read off them by the world's parser."""

    name = "reading"

    def __init__(
        self,
        text_encoder: TextEncoder,
        tokenizer: Tokenizer,
        captions: list[list[str]],
        *,
        batch_size: int,
        dtype: torch.dtype,
        source: TextEncoder | None = None,
        align_weight: float = 1.0,
    ) -> None:
        self.batch_size, self.dtype, self.source, self.align_weight = batch_size, dtype, source, align_weight
        texts = list(dict.fromkeys(text for clip in captions for text in clip))
        said = [slots(parse(text)) for text in texts]
        self.values = {slot: sorted({one[slot] or "" for one in said}) for slot in said[0]}
        places = {slot: {value: place for place, value in enumerate(values)} for slot, values in self.values.items()}
        self.truth_NQ = torch.tensor([[places[slot][value or ""] for slot, value in one.items()] for one in said])
        self.ids = tokenizer.encode(texts)
        device = text_encoder.shared.weight.device
        self.model = Reader(text_encoder, [len(values) for values in self.values.values()]).to(device)

    def batch(self, generator: torch.Generator) -> Batch:
        picks = torch.randint(len(self.ids), (self.batch_size,), generator=generator)
        return {"ids": [self.ids[pick] for pick in picks.tolist()], "truth_BQ": self.truth_NQ[picks]}

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        text = self.model.text_encoder.encode(batch["ids"], dtype=self.dtype)
        scores_BQV = self.model.read(text)
        truth_BQ = batch["truth_BQ"].to(scores_BQV.device)
        loss = F.cross_entropy(scores_BQV.flatten(0, 1), truth_BQ.flatten())
        right_B = (scores_BQV.argmax(-1) == truth_BQ).all(1)
        numbers = {"all_right": right_B.float().mean()}
        if self.source is not None:
            with torch.no_grad():
                target_BSD = self.source.encode(batch["ids"], dtype=self.dtype).text_BSD.float()
            apart = (text.text_BSD.float() - target_BSD).square().sum() / target_BSD.square().sum()
            loss, numbers["apart"] = loss + self.align_weight * apart, apart.detach()
        return loss, numbers

    def sheet(self, model: nn.Module) -> np.ndarray | None:
        return None
