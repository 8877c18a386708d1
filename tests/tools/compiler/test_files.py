"""Files appear whole; what is no regular file stays what it is."""

import os
import stat
from pathlib import Path

import pytest

from furiosa.tools.compiler.files import save


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    save(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"data"
    save(Path(os.devnull), b"data")
    with pytest.raises(OSError, match="/dev/full"):
        save(Path("/dev/full"), b"data")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
