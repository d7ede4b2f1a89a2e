"""Prompts to text tokens: cleaning, vocabulary, and the UMT5 encoder.

Weights have transformers' names (`UMT5EncoderModel`). A small model has a small vocabulary of whole English words and
single Chinese characters, kept as a `tokenizer.json` that transformers' `PreTrainedTokenizerFast` also loads.

Axes: B batch, S text tokens, D width, N heads, K width per head.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor, nn

from sorano.models.attention import attention
from sorano.models.layers import Linear
from sorano.models.wan.config import MAX_TEXT_TOKENS, TextEncoderConfig

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
_CHINESE = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"


@dataclass(frozen=True)
class TextTokens:
    """Encoded prompts: the real tokens of each, then zeros; one column more than the longest prompt has tokens."""

    text_BSD: Tensor
    lengths_B: Tensor  # real tokens of each prompt, on the CPU

    def bias(self, total: int = MAX_TEXT_TOKENS) -> Tensor:
        """What to add to the attention scores [B, S] so that attending to these equals attending to `total` tokens.

        The padding to `total` is zeros, so all padded positions share one key and one value: `total - n` of them weigh
        as one with log(total - n) added to its score. 0 for real tokens, that at the pad key, -inf beyond.
        """
        device = self.text_BSD.device
        lengths_B1 = self.lengths_B.to(device)[:, None]
        position_S = torch.arange(self.text_BSD.shape[1], device=device)
        at_pad = torch.log((total - lengths_B1).float())
        beyond = torch.full_like(at_pad, -math.inf)
        return torch.where(position_S < lengths_B1, 0.0, torch.where(position_S == lengths_B1, at_pad, beyond))

    def to(self, where: torch.device | torch.dtype | str) -> TextTokens:
        """The same on another device or in another dtype."""
        text_BSD = self.text_BSD.to(where) if isinstance(where, torch.dtype) else self.text_BSD.to(device=where)
        return TextTokens(text_BSD, self.lengths_B)

    @staticmethod
    def cat(parts: Sequence[TextTokens]) -> TextTokens:
        """One batch of several, widened to the longest."""
        width = max(part.text_BSD.shape[1] for part in parts)
        texts = [F.pad(part.text_BSD, (0, 0, 0, width - part.text_BSD.shape[1])) for part in parts]
        return TextTokens(torch.cat(texts), torch.cat([part.lengths_B for part in parts]))

    def __getitem__(self, items: slice | Sequence[int] | Tensor) -> TextTokens:
        """The prompts `items` of the batch."""
        return TextTokens(self.text_BSD[items], self.lengths_B[items])


def clean_prompt(prompt: str) -> str:
    """Clean a prompt as diffusers' Wan pipelines do: mend broken encodings (ftfy), unescape HTML, join white space.

    Machines that only train may lack ftfy; it changes nothing in text whose encoding is sound and whose quotes are
    straight, as captions are.
    """
    try:
        import ftfy
    except ModuleNotFoundError:
        pass
    else:
        prompt = ftfy.fix_text(prompt)
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt)).strip()).strip()


class Tokenizer:
    """A vocabulary: `encode` turns prompts into ids."""

    def __init__(self, fast: FastTokenizer, max_length: int = MAX_TEXT_TOKENS) -> None:
        self.fast = fast
        self.max_length = max_length

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.json`."""
        fast = FastTokenizer.from_file(str(path))
        fast.no_padding()
        fast.no_truncation()
        return cls(fast)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and what transformers' `PreTrainedTokenizerFast.from_pretrained` needs beside it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.fast.save(str(folder / "tokenizer.json"))
        special = {"pad_token": PAD, "eos_token": END, "unk_token": UNKNOWN}
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.max_length,
            "padding_side": "right",
            "clean_up_tokenization_spaces": False,
            **special,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """The ids of each cleaned prompt, with the end token, cut to `max_length`."""
        return [self._cut(self.fast.encode(clean_prompt(prompt)).ids) for prompt in prompts]

    def _cut(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= self.max_length else [*ids[: self.max_length - 1], ids[-1]]

    def __len__(self) -> int:
        size: int = self.fast.get_vocab_size()
        return size


def build_tokenizer(words: Iterable[str], max_length: int = MAX_TEXT_TOKENS) -> Tokenizer:
    """A vocabulary of exactly these words: lower case, split at white space and punctuation, Chinese by character.

    Ids are given in order of first appearance after <pad>=0, </s>=1, <unk>=2, so the same list gives the same ids.
    Phrases are split into their words.
    """
    normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CHINESE), "isolated"),
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    pieces = (piece for word in words for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(word)))
    vocabulary = dict.fromkeys([PAD, END, UNKNOWN, *pieces])
    fast = FastTokenizer(models.WordLevel({piece: index for index, piece in enumerate(vocabulary)}, unk_token=UNKNOWN))
    fast.normalizer = normalizer
    fast.pre_tokenizer = splitter
    fast.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, fast.token_to_id(END))]
    )
    fast.add_special_tokens([PAD, END, UNKNOWN])
    return Tokenizer(fast, max_length)


