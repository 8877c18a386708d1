"""Objects of Kubernetes as this machine's tools make them: of charts, and of folders of manifests."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import pytest
import yaml

Object = dict[str, Any]

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
CHART: Final = DEPLOY / "helm" / "furiosa-npu"
RELEASE: Final = ("furiosa-npu", "kube-system")
_RENDERER: Final = Path(__file__).with_name("helm") / "main.go"
_LIBRARIES: Final = Path("/usr/share/gocode")  # where Debian has what the renderer is made of
_PARTS: Final = ("src/github.com/Masterminds/sprig", "src/github.com/ghodss/yaml")


class NotRendered(Exception):
    """What the renderer said."""


def rendered(values: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The chart's files with these values over its own. Raises: NotRendered."""
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    done = subprocess.run(
        [_renderer(), CHART, *RELEASE, file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise NotRendered(done.stderr)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@cache
def _renderer() -> Path:
    missing = [part for part in _PARTS if not (_LIBRARIES / part).is_dir()]
    if missing or shutil.which("go") is None:
        pytest.skip("no Go with sprig and yaml on this machine: charts cannot be rendered")
    folder = Path(mkdtemp(prefix="fb-chart-"))
    environ = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(_LIBRARIES),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    subprocess.run(
        ["go", "build", "-o", str(folder / "render"), str(_RENDERER)],
        env=environ,
        check=True,
        timeout=110,
    )
    return folder / "render"


def objects(text: str) -> list[Object]:
    return [each for each in yaml.safe_load_all(text) if each is not None]


def of_chart(values: Mapping[str, Any], folder: Path) -> list[Object]:
    files = rendered(values, folder)
    del files["NOTES.txt"]
    return [each for name in sorted(files) for each in objects(files[name])]


def of_folder(folder: Path) -> list[Object]:
    """What `kubectl apply -k` would apply."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on this machine")
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def name_of(thing: Object) -> str:
    return f"{thing['kind']}/{thing['metadata']['name']}"


def by_name(things: list[Object]) -> dict[str, Object]:
    found = {name_of(each): each for each in things}
    assert len(found) == len(things), "an object is there twice"
    return found


def pod_of(workload: Object) -> Object:
    pod: Object = workload["spec"]["template"]["spec"]
    return pod
