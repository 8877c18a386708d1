"""Tensors in other files are read from below the model's folder, and from nowhere else."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from furiosa.common import model_files
from furiosa.common.model_files import UnreadableModel, read_model
from support.onnx_models import Builder

WEIGHTS = np.arange(24, dtype=np.float32).reshape(4, 6)


def model(**entries: str) -> onnx.ModelProto:
    """y = x @ weights, which are in another file as `entries` say."""
    net = Builder()
    x = net.node("MatMul", net.input("x", [2, 4]), net.constant(WEIGHTS))
    made = net.model(x)
    tensor = made.graph.initializer[0]
    tensor.name = made.graph.node[0].input[1] = "weights"
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return made


def written(folder: Path, **entries: str) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model(**entries).SerializeToString())
    return path


def weights_in(data: bytes) -> np.ndarray:
    (tensor,) = onnx.ModelProto.FromString(data).graph.initializer
    assert not tensor.external_data
    assert not tensor.HasField("data_location")
    return numpy_helper.to_array(tensor)


def test_a_model_in_one_file_is_its_bytes(tmp_path: Path) -> None:
    net = Builder()
    whole = net.model(net.node("Relu", net.input("location", [2])), ir_version=8)
    for data in (whole.SerializeToString(), b"no model", b"no model with a location", b""):
        (tmp_path / "m").write_bytes(data)
        assert read_model(tmp_path / "m") == data
        assert read_model(str(tmp_path / "m")) == data


def test_tensors_in_other_files_are_brought_in(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "data.bin").write_bytes(b"ab" + WEIGHTS.tobytes())
    path = written(tmp_path, location="deep/data.bin", offset="2", length="96", checksum="?")
    np.testing.assert_array_equal(weights_in(read_model(path)), WEIGHTS)


def test_a_tensor_without_a_length_goes_to_the_end_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(WEIGHTS.tobytes())
    path = written(tmp_path, location="./data.bin")
    np.testing.assert_array_equal(weights_in(read_model(path)), WEIGHTS)


def test_what_onnx_saves_in_two_files_is_read_as_onnx_reads_it(tmp_path: Path) -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 6, 6]), 3, 8)
    net.nodes.append(
        onnx.helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(512)))
    )
    made = net.model(x, "k")
    onnx.save(
        made,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        size_threshold=64,
        convert_attribute=True,
    )
    assert b"EXTERNAL" in str(onnx.load(tmp_path / "m.onnx", load_external_data=False)).encode()
    found = onnx.ModelProto.FromString(read_model(tmp_path / "m.onnx"))
    expected = onnx.load(tmp_path / "m.onnx")
    for before, after in zip(expected.graph.initializer, found.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))
    after = found.graph.node[1].attribute[0].t
    np.testing.assert_array_equal(numpy_helper.to_array(after), np.ones(512))


def outside(folder: Path) -> Path:
    secret = folder.parent / "secret.bin"
    secret.write_bytes(WEIGHTS.tobytes())
    return secret


def linked_file(folder: Path) -> dict[str, str]:
    (folder / "link.bin").symlink_to(outside(folder))
    return {"location": "link.bin"}


def linked_folder(folder: Path) -> dict[str, str]:
    outside(folder)
    (folder / "link").symlink_to(folder.parent)
    return {"location": "link/secret.bin"}


def pipe(folder: Path) -> dict[str, str]:
    os.mkfifo(folder / "pipe")
    return {"location": "pipe"}


def inner_folder(folder: Path) -> dict[str, str]:
    (folder / "inner").mkdir()
    return {"location": "inner"}


def beside(folder: Path, **entries: str) -> dict[str, str]:
    (folder / "data.bin").write_bytes(WEIGHTS.tobytes())
    return {"location": "data.bin", **entries}


BELOW = "which is not a path below the model's folder; keep the files with a model's tensors in"
REFUSED: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {
    "absolute": (lambda folder: {"location": str(outside(folder))}, BELOW),
    "up": (lambda folder: {"location": f"../{outside(folder).name}"}, BELOW),
    "up inside": (lambda folder: {"location": f"a/../../{outside(folder).name}"}, BELOW),
    "empty": (lambda folder: {"location": ""}, BELOW),
    "zero byte": (lambda folder: {"location": "data\0.bin"}, BELOW),
    "link": (
        linked_file,
        "which cannot be read: Too many levels of symbolic links (links are not followed); keep",
    ),
    "link to a folder": (linked_folder, "which cannot be read: Not a directory (links are not"),
    "missing": (
        lambda folder: {"location": "data.bin"},
        "which cannot be read: No such file or directory (links are not followed); keep",
    ),
    "pipe": (pipe, "which is not a regular file; keep"),
    "folder": (lambda folder: {"location": "."}, BELOW),
    "inner folder": (inner_folder, "which is not a regular file; keep"),
    "too long": (
        lambda folder: beside(folder, length="97"),
        "at 0 with 97 bytes, and the file has 96; save the model anew",
    ),
    "too far": (
        lambda folder: beside(folder, offset="97"),
        "at 97 with -1 bytes, and the file has 96; save the model anew",
    ),
    "end too far": (
        lambda folder: beside(folder, offset="90", length="7"),
        "at 90 with 7 bytes, and the file has 96; save the model anew",
    ),
    "negative": (
        lambda folder: beside(folder, offset="-1"),
        "with offset '-1', which is no number of bytes; save it anew",
    ),
    "huge": (
        lambda folder: beside(folder, length="9" * 30),
        f"with length '{'9' * 30}', which is no number of bytes; save it anew",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_places_are_refused_with_tensor_and_file(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    make, message = REFUSED[name]
    entries = make(folder)
    with pytest.raises(UnreadableModel) as caught:
        read_model(written(folder, **entries))
    start = f"tensor 'weights' is in '{entries.get('location', '')}', "
    assert str(caught.value).startswith(start + message)


def test_a_path_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, location="data.bin")
    path.write_bytes(path.read_bytes().replace(b"data.bin", b"dat\xff.bin"))
    with pytest.raises(UnreadableModel, match="tensor 'weights' is in"):
        read_model(path)


def test_the_sizes_of_all_tensors_together_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, **beside(tmp_path))
    twice = model(**beside(tmp_path))
    second = twice.graph.initializer.add()
    second.CopyFrom(twice.graph.initializer[0])
    second.name = "more"
    path.write_bytes(twice.SerializeToString())
    size = path.stat().st_size
    monkeypatch.setattr(model_files, "MAX_MODEL_BYTES", size + 191)
    with pytest.raises(UnreadableModel) as caught:
        read_model(path)
    assert str(caught.value).startswith(
        "tensor 'more' is in 'data.bin', with 96 bytes, which are too many by 1; models of up to "
    )
    monkeypatch.setattr(model_files, "MAX_MODEL_BYTES", size + 192)
    assert len(onnx.ModelProto.FromString(read_model(path)).graph.initializer) == 2
    monkeypatch.setattr(model_files, "MAX_MODEL_BYTES", size - 1)
    with pytest.raises(UnreadableModel, match=f"has more than {size - 1} bytes; give a smaller"):
        read_model(path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "none.onnx")
