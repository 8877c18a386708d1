"""Ctrl+C before a command can handle it: while it imports what it is made of."""

import signal
import subprocess
import sys
import threading

import pytest

from furiosa.cli.starting import starting

# Stands for a user who presses Ctrl+C at the moment when a module is being looked for.
PRESS = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from importlib import import_module
sys.exit(import_module(sys.argv[1]).main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("furiosactl", "argparse"),
        ("furiosactl", "furiosa.cli.commands.ps"),
        ("furiosactl", "furiosa.client.sync"),
        ("furiosactl", "google.protobuf.message"),
        ("furiosa_compiler", "furiosa.compiler"),
        ("furiosa_compiler", "numpy"),
        ("furiosa_bench", "argparse"),
        ("furiosa_bench", "furiosa.runtime"),
        ("furiosa_main", "furiosa.cli.subcommands"),
    ],
)
def test_it_ends_the_process_without_a_word(command: str, module: str) -> None:
    arguments = {
        "furiosactl": ["--broker", "unix:/nowhere", "ps"],
        "furiosa_bench": ["x.onnx"],
        "furiosa_compiler": ["x.onnx"],
        "furiosa_main": [],
    }
    line = [sys.executable, "-c", PRESS, f"furiosa.cli.{command}", module, *arguments[command]]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_afterwards_it_is_an_exception_again() -> None:
    with starting():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_decision_of_somebody_else_stands(handler: object) -> None:
    before = signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]  # both are handlers
    try:
        with starting():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_changes_nothing() -> None:
    seen: list[object] = []

    def act() -> None:
        with starting():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
