"""Draw the states of a lease in docs/leases.md, from the broker's own table; `--check` only compares.

What stands between the two marker comments is replaced; they are put at the end when they are missing.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from furiosa.broker.lease.states import TRANSITIONS
from furiosa.common.views import LeaseState

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "leases.md"
START: Final = "<!-- lease states: made by scripts/lease_states.py -->"
END: Final = "<!-- end of lease states -->"

HEADING: Final = "## From state to state"
# the words of the page for what happens to a lease
WORDS: Final = {
    "Renewed": "renewed",
    "Handed": "transferred or resumed",
    "Detached": "connection gone (with linger)",
    "Left": "connection gone (without)",
    "Expired": "time to live over",
    "Recalled": "recalled",
    "Released": "released",
    "GraceOver": "grace over",
    "Quiesced": "workers stopped",
}


def section() -> str:
    lines = [HEADING, "", "```mermaid", "stateDiagram-v2", "    [*] --> granted", *_arrows()]
    lines += [f"    {state.value} --> [*]" for state, row in TRANSITIONS.items() if not row]
    lines += ["```", "", *_table()]
    return "\n".join(lines)


def _arrows() -> Iterator[str]:
    for state, row in TRANSITIONS.items():
        for target in dict.fromkeys(row.values()):
            words = ", ".join(WORDS[e.__name__] for e, to in row.items() if to is target)
            yield f"    {state.value} --> {target.value}: {words}"


def _table() -> Iterator[str]:
    """A blank is an arrow that does not exist: nothing changes."""
    yield "| When | " + " | ".join(state.value for state in LeaseState) + " |"
    yield "|---" * (len(LeaseState) + 1) + "|"
    for event in dict.fromkeys(event for row in TRANSITIONS.values() for event in row):
        targets = (TRANSITIONS[state].get(event) for state in LeaseState)
        cells = " | ".join("" if target is None else target.value for target in targets)
        yield f"| {WORDS[event.__name__]} | {cells} |"


def with_section(page: str) -> str:
    """The page with the section as it should be."""
    drawn = f"{START}\n\n{section()}\n\n{END}"
    if START not in page:
        return f"{page.rstrip()}\n\n{drawn}\n"
    return re.sub(f"{re.escape(START)}.*?{re.escape(END)}", lambda _: drawn, page, flags=re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when stale")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    fresh = with_section(page)
    if fresh == page:
        return 0
    if check:
        print(f"stale, run scripts/lease_states.py: {PAGE.name}", file=sys.stderr)
        return 1
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
