"""Device memory: one byte arena for each space, and the buffers of a program as views into them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.enf import Program, Space


class Memory:
    """Buffers really share bytes where a program puts them at the same address."""

    def __init__(self, program: Program) -> None:
        # zeros: pages nobody touches cost nothing, however large the space
        arenas = {
            Space.DRAM: np.zeros(program.dram_bytes, np.uint8),
            Space.SRAM: np.zeros(program.sram_bytes, np.uint8),
        }
        self._views = [
            arenas[b.space][b.offset : b.offset + b.nbytes].view(b.dtype.numpy).reshape(b.shape)
            for b in program.buffers
        ]

    def __getitem__(self, buffer: int) -> npt.NDArray[Any]:
        """The buffer with this index, as a writable view."""
        return self._views[buffer]
