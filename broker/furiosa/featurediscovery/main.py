"""furiosa-npu-feature-discovery: writes this node's labels where Node Feature Discovery looks for them."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from furiosa.agent import run_program
from furiosa.agent.program import LEVELS
from furiosa.client import Connection
from furiosa.client.address import SYSTEM, Address, UnixAddress, from_environment
from furiosa.common.errors import FuriosaError
from furiosa.common.files import replace_file
from furiosa.featurediscovery.labels import Described, Machine, feature_file, labels
from furiosa.sysfs import discover

log = logging.getLogger(__name__)

OUTPUT: Final = Path("/etc/kubernetes/node-feature-discovery/features.d/furiosa-npu")
MACHINE: Final = Path("/sys/class/dmi/id")
INTERVAL: Final = 60.0
LOOK_SECONDS: Final = 10.0  # for a broker to answer
MOST_TEXT: Final = 256  # bytes of what firmware says


@dataclass(frozen=True, slots=True)
class Settings:
    """`interval` in seconds. `root` is where dev/ and sys/ are, for when there is no broker at `broker`."""

    output: Path = OUTPUT
    interval: float = INTERVAL
    later: bool = False
    machine: Path = MACHINE
    root: Path = Path("/")
    broker: Address = SYSTEM


class NotSeen(Exception):
    """Neither a broker nor a driver tells what there is; the text says why."""


class Discovery:
    """`once` writes what there is now, if it is something else than before."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._complaint = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.once()
                self._complaint = ""
            except NotSeen as exc:
                if str(exc) != self._complaint:
                    self._complaint = str(exc)
                    log.warning("labels stay as they are: %s", exc)
            await asyncio.sleep(self._settings.interval)

    async def once(self) -> None:
        """Raises: NotSeen."""
        cards = await self._cards()
        path, later = self._settings.output, self._settings.later
        try:
            text = feature_file(labels(cards, machine(self._settings.machine), later=later))
            if not text:
                if path.exists():
                    log.info("no cards: %s is removed", path)
                path.unlink(missing_ok=True)
            elif not path.exists() or path.read_text() != text:
                replace_file(path, text.encode())
                log.info("labels of %d cards in %s", len(cards), path)
        except OSError as exc:
            raise NotSeen(f"{path}: {exc.strerror}") from None

    async def _cards(self) -> Sequence[Described]:
        """As the broker says, which knows virtual cards, too; without one, as the driver does."""
        settings = self._settings
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                async with await Connection.open(
                    settings.broker, client="furiosa-npu-feature-discovery"
                ) as connection:
                    return await connection.devices()
        except (FuriosaError, TimeoutError) as exc:
            if not isinstance(settings.broker, UnixAddress):  # elsewhere are other cards
                raise NotSeen(str(exc)) from None
        try:
            return await asyncio.to_thread(discover, settings.root)
        except OSError as exc:
            raise NotSeen(f"{settings.root}: {exc}") from None


def machine(folder: Path) -> Machine:
    """What cannot be read is empty: virtual machines often say nothing."""
    return Machine(_text(folder / "sys_vendor"), _text(folder / "product_name"))


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:MOST_TEXT].decode(errors="replace").strip()
    except OSError:
        return ""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="furiosa-npu-feature-discovery",
        description="Write the labels of this node's NPUs for Node Feature Discovery.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="FILE", help=f"where to (default: {OUTPUT})"
    )
    made.add_argument("--oneshot", action="store_true", help="write it once and end")
    made.add_argument(
        "--interval",
        type=_seconds,
        default=INTERVAL,
        metavar="SECONDS",
        help=f"from one look to the next (default: {INTERVAL:g})",
    )
    made.add_argument(
        "--later-labels",
        action="store_true",
        help="the labels furiosa.ai/npu... of the later generation, too",
    )
    made.add_argument("--log-level", choices=LEVELS, default="info", help="default: info")
    return made


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: expected seconds, 1 to 86400")
    return seconds


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Exit status: 0; 1 when --oneshot could not; 2 for bad arguments."""
    args = parser().parse_args(arguments)
    try:
        broker = from_environment(environ) or SYSTEM
    except FuriosaError as exc:
        sys.stderr.write(f"furiosa-npu-feature-discovery: {exc}\n")
        return 2
    root = Path(environ.get("FURIOSA_DEVICE_ROOT", "/"))
    settings = Settings(args.output, args.interval, args.later_labels, MACHINE, root, broker)
    discovery = Discovery(settings)
    if not args.oneshot:
        run_program(discovery.run(), args.log_level)
        return 0
    try:
        asyncio.run(discovery.once())
    except NotSeen as exc:
        sys.stderr.write(f"furiosa-npu-feature-discovery: {exc}\n")
        return 1
    return 0
