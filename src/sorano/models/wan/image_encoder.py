"""Pictures to image tokens: how a picture is prepared, and the CLIP vision tower (Wan 2.1's image to video).

Weights have transformers' names (`CLIPVisionModel`). The tokens are those before the last layer, which therefore is
never run, and neither is the norm after it; files hold both, and so does the network.

Tokens are float32 between the layers, and so are norms; matrix products run in the dtype of the images.

Axes: B batch, C channels, H and W pixels, S image tokens (one for the whole picture, then one per patch), D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorano.models.attention import attention
from sorano.models.layers import Conv2d, Linear
from sorano.models.wan.config import ImageEncoderConfig
from sorano.models.wan.transformer import AffineNorm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BICUBIC = 3  # PIL's number for the filter


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """Prepares a picture as transformers' `CLIPImageProcessor` does with PIL.

    The shorter side is scaled to `shortest_edge` with the bicubic filter, the middle is cut out, and 0..255 becomes
    (x * rescale_factor - mean) / std. Where torchvision is installed, transformers may resize with it instead; its
    filter rounds differently.
    """

    shortest_edge: int = 224
    crop_size: tuple[int, int] = (224, 224)  # rows, columns
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, R G B, 0..1
    image_std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ImageProcessor:
        """Read an `image_processor/preprocessor_config.json`; ValueError for steps that are not these."""
        steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
        for name, wanted in {**dict.fromkeys(steps, True), "do_pad": False, "resample": BICUBIC}.items():
            found = config.get(name)
            if found is not None and found != wanted:
                raise ValueError(f"{name} is {found!r}, and only {wanted!r} is supported")
        size, crop = config.get("size", cls.shortest_edge), config.get("crop_size", cls.crop_size[0])
        sides = [size.get("shortest_edge")] if isinstance(size, Mapping) else [size]
        sides += [crop.get("height"), crop.get("width")] if isinstance(crop, Mapping) else [crop, crop]
        edge, rows, columns = (side if isinstance(side, int) else 0 for side in sides)
        if not 0 < min(rows, columns) <= max(rows, columns) <= edge:
            raise ValueError(f"size {size!r} and crop_size {crop!r} are not a shortest edge and a cut-out inside it")
        return cls(
            shortest_edge=edge,
            crop_size=(rows, columns),
            rescale_factor=config.get("rescale_factor", cls.rescale_factor),
            image_mean=tuple(config.get("image_mean", cls.image_mean)),
            image_std=tuple(config.get("image_std", cls.image_std)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The `preprocessor_config.json` that transformers' `CLIPImageProcessor.from_pretrained` reads."""
        rows, columns = self.crop_size
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": self.shortest_edge},
            "resample": BICUBIC,
            "do_center_crop": True,
            "crop_size": {"height": rows, "width": columns},
            "do_rescale": True,
            "rescale_factor": self.rescale_factor,
            "do_normalize": True,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
        }

    def __call__(self, frame_HWC: NDArray[np.uint8]) -> Tensor:
        """A picture (uint8, RGB, any size) as a batch of one [1, 3, crop rows, crop columns], float32."""
        import numpy as np
        from PIL import Image

        height, width = self._resized(*frame_HWC.shape[:2])
        resized = Image.fromarray(frame_HWC).resize((width, height), Image.Resampling.BICUBIC)
        rows, columns = self.crop_size
        top, left = (height - rows) // 2, (width - columns) // 2
        cropped = np.asarray(resized)[top : top + rows, left : left + columns]
        scaled = (cropped.astype(np.float64) * self.rescale_factor).astype(np.float32)
        mean, std = np.array(self.image_mean, np.float32), np.array(self.image_std, np.float32)
        return torch.from_numpy((scaled - mean) / std).permute(2, 0, 1)[None].contiguous()

    def _resized(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns once the shorter side is `shortest_edge`; the other is rounded down."""
        edge = self.shortest_edge
        return (int(edge * rows / columns), edge) if columns <= rows else (edge, int(edge * columns / rows))


def weight_name(name: str) -> str | None:
    """What a tensor of a checkpoint is called here, or None if it is no weight.

    Old files also hold `position_ids`, which only count. transformers 5 has no prefix in memory, only in files.
    """
    if name.endswith("position_ids"):
        return None
    return name if name.startswith("vision_model.") else f"vision_model.{name}"


class ImageEncoder(nn.Module):
    """The CLIP vision tower (arXiv:2103.00020), up to the last layer but one."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTower(config)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Prepared images (`ImageProcessor`) to tokens [B, S, D], in float32 whatever the images' dtype."""
        wanted = (self.config.num_channels, self.config.image_size, self.config.image_size)
        if images_BCHW.shape[1:] != wanted:
            raise ValueError(f"images are {list(images_BCHW.shape[1:])}, and the encoder takes {list(wanted)}")
        tower, dtype = self.vision_model, images_BCHW.dtype
        x_BSD = tower.pre_layrnorm(tower.embeddings(images_BCHW))
        for layer in list(tower.encoder.layers)[:-1]:
            x_BSD = layer(x_BSD, dtype)
        return x_BSD

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """The same, by the name that the other encoders use."""
        return cast(Tensor, self(images_BCHW))


class VisionTower(nn.Module):
    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = AffineNorm(config.hidden_size, config.layer_norm_eps)  # spelt so in every checkpoint
        self.encoder = ImageLayers(config)
        self.post_layernorm = AffineNorm(config.hidden_size, config.layer_norm_eps)


class Embeddings(nn.Module):
    """The class token, then the patches from left to right and top to bottom, each with its learned position."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = Conv2d(config.num_channels, width, patch, patch, bias=False)
        self.position_embedding = nn.Embedding(config.num_tokens, width)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        patches_BSD = self.patch_embedding(images_BCHW).flatten(2).transpose(1, 2).float()
        whole_B1D = self.class_embedding.float().expand(len(images_BCHW), 1, -1)
        return torch.cat([whole_B1D, patches_BSD], dim=1) + self.position_embedding.weight.float()


class ImageLayers(nn.Module):
    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward, each on normalised input and added to the float32 stream."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.layer_norm1 = AffineNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = SelfAttention(config)
        self.layer_norm2 = AffineNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = ImageMlp(config)

    def forward(self, x_BSD: Tensor, dtype: torch.dtype) -> Tensor:
        x_BSD = x_BSD + self.self_attn(self.layer_norm1(x_BSD).to(dtype))
        return x_BSD + self.mlp(self.layer_norm2(x_BSD).to(dtype))


class SelfAttention(nn.Module):
    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        heads = (self.num_heads, -1)
        q, k, v = (layer(x_BSD).unflatten(-1, heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(attention(q, k, v).flatten(-2))
        return out


class ImageMlp(nn.Module):
    """Linear, GELU (exact), Linear."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out
