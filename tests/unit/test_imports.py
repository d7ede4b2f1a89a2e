"""Who may import whom, and what an import may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sorano

PACKAGE = Path(sorano.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

# Each part, and the parts that it may import (docs/how-it-works.md draws this). Nothing imports the command.
FOUNDATION = {"errors", "extras", "files", "shapes"}
CONFIG = {"models/config", "models/family", "models/registry", "models/wan/config", "models/wan/configs"}
CONFIG |= {"models/wan/family", "models/wan/sizes"}  # torch-free, so that plans need no torch
FAMILY = ("models/family", "models/registry", "models/wan/family")
MAY_IMPORT = {
    "errors": set(),
    "extras": {"errors"},
    "files": set(),
    "shapes": {"errors"},
    "captions": set(),
    "presets": FOUNDATION | CONFIG | {"captions", "world/vocabulary"},  # the words that a model knows
    "request": FOUNDATION | {"presets", "conditions", "storyboard", "units"},
    "resolve": FOUNDATION | CONFIG | {"presets", "conditions", "request", "sources", "units", "prompt_editing"},
    "segments": FOUNDATION | {"presets", "sources"},
    "workfolder": {"errors", "files", "video"},
    "listener": {"errors", "plan", "resolve", "video"},
    "media": FOUNDATION | {"media"},
    "video": FOUNDATION | {"media"},
    "frames": FOUNDATION | {"video"},
    "sources": FOUNDATION | {"video", "media"},
    "storyboard": FOUNDATION,
    "prompt_editing": FOUNDATION | {"captions", "presets", "request"},
    "asset_cache": FOUNDATION | {"models"},
    "remix": FOUNDATION | {"video", "request", "conditions", "asset_cache"},
    "pipeline": FOUNDATION
    | {"conditions", "device", "frames", "hub", "listener", "models", "plan", "presets", "request", "resolve"}
    | {"sampling", "segments", "video", "prompt_editing", "threads"},
    "result": FOUNDATION
    | {"__init__", "asset_cache", "models", "pipeline", "plan", "request", "resolve", "trust", "video"},
    "stream": FOUNDATION
    | {
        "conditions",
        "frames",
        "asset_cache",
        "listener",
        "measure",
        "models",
        "pipeline",
        "resolve",
        "segments",
        "trust",
    }
    | {"video", "workfolder"},
    "engine": FOUNDATION
    | {
        "listener",
        "measure",
        "media",
        "models",
        "pipeline",
        "plan",
        "presets",
        "request",
        "resolve",
        "result",
        "stream",
    }
    | {"trust", "video", "prompt_editing", "workfolder"},
    "models/config": FOUNDATION,
    **{name: FOUNDATION | CONFIG for name in sorted(CONFIG - {"models/config"})},
    **{name: FOUNDATION | CONFIG | {"models/checkpoint"} for name in FAMILY},  # when a model is loaded
    "models": FOUNDATION | {"models"},
    "sampling": FOUNDATION | {"models", "sampling"},
    "plan": FOUNDATION | CONFIG | {"plan", "presets"},
    "calibrate": FOUNDATION | {"threads", "plan", "device", "engine", "presets", "request"},
    "_start": set(),
    "threads": set(),
    "units": {"errors"},
    "batch": {"errors", "engine", "listener", "request", "result"},
    "doctor": {
        "errors",
        "extras",
        "threads",
        "device",
        "hub",
        "plan",
        "presets",
        "serve",
        "trust",
        "settings",
        "web",
        "__init__",
    },
    "settings": {"errors", "trust/provenance/keys"},
    "cli/console": {"errors", "extras", "files", "settings", "trust/printable"},  # the command's streams
    "device": FOUNDATION | {"plan", "threads"},
    "fetch": FOUNDATION | {"presets", "__init__"},
    "hub": FOUNDATION | CONFIG | {"presets", "plan", "fetch", "sampling/schedule"},
    "conditions": FOUNDATION | {"conditions", "frames", "presets", "segments", "sources", "video"},
    "world": FOUNDATION
    | {"world", "captions", "video", "models", "sampling", "conditions", "engine", "pipeline", "request", "presets"}
    | {"threads"},
    "world/vocabulary": {"errors", "captions", "world/caption", "world/synonyms"},
    "train": FOUNDATION | {"models", "sampling", "world", "train", "conditions", "device", "threads"},
    "trust": FOUNDATION | {"trust", "video", "frames", "request", "__init__", "media"},
    "serve": FOUNDATION
    | {"__init__", "conditions", "engine", "hub", "listener", "models", "pipeline", "plan", "presets", "request"}
    | {"resolve", "result", "segments", "serve", "sources", "trust", "video", "media", "prompt_editing", "workfolder"}
    | {"web"},
    "web": FOUNDATION | {"web", "__init__"},
    "desk": FOUNDATION | {"__init__", "web", "desk", "trust"},
    "desk/call/demo": FOUNDATION | {"desk", "media"},
    "desk/call/record": FOUNDATION | {"desk", "trust", "video", "web"},
    "export": FOUNDATION
    | {"__init__", "conditions", "export", "models", "pipeline", "presets", "request", "resolve", "sampling", "stream"}
    | {"trust", "web"},
    "measure": FOUNDATION | {"plan"},
    "__init__": FOUNDATION
    | {
        "_start",
        "threads",
        "conditions",
        "engine",
        "listener",
        "pipeline",
        "request",
        "resolve",
        "result",
        "storyboard",
    }
    | {"video", "presets", "trust"},
    "cli": None,  # anything
    "__main__": {"cli"},
}


def part_of(name):
    """The row of MAY_IMPORT of a module given as "models/vae"."""
    return name if name in MAY_IMPORT else name.split("/")[0]


def imported_parts(path):
    """Every part of sorano that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path} imports relatively")
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sorano":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "sorano"]
        found |= {module_of(name) for name in names}
    return found


