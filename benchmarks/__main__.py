"""python -m benchmarks [--rounds N]: measure everything, write report.json and report.md."""

import argparse
from pathlib import Path

from benchmarks import acquire, broker, inference, reclaim
from benchmarks.figures import write

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000, help="calls of each side, a figure")
    rounds = parser.parse_args().rounds
    with broker.running() as socket:
        found = [*acquire.figures(socket, rounds), *reclaim.figures(), *inference.figures(rounds)]
    for figure in found:
        print(
            f"{figure.name:24} {figure.ratio:6.2f}x  {figure.ours:9.1f} {figure.unit}"
            f"  against {figure.theirs:9.1f} {figure.unit}: {figure.against}"
        )
    write(found, FOLDER)


if __name__ == "__main__":
    main()
