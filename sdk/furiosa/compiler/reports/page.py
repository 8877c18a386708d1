"""The memory report: one HTML page with its figures, styles and scripts inside, and no way out.

The figures are JSON that scripts write as text; the policy in the page allows these scripts and
styles by their digests, and no connection.
"""

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from typing import Final

from furiosa.compiler.gir.ir import Gir
from furiosa.compiler.reports.figures import Figures, figures
from furiosa.compiler.reports.names import printable

_SCRIPTS: Final = ("words.js", "plot.js", "tables.js", "page.js")


def memory_report(graph: Gir) -> str:
    """Of an allocated graph. Numbers in the page are those of `figures`."""
    style = _asset("page.css")
    script = "\n".join(map(_asset, _SCRIPTS))
    return _asset("page.html").format(
        title=escape(printable(graph.model.name)),
        style_digest=_digest(style),
        script_digest=_digest(script),
        style=style,
        script=script,
        figures=_json(figures(graph)),
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(found: Figures) -> str:
    """ASCII, and without what could end or begin markup."""
    text = json.dumps(found, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
