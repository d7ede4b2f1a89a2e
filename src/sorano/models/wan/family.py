"""The Wan family: 2.1, 2.2, and the embedded model, which is a small Wan 2.2 TI2V."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sorano.models.family import Family
from sorano.models.wan.config import PIPELINES
from sorano.models.wan.configs import ModelConfigs
from sorano.models.wan.sizes import T2V_1_3B, VAE_2_1
from sorano.shapes import Geometry

if TYPE_CHECKING:
    from sorano.models.checkpoint import Bundle


def _load(*args: Any, **options: Any) -> Bundle:
    """`sorano.models.checkpoint.load`, which needs torch, imported when a model is loaded."""
    from sorano.models import checkpoint

    return checkpoint.load(*args, **options)


WAN = Family(
    name="Wan",
    pipelines=PIPELINES,
    geometry=Geometry(VAE_2_1.scale_factor_temporal, VAE_2_1.scale_factor_spatial, T2V_1_3B.patch_size),
    read_configs=ModelConfigs.of_folder,
    load=_load,
)
