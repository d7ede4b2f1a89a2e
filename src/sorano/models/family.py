"""What differs between model families, as data: nothing outside `models/FAMILY/` asks which one a model is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.shapes import Geometry

if TYPE_CHECKING:
    from sorano.models.checkpoint import Bundle
    from sorano.models.wan.configs import ModelConfigs


@dataclass(frozen=True)
class Family:
    """A family of models.

    Which conditions a model takes, and where they go in, is what its `ModelConfigs` say before it is loaded
    (`first_picture`, `last_picture`) and its `Bundle` when it is (`takes`); both have the `geometry` of its latents.
    """

    name: str
    pipelines: tuple[str, ...]  # the classes of diffusers' pipelines whose folders are of this family
    geometry: Geometry  # where a folder's own is not known yet, because it was not fetched
    read_configs: Callable[[Path], ModelConfigs]  # raises CheckpointError naming the file that is missing or unknown
    load: Callable[..., Bundle]  # (folder, *, device, dtype, digests, filled); raises CheckpointError

    def runs(self, index: Mapping[str, Any]) -> bool:
        """Whether a `model_index.json` is of this family."""
        return index.get("_class_name") in self.pipelines
