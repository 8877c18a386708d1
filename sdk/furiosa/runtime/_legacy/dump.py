"""What somebody who reports a failed compilation should attach. Source: runtime reference 8."""

import platform
import shutil
import sys

from furiosa.runtime._core.errors import CompilationFailed
from furiosa.runtime._version import full_version

_NO_TERMINAL = (100, 24)


def information_dump(failure: CompilationFailed) -> str:
    from furiosa.tools.compiler.version import version_string

    columns = shutil.get_terminal_size(_NO_TERMINAL).columns if sys.stderr.isatty() else 100
    rule = "=" * columns
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
