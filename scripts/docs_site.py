"""A hook of mkdocs: the report of the benchmarks, which stays beside them, is a page of the site, too."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGE = "benchmarks/report.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    report = Path(config.config_file_path).parent / PAGE
    files.append(File.generated(config, PAGE, abs_src_path=str(report)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/ to the report are links within the site."""
    return markdown.replace(f"](../{PAGE})", f"]({PAGE})")
