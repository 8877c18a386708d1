"""What a client costs to import, and what it may reach."""

import importlib
import subprocess
import sys

import pytest

SLOW = ("grpc", "numpy", "onnx", "onnxruntime", "anyio", "asyncio", "subprocess", "tempfile")


def test_the_blocking_client_imports_nothing_slow() -> None:
    code = f"import sys, furiosa.client.sync; print([m for m in {SLOW} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["furiosa.client", "furiosa.client.sync"])
def test_all_is_what_can_be_imported(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__ == sorted(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None
    with pytest.raises(AttributeError, match="Nothing"):
        _ = module.Nothing


def test_the_twins_offer_the_same() -> None:
    from furiosa.client import Connection
    from furiosa.client.sync import Connection as Blocking

    def names(cls: type) -> set[str]:
        return {name.replace("__a", "__") for name in vars(cls) if not name.endswith("_code__")}

    assert names(Connection) == names(Blocking)
