"""`furiosactl revoke`: take a lease away. Its owner is told, and has a grace to finish."""

import argparse
import time

from furiosa.cli.args import Commands, add_command, add_grace, add_reason
from furiosa.cli.broker import Broker
from furiosa.cli.commands.action import acting
from furiosa.cli.render.times import span


def add_parser(commands: "Commands[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = add_command(commands, name, text)
    parser.add_argument("lease", metavar="LEASE", help="its id, as `furiosactl leases` shows it")
    add_grace(parser)
    add_reason(parser)
    parser.set_defaults(run=acting(_act))


def _act(args: argparse.Namespace, broker: Broker) -> str:
    lease = broker.revoke(args.lease, args.grace, args.reason)
    ends = "" if lease.ends_at is None else f"; it ends in {span(lease.ends_at - time.time())}"
    return f"lease {lease.id} is {lease.state.value}{ends}"