def module_of(dotted):
    """The module "models/vae" that "sorano.models.wan.vae.VideoAutoencoder" lives in."""
    parts = dotted.split(".")[1:]
    while parts:
        name = "/".join(parts)
        if (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name).is_dir():
            return name
        parts.pop()
    return "__init__"


def test_imports_go_one_way():
    wrong = []
    for path in MODULES:
        name = path.with_suffix("").as_posix().removesuffix("/__init__")
        allowed = MAY_IMPORT[part_of(name)]
        if allowed is None:
            continue
        for imported in imported_parts(path):
            if not {imported, part_of(imported), imported.split("/")[0]} & (allowed | {name}):
                wrong.append(f"{name} imports {imported}")
    assert not wrong, wrong


def test_no_import_goes_round_in_a_circle():
    """Imports for types count: a circle that only types close still cannot be read in one order."""
    graph = {}
    for path in MODULES:
        name = path.with_suffix("").as_posix().removesuffix("/__init__")
        graph[name] = imported_parts(path) - {name, "__init__"}
    done, way = set(), []

    def walk(name):
        if name in way:
            raise AssertionError(" -> ".join([*way[way.index(name) :], name]))
        if name in done:
            return
        way.append(name)
        for imported in sorted(graph.get(name, ())):
            walk(imported)
        way.pop()
        done.add(name)

    for name in graph:
        walk(name)


def test_only_training_scoring_and_a_presets_captions_reach_the_world():
    for path in MODULES:
        name = path.with_suffix("").as_posix().removesuffix("/__init__")
        reached = {one for one in imported_parts(path) if one.split("/")[0] == "world"}
        if name.split("/")[0] not in ("world", "train") and name != "cli/train":
            assert reached <= ({"world/vocabulary"} if name == "presets" else set()), name


