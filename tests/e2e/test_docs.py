"""What the documents promise: files that exist, every file on the map, every flag and public name explained."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest
import typer
import yaml

import sorano
from sorano import cli
from sorano.request import Request

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "sorano"
DOCUMENTS = ["README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/how-it-works.md"]
DOCUMENTS += [
    "docs/trust.md",
    "docs/serve.md",
    "docs/device.md",
    "docs/quality.md",
    "docs/LOG.md",
    "docs/index.md",
    "docs/api.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
]
MODEL_CARD = "MODEL_CARD.md"


@pytest.mark.parametrize("name", [*DOCUMENTS, MODEL_CARD])
def test_the_document_is_there(name):
    assert len((ROOT / name).read_text(encoding="utf-8")) > 200


def written():
    return [path for path in ROOT.glob("*.md")] + [path for path in ROOT.glob("docs/**/*.md")]


def test_links_lead_to_files():
    broken = []
    for document in written():
        for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", document.read_text(encoding="utf-8")):
            target = (link[0] or link[1]).split("#")[0]
            if target and "://" not in target and not target.startswith("mailto:"):
                if not (document.parent / target).exists():
                    broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert not broken


def test_paths_that_the_documents_name_exist():
    missing = []
    for document in written():
        text = document.read_text(encoding="utf-8")
        for name in re.findall(
            r"(?<![\w/.-])((?:src/sorano|tests|benchmarks|scripts|docs|examples|\.ci)/[\w./-]*\w)", text
        ):
            if not (ROOT / name).exists() and not list(ROOT.glob(name + ".*")):
                missing.append(f"{document.relative_to(ROOT)}: {name}")
    assert not missing


def test_the_map_names_every_module():
    """docs/how-it-works.md: each module by its path in the package, as `models/vae.py`."""
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    absent = [str(path) for path in modules if path.name != "__init__.py" and not named(path, text)]
    assert not absent


def named(path, text):
    """Whether a map names a module: by its path, or in the line of its folder ("models/   config, vae ...")."""
    if path.as_posix() in text or (len(path.parts) == 1 and path.name in text):
        return True
    return any(
        line.strip().startswith(f"{path.parts[0]}/") and re.search(rf"\b{path.stem}\b", line)
        for line in text.splitlines()
    )


def test_every_flag_and_every_word_is_documented():
    text = "\n".join(document.read_text(encoding="utf-8") for document in written())
    flags = [
        "--" + field.name.replace("_", "-")
        for field in dataclasses.fields(Request)
        if field.name not in ("prompt", "conditions", "shots")
    ]
    assert not [flag for flag in [*flags, "--json", "--quiet", "--verbose"] if flag not in text]
    commands = typer.main.get_command(cli.app).commands
    trust = [commands[name] for name in ("verify", "mark", "label")]
    trust += [command for name in ("keys", "trust") for command in commands[name].commands.values()]
    flags = {flag for command in trust for option in command.params for flag in option.opts if flag.startswith("--")}
    assert not sorted(flag for flag in flags if flag not in text)
    names = [name for name in sorano.__all__ if not name.endswith("Error") or name == "SoranoError"]
    assert not [name for name in names if name not in text]


def test_the_api_page_has_every_public_name():
    """docs/api.md: each name by where it is, `::: sorano.engine.generate`; errors in their tree."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = dict(line.removeprefix("::: ").rsplit(".", 1)[::-1] for line in re.findall(r"^::: \S+", text, re.M))
    errors = [name for name in sorano.__all__ if isinstance(getattr(sorano, name), type)]
    errors = [name for name in errors if issubclass(getattr(sorano, name), Exception)]
    assert not [name for name in errors if name not in text]
    assert not [name for name in sorano.__all__ if name not in shown and name not in errors]
    assert not [name for name, module in shown.items() if not hasattr(importlib.import_module(module), name)]


def test_the_site_shows_every_page():
    """mkdocs.yml: each page of docs/ stands in the navigation, and what stands there exists."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    shown = [page for entry in site["nav"] for page in entry.values()]
    assert sorted(shown) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_readme_gives_a_first_result_soon():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert any("scripts/demo" in line for line in lines[:30])
    assert any("sorano generate" in line for line in lines[:40])
    assert any("scripts/test" in line for line in lines)


def test_the_charts_are_those_of_the_plans(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import charts

    for name, text in charts.charts():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"python docs/charts.py draws {name} anew"


def test_the_plans_in_the_documents_run():
    import shlex

    from typer.testing import CliRunner

    from sorano.cli import app

    lines = []
    for document in (ROOT / "docs" / "plan.md", ROOT / "README.md"):
        lines += re.findall(
            r"^    sorano (plan (?!calibrate).*?)(?:\s+#.*)?$", document.read_text(encoding="utf-8"), re.M
        )
    assert len(lines) > 9
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line))
        assert done.exit_code == 0, (line, done.output)


def test_every_command_of_the_documents_is_one_that_exists(monkeypatch):
    """scripts/docs-check runs them; here each line's options are read as the command would."""
    import shlex

    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import commands as documents

    program = typer.main.get_command(cli.app)
    count = 0
    for name in documents.DOCUMENTS:
        for line in documents.commands((ROOT / name).read_text(encoding="utf-8")):
            words = shlex.split(line)[1:]
            command, context = program, None
            while hasattr(command, "commands"):
                word, *words = words
                assert word in command.commands, line
                command = command.commands[word]
            try:
                context = command.make_context(command.name or "", list(words))
            except Exception as error:
                raise AssertionError(f"{name}: {line}: {error}") from error
            count += context is not None
    assert count > 60


def test_the_figures_of_the_documents_are_those_that_commands_print(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import commands as documents

    for name, words, number in documents.figures():
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert words.format(number) in text, (name, words.format(number))


def test_both_languages_have_the_same_commands(monkeypatch):
    """What the Chinese page shows, the English one or the page of verbs shows too, but for prompts and names."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import commands as documents

    def kinds(name):
        return {" ".join(line.split()[1:2]) for line in documents.commands((ROOT / name).read_text(encoding="utf-8"))}

    assert kinds("README.zh-CN.md") <= kinds("README.md") | kinds("docs/trust.md")


def test_the_map_names_what_there_is():
    """Each `module.name` of docs/how-it-works.md is a name of a module that is called so."""
    files = {}
    for path in PACKAGE.rglob("*.py"):
        files.setdefault(path.stem, []).append(path.read_text(encoding="utf-8"))
    missing = []
    for module, name in re.findall(
        r"`([a-z_]+)\.([A-Za-z_]+)`", (ROOT / "docs/how-it-works.md").read_text(encoding="utf-8")
    ):
        here = rf"(^|\s)(def|class) {name}\b|^\s*{name}(:.*)? = "
        if (
            module in files
            and name not in ("py", "js", "json", "safetensors")
            and not any(re.search(here, text, re.M) for text in files[module])
        ):
            missing.append(f"{module}.{name}")
    assert not missing
