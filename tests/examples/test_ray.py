"""The example for Ray, by a Ray of its own."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.digits import EXAMPLES

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no ray here")


def test_two_actors_share_a_card_and_classify_all_images(
    environ: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "ray_actors.py", "--actors", "2"],
        env={**environ, "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    places = re.findall(r"an actor is process (\d+) on (\S+)", done.stdout)
    assert sorted(device for _, device in places) == ["npu0pe0", "npu0pe1"]
    assert len({pid for pid, _ in places}) == 2
    assert "99.60% of 1000 images are right" in done.stdout
