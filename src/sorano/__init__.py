"""Sorano: text and images in, video out.

    import sorano

    sorano.generate("a red ball bounces on the grass at sunset").save("ball.mp4")

Importing it is cheap: torch and PyAV come in with the first video.
"""

__version__ = "0.1.0"

from sorano import _start  # noqa: F401  (first: Ctrl-C while the rest is imported)
from sorano.conditions import Blend, Continue, Edit, FirstFrame, Keyframe, LastFrame, Loop, Region
from sorano.engine import Engine, generate, load, resume
from sorano.errors import (
    Cancelled,
    CapacityError,
    CheckpointError,
    NumericsError,
    PolicyError,
    RequestError,
    SoranoError,
    TrustError,
    VideoError,
)
from sorano.listener import Cancel, Listener
from sorano.pipeline import Model
from sorano.request import Request
from sorano.resolve import Job
from sorano.result import Video
from sorano.storyboard import Shot, Storyboard
from sorano.threads import wait_briefly
from sorano.trust.verify import Report, Verdict, verify
from sorano.video import read_metadata

wait_briefly()  # before torch comes in

__all__ = [
    "Cancel",
    "Cancelled",
    "Engine",
    "Job",
    "CapacityError",
    "CheckpointError",
    "Listener",
    "Model",
    "NumericsError",
    "PolicyError",
    "Report",
    "Request",
    "RequestError",
    "SoranoError",
    "TrustError",
    "Verdict",
    "Video",
    "VideoError",
    "generate",
    "load",
    "read_metadata",
    "verify",
    "Blend",
    "Continue",
    "Edit",
    "FirstFrame",
    "Keyframe",
    "LastFrame",
    "Loop",
    "Region",
    "Shot",
    "Storyboard",
    "resume",
]
