"""`furiosactl config check`: find what is wrong with the broker's files before the broker does.

Nobody is asked: the broker's own readers look at the files, here.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from furiosa.cli.broker import Connect
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal

if TYPE_CHECKING:
    from furiosa.cli.args import Commands

_TENANTS_KEYS: Final = frozenset({"tenant", "defaults", "unmatched"})  # no setting has such a name


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="say what is wrong with settings and tenants files",
        description="Say what is wrong with settings and tenants files.",
        allow_abbrev=False,
    )
    check.add_argument("files", metavar="FILE", nargs="+")
    check.set_defaults(run=_run)


def _run(args: argparse.Namespace, terminal: Terminal, connect: Connect) -> ExitCode:
    code = ExitCode.OK
    for path in args.files:
        kind, problems = check(path)
        for problem in problems:
            terminal.say(f"{path}: {problem}")
        if problems:
            code = ExitCode.FAILURE
        else:
            terminal.out.write(f"{path}: no problem found ({kind})\n")
    return code


def check(path: str) -> tuple[str, Sequence[str]]:
    """What kind of file it is, and every problem it has."""
    import tomllib

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        content = tomllib.loads(text)
    except OSError as exc:
        return "nothing", [exc.strerror or str(exc)]
    except (ValueError, RecursionError) as exc:
        return "nothing", [f"this is no TOML file: {exc}"]
    if _TENANTS_KEYS.isdisjoint(content):
        return "settings", _settings_problems(path)
    return "tenants", _tenants_problems(text)


def _settings_problems(path: str) -> Sequence[str]:
    from furiosa.broker.settings import BadSettings, BrokerSettings

    try:
        BrokerSettings.load([f"--config={path}"], {})
    except BadSettings as exc:
        return [str(exc).removeprefix(f"{path}: ")]
    return []


def _tenants_problems(text: str) -> Sequence[str]:
    from furiosa.broker.tenants.parse import BadTenants, parse

    try:
        parse(text)
    except BadTenants as exc:
        return exc.problems
    return []