class TextEncoder(nn.Module):
    """The UMT5 encoder: bidirectional attention without scaling, a position bias learned in every layer."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config)
        self._buckets: dict[tuple[int, torch.device], Tensor] = {}
        if not self.shared.weight.is_meta:
            self.reset_parameters()

    def forward(self, ids_BS: Tensor, lengths_B: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Encode ids to [B, S, D] in `dtype` (the embedding's unless told), in which products also run.

        Tokens from `lengths_B` on are not attended to; their own outputs mean nothing.
        """
        dtype = dtype or self.shared.weight.dtype
        mask = None
        if lengths_B is not None:
            beyond = torch.arange(ids_BS.shape[1], device=ids_BS.device) >= lengths_B.to(ids_BS.device)[:, None]
            mask = torch.zeros(beyond.shape, device=ids_BS.device).masked_fill_(beyond, -math.inf)[:, None, None]
        x_BSD = self.shared(ids_BS).float()
        buckets_SS = self._position_buckets(ids_BS.shape[1], ids_BS.device)
        for block in self.encoder.block:
            x_BSD = block(x_BSD, buckets_SS, mask, dtype)
        return self.encoder.final_layer_norm(x_BSD, dtype)

    def encode(self, ids: Sequence[Sequence[int]], dtype: torch.dtype | None = None) -> TextTokens:
        """Encode prompts given as lists of ids (`Tokenizer.encode`) to the tokens that the transformer attends to."""
        device = self.shared.weight.device
        lengths_B = torch.tensor([len(prompt) for prompt in ids])
        width = int(lengths_B.max())
        padded = [[*prompt, *[self.config.pad_token_id] * (width - len(prompt))] for prompt in ids]
        text_BSD = self(torch.tensor(padded, device=device), lengths_B, dtype)
        real_BS = torch.arange(width, device=device) < lengths_B.to(device)[:, None]
        text_BSD = text_BSD.masked_fill(~real_BS[..., None], 0.0)
        return TextTokens(F.pad(text_BSD, (0, 0, 0, 1)), lengths_B)

    def reset_parameters(self) -> None:
        """Initialise for training, as T5 does: scores start near unit variance without a scale in the softmax.

        But every first head of four starts by looking back and every second by looking ahead. Which of two things a
        caption calls the left one hangs on what comes before the words "left of" and what after, and heads that look
        both ways alike stay blind to that for thousands of steps (docs/LOG.md, 2026-11-23).
        """
        config = self.config
        nn.init.normal_(self.shared.weight)
        for block in cast("list[EncoderBlock]", list(self.encoder.block)):
            attention, feed_forward = block.attend.SelfAttention, block.feed.DenseReluDense
            nn.init.normal_(attention.q.weight, std=(config.d_model * config.d_kv) ** -0.5)
            nn.init.normal_(attention.k.weight, std=config.d_model**-0.5)
            nn.init.normal_(attention.v.weight, std=config.d_model**-0.5)
            nn.init.normal_(attention.o.weight, std=(config.num_heads * config.d_kv) ** -0.5)
            nn.init.normal_(attention.relative_attention_bias.weight, std=config.d_model**-0.5)
            half = config.relative_attention_num_buckets // 2
            near = torch.linspace(0, -NEAR * (half - 1), half)
            with torch.no_grad():
                attention.relative_attention_bias.weight[:, 0::4] = torch.cat([near, near - AWAY])[:, None]
                attention.relative_attention_bias.weight[:, 1::4] = torch.cat([near - AWAY, near])[:, None]
            nn.init.normal_(feed_forward.wi_0.weight, std=config.d_model**-0.5)
            nn.init.normal_(feed_forward.wi_1.weight, std=config.d_model**-0.5)
            nn.init.normal_(feed_forward.wo.weight, std=config.d_ff**-0.5)

    def _position_buckets(self, size: int, device: torch.device) -> Tensor:
        key = (size, device)
        if key not in self._buckets:
            buckets = position_buckets(
                size,
                self.config.relative_attention_num_buckets,
                self.config.relative_attention_max_distance,
            )
            self._buckets = {key: buckets.to(device)}
        return self._buckets[key]