def test_the_path_of_a_model_that_takes_any_words_loads_no_world():
    code = (
        "from sorano import engine, prompt_editing, presets; prompt_editing.read_prompt(presets.Preset(name='x'), 'a')"
    )
    assert not {name for name in modules_after(code) if name.startswith("sorano.world")}


def test_every_module_has_a_row():
    for path in MODULES:
        name = path.with_suffix("").as_posix().removesuffix("/__init__")
        assert part_of(name) in MAY_IMPORT, f"{name} has no row in the import directions"


def test_the_training_code_imports_only_what_a_bare_gpu_machine_has():
    allowed = {"torch", "numpy", "numba", "safetensors", "tokenizers", "sorano"} | set(sys.stdlib_module_names)
    for path in MODULES:
        if path.parts[0] not in ("train", "models", "sampling"):
            continue
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            extra = {name.split(".")[0] for name in names} - allowed - {"ftfy", "PIL"}  # used where they are needed
            assert not extra, f"{path} imports {extra}"


def modules_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_sorano_is_light():
    names = ("sorano", "sorano.plan", "sorano.models.wan.config", "sorano.request")
    for code in (*(f"import {name}" for name in names), "from sorano.cli import app"):
        heavy = {"torch", "numpy", "av", "PIL", "numba", "tokenizers", "safetensors", "huggingface_hub"}
        heavy |= {"c2pa", "cryptography", "cv2", "onnx", "onnxruntime"}
        assert not heavy & modules_after(code), code


def test_the_path_needs_no_reference_implementation():
    code = "import sorano.engine, sorano.conditions, sorano.models.checkpoint, sorano.sampling.denoise, sorano.device"
    assert not {"diffusers", "transformers", "numba", "scipy"} & modules_after(code)


def test_trust_code_has_no_asserts_and_no_bare_excepts():
    for path in MODULES:
        if path.parts[0] != "trust":
            continue
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}"
            if isinstance(node, ast.ExceptHandler):
                names = ast.dump(node.type) if node.type is not None else ""
                assert names and "'Exception'" not in names and "'BaseException'" not in names, f"{path}:{node.lineno}"


def test_every_module_of_trust_says_what_it_does_not_cover():
    for path in MODULES:
        if path.parts[0] == "trust" and path.name not in ("__init__.py",):
            assert "Not covered:" in (ast.get_docstring(ast.parse((PACKAGE / path).read_text())) or ""), path


def test_type_checkers_see_the_public_names_that_there_are():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (seen,) = (node.body for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name: node.module for node in seen for alias in node.names}
    found = {name: f"sorano.{module}" for module, names in sorano._MODULES.items() for name in names}
    assert imported == found and sorted(found) == sorano.__all__ and set(found) <= set(dir(sorano))
    assert all(getattr(sorano, name).__module__.startswith("sorano") for name in found)


def test_a_module_of_a_public_name_comes_along_and_others_are_unknown():
    modules_after("import sorano; sorano.errors.RequestError, sorano.trust.verify, sorano.conditions.Loop")
    with pytest.raises(AttributeError, match="no attribute 'generatr'"):
        _ = sorano.generatr


def test_verifying_needs_no_engine():
    engine = {"sorano.engine", "sorano.conditions", "sorano.pipeline"}
    command = "from sorano.cli.commands import program_for; program_for(['verify', 'clip.mp4'])"
    for code in ("import sorano.trust.verify", command):
        assert not engine & modules_after(code)
    assert "sorano.cli.trust" in modules_after(command)


def test_every_public_name_is_there():
    for name in sorano.__all__:
        assert callable(getattr(sorano, name))
    assert "generate" in sorano.__all__ and "load" in sorano.__all__


def test_loading_a_model_does_not_import_torchs_compiler(tiny_folder):
    code = f"from sorano.models import checkpoint; checkpoint.load({str(tiny_folder)!r})"
    assert not {"torch._dynamo", "sympy"} & modules_after(code)
