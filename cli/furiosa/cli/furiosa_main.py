"""`furiosa`: one name for the commands of the SDK that are installed.

Source: command reference 1 (commands, help, version).
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.starting import starting
from furiosa.cli.terminal import Terminal

_COMMANDS: Final = {  # executable to help; the sub-command is the name after the first "-"
    "furiosa-compile": "FuriosaAI SDK Compiler for DNN models",
    "furiosa-server": "RESTful/GRPC Serving framework for DNN models",
    "furiosa-litmus": "Validator to check if DNN models work in FuriosaAI SDK",
}

Execute = Callable[[str, list[str]], Any]  # does not return


def main(argv: Sequence[str] | None = None, *, execute: Execute = os.execv) -> ExitCode:
    """Become the executable of a sub-command, with all arguments after its name as they are.

    So its streams, its exit status and Ctrl+C are its own. Anything else is answered here.
    """
    with starting():
        arguments = sys.argv[1:] if argv is None else list(argv)
        found = _installed()
        if arguments and arguments[0] in found:
            path = found[arguments[0]]
            try:
                execute(path, [path, *arguments[1:]])
            except OSError as exc:
                print(f"furiosa: {path}: {exc.strerror}", file=sys.stderr)
                return ExitCode.FAILURE
        terminal = Terminal.standard()
        try:
            code = _answer(arguments, found)
            terminal.out.flush()
        except OSError as exc:
            terminal.say(f"furiosa: {exc.strerror}")
            code = ExitCode.FAILURE
        terminal.finish()
        return code


def _installed() -> Mapping[str, str]:
    """Paths of the executables beside this one or on PATH, by sub-command."""
    beside = os.path.dirname(sys.executable)  # a virtual environment need not be activated
    places = os.pathsep.join((beside, os.environ.get("PATH", os.defpath)))
    paths = {name: shutil.which(name, path=places) for name in _COMMANDS}
    return {name.partition("-")[2]: path for name, path in paths.items() if path is not None}


def _answer(arguments: Sequence[str], found: Mapping[str, str]) -> ExitCode:
    from furiosa.common.build import VERSION

    parser = argparse.ArgumentParser(
        prog="furiosa",
        description=f"FuriosaAI SDK CLI (ver. {VERSION.version})",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=str(VERSION))
    commands = parser.add_subparsers(help="sub-command help")
    for name, text in _COMMANDS.items():
        if (command := name.partition("-")[2]) in found:
            commands.add_parser(command, help=text)
    try:
        parser.parse_args(arguments)
    except SystemExit as exc:  # argparse has printed its help or what is wrong
        return ExitCode(exc.code) if isinstance(exc.code, int) else ExitCode.OK
    parser.print_help()
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
