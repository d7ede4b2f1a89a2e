"""What the networks are made of, and what they cost, without importing torch.

Each dataclass is the `config.json` of one part of a diffusers folder: `from_dict` reads one (ValueError for a field
that is of another type, or unknown and not off; those that cannot change the network are passed over), `to_dict` writes
one that diffusers or transformers loads. Counts are exact: `parameters()` equals the sum over the network's tensors,
and `flops(...)` counts two operations per multiply-add of every matrix product and convolution, as
`torch.utils.flop_counter` does.

Axes: B batch, C channels, T latent frames, H latent rows, W latent columns, L video tokens (after patching),
S text tokens, N heads, D width, K width per head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from sorano.models.config import (
    DIFFUSERS_VERSION,
    ROWS_OF_SCORES,
    SHORT_ATTENTION,
    read_fields,
    refuse_unknown,
    require_value,
)
from sorano.shapes import Geometry, LatentShape, VideoShape

PIPELINES = ("WanPipeline", "WanImageToVideoPipeline")  # classes of diffusers: from text; from a picture (channels)
MAX_TEXT_TOKENS = 512  # Wan's text length: real tokens, then zeros


def inert_fields(kind: type, config: Mapping[str, Any]) -> list[str]:
    """The fields of a network's config that are not known here and change nothing: worth a note."""
    known = KNOWN_FIELDS[kind]
    return sorted(name for name in config if name not in known and not name.startswith("_"))


