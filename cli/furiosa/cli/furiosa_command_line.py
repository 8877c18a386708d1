"""The command line of `furiosa`.

Source: command reference 1 (commands, help, version, exit status). Commands of others are our own addition.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.starting import starting
from furiosa.cli.subcommands import Executable, Extension, Subcommand, all_of, find
from furiosa.cli.terminal import Terminal

Execute = Callable[[str, list[str]], Any]  # does not return

_EPILOG: Final = "furiosa COMMAND --help shows the options of a sub-command."


def run(argv: Sequence[str] | None, execute: Execute) -> ExitCode | int:
    """Run a sub-command, with all arguments after its name as they are.

    An executable takes the place of this process, so its streams, its exit status and Ctrl+C are its own. An
    extension is called in it, with the same effect. Anything else is answered here.
    """
    with starting():
        arguments = sys.argv[1:] if argv is None else list(argv)
        terminal = Terminal.standard()
        command = find(arguments[0]) if arguments else None
        if isinstance(command, Executable):
            try:
                execute(command.path, [command.path, *arguments[1:]])
            except OSError as exc:
                terminal.say(f"furiosa: {command.path}: {exc.strerror}")
                return ExitCode.FAILURE
            return ExitCode.OK
        if command is None:
            return _answer(arguments, terminal)
    return _call(command, arguments[1:], terminal)


def _call(extension: Extension, arguments: Sequence[str], terminal: Terminal) -> ExitCode | int:
    try:
        with starting():
            function = extension.load()
    except Exception as exc:  # whatever the import of a stranger's package raises
        terminal.say(
            f"furiosa: {extension.name}: cannot load {extension.target} of {extension.package}: {exc!r}"
        )
        return ExitCode.FAILURE
    sys.argv = [f"furiosa {extension.name}", *arguments]
    try:
        code: ExitCode | int = function(list(arguments)) or ExitCode.OK
        terminal.out.flush()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        code = ExitCode.BROKEN_PIPE
    terminal.finish()
    return code


def build_parser(commands: Sequence[Subcommand]) -> argparse.ArgumentParser:
    from furiosa.common.build import VERSION

    parser = argparse.ArgumentParser(
        prog="furiosa",
        description=f"FuriosaAI SDK CLI (ver. {VERSION.version})",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=str(VERSION), help="show the version and exit"
    )
    added = parser.add_subparsers(help="sub-command help")
    for command in commands:
        added.add_parser(command.name, help=command.summary.replace("%", "%%"))
    return parser


def _answer(arguments: Sequence[str], terminal: Terminal) -> ExitCode:
    # the version is the same whatever is installed
    parser = build_parser(() if list(arguments) == ["--version"] else all_of())
    try:
        try:
            parser.parse_args(arguments)
        except SystemExit as exc:  # argparse has printed its help or what is wrong
            return ExitCode.USAGE if exc.code else ExitCode.OK
        else:
            parser.print_help()
            return ExitCode.OK
        finally:
            terminal.out.flush()
    except OSError as exc:
        terminal.say(f"furiosa: {exc.strerror}")
        return ExitCode.FAILURE
    finally:
        terminal.finish()
