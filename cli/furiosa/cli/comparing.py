"""`furiosa-bench --compare`: two JSON reports side by side."""

from pathlib import Path
from typing import Final

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.render.table import Align, Column, Table, draw
from furiosa.cli.terminal import Terminal
from furiosa.runtime.bench.comparison import BadReport, Figure, SavedReport, differences, figures

MAX_BYTES: Final = 1 << 20


def compare(first: Path, second: Path, terminal: Terminal) -> ExitCode:
    """A table on stdout; what makes the two hard to compare on stderr."""
    reports = []
    for path in (first, second):
        try:
            reports.append(_read(path))
        except (OSError, BadReport) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else exc
            terminal.say(f"furiosa-bench: {path}: {reason}")
            return ExitCode.FAILURE
    before, after = reports
    for difference in differences(before, after):
        terminal.say(f"furiosa-bench: these differ in their {difference}")
    columns = (
        Column("Figure"),
        *(Column(title, Align.RIGHT) for title in (str(first), str(second), "Change")),
        Column("Second is"),
    )
    rows = tuple(_row(figure) for figure in figures(before, after))
    terminal.out.write(draw(Table(columns, rows), bold=terminal.is_screen))
    return ExitCode.OK


def _read(path: Path) -> SavedReport:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BadReport("no JSON report of furiosa-bench (too large)")
    return SavedReport.parse(data.decode("utf-8", "replace"))


def _row(figure: Figure) -> tuple[str, ...]:
    change = "" if figure.change is None else f"{figure.change:+.1f} %"
    verdict = {None: "equal", True: "better", False: "worse"}[figure.is_better]
    digits = 2 if figure.unit == "/s" else 0
    return (
        f"{figure.name} ({figure.unit})",
        *(f"{value:,.{digits}f}" for value in (figure.first, figure.second)),
        change,
        verdict,
    )
