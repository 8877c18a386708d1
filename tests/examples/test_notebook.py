"""The notebook, executed from its first cell to its last by a kernel of its own."""

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from support import digits

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOK = EXAMPLES / "digits.ipynb"


def kept() -> nbformat.NotebookNode:
    node: nbformat.NotebookNode = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(node)
    return node


def printed(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_all_cells_of_the_notebook_run(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for name in ("FURIOSA_BROKER", "FC_CACHE_ENABLED", "FC_CACHE_STORE_URL"):
        monkeypatch.setenv(name, environ[name])
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp("j")))
    activated = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    monkeypatch.setenv("PATH", activated)
    notebook = kept()
    sockets = {"transport": "ipc", "ip": str(tmp_path_factory.mktemp("j") / "k")}
    folder = {"metadata": {"path": str(EXAMPLES)}}
    NotebookClient(notebook, resources=folder, config=Config({"KernelManager": sockets})).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert f"The NPU says {digits.held_out_labels()[0]}" in printed(code[1])
    assert "npu0pe0-1" in printed(code[2])
    assert "100 of 100 right" in printed(code[3])
    assert "(available), 1 (available)" in printed(code[4])
    assert f"The NPU says {digits.held_out_labels()[1]}" in printed(code[5])


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in kept().cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
