"""`furiosa-compiler`: arguments, files, exit codes. What is compiled is tested in tests/compiler."""

import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from furiosa.cli import compiling
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosa_compiler import main
from furiosa.compiler.gir.ir import Gir
from furiosa.compiler.ldfg.ir import Ldfg
from furiosa.enf import read
from support import models


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command keeps results; not made yet."""
    return tmp_path_factory.mktemp("home") / "cache"


@pytest.fixture
def source(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FC_CACHE_ENABLED", "1")
    monkeypatch.setenv("FC_CACHE_STORE_URL", str(cache))
    model = models.quantized(models.residual_cnn())
    Path("model.onnx").write_bytes(model.SerializeToString())
    return "model.onnx"


def test_program_is_saved_and_progress_told_on_stderr(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([source]) == ExitCode.OK
    program = read(Path("output.enf").read_bytes())
    assert (program.target, program.batch) == ("warboy-2pe", 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("[1/6] 🔍   Compiling from onnx to dfg\nDone in ")
    assert err.endswith("\nThe output has been saved to output.enf\n")


def test_options_reach_the_compiler(source: str) -> None:
    assert main([source, "-o", "a.enf", "-b", "2", "--target-npu", "warboy"]) == ExitCode.OK
    program = read(Path("a.enf").read_bytes())
    assert (program.target, program.batch) == ("warboy", 2)


def test_tensors_in_other_files_are_compiled_in(source: str) -> None:
    model = onnx.load(source)
    onnx.save(model, "two.onnx", save_as_external_data=True, size_threshold=0, location="weights")
    assert main(["two.onnx", "-o", "two.enf"]) == ExitCode.OK
    assert main([source, "-o", "one.enf"]) == ExitCode.OK
    one, two = (read(Path(name).read_bytes()) for name in ("one.enf", "two.enf"))
    assert one.instructions == two.instructions


def test_default_output_is_named_after_the_ir(source: str) -> None:
    assert main([source, "--target-ir", "LIR"]) == ExitCode.OK
    assert Path("output.lir").read_text().startswith("lir net opset 13")


def test_verbose_tells_the_steps(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([source, "-v"]) == ExitCode.OK
    assert "absorb-qdq took " in capsys.readouterr().err
    assert main([source]) == ExitCode.OK
    assert "absorb-qdq took " not in capsys.readouterr().err


def test_the_second_time_the_result_comes_from_the_cache(
    source: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([source, "-o", "a.enf"]) == ExitCode.OK
    assert len(list(cache.iterdir())) == 1
    capsys.readouterr()
    assert main([source, "-o", "b.enf"]) == ExitCode.OK
    finished, saved = capsys.readouterr().err.splitlines()
    assert finished.startswith("✨  Finished in ")
    assert saved == "The output has been saved to b.enf"
    assert Path("b.enf").read_bytes() == Path("a.enf").read_bytes()


def test_no_cache_neither_reads_nor_writes_it(
    source: str, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_CACHE_LIFETIME", "nonsense")  # not even looked at
    assert main([source, "--no-cache"]) == ExitCode.OK
    assert not cache.exists()
    monkeypatch.delenv("FC_CACHE_LIFETIME")
    assert main([source]) == ExitCode.OK
    capsys.readouterr()
    assert main([source, "--no-cache"]) == ExitCode.OK
    assert "Compiling from onnx to dfg" in capsys.readouterr().err


def test_verbose_compiles_though_there_is_a_result(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([source]) == ExitCode.OK
    assert main([source, "-v"]) == ExitCode.OK
    assert "absorb-qdq took " in capsys.readouterr().err


def test_a_cache_that_cannot_be_used_is_a_warning(
    source: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    assert main([source]) == ExitCode.OK
    first = capsys.readouterr().err.splitlines()[0]
    assert first == (
        f"WARNING: the compiler cache is not used: {cache} can be written to by others (mode 777), "
        "so programs in it are not trusted"
    )


def test_a_wrong_setting_of_the_cache_is_an_error(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_CACHE_LIFETIME", "soon")
    assert failed([source], capsys) == (
        "ERROR: FC_CACHE_LIFETIME: expected a whole number of seconds, found 'soon'"
    )


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Last line on stderr of a command that must fail with 1."""
    assert main(arguments) == ExitCode.FAILURE
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_errors_are_one_line(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.onnx").write_bytes(b"no model")
    assert failed(["none.onnx"], capsys) == "ERROR: none.onnx does not exist"
    assert failed(["broken.onnx"], capsys).startswith("ERROR: this is not an ONNX model")
    assert failed(["."], capsys) == "ERROR: .: Is a directory"
    assert failed([source, "-o", "."], capsys) == "ERROR: . is a folder"
    before = Path(source).read_bytes()
    Path("link.enf").hardlink_to(source)
    for same in (source, f"./{source}", "link.enf"):
        assert failed([source, "-o", same], capsys) == (
            f"ERROR: {Path(same)} is the model itself: choose another output"
        )
        assert failed([source, "--dot-graph", same], capsys).endswith(
            "the model itself: choose another output"
        )
    assert Path(source).read_bytes() == before
    Path("link.enf").unlink()
    assert failed([source, "-o", "no/x"], capsys) == "ERROR: no is no folder that can be written to"
    assert failed([source, "--target-npu", "x"], capsys).startswith("ERROR: invalid NPU id 'x'")
    assert failed([source, "--target-ir", "x"], capsys).startswith("ERROR: invalid target ir 'x'")
    assert failed([source, "-b", "0"], capsys).startswith("ERROR: invalid batch size 0")
    assert sorted(os.listdir()) == ["broken.onnx", "model.onnx"]


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["a", "b"], ["a", "--no-such"], ["a", "-b", "two"]):
        assert main(arguments) == ExitCode.USAGE
    capsys.readouterr()


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["-V"], ["--version"]])
def test_help_and_version_start_with_the_headline(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.OK
    assert capsys.readouterr().out.startswith("Furiosa SDK Compiler v0.")


def test_the_first_line_is_the_published_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.OK
    first, *others = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"Furiosa SDK Compiler v\d+\.\d+\.\d+ \([0-9a-f]{9} \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)",
        first,
    )
    assert "usage: furiosa-compiler [OPTIONS] <SOURCE>" in others
    assert main(["-V"]) == ExitCode.OK
    assert capsys.readouterr().out == first + "\n"


