"""Model files as the compiler takes them."""

import os

from furiosa.common import model_files
from furiosa.compiler import InvalidModel


def read_model(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a model, with the tensors it has in other files.

    Raises: OSError; InvalidModel.
    """
    try:
        return model_files.read_model(path)
    except model_files.UnreadableModel as exc:
        raise InvalidModel(exc.found, exc.hint) from None
