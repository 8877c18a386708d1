from pathlib import Path

import pytest

from furiosa.broker.cordons import Cordons


def test_cordons_are_there_after_a_restart_until_they_are_lifted(tmp_path: Path) -> None:
    path = tmp_path / "cordons.json"
    cordons = Cordons(path)
    assert cordons.reasons == {}
    cordons.set(3, "new fan")
    cordons.set(0, "x")
    assert Cordons(path).reasons == {3: "new fan", 0: "x"}
    cordons.set(3, None)
    assert Cordons(path).reasons == {0: "x"}


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": "b"}'])
def test_a_bad_file_does_not_keep_the_broker_from_starting(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cordons.json"
    path.write_text(content)
    assert Cordons(path).reasons == {}


def test_what_cannot_be_written_has_not_happened(tmp_path: Path) -> None:
    path = tmp_path / "cordons.json"
    cordons = Cordons(path)
    path.with_suffix(".new").mkdir()
    with pytest.raises(OSError, match="directory"):
        cordons.set(1, "x")
    assert cordons.reasons == {}
