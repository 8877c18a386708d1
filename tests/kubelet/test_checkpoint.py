"""What can be made out of the kubelet's own notes."""

import json
from pathlib import Path

import pytest

from furiosa.kubelet.checkpoint import NAME, noted_ids


def entry(resource: str, ids: object) -> dict[str, object]:
    return {"PodUID": "p", "ContainerName": "c", "ResourceName": resource, "DeviceIDs": ids}


@pytest.mark.parametrize("form", [["a", "b"], {"0": ["a"], "-1": ["b"]}])
def test_both_forms_of_ids_are_read(tmp_path: Path, form: object) -> None:
    entries = [entry("x/y", form), entry("x/y", ["c"]), entry("x/z", [])]
    (tmp_path / NAME).write_text(json.dumps({"Data": {"PodDeviceEntries": entries}}))
    assert noted_ids(tmp_path) == {"x/y": {"a", "b", "c"}, "x/z": frozenset()}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"Data": null}', '{"Data": {"PodDeviceEntries": [1]}}', "\xff"]
)
def test_what_cannot_be_made_out_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    assert noted_ids(tmp_path) == {}


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert noted_ids(tmp_path) == {}
