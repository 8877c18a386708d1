"""python -m benchmarks [--only NAME] [--quick]: measure, write report.json and report.md."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import (
    cli,
    compiler,
    contended,
    cycle,
    flood,
    held,
    inference,
    kubernetes,
    reclaim,
    report,
    sdk,
    size,
    waiting,
)
from benchmarks.efforts import FULL, QUICK, Effort
from benchmarks.figures import Found

FOLDER = Path(__file__).resolve().parent

# what a figure's name begins with, and who measures it
AREAS: tuple[tuple[str, Callable[[Effort], Iterator[Found]]], ...] = (
    ("acquire.cycle", cycle.figures),
    ("acquire.contended", contended.figures),
    ("acquire.size", size.figures),
    ("acquire.held", held.figures),
    ("acquire.after_kill", reclaim.figures),
    ("acquire.waiting", waiting.figures),
    ("acquire.flood", flood.figures),
    ("inference", inference.figures),
    ("sdk", sdk.figures),
    ("compiler", compiler.figures),
    ("cli", cli.figures),
    ("kubernetes", kubernetes.figures),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="NAME", default="", help="areas whose name begins so")
    parser.add_argument("--quick", action="store_true", help="few samples: to see that it runs")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the report")
    arguments = parser.parse_args()
    chosen = [measure for name, measure in AREAS if name.startswith(arguments.only)]
    if not chosen:
        parser.error(f"--only {arguments.only}: one of {', '.join(name for name, _ in AREAS)}")
    arguments.into.mkdir(parents=True, exist_ok=True)  # before minutes of work, not after
    facts = report.machine()
    found = []
    for measure in chosen:
        for item in measure(QUICK if arguments.quick else FULL):
            print(report.line(item), flush=True)
            found.append(item)
    report.write(facts, found, arguments.into)


if __name__ == "__main__":
    main()
