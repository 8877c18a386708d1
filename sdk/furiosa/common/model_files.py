"""Model files as bytes that need no other file.

An ONNX model may keep tensors in files beside it and says itself in which. It is a stranger's word, so
only regular files below the model's own folder are read, and no symbolic link is followed.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from furiosa.common.model_limits import MAX_MODEL_BYTES

if TYPE_CHECKING:
    import onnx

_LOCATION: Final = b"location"  # the key that every tensor in another file has. Source: onnx.proto
_HINT: Final = (
    "keep the files with a model's tensors in the folder of the model, or save it as one file"
)


class UnreadableModel(ValueError):
    """`found` is what is wrong with a model file, `hint` what to do."""

    def __init__(self, found: str, hint: str) -> None:
        super().__init__(f"{found}; {hint}")
        self.found = found
        self.hint = hint


def read_model(path: str | os.PathLike[str]) -> bytes:
    """A model file's bytes; of an ONNX model with tensors in other files, one model with all of them.

    Raises: OSError when the file cannot be read; UnreadableModel, with tensor and file, when a tensor
    cannot be, or when all of it is too large.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_MODEL_BYTES + 1)
    if len(data) > MAX_MODEL_BYTES:
        raise UnreadableModel(
            f"{os.fspath(path)} has more than {MAX_MODEL_BYTES} bytes", "give a smaller model"
        )
    return data if _LOCATION not in data else _gathered(data, Path(path).parent)


def _gathered(data: bytes, folder: Path) -> bytes:
    """`data` as it is when no tensor of it is elsewhere; what is no model is for the compiler to refuse."""
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return data
    elsewhere = [tensor for tensor in _tensors(model.graph) if tensor.external_data]
    if not elsewhere:
        return data
    left = MAX_MODEL_BYTES - len(data)
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for tensor in elsewhere:
            tensor.raw_data = _read(tensor, root, left)
            left -= len(tensor.raw_data)
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
    finally:
        os.close(root)
    return model.SerializeToString(deterministic=True)


def _tensors(graph: "onnx.GraphProto") -> Iterator["onnx.TensorProto"]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _read(tensor: "onnx.TensorProto", root: int, left: int) -> bytes:
    """The tensor's bytes, at most `left`. `root` is the model's folder."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    location = str(given.get("location", ""))

    def refusal(found: str, hint: str = _HINT) -> UnreadableModel:
        return UnreadableModel(f"tensor '{tensor.name}' is in '{location}', {found}", hint)

    numbers = {}
    for key in ("offset", "length"):
        if not str(given.get(key, "0")).isdecimal() or len(given.get(key, "0")) > 18:
            raise refusal(f"with {key} '{given[key]}', which is no number of bytes", "save it anew")
        numbers[key] = int(given.get(key, "0"))
    parts = PurePosixPath(location).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in location:
        raise refusal("which is not a path below the model's folder")
    try:
        file = _open(root, parts)
    except OSError as error:
        raise refusal(f"which cannot be read: {error.strerror} (links are not followed)") from None
    try:
        info = os.fstat(file)
        if not stat.S_ISREG(info.st_mode):
            raise refusal("which is not a regular file")
        size = numbers["length"] if "length" in given else info.st_size - numbers["offset"]
        if size < 0 or numbers["offset"] + size > info.st_size:
            raise refusal(
                f"at {numbers['offset']} with {size} bytes, and the file has {info.st_size}",
                "save the model anew",
            )
        if size > left:
            raise refusal(
                f"with {size} bytes, which are too many by {size - left}",
                f"models of up to {MAX_MODEL_BYTES} bytes are taken",
            )
        data = os.pread(file, size, numbers["offset"])
    finally:
        os.close(file)
    if len(data) != size:
        raise refusal("which became shorter while it was read", "try again")
    return data


def _open(root: int, parts: tuple[str, ...]) -> int:
    """A descriptor of the file, whose every part lies in the one before."""
    flags = (
        os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    )  # the last: a pipe has no end
    folder = os.dup(root)
    try:
        for part in parts[:-1]:
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)