def test_the_long_help_has_what_the_short_one_has_and_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["-h"])
    short = capsys.readouterr().out
    main(["--help"])
    long = capsys.readouterr().out
    assert long.startswith(short)
    assert "FC_CACHE_LIFETIME" in long
    assert "FC_CACHE_LIFETIME" not in short


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the writers of reports were given; they draw one line."""
    given: list[object] = []

    def dot_graph(graph: Ldfg) -> str:
        given.append(graph)
        return "digraph {}"

    def memory_report(graph: Gir) -> str:
        given.append(graph)
        return "<html>"

    module = ModuleType("furiosa.compiler.reports")
    module.__dict__.update(dot_graph=dot_graph, memory_report=memory_report)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return given


def test_reports_are_drawn_from_the_final_graphs(source: str, drawn: list[object]) -> None:
    assert main([source]) == ExitCode.OK  # reports are of a compilation, so what is kept is no use
    assert main([source, "--dot-graph", "m.dot", "--analyze-memory", "m.html"]) == ExitCode.OK
    ldfg, gir = drawn
    assert isinstance(ldfg, Ldfg)
    assert isinstance(gir, Gir)
    assert gir.dram_bytes > 0
    assert Path("m.dot").read_text() == "digraph {}"
    assert Path("m.html").read_text() == "<html>"
    assert read(Path("output.enf").read_bytes()).dram_bytes == gir.dram_bytes


def test_reports_of_a_graph_that_is_not_made_are_refused(
    source: str, drawn: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [source, "--target-ir", "ldfg", "--dot-graph", "m.dot"]
    assert main(arguments) == ExitCode.OK
    assert failed([*arguments, "--analyze-memory", "m.html"], capsys) == (
        "ERROR: a memory report is made from the gir, and target ir 'ldfg' is before it"
    )
    assert failed([source, "--target-ir", "dfg", "--dot-graph", "n.dot"], capsys) == (
        "ERROR: a DOT graph is made from the ldfg, and target ir 'dfg' is before it"
    )
    assert not Path("m.html").exists()
    assert not Path("n.dot").exists()


def test_nothing_is_written_when_it_does_not_compile(
    drawn: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.onnx").write_bytes(b"no model")
    arguments = ["broken.onnx", "--dot-graph", "m.dot", "--analyze-memory", "m.html"]
    assert main(arguments) == ExitCode.FAILURE
    assert os.listdir() == ["broken.onnx"]


def test_two_outputs_need_two_names(
    source: str, drawn: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert failed([source, "--dot-graph", "x", "--analyze-memory", "./x"], capsys) == (
        "ERROR: x is another output as well: choose another output"
    )


def test_verbose_tells_what_each_step_did(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([source, "-v"]) == ExitCode.OK
    err = capsys.readouterr().err
    assert re.search(r"^remove-dead took \d+\.\d{6} s: operators \d+ -> \d+", err, re.MULTILINE)
    assert re.search(r"^split took .* s: on the NPU 0 -> \d+", err, re.MULTILINE)
    assert re.search(r"^allocate took .* SRAM in use 0 -> \d+", err, re.MULTILINE)
    assert re.search(r"^lower-lir-to-enf took \d+\.\d{6} s: \d+ bytes$", err, re.MULTILINE)


def test_a_reader_that_leaves_is_no_traceback(source: str) -> None:
    script = f"{sys.executable} -m furiosa.cli.furiosa_compiler --help 2>err | head -c 1 >/dev/null"
    subprocess.run(["bash", "-c", script], check=True)
    assert Path("err").read_text() == ""


@pytest.mark.parametrize("module", ["furiosa_compiler", "furiosa_compile", "furiosa_main"])
def test_help_on_a_full_disk_is_no_traceback(module: str) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", f"furiosa.cli.{module}", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    # argparse says nothing when it cannot print; where we print ourselves it is an error
    assert done.stderr in ("", "ERROR: No space left on device\n")
    assert done.returncode == bool(done.stderr)


def test_ctrl_c_ends_without_a_traceback(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compiling, "save", interrupted)
    assert main([source]) == ExitCode.INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("output.enf").exists()


def test_full_disk_leaves_the_old_file_and_nothing_else(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Path("output.enf").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    assert failed([source], capsys) == "ERROR: output.enf: No space left on device"
    assert Path("output.enf").read_text() == "old"
    assert sorted(os.listdir()) == ["model.onnx", "output.enf"]


def test_installed_command_writes_a_readable_file(source: str) -> None:
    command = [sys.executable, "-m", "furiosa.cli.furiosa_compiler", source, "-o", "x.enf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert stat.S_IMODE(Path("x.enf").stat().st_mode) & stat.S_IRUSR
    assert read(Path("x.enf").read_bytes()).name == "net"
