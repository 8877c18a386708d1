"""Which constants are the same: of one type, one shape, equal byte for byte."""

from typing import Final

from furiosa.compiler.value import Array

_HEAD: Final = 16  # elements that tell most constants apart, so that the rest need not be read

Key = tuple[str, tuple[int, ...], bytes]


class Constants:
    """Constants in order of first appearance, each once."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._heads: dict[Key, int] = {}
        self._alike: dict[Key, int] = {}  # whole contents of those whose heads are the same

    def index(self, data: Array) -> int:
        """The place of this constant, a new one if it is new."""
        head = (data.dtype.name, data.shape, data.flat[:_HEAD].tobytes())
        first = self._heads.setdefault(head, len(self.arrays))
        if first < len(self.arrays):
            self._alike.setdefault(_key(self.arrays[first]), first)
            first = self._alike.setdefault(_key(data), len(self.arrays))
        if first == len(self.arrays):
            self.arrays.append(data)
        return first


def _key(data: Array) -> Key:
    return data.dtype.name, data.shape, data.tobytes()