# The slopes with which heads start (`reset_parameters`): by how much a score falls with each bucket of distance, and
# for what lies in the direction that the head does not look to.
NEAR, AWAY = 0.25, 6.0


def position_buckets(size: int, num_buckets: int, max_distance: int) -> Tensor:
    """The bucket [S, S] of each (query, key) distance: half for each direction; near ones exact, far ones by logarithm.

    Raffel et al. 2020, section 2.1 (arXiv:1910.10683).
    """
    distance = torch.arange(size)[None, :] - torch.arange(size)[:, None]
    half = num_buckets // 2
    exact = half // 2
    far = torch.log(distance.abs().float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + far.clamp(min=0).long()).clamp(max=half - 1)
    bucket = torch.where(distance.abs() < exact, distance.abs(), far)
    return bucket + (distance > 0).long() * half


class Stack(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.block = nn.ModuleList(EncoderBlock(config) for _ in range(config.num_layers))
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)


class EncoderBlock(nn.Module):
    """Self-attention, then a gated feed-forward, each on normalised input and added to the float32 stream."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([AttentionLayer(config), FeedForwardLayer(config)])

    def forward(self, x_BSD: Tensor, buckets_SS: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        attend, feed = self.attend, self.feed
        x_BSD = x_BSD + attend.SelfAttention(attend.layer_norm(x_BSD, dtype), buckets_SS, mask)
        y_BSD: Tensor = feed.DenseReluDense(feed.layer_norm(x_BSD, dtype))
        return x_BSD + y_BSD

    @property
    def attend(self) -> AttentionLayer:
        return cast(AttentionLayer, self.layer[0])

    @property
    def feed(self) -> FeedForwardLayer:
        return cast(FeedForwardLayer, self.layer[1])


class AttentionLayer(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.SelfAttention = BiasedAttention(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)


class FeedForwardLayer(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.DenseReluDense = GatedFeedForward(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)


class BiasedAttention(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.num_heads = config.num_heads
        self.q = Linear(config.d_model, inner, bias=False)
        self.k = Linear(config.d_model, inner, bias=False)
        self.v = Linear(config.d_model, inner, bias=False)
        self.o = Linear(inner, config.d_model, bias=False)
        self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def forward(self, x_BSD: Tensor, buckets_SS: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (layer(x_BSD).unflatten(-1, (self.num_heads, -1)) for layer in (self.q, self.k, self.v))
        bias = self.relative_attention_bias(buckets_SS).float().permute(2, 0, 1)[None]
        bias = bias if mask is None else bias + mask
        out: Tensor = self.o(attention(q, k, v, bias, scale=1.0).flatten(-2))
        return out


class GatedFeedForward(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.wi_0 = Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = Linear(config.d_model, config.d_ff, bias=False)
        self.wo = Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))
        return out


class RMSNorm(nn.Module):
    """x / rms(x) * weight: statistics in float32, result in the dtype asked for."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(dtype)
