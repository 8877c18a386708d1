"""Write docs/compiler/operators.md from the compiler's own table of operators; `--check` only compares."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from furiosa.compiler.dfg.operators import OPERATORS

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "compiler" / "operators.md"
HEAD: Final = """\
# Operators of the NPU

Made by `scripts/operator_table.py` from `compiler/dfg/operators/`; do not edit.

An ONNX operator runs on the NPU when a row names it and its condition holds. Rows whose dfg \
operator starts with Q, and Requantize, are for what stands between DequantizeLinear and \
QuantizeLinear, where tensors have 8 bits and one scale; Relu and Clip behind it cost nothing. What \
no row takes runs on the host; the compiler's log says why.

| ONNX | Condition | [dfg](dfg.md) | [Instructions](../isa.md) |
|---|---|---|---|
"""


def rows() -> Iterator[str]:
    """In order of the ONNX names."""
    for op, operator in sorted(OPERATORS.items(), key=lambda item: (item[1].covers, item[0])):
        instructions = ", ".join(f"`{opcode.name}`" for opcode in operator.instructions)
        covers = ", ".join(operator.covers)
        yield f"| {covers} | {operator.when or 'always'} | `{op}` | {instructions} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when stale")
    check = parser.parse_args().check
    fresh = HEAD + "\n".join(rows()) + "\n"
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == fresh:
        return 0
    if check:
        print(f"stale, run scripts/operator_table.py: {PAGE.name}", file=sys.stderr)
        return 1
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
