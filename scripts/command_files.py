"""Write share/ (manual pages, completion for bash, zsh and fish) from the parsers of the commands.

`--check` only compares. A further command is an entry of PROGRAMS.
"""

import argparse
import dataclasses
import re
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import shtab

from furiosa.broker import settings
from furiosa.cli import (
    bench_command_line,
    command_line,
    compile_command_line,
    compiler_command_line,
    furiosa_command_line,
)
from furiosa.cli.litmus import command_line as litmus_command_line
from furiosa.cli.subcommands import SUMMARIES, Executable
from furiosa.compiler.options import IRS
from furiosa.deviceplugin import command_line as device_plugin_command_line
from furiosa.dra import main as dra_main
from furiosa.exporter import command_line as exporter_command_line
from furiosa.featurediscovery import main as featurediscovery_main

ROOT: Final = Path(__file__).resolve().parent.parent / "share"
SHELLS: Final = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
VALUES: Final = {  # of options whose parser leaves it to the compiler what it takes
    "--target-npu": ("warboy", "warboy-2pe"),
    "--target-ir": IRS,
}
ENVIRONMENT: Final = """
Environment:
  FURIOSA_BROKER   where the broker is: unix:/path or host:port
  FURIOSA_EMULATE  how many virtual cards a broker has that is started for this user (default: 1)
"""
DEVICES: Final = ENVIRONMENT + "  FURIOSA_DEVICES  which devices are used, e.g. npu:0:0-1\n"
STATUS: Final = """
Exit status:
  0    done; also when there is nothing to show
  1    failed; stderr says why
  2    the command line is wrong
  130  interrupted
  141  whoever read the output stopped reading
"""
NODE: Final = "  NODE_NAME        this node's name in the cluster\n"
STATUS_OF_DAEMONS: Final = """
Exit status:
  0  stopped by SIGTERM or SIGINT
  1  it cannot start here; stderr says why
  2  the settings are wrong; stderr says what
"""
EXPORTED: Final = """
Environment:
  FURIOSA_BROKER   where the broker is: unix:/path or host:port (default: the one of this machine)
  FURIOSA_DEVICE_ROOT
                   a folder with dev and sys, which is read instead of asking a broker
"""
EXTENSIONS: Final = """
Sub-commands:
  A program furiosa-NAME is the sub-command NAME, and so is an entry point NAME of the group
  furiosa.commands of an installed Python package. Of several with one name the first of these is
  run: a program beside the Python of the SDK, an entry point, a program on PATH.

Exit status:
  That of the sub-command; 0 for the help and the version, 2 for an unknown sub-command.
"""
SETTINGS: Final = """
Environment:
  FURIOSA_BROKERD_NAME  the setting --name, for each of them; flags win over it, and it over the file

Signals:
  SIGTERM, SIGINT  end in order: owners get their grace; a second one ends at once
  SIGHUP           read files such as the tenants file again
  SIGUSR2          be replaced by the program as it is now installed; no session ends
"""


@dataclass(frozen=True, slots=True)
class Program:
    """`summary` follows the name in the manual; `text` has further sections, as in a long help."""

    name: str
    summary: str
    parser: Callable[[], ArgumentParser]
    text: str
    section: int = 1


def furiosa_parser() -> ArgumentParser:
    """With the commands of this distribution, and their options."""
    ours = _ours()
    parser = furiosa_command_line.build_parser([Executable(name, "") for name in ours])
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, program in ours.items():
                action._name_parser_map[name] = below = program.parser()
                below.description = SUMMARIES[name]
    return parser


def _ours() -> Mapping[str, Program]:
    """By their names as sub-commands of `furiosa`, in the order of its help."""
    programs = {program.name.removeprefix("furiosa-"): program for program in PROGRAMS}
    return {name: programs[name] for name in SUMMARIES if name in programs}


def brokerd_parser() -> ArgumentParser:
    fields = dataclasses.fields(settings.BrokerSettings)
    return settings._parser({field.name: field for field in fields})


PROGRAMS: Final = (
    Program(
        "furiosactl",
        "show NPU devices and who uses them, administer the broker",
        command_line.build_parser,
        ENVIRONMENT + STATUS,
    ),
    Program("furiosa", "run the commands of the SDK", furiosa_parser, EXTENSIONS),
    Program(
        "furiosa-compile",
        "compile a model, with the options of older versions",
        compile_command_line._parser,
        "\nExit status:\n  0 compiled, 255 an error that stderr tells, 130 interrupted\n",
    ),
    Program(
        "furiosa-compiler",
        "compile a model into a program for the NPU",
        compiler_command_line._parser,
        compiler_command_line._LONG,
    ),
    Program(
        "furiosa-bench",
        "measure latency and throughput of a model",
        bench_command_line.build_parser,
        DEVICES + STATUS,
    ),
    Program(
        "furiosa-litmus",
        "check whether a model works with the SDK",
        litmus_command_line.build_parser,
        DEVICES + STATUS,
    ),
    Program(
        "furiosa-brokerd",
        "lend the NPU cores of a machine to processes",
        brokerd_parser,
        SETTINGS,
        section=8,
    ),
    Program(
        "furiosa-device-plugin",
        "offer the NPU cores of a node to Kubernetes",
        device_plugin_command_line.parser,
        ENVIRONMENT + NODE + STATUS_OF_DAEMONS,
        section=8,
    ),
    Program(
        "furiosa-dra-driver",
        "offer NPU cores by dynamic resource allocation",
        dra_main.parser,
        ENVIRONMENT + NODE + STATUS_OF_DAEMONS,
        section=8,
    ),
    Program(
        "furiosa-npu-metrics-exporter",
        "tell Prometheus of the NPUs",
        exporter_command_line.parser,
        EXPORTED + NODE + STATUS_OF_DAEMONS,
        section=8,
    ),
    Program(
        "furiosa-npu-feature-discovery",
        "label a node by its NPUs",
        featurediscovery_main.parser,
        EXPORTED + STATUS_OF_DAEMONS,
        section=8,
    ),
)