_OF_TRANSFORMERS = {  # fields of any config of transformers, which say how to train, to generate text or to answer
    *("architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "tokenizer_class", "name_or_path"),
    *("return_dict", "output_hidden_states", "output_attentions", "use_cache", "torchscript", "use_bfloat16"),
    *("tf_legacy_loss", "tie_word_embeddings", "tie_encoder_decoder", "is_encoder_decoder", "is_decoder"),
    *("add_cross_attention", "cross_attention_hidden_size", "chunk_size_feed_forward", "finetuning_task"),
    *("id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "prefix", "initializer_factor"),
    *("initializer_range", "bos_token_id", "pad_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id"),
    *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty"),
    *("temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
    *("encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores"),
    *("return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values"),
    *("exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens"),
}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The Wan transformer (diffusers `WanTransformer3DModel`), from a few million to 14 billion parameters."""

    patch_size: tuple[int, int, int] = (1, 2, 2)  # latent frames, rows, columns per token
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    freq_dim: int = 256  # sines and cosines of the timestep
    ffn_dim: int = 13824
    num_layers: int = 40
    cross_attn_norm: bool = True
    eps: float = 1e-6
    rope_max_seq_len: int = 1024  # kept for diffusers' table; our positions have no bound
    # image to video of Wan 2.1: the image encoder's tokens, attended to beside the text's
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    pos_embed_seq_len: int | None = None  # of two images' tokens (FLF2V)

    @property
    def condition_channels(self) -> int:
        """Channels that a condition adds beside the latent: a mask of four frames and the latent of what is given."""
        return self.in_channels - self.out_channels

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.num_attention_heads * self.attention_head_dim

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> TransformerConfig:
        """Read a diffusers `transformer/config.json`; ValueError for a kind of Wan that this network is not."""
        require_value(config, "qk_norm", ("rms_norm_across_heads",))
        require_value(config, "vace_layers", (None,))
        refuse_unknown(config, KNOWN_FIELDS[cls])
        if config.get("out_channels") is None:  # as many as come in
            config = {**config, "out_channels": config.get("in_channels", cls.in_channels)}
        made = cls(**read_fields(cls, config))
        if made.attention_head_dim % 2:
            raise ValueError(f"attention_head_dim is {made.attention_head_dim}, and positions turn pairs of values")
        if made.added_kv_proj_dim not in (None, made.width):
            raise ValueError(f"added_kv_proj_dim is {made.added_kv_proj_dim}, and the width is {made.width}")
        if (made.image_dim is None) != (made.added_kv_proj_dim is None):
            raise ValueError("image_dim and added_kv_proj_dim belong together: one is null and the other is not")
        return made

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that diffusers' `WanTransformer3DModel.from_pretrained` reads."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            "_class_name": "WanTransformer3DModel",
            "_diffusers_version": DIFFUSERS_VERSION,
            **fields,
            "patch_size": list(self.patch_size),
            "qk_norm": "rms_norm_across_heads",
        }

    def parameters(self) -> int:
        """The number of weights: embeddings, `num_layers` blocks, and the head."""
        width, patch = self.width, prod(self.patch_size)
        embeddings = (
            _linear(self.in_channels * patch, width)
            + _linear(self.freq_dim, width)
            + _linear(width, width)
            + _linear(width, 6 * width)
            + _linear(self.text_dim, width)
            + _linear(width, width)
        )
        if self.image_dim is not None:
            embeddings += _linear(self.image_dim, self.image_dim) + _linear(self.image_dim, width)
            embeddings += 2 * self.image_dim + 2 * width + (self.pos_embed_seq_len or 0) * self.image_dim
        head = _linear(width, self.out_channels * patch) + 2 * width
        return embeddings + self.num_layers * self.block_parameters() + head

    def block_parameters(self) -> int:
        """The number of weights of one block."""
        width = self.width
        attention = 4 * _linear(width, width) + 2 * width  # q, k, v, out and the two RMS norms
        cross_norm = 2 * width if self.cross_attn_norm else 0
        feed_forward = _linear(width, self.ffn_dim) + _linear(self.ffn_dim, width)
        image = 2 * _linear(width, width) + width if self.image_dim is not None else 0
        return 2 * attention + cross_norm + feed_forward + 6 * width + image

    def flops(
        self,
        latent: LatentShape,
        *,
        batch: int = 1,
        text_tokens: int = MAX_TEXT_TOKENS,
        image_tokens: int = 0,
        timesteps: int = 1,
    ) -> int:
        """Floating-point operations of one forward pass: the sum of `flops_by_part`."""
        parts = self.flops_by_part(
            latent, batch=batch, text_tokens=text_tokens, image_tokens=image_tokens, timesteps=timesteps
        )
        return sum(parts.values())

    def flops_by_part(
        self,
        latent: LatentShape,
        *,
        batch: int = 1,
        text_tokens: int = MAX_TEXT_TOKENS,
        image_tokens: int = 0,
        timesteps: int = 1,
    ) -> dict[str, int]:
        """Floating-point operations of one forward pass, by what they grow with.

        "attention" grows with the square of the video tokens (one product for the scores and one for the values of
        each pair), "linear" with the tokens (q, k, v and out of self-attention, q and out of cross-attention, the two
        matrices of the feed-forward), "text" are the keys and values of what is attended to beside the video and its
        scores, "edges" the embeddings and the head. `text_tokens` is S as attended to (real tokens and the one pad
        key), `image_tokens` those of the image encoder (257 an image), `timesteps` is U, the distinct ones of an item.
        """
        d, patch = self.width, prod(self.patch_size)
        video, given = latent.tokens(self.patch_size), text_tokens + image_tokens
        edges = (
            video * self.in_channels * patch * d
            + timesteps * (self.freq_dim * d + d * d + 6 * d * d)
            + text_tokens * (self.text_dim * d + d * d)
            + video * d * self.out_channels * patch
        )
        if self.image_dim is not None:
            edges += image_tokens * self.image_dim * (self.image_dim + d)
        per_layer = {
            "attention": 2 * video * video * d,
            "linear": 6 * video * d * d + 2 * video * d * self.ffn_dim,
            "text": 2 * given * d * d + 2 * video * given * d,
        }
        parts = {name: 2 * batch * self.num_layers * count for name, count in per_layer.items()}
        return {**parts, "edges": 2 * batch * edges}

    def weight_bytes(self, bytes_per_weight: int = 4) -> int:
        """Bytes of the weights, all in one precision."""
        return self.parameters() * bytes_per_weight

    def peak_bytes(
        self,
        latent: LatentShape,
        *,
        batch: int = 1,
        text_tokens: int = MAX_TEXT_TOKENS,
        bytes_per_value: int = 4,
    ) -> int:
        """Bytes of a forward pass without gradients, beyond the weights: an upper estimate.

        A block holds the float32 tokens before and after it, and its float32 normalised input. Attention adds the
        input, q, k, v, its output before and after the projection, float32 copies of q or k while they are rotated,
        and on a CPU all scores of short attention or some rows of a long one's; the feed-forward adds its input and the
        hidden layer before and after the activation. The keys and values of the text are held for all layers.
        """
        d = self.width
        tokens = batch * latent.tokens(self.patch_size)
        stream = 3 * tokens * d * 4
        attention = tokens * d * (6 * bytes_per_value + 8)
        scores = latent.tokens(self.patch_size) ** 2
        if scores <= SHORT_ATTENTION:
            attention += batch * self.num_attention_heads * scores * (8 + bytes_per_value)
        else:
            attention += max(ROWS_OF_SCORES, 64 * latent.tokens(self.patch_size)) * (8 + bytes_per_value)
        feed_forward = tokens * bytes_per_value * (d + 2 * self.ffn_dim)
        text = 2 * self.num_layers * batch * text_tokens * d * bytes_per_value
        return stream + max(attention, feed_forward) + text


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """The UMT5 encoder (transformers `UMT5EncoderModel`): relative position bias in every layer, gated GELU."""

    vocab_size: int = 256384
    d_model: int = 4096
    d_kv: int = 64
    d_ff: int = 10240
    num_layers: int = 24
    num_heads: int = 64
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    pad_token_id: int = 0
    eos_token_id: int = 1

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> TextEncoderConfig:
        """Read a transformers `text_encoder/config.json`; ValueError for another kind of encoder."""
        require_value(config, "model_type", ("umt5",))
        require_value(config, "feed_forward_proj", ("gated-gelu",))
        require_value(config, "dense_act_fn", ("gelu_new",))
        require_value(config, "is_gated_act", (True,))
        refuse_unknown(config, KNOWN_FIELDS[cls])
        return cls(**read_fields(cls, {**_UMT5_DEFAULTS, **config}))

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that transformers' `UMT5EncoderModel.from_pretrained` reads."""
        return {
            "architectures": ["UMT5EncoderModel"],
            "model_type": "umt5",
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "num_decoder_layers": self.num_layers,
            "feed_forward_proj": "gated-gelu",
            "dense_act_fn": "gelu_new",
            "is_gated_act": True,
            "is_encoder_decoder": True,
            "tie_word_embeddings": True,
            "decoder_start_token_id": 0,
            "dropout_rate": 0.0,
            "classifier_dropout": 0.0,
            "initializer_factor": 1.0,
            "use_cache": False,
        }

    def parameters(self) -> int:
        """The number of weights: the embedding and `num_layers` blocks."""
        inner = self.num_heads * self.d_kv
        attention = 4 * self.d_model * inner + self.relative_attention_num_buckets * self.num_heads
        feed_forward = 3 * self.d_model * self.d_ff
        block = attention + feed_forward + 2 * self.d_model
        return self.vocab_size * self.d_model + self.num_layers * block + self.d_model

    def flops(self, text_tokens: int, *, batch: int = 1) -> int:
        """Floating-point operations of encoding `batch` prompts of `text_tokens` tokens."""
        inner = self.num_heads * self.d_kv
        linear = text_tokens * (4 * self.d_model * inner + 3 * self.d_model * self.d_ff)
        attention = 2 * text_tokens * text_tokens * inner
        return 2 * batch * self.num_layers * (linear + attention)

    def weight_bytes(self, bytes_per_weight: int = 4) -> int:
        """Bytes of the weights, all in one precision."""
        return self.parameters() * bytes_per_weight

    def peak_bytes(self, text_tokens: int, *, batch: int = 1, bytes_per_value: int = 4) -> int:
        """Bytes of encoding beyond the weights: the widest of a layer's attention and its gated feed-forward."""
        inner = self.num_heads * self.d_kv
        tokens = batch * text_tokens
        scores = (batch + 1) * self.num_heads * text_tokens * text_tokens * 4
        attention = tokens * 4 * inner * bytes_per_value + 2 * scores
        feed_forward = tokens * 3 * self.d_ff * bytes_per_value
        return 2 * tokens * self.d_model * 4 + max(attention, feed_forward)


_UMT5_DEFAULTS = {  # what transformers' `UMT5Config` takes for a key that the file lacks
    "vocab_size": 250112,
    "d_model": 512,
    "d_ff": 1024,
    "num_layers": 8,
    "num_heads": 6,
}
_UMT5_IDLE = {  # of the activation, checked; of the decoder, which is not here; of training; of the first export
    *("feed_forward_proj", "dense_act_fn", "is_gated_act", "num_decoder_layers", "dropout_rate", "classifier_dropout"),
    *("output_past", "scalable_attention", "n_positions"),
}


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """The CLIP vision tower (transformers `CLIPVisionModel`), by default the ViT-H/14 of Wan 2.1's image to video.

    What is used of it are the tokens before its last layer, so that one is held, and costs nothing to run.
    """

    hidden_size: int = 1280
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 224  # pixels on a side
    patch_size: int = 14
    layer_norm_eps: float = 1e-5

    @property
    def num_tokens(self) -> int:
        """S, the tokens of an image: one for the whole and one for each patch."""
        return 1 + (self.image_size // self.patch_size) ** 2

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ImageEncoderConfig:
        """Read a transformers `image_encoder/config.json`; ValueError for another kind of encoder."""
        config = {**_CLIP_DEFAULTS, **config}
        require_value(config, "model_type", ("clip_vision_model",))
        require_value(config, "hidden_act", ("gelu",))
        refuse_unknown(config, KNOWN_FIELDS[cls])
        made = cls(**read_fields(cls, config))
        if made.hidden_size % made.num_attention_heads:
            raise ValueError(
                f"num_attention_heads: hidden_size {made.hidden_size} does not divide into"
                f" {made.num_attention_heads} heads"
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that transformers' `CLIPVisionModel.from_pretrained` reads."""
        return {
            "architectures": ["CLIPVisionModel"],
            "model_type": "clip_vision_model",
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "hidden_act": "gelu",
            "attention_dropout": 0.0,
            "projection_dim": 1024,  # of the head that this part does not have
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
        }

    def parameters(self) -> int:
        """The number of weights: embeddings, `num_hidden_layers` layers, and the norms before and after them."""
        d = self.hidden_size
        embeddings = d + self.num_channels * self.patch_size**2 * d + self.num_tokens * d
        feed_forward = _linear(d, self.intermediate_size) + _linear(self.intermediate_size, d)
        layer = 4 * _linear(d, d) + feed_forward + 4 * d
        return embeddings + self.num_hidden_layers * layer + 4 * d

    def flops(self, *, batch: int = 1) -> int:
        """Floating-point operations of encoding `batch` images up to the last layer but one."""
        d, tokens = self.hidden_size, self.num_tokens
        patches = (tokens - 1) * self.num_channels * self.patch_size**2 * d
        layer = tokens * (4 * d * d + 2 * d * self.intermediate_size) + 2 * tokens * tokens * d
        return 2 * batch * (patches + (self.num_hidden_layers - 1) * layer)

    def weight_bytes(self, bytes_per_weight: int = 4) -> int:
        """Bytes of the weights, all in one precision."""
        return self.parameters() * bytes_per_weight

    def peak_bytes(self, *, batch: int = 1, bytes_per_value: int = 4) -> int:
        """Bytes of encoding beyond the weights, an upper estimate: the wider of a layer's attention (its input, q, k
        and v twice, the output, and all scores) and its feed-forward, beside the float32 tokens and the images."""
        d, tokens = self.hidden_size, batch * self.num_tokens
        images = batch * self.num_channels * self.image_size**2 * bytes_per_value
        scores = batch * self.num_attention_heads * self.num_tokens**2 * (8 + bytes_per_value)
        attention = 8 * tokens * d * bytes_per_value + scores
        feed_forward = tokens * (d + 2 * self.intermediate_size) * bytes_per_value
        return images + 3 * tokens * d * 4 + max(attention, feed_forward)


_CLIP_DEFAULTS = {  # what transformers' `CLIPVisionConfig` takes for a key that the file lacks
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
}


_CLIP_IDLE = {"hidden_act", "attention_dropout", "dropout", "projection_dim"}  # checked; of training; of a head


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Wan's causal video autoencoder (diffusers `AutoencoderKLWan`): the plain kind of 2.1, the residual one of 2.2."""

    base_dim: int = 96
    decoder_base_dim: int | None = None  # None: as the encoder
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temperal_downsample: tuple[bool, ...] = (False, True, True)  # spelt so in every published config
    latents_mean: tuple[float, ...] = (0.0,) * 16
    latents_std: tuple[float, ...] = (1.0,) * 16
    is_residual: bool = False
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int | None = None
    scale_factor_temporal: int = 4
    scale_factor_spatial: int = 8

    @property
    def geometry(self) -> Geometry:
        """How pixels become latents; tokens are the transformer's affair."""
        return Geometry(self.scale_factor_temporal, self.scale_factor_spatial)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VaeConfig:
        """Read a diffusers `vae/config.json`; ValueError for a kind that this network is not."""
        require_value(config, "attn_scales", ([], ()))
        refuse_unknown(config, KNOWN_FIELDS[cls])
        made = cls(**read_fields(cls, config))
        for name in ("latents_mean", "latents_std"):
            if len(config.get(name, ())) != made.z_dim:
                raise ValueError(f"{name} has {len(config.get(name, ()))} values, and z_dim is {made.z_dim}")
        if len(made.temperal_downsample) != len(made.dim_mult) - 1:
            raise ValueError(
                f"temperal_downsample has {len(made.temperal_downsample)} values: one less than dim_mult is right"
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        """A `vae/config.json` that diffusers loads."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}
        fixed = {"attn_scales": [], "dropout": 0.0}
        return {"_class_name": "AutoencoderKLWan", "_diffusers_version": DIFFUSERS_VERSION, **lists, **fixed}

    def with_statistics(self, mean: Sequence[float], std: Sequence[float]) -> VaeConfig:
        """The same network with other latent statistics."""
        return replace(self, latents_mean=tuple(mean), latents_std=tuple(std))

    def parameters(self) -> int:
        """Weights of both halves, exactly."""
        shape = VideoShape(1, self.scale_factor_spatial, self.scale_factor_spatial)
        return self._encoder_cost(shape).parameters + self._decoder_cost(shape).parameters

    def encode_flops(self, shape: VideoShape, *, batch: int = 1) -> int:
        """FLOPs of encoding `batch` videos of a shape, whole."""
        return batch * self._encoder_cost(shape).flops

    def decode_flops(self, shape: VideoShape, *, batch: int = 1) -> int:
        """FLOPs of decoding `batch` videos of a shape, whole."""
        return batch * self._decoder_cost(shape).flops

    def weight_bytes(self, bytes_per_weight: int = 4) -> int:
        """Memory of the weights."""
        return self.parameters() * bytes_per_weight

    def peak_bytes(self, shape: VideoShape, *, batch: int = 1, bytes_per_value: int = 4) -> int:
        """Memory of decoding a whole video beside the weights: the widest level's input, its padded copy, the
        convolution's output, the residual and the shortcut live at once, and one more for workspace."""
        base, patch = self.decoder_base_dim or self.base_dim, self.patch_size or 1
        pixels = shape.num_frames * (shape.height // patch) * (shape.width // patch)
        widest = pixels * base * (self.dim_mult[1] if len(self.dim_mult) > 1 else self.dim_mult[0])
        return batch * (6 * widest * bytes_per_value + 4 * 3 * shape.num_frames * shape.height * shape.width)

    def state_bytes(self, shape: VideoShape, *, bytes_per_value: int = 4) -> int:
        """Memory of what decoding chunk by chunk remembers between two chunks of frames of this size."""
        return self._decoder_cost(shape).kept * bytes_per_value

    def encode_peak_bytes(self, shape: VideoShape, *, batch: int = 1, bytes_per_value: int = 4) -> int:
        """Memory of encoding a whole video beside the weights: as `peak_bytes`, at the first, widest level."""
        patch = self.patch_size or 1
        pixels = shape.num_frames * (shape.height // patch) * (shape.width // patch)
        widest = pixels * self.base_dim * self.dim_mult[0]
        return batch * (6 * widest * bytes_per_value + 4 * 3 * shape.num_frames * shape.height * shape.width)

    def _encoder_cost(self, shape: VideoShape) -> _ConvCost:
        cost, patch, last = _ConvCost(), self.patch_size or 1, len(self.dim_mult) - 1
        t, h, w = shape.num_frames, shape.height // patch, shape.width // patch
        widths = [self.base_dim * m for m in (1, *self.dim_mult)]
        cost.causal(self.in_channels, widths[0], t, h * w)
        for i, (width, width_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            for j in range(self.num_res_blocks):
                cost.residual_block(width if j == 0 else width_out, width_out, t, h * w)
            if i < last:
                h, w = h // 2, w // 2
                cost.conv(width_out, width_out, 9, t * h * w)
                if self.temperal_downsample[i]:
                    t = (t + 1) // 2
                    cost.conv(width_out, width_out, 3, (t - 1) * h * w)
        cost.mid_block(widths[-1], t, h * w)
        cost.norm(widths[-1])
        cost.causal(widths[-1], 2 * self.z_dim, t, h * w)
        cost.conv(2 * self.z_dim, 2 * self.z_dim, 1, t * h * w)
        return cost

    def _decoder_cost(self, shape: VideoShape) -> _ConvCost:
        cost, base, last = _ConvCost(), self.decoder_base_dim or self.base_dim, len(self.dim_mult) - 1
        latent = self.geometry.latent(shape)
        t, h, w = latent.num_frames, latent.rows, latent.columns
        widths = [base * m for m in (self.dim_mult[-1], *reversed(self.dim_mult))]
        in_time = tuple(reversed(self.temperal_downsample))
        cost.conv(self.z_dim, self.z_dim, 1, t * h * w)
        cost.causal(self.z_dim, widths[0], t, h * w)
        cost.mid_block(widths[0], t, h * w)
        for i, (width, width_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            width = width if self.is_residual or i == 0 else width // 2
            for j in range(self.num_res_blocks + 1):
                cost.residual_block(width if j == 0 else width_out, width_out, t, h * w)
            if i < last:
                if in_time[i]:
                    cost.causal(width_out, 2 * width_out, t - 1, h * w, space=1)
                    t = 2 * t - 1
                h, w = 2 * h, 2 * w
                cost.conv(width_out, width_out if self.is_residual else width_out // 2, 9, t * h * w)
        cost.norm(widths[-1])
        cost.causal(widths[-1], self.out_channels, t, h * w)
        return cost


@dataclass
class _ConvCost:
    """Adds up what convolutions hold and do. Positions are output pixels, over all frames."""

    parameters: int = 0
    flops: int = 0
    kept: int = 0  # values that streaming remembers: the last two frames of what each causal convolution was given

    def conv(self, inputs: int, outputs: int, taps: int, positions: int) -> None:
        self.parameters += inputs * outputs * taps + outputs
        self.flops += 2 * inputs * outputs * taps * positions

    def causal(self, inputs: int, outputs: int, frames: int, pixels: int, space: int = 9) -> None:
        """A causal convolution of three frames; taps before the first frame, where zeros are, need not be computed."""
        self.conv(inputs, outputs, 3 * space, 0)
        self.kept += 2 * inputs * pixels
        self.flops += 2 * inputs * outputs * space * pixels * sum(max(0, frames - lag) for lag in range(3))

    def norm(self, channels: int) -> None:
        self.parameters += channels

    def residual_block(self, width: int, width_out: int, frames: int, pixels: int) -> None:
        self.norm(width)
        self.causal(width, width_out, frames, pixels)
        self.norm(width_out)
        self.causal(width_out, width_out, frames, pixels)
        if width != width_out:
            self.conv(width, width_out, 1, frames * pixels)

    def mid_block(self, width: int, frames: int, pixels: int) -> None:
        for _ in range(2):
            self.residual_block(width, width, frames, pixels)
        self.norm(width)
        self.conv(width, 3 * width, 1, frames * pixels)
        self.conv(width, width, 1, frames * pixels)
        self.flops += 4 * frames * pixels * pixels * width


KNOWN_FIELDS: dict[type, frozenset[str]] = {  # of a network's config.json: ours, and those that are checked or idle
    TransformerConfig: frozenset(
        {*TransformerConfig.__dataclass_fields__, "qk_norm", "vace_layers", "vace_in_channels"}
    ),
    VaeConfig: frozenset({*VaeConfig.__dataclass_fields__, "attn_scales", "dropout", "clip_output"}),
    TextEncoderConfig: frozenset({*TextEncoderConfig.__dataclass_fields__, *_OF_TRANSFORMERS, *_UMT5_IDLE}),
    ImageEncoderConfig: frozenset({*ImageEncoderConfig.__dataclass_fields__, *_OF_TRANSFORMERS, *_CLIP_IDLE}),
}
