from pathlib import Path

import pytest

from furiosa.sysfs.tree import MARKER
from support.devtrees import copied
from support.kubelet.fixtures import kubelet, quick, short_path, start

__all__ = ["kubelet", "quick", "short_path", "start"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the tree with the cards npu0 and npu10; device files are plain ones."""
    root = copied("two-cards", tmp_path)
    (root / MARKER).touch()
    return root
