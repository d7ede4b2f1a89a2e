"""The files around the code: workflows, forms, scripts and metadata agree with each other and with what is there."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import sorano

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(path):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_is_there_with_the_least_rights(workflow):
    found = read(workflow)
    assert found["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in found["jobs"].values())
    for step in steps(workflow):
        if "uses" in step:  # a tag can be moved to other code, a commit cannot
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        for name in re.findall(r"(?<![\w/])((?:scripts|tests|\.ci)/[\w./-]+)", step.get("run", "")):
            assert (ROOT / name).is_file(), f"{workflow.name}: {name}"


def test_every_python_that_is_promised_is_tested_on_every_system():
    matrix = read(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    promised = [one.rsplit(" ", 1)[1] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", one)]
    assert matrix["python"] == promised and PROJECT["requires-python"] == f">={promised[0]}"
    assert {name.split("-")[0] for name in matrix["system"]} == {"ubuntu", "macos", "windows"}


def test_the_proven_versions_are_those_that_the_package_asks_for():
    """scripts/constraints.txt: what is pinned meets the bounds of every extra, and each tool of the tests is pinned."""
    from packaging.requirements import Requirement

    lines = (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(text) for text in PROJECT["dependencies"] + sum(extras.values(), [])]
    wanted = [(one.name.lower().replace("_", "-"), one) for one in wanted if one.name != "sorano"]
    assert not [str(one) for name, one in wanted if name in pinned and pinned[name] not in one.specifier]
    tools = [Requirement(text).name for text in extras["test"] + extras["docs"]]
    assert not [name for name in tools if name != "sorano" and name.lower() not in pinned]


def test_the_version_is_one():
    assert PROJECT["version"] == sorano.__version__ == str(read(ROOT / "CITATION.cff")["version"])


def test_the_citation_has_what_readers_of_it_need():
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["license"] == PROJECT["license"]
    assert citation["title"] and citation["message"] and citation["authors"]


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.name
)
def test_a_form_for_issues_can_be_filled_in(form):
    found = read(form)
    assert found["name"] and found["description"]
    fields = [one for one in found["body"] if one["type"] != "markdown"]
    names = [one["id"] for one in fields]
    assert len(set(names)) == len(names) and all(one["attributes"]["label"] for one in fields)
    assert any(one.get("validations", {}).get("required") for one in fields)


@pytest.mark.posix
@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").iterdir() if not path.suffix))
def test_a_script_can_be_run(script):
    path = ROOT / "scripts" / script
    assert script == "setup" or os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


def test_what_a_commit_runs_is_there():
    hooks = [hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == ["scripts/lint"]
    assert "scripts/lint" in (ROOT / "scripts" / "test").read_text(encoding="utf-8")
