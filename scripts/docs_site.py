"""What the documentation needs beyond mkdocs.yml: a page from outside docs/, and docstrings as they are."""

import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGE = "benchmarks/report.md"
_AS_IS = re.compile(r"^    .*$|`[^`]*`|\*", re.MULTILINE)  # code stays


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The report of the benchmarks stays beside them."""
    report = Path(config.config_file_path).parent / PAGE
    files.append(File.generated(config, PAGE, abs_src_path=str(report)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/ to the report are links within the site."""
    return markdown.replace(f"](../{PAGE})", f"]({PAGE})")


class PlainText(griffe.Extension):
    """Docstrings are text for a terminal, where `*` is an asterisk: "warboy(2)*1"."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _AS_IS.sub(
                lambda found: "\\*" if found[0] == "*" else found[0], obj.docstring.value
            )
