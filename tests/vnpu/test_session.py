"""Where onnxruntime's fast products of uint8 and int8 may be trusted."""

import pytest

from furiosa.vnpu.session import _is_exact


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fma avx avx2 bmi2", False),
        ("x86_64", "fma avx avx2 avx512f avx512bw", False),
        ("x86_64", "sse4_1 sse4_2", False),
        ("x86_64", "avx2 avx512bw avx512_vnni", True),
        ("x86_64", "avx2 avx_vnni", True),
        ("aarch64", "fp asimd asimddp", True),
    ],
)
def test_only_x86_without_vnni_saturates(machine: str, flags: str, exact: bool) -> None:
    assert _is_exact(machine, f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t:\n") is exact
