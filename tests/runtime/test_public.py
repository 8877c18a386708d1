"""Names, versions and what an import costs."""

import inspect
import re
import subprocess
import sys
from types import ModuleType

import pytest

import furiosa.runtime
from furiosa.runtime import sync
from furiosa.runtime._version import Version

VERSION_NAMES = {"__version__", "__full_version__", "full_version", "is_legacy"}


@pytest.mark.parametrize("module", [furiosa.runtime, sync])
def test_every_public_name_exists(module: ModuleType) -> None:
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_the_blocking_module_has_the_same_names() -> None:
    assert set(furiosa.runtime.__all__) - VERSION_NAMES == set(sync.__all__)
    shared = {"Model", "TensorDesc", "DataType", "Axis", "FuriosaRuntimeError", "ModelSource"}
    for name in shared:
        assert getattr(sync, name) is getattr(furiosa.runtime, name)


@pytest.mark.parametrize("module", [furiosa.runtime, sync])
def test_the_published_signatures(module: ModuleType) -> None:
    loading = "worker_num=None, batch_size=None"
    sizes = "input_queue_size=None, output_queue_size=None"
    config = "compiler_config=None"
    leasing = "device=None, wait=None, on_broker_restart='resume'"
    constructing = leasing.replace("None,", "None, *,", 1)
    assert names_of(module.Runtime) == f"{constructing}, time_to_live=None"
    assert names_of(module.create_runner) == f"model, *, {leasing}, {loading}, {config}"
    assert names_of(module.create_queue) == f"model, *, {leasing}, {loading}, {sizes}, {config}"
    methods = module.Runtime
    assert names_of(methods.create_runner) == f"self, model, *, {loading}, {config}"
    assert names_of(methods.create_queue) == f"self, model, *, {loading}, {sizes}, {config}"
    assert names_of(module.Submitter.submit) == "self, inputs, context=None"
    assert names_of(furiosa.runtime.Receiver.recv) == "self"
    assert names_of(sync.Receiver.recv) == "self, timeout=None"
    assert names_of(module.Submitter.close) == names_of(module.Receiver.close) == "self"
    assert names_of(module.Runner.run) == "self, inputs"
    assert names_of(module.Runner.run_with) == "self, output_names, inputs"
    assert names_of(module.Runner.allocate) == names_of(module.Runner.close) == "self"


def names_of(function: object) -> str:
    signature = inspect.signature(function)  # type: ignore[arg-type]  # callables all
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))[1:-1]


def test_version_texts() -> None:
    assert str(Version("0.1.0", "release", "abcdef0123" * 4)) == "0.1.0-release (rev: abcdef012)"
    version = str(furiosa.runtime.__version__)
    assert re.fullmatch(r"\d+\.\d+\.\d+-(dev|release) \(rev: [0-9a-f]{9}\)", version)
    assert furiosa.runtime.full_version() == furiosa.runtime.__full_version__
    assert re.fullmatch(
        rf"Furiosa SDK Runtime {re.escape(version)} "
        r"\(furiosa-rt \d+\.\d+\.\d+ [0-9a-f]{9} \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)",
        furiosa.runtime.__full_version__,
    )


BLOCKING = """
import sys
import furiosa.runtime.sync
assert {"anyio", "asyncio"}.isdisjoint(sys.modules)
"""
IMPORTS = """
import sys
from furiosa.runtime import create_runner, sync
from furiosa.common.model_limits import ENF_MAGIC
from furiosa.runtime._source import enf_of
enf_of(ENF_MAGIC, "warboy", None, None)
heavy = {"google.protobuf", "grpc", "onnx", "onnxruntime", "furiosa.compiler", "furiosa.vnpu"}
assert heavy.isdisjoint(sys.modules), heavy & set(sys.modules)
"""


@pytest.mark.parametrize("program", [BLOCKING, IMPORTS], ids=["blocking", "all"])
def test_nothing_is_imported_before_it_is_needed(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
