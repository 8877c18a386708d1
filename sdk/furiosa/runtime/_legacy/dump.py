"""What somebody who reports a failed compilation should attach. Source: runtime reference 8."""

import os
import platform
from typing import Final

from furiosa.runtime._core.errors import CompilationFailed
from furiosa.runtime._version import full_version

_STDERR: Final = 2
_COLUMNS: Final = 100  # where it is no terminal


def information_dump(failure: CompilationFailed) -> str:
    from furiosa.tools.compiler.version import version_string

    rule = "=" * _columns()
    lines = [
        rule,
        "Information Dump",
        rule,
        f"- Python version: {platform.python_version()}",
        f"- furiosa-compiler version: {version_string()}",
        f"- furiosa-runtime version: {full_version()}",
        "",
        str(failure),
    ]
    if failure.log is not None:
        lines.append(f"The compiler's log is {failure.log}; send it along when you report this.")
    return "\n".join([*lines, rule])


def _columns() -> int:
    try:
        return os.get_terminal_size(_STDERR).columns
    except OSError:
        return _COLUMNS
