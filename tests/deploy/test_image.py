"""The images: their recipes are sound, and what they copy and start exists."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

from support.charts import DEPLOY, objects

REPOSITORY = DEPLOY.parent
IMAGE = DEPLOY / "containers" / "Dockerfile"
EXAMPLE = REPOSITORY / "examples" / "kubernetes" / "Dockerfile"
RECIPES = pytest.mark.parametrize("recipe", [IMAGE, EXAMPLE], ids=["programs", "example"])


def steps(recipe: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DockerfileParser(path=str(recipe), cache_content=True).structure
    return [step for step in found if step["instruction"] != "COMMENT"]


def values(recipe: Path, instruction: str) -> list[str]:
    return [step["value"] for step in steps(recipe) if step["instruction"] == instruction]


@RECIPES
def test_hadolint_finds_no_fault(recipe: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, recipe], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)


@RECIPES
def test_what_is_copied_exists_and_is_not_ignored(recipe: Path) -> None:
    kept = {
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for value in values(recipe, "COPY"):
        *sources, _ = value.split()
        if sources[0].startswith("--from="):
            continue
        for source in sources:
            assert (REPOSITORY / source).exists(), source
            assert any(source == each or source.startswith(f"{each}/") for each in kept), source


def test_the_wheel_can_be_built_of_what_is_copied() -> None:
    """All roots of packages, and whatever else the build's configuration names."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {path.split("/")[0] for path in (*wheel["packages"], *wheel["shared-data"])}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {project["tool"]["hatch"]["build"]["hooks"]["custom"]["path"], "pyproject.toml"}
    copied = {source for value in values(IMAGE, "COPY") for source in value.split()[:-1]}
    assert needed <= copied


def test_what_programs_of_a_cluster_need_is_installed() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert "kubernetes" in extras
    assert any("'.[kubernetes]'" in value for value in values(IMAGE, "RUN"))


@RECIPES
def test_it_runs_as_nobody_in_particular(recipe: Path) -> None:
    assert values(recipe, "USER")[-1] == "65532:65532"


@RECIPES
def test_bases_have_a_version(recipe: Path) -> None:
    arguments = dict(value.split("=", 1) for value in values(recipe, "ARG"))
    for value in values(recipe, "FROM"):
        base = value.split()[0]
        for name, default in arguments.items():
            base = base.replace(f"${{{name}}}", default)
        _, _, tag = base.partition(":")
        assert tag, base
        assert tag != "latest"


def test_pods_start_programs_that_there_are() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    scripts = set(project["project"]["scripts"])
    commands = {
        each["command"][0]
        for path in (DEPLOY / "kubernetes").glob("*.yaml")
        for thing in objects(path.read_text())
        if thing["kind"] == "DaemonSet"
        for each in thing["spec"]["template"]["spec"]["containers"]
    }
    assert len(commands) == 5
    assert commands - scripts == set()


def test_pods_have_the_image_of_this_version() -> None:
    version = next(
        line.split('"')[1]
        for line in (REPOSITORY / "sdk/furiosa/common/build.py").read_text().splitlines()
        if line.startswith("NUMBER")
    )
    images = {
        each["image"]
        for path in (DEPLOY / "kubernetes").glob("*.yaml")
        for thing in objects(path.read_text())
        if thing["kind"] == "DaemonSet"
        for each in thing["spec"]["template"]["spec"]["containers"]
    }
    assert images == {f"furiosa-npu:{version}"}
    (chart,) = objects((DEPLOY / "helm/furiosa-npu/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
