"""What must hold between the operands of an instruction: one function for each opcode, and one table.

They may assume that operands exist and windows are sound.
"""

from collections.abc import Mapping
from typing import Final

from furiosa.enf.instruction_checks import elementwise, movement, reduction, windows
from furiosa.enf.instruction_checks.operands import Check
from furiosa.enf.isa import Opcode

__all__ = ["CHECKS"]

CHECKS: Final[Mapping[Opcode, Check]] = {
    **windows.CHECKS,
    **elementwise.CHECKS,
    **movement.CHECKS,
    **reduction.CHECKS,
}
