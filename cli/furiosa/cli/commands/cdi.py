"""`furiosactl cdi`: NPUs for podman, docker and other runtimes. Not in the published tool."""

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from furiosa.cli.args import Commands, add_broker
from furiosa.cli.broker import Connect
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal

if TYPE_CHECKING:
    from furiosa.cdi.spec import Spec

FORMATS: Final = ("json", "yaml")


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    generate = _action(
        actions, "generate", "Write the specification of this machine's NPUs, e.g. for podman"
    )
    add_broker(generate, default=argparse.SUPPRESS)
    generate.add_argument(
        "--output",
        metavar="FILE",
        default="-",
        help="where to, e.g. /etc/cdi/furiosa.json; replaced in one step (default: standard output)",
    )
    generate.add_argument(
        "--format",
        choices=FORMATS,
        help="default: as the name of the output ends, else json",
    )
    generate.set_defaults(run=_generate)
    listing = _action(actions, "list", "Show the NPU devices that container runtimes know")
    listing.add_argument(
        "--folder",
        metavar="DIR",
        action="append",
        help="where specifications are (default: /etc/cdi and /var/run/cdi)",
    )
    listing.set_defaults(run=_list)


def _action(
    actions: "Commands[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    return actions.add_parser(name, help=text, description=text, allow_abbrev=False)


def _generate(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
    from furiosa.cdi import node_spec, write

    path = None if args.output == "-" else Path(args.output)
    form = args.format or (
        "yaml" if path is not None and path.suffix in (".yaml", ".yml") else "json"
    )
    if path is not None and path.suffix not in _SUFFIXES[form]:
        terminal.say(
            f"furiosactl: {path} is to hold {form}: runtimes read it only as *{_SUFFIXES[form][0]}"
        )
        return ExitCode.USAGE
    with closing(connect(args.broker)) as broker:
        spec = node_spec(broker.devices(), broker.grants())
    if path is None:
        terminal.out.write(_text(spec, form))
        return ExitCode.OK
    write(path, _text(spec, form))
    terminal.say(f"furiosactl: {len(spec['devices'])} devices in {path}")
    return ExitCode.OK


def _list(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
    from furiosa.cdi import FOLDERS, KIND, present

    folders = FOLDERS if args.folder is None else tuple(map(Path, args.folder))
    found = dict(present(KIND, folders))  # the later folder wins
    for name in found:
        terminal.out.write(f"{name}\n")
    if not found:
        where = ", ".join(map(str, folders))
        terminal.say(f"furiosactl: none in {where}; `furiosactl cdi generate` makes them")
    return ExitCode.OK


def _text(spec: "Spec", form: str) -> str:
    from furiosa.cdi import text

    if form == "json":
        return text(spec)
    from furiosa.cli.render.yaml_ import yaml_text

    return yaml_text(dict(spec))


_SUFFIXES: Final = {"json": (".json",), "yaml": (".yaml", ".yml")}
