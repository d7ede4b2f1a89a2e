"""Sorano: text and images in, video out.

    import sorano

    sorano.generate("a red ball bounces on the grass at sunset").save("ball.mp4")

Importing it is cheap: a name's module is loaded when the name is first used (PEP 562), torch and PyAV with the
first video.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

from sorano import _start  # noqa: F401  (first: Ctrl-C while the rest is imported)
from sorano.threads import wait_briefly

if TYPE_CHECKING:  # the same names for type checkers and editors
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
    from sorano.trust.verify import Report, Verdict, verify
    from sorano.video import read_metadata

wait_briefly()  # before torch comes in

_MODULES = {
    "conditions": ("Blend", "Continue", "Edit", "FirstFrame", "Keyframe", "LastFrame", "Loop", "Region"),
    "engine": ("Engine", "generate", "load", "resume"),
    "errors": (
        "Cancelled",
        "CapacityError",
        "CheckpointError",
        "NumericsError",
        "PolicyError",
        "RequestError",
        "SoranoError",
        "TrustError",
        "VideoError",
    ),
    "listener": ("Cancel", "Listener"),
    "pipeline": ("Model",),
    "request": ("Request",),
    "resolve": ("Job",),
    "result": ("Video",),
    "storyboard": ("Shot", "Storyboard"),
    "trust.verify": ("Report", "Verdict", "verify"),
    "video": ("read_metadata",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_PARTS = {module.partition(".")[0]: module for module in _MODULES}  # as attributes, as if they had been imported
__all__ = [
    "Blend",
    "Cancel",
    "Cancelled",
    "CapacityError",
    "CheckpointError",
    "Continue",
    "Edit",
    "Engine",
    "FirstFrame",
    "Job",
    "Keyframe",
    "LastFrame",
    "Listener",
    "Loop",
    "Model",
    "NumericsError",
    "PolicyError",
    "Region",
    "Report",
    "Request",
    "RequestError",
    "Shot",
    "SoranoError",
    "Storyboard",
    "TrustError",
    "Verdict",
    "Video",
    "VideoError",
    "generate",
    "load",
    "read_metadata",
    "resume",
    "verify",
]


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it, or one of those modules; kept, so that this is asked once."""
    if name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    elif name in _PARTS:
        import_module(f"{__name__}.{_PARTS[name]}")
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