def files() -> Iterator[tuple[str, str]]:
    """Path below share/ and content of each."""
    for program in PROGRAMS:
        place = f"man/man{program.section}/{program.name}.{program.section}"
        yield place, "\n".join(manual(program)) + "\n"
        for shell, form in SHELLS.items():
            parser = program.parser()
            _complete(parser)
            text = shtab.complete(parser, shell)
            yield form.format(program.name), "\n".join(map(str.rstrip, text.splitlines())) + "\n"


def _complete(parser: ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete(below)
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab looks for it
        for option in action.option_strings:
            action.choices = VALUES.get(option, action.choices)


def manual(program: Program) -> Iterator[str]:
    """Lines of roff."""
    parser = program.parser()
    yield f'.TH {_roff(program.name.upper())} {program.section} "" "furiosa\\-broker" "FuriosaAI SDK"'
    yield f".SH NAME\n{_roff(program.name)} \\- {_roff(program.summary)}"
    yield ".SH SYNOPSIS"
    yield _synopsis(parser)
    if parser.description is not None:
        yield f".SH DESCRIPTION\n{_roff(_sentence(parser.description))}"
    options = [action for action in parser._actions if not _is_commands(action)]
    commands = [action for action in parser._actions if _is_commands(action)]
    if commands and program.name == "furiosa":  # whose commands have pages of their own
        yield ".SH COMMANDS"
        for name in _ours():
            yield from _item(_bold(name), SUMMARIES[name])
    elif commands:
        known = {action.dest for action in options}
        yield ".SH COMMANDS"
        yield from _commands(parser, parser.prog, known)
    yield ".SH OPTIONS"
    yield from _options(parser, set())
    yield from _sections(program.text)
    others = sorted((other.name, other.section) for other in PROGRAMS if other != program)
    pages = ", ".join(f"\\fB{_roff(name)}\\fR({section})" for name, section in others)
    yield f".SH SEE ALSO\n{pages}"


def _commands(parser: ArgumentParser, prog: str, known: set[str]) -> Iterator[str]:
    """Those of `parser` and below; options in `known` are described elsewhere."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for name, command in action.choices.items():
            if not any(map(_is_commands, command._actions)):
                yield f".SS {_roff(command.prog.removeprefix(prog).strip())}"
                yield _synopsis(command, known)
                yield ".PP"
                yield _roff(_sentence(command.description or name))
                yield from _options(command, known | {"help"})
            yield from _commands(command, prog, known)


def _synopsis(parser: ArgumentParser, known: set[str] | None = None) -> str:
    """Options that exclude each other or are required do not occur."""
    parts = [f"\\fB{_roff(parser.prog)}\\fR"]
    for action in parser._actions:
        if action.help == SUPPRESS or action.dest in (known or set()):
            continue
        values = _values(action)
        if action.option_strings:
            if action.dest != "help":
                parts.append(
                    f"[{' '.join(filter(None, (_bold(action.option_strings[0]), values)))}]"
                )
        else:
            parts.append(f"[{values}]" if action.nargs == "?" else values)
    return "\n".join(parts) if len(parts) > 1 else parts[0]


def _options(parser: ArgumentParser, known: set[str]) -> Iterator[str]:
    for action in parser._actions:
        if action.help == SUPPRESS or _is_commands(action) or action.dest in known:
            continue
        values = _values(action)
        names = ", ".join(map(_bold, action.option_strings))
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield from _item(" ".join(filter(None, (names, values))), text)


def _item(head: str, text: str) -> Iterator[str]:
    yield f".TP\n{head}\n{_roff(text)}"


def _values(action: argparse.Action) -> str:
    """What follows an option's name, or stands for an argument."""
    if action.nargs == 0:
        return ""
    if _is_commands(action):
        return f"\\fI{_roff(str(action.metavar or 'COMMAND'))}\\fR ..."
    name = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(_roff(str(choice)) for choice in action.choices) + "}"
    one = f"\\fI{_roff(str(name))}\\fR"
    if isinstance(action.nargs, int):
        return " ".join([one] * action.nargs)
    return f"{one} ..." if action.nargs in ("+", "*") else one


def _sections(text: str) -> Iterator[str]:
    """Blocks of a title that ends in a colon and lines that are indented, which stay as they are."""
    for title, lines in re.findall(r"^(\S.*):\n((?:(?:  .*)?\n)+)", text, re.MULTILINE):
        yield f".SH {_roff(title.upper())}\n.nf"
        yield from (_roff(line.removeprefix("  ")) for line in lines.rstrip().splitlines())
        yield ".fi"


def _is_commands(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


def _sentence(text: str) -> str:
    return text if text.endswith((".", ")")) else f"{text}."


def _bold(text: str) -> str:
    return f"\\fB{_roff(text)}\\fR"


def _roff(text: str) -> str:
    """Plain text; what would be a request at the start of a line is none."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^\.", r"\\&.", escaped, flags=re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when stale")
    check = parser.parse_args().check
    fresh = dict(files())
    found = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in ROOT.rglob("*")
        if path.is_file()
    }
    stale = sorted(path for path in fresh | found if fresh.get(path) != found.get(path))
    for path in stale:
        if check:
            print(f"stale, run scripts/command_files.py: share/{path}", file=sys.stderr)
        elif path in fresh:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(fresh[path], encoding="utf-8")
        else:
            (ROOT / path).unlink()
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
