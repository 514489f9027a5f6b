"""The register tile against NumPy in float64, its gates value by value, and its machine code.

Run as a script (`python tests/test_tile.py NAME`) it checks the tile that its process compiles, which must
be NAME; the tests do that with numba told to compile for another processor.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from minestream.errors import UsageError
from minestream.kernels.compiled import kernel
from minestream.kernels.tile import TILES, address, build_tile, host_tile, tile_f32, tile_shape, trailing_zeros

REPOSITORY = Path(__file__).parents[1]
UNIT = 2.0**-24
X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt"}


@kernel
def one_tile(a, b, bias, codes_a, codes_b, gates, out_mask, out_acc):
    """One call of the tile: a (k, rows), b (k, columns), gates (4, rows), the rest as in `tile_f32`."""
    found = tile_f32(
        address(a, 0),
        address(b, 0),
        a.shape[0],
        address(bias, 0),
        address(codes_b, 0),
        address(gates, 0),
        address(gates, a.shape[1]),
        address(gates, 2 * a.shape[1]),
        address(gates, 3 * a.shape[1]),
        address(codes_a, 0),
        address(out_mask, 0),
        address(out_acc, 0),
    )
    return found, tile_shape()


@kernel
def count_trailing_zeros(value):
    return trailing_zeros(value)


class Inputs(NamedTuple):
    """What goes into a tile; gates are (lo_same, hi_same, lo_other, hi_other)."""

    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray
    codes_a: np.ndarray
    codes_b: np.ndarray
    gates: np.ndarray


def random_inputs(k: int, whole_numbers: bool = False) -> Inputs:
    """Gaussian rows and gates that pass everything, or small whole numbers and gates among their products."""
    generator = np.random.default_rng(k)
    shape = TILES[host_tile()]

    def draw(*size: int) -> np.ndarray:
        if whole_numbers:
            return generator.integers(-2, 3, size).astype(np.float32)
        return generator.standard_normal(size, dtype=np.float32)

    gates = np.empty((4, shape.rows), np.float32)
    gates[[0, 2]], gates[[1, 3]] = -np.inf, np.inf
    if whole_numbers:
        gates[[0, 2]] = generator.integers(-6, 3, (2, shape.rows))
        gates[[1, 3]] = gates[[0, 2]] + generator.integers(-1, 5, (2, shape.rows))
    return Inputs(
        draw(k, shape.rows),
        draw(k, shape.columns),
        draw(shape.columns),
        generator.integers(0, 3, shape.rows, dtype=np.int32),
        generator.integers(0, 3, shape.columns, dtype=np.int32),
        gates,
    )


def run(inputs: Inputs) -> tuple[int, np.ndarray, np.ndarray]:
    """(union, passed (rows, columns) bool, accumulators (rows, columns)) of the tile."""
    shape = TILES[host_tile()]
    mask = np.zeros(shape.rows, np.uint64)
    acc = np.full(shape.rows * shape.columns, 7, np.float32)
    found, baked = one_tile(*inputs, mask, acc)
    assert baked == (shape.rows, shape.columns)
    bits = (mask[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    if found:
        assert not bits[:, shape.columns :].any()
        assert int(found) == int(np.bitwise_or.reduce(mask))
    return int(found), bits[:, : shape.columns].astype(bool), acc.reshape(shape.rows, shape.columns)


def expected_passes(inputs: Inputs, acc: np.ndarray) -> np.ndarray:
    same = inputs.codes_a[:, None] == inputs.codes_b
    lo_same, hi_same, lo_other, hi_other = inputs.gates[:, :, None]
    lo, hi = np.where(same, lo_same, lo_other), np.where(same, hi_same, hi_other)
    return (lo <= acc) & (acc <= hi)


def check_bound(k: int) -> None:
    inputs = random_inputs(k)
    found, passed, acc = run(inputs)
    a, b, bias = (each.astype(np.float64) for each in inputs[:3])
    gamma = (k + 1) * UNIT / (1 - (k + 1) * UNIT)
    assert found
    assert passed.all()
    assert (np.abs(acc - (a.T @ b + bias)) <= gamma * (np.abs(a).T @ np.abs(b) + np.abs(bias))).all()


def check_gates(k: int) -> None:
    inputs = random_inputs(k, whole_numbers=True)
    found, passed, acc = run(inputs)
    exact = inputs.a.T @ inputs.b + inputs.bias
    expected = expected_passes(inputs, exact)
    edges = (exact == inputs.gates[2][:, None]) | (exact == inputs.gates[3][:, None])
    assert expected.any()
    assert not expected.all()
    assert (edges & expected).any(), "no value lies on an end of its gate: the draw is too tame"
    assert found
    np.testing.assert_array_equal(acc, exact)
    np.testing.assert_array_equal(passed, expected)


@pytest.mark.parametrize("k", [1, 3, 16, 50, 384])
def test_accumulators_lie_within_the_proven_bound(k: int) -> None:
    check_bound(k)


@pytest.mark.parametrize("k", [1, 2, 5, 16])
def test_gates_are_closed_and_follow_the_codes(k: int) -> None:
    check_gates(k)


def test_each_value_alone_sets_its_own_bit() -> None:
    shape = TILES[host_tile()]
    inputs = random_inputs(1)
    inputs.bias[:] = 0
    for row in range(shape.rows):
        for column in range(shape.columns):
            inputs.a[:], inputs.b[:] = 0, 0
            inputs.a[0, row] = inputs.b[0, column] = 1
            inputs.gates[[0, 2]] = 1
            found, passed, _ = run(inputs)
            assert found == 1 << column
            assert np.argwhere(passed).tolist() == [[row, column]]


def test_nothing_is_written_when_nothing_passes() -> None:
    inputs = random_inputs(5)
    inputs.gates[[0, 2]] = 1e9
    found, _, acc = run(inputs)
    assert found == 0
    assert (acc == 7).all()


def test_nan_passes_no_gate() -> None:
    inputs = random_inputs(3)
    inputs.a[1, 0] = np.nan
    inputs.bias[1] = np.nan
    inputs.gates[0, 2] = inputs.gates[3, 2] = np.nan
    found, passed, _ = run(inputs)
    assert found
    assert not passed[0].any()
    assert not passed[:, 1].any()
    assert not passed[2].any()
    assert passed[3:, 2:].all()


def test_pads_pass_no_gate() -> None:
    inputs = random_inputs(16)
    inputs.bias[5:] = -2e30
    inputs.b[:, 5:] = 0
    inputs.gates[[0, 2]] = -1e30
    found, passed, _ = run(inputs)
    assert found == 0b11111
    assert passed[:, :5].all()


def test_trailing_zeros() -> None:
    values = [*(1 << bit for bit in range(64)), (1 << 40) + (1 << 63)]
    assert [count_trailing_zeros(np.uint64(value)) for value in values] == [*range(64), 40]
    assert count_trailing_zeros(np.uint64(0)) == 64


def test_an_unknown_tile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINESTREAM_TILE", "avx2_6x61")
    with pytest.raises(UsageError, match="avx2_6x16"):
        host_tile.__wrapped__()


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        pytest.param("avx2_6x16", AVX2, marks=pytest.mark.skipif(not X86, reason="x86 only")),
        ("generic_8x12", {"MINESTREAM_TILE": "generic_8x12"}),
    ],
)
def test_other_shapes_in_their_own_process(name: str, variables: dict[str, str], tmp_path: Path) -> None:
    if name.startswith("avx2") and not llvm.get_host_cpu_features().get("avx2"):
        pytest.skip("this processor has no AVX2")
    environment = os.environ | variables | {"MINESTREAM_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, __file__, name], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def assembly(triple: str, cpu: str, name: str) -> str:
    """The tile's machine code for any processor that LLVM knows, as text."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"llvmlite was built without {triple}")
    shape = TILES[name]
    module = ir.Module()
    module.triple = triple
    build_tile(module, name, shape.rows, shape.columns, shape.lanes).linkage = "external"
    machine = target.create_target_machine(cpu=cpu, opt=3)
    parsed = llvm.parse_assembly(str(module))
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    text: str = machine.emit_assembly(parsed)
    return text


@pytest.mark.parametrize(
    ("triple", "cpu", "name", "multiply", "stack"),
    [
        ("x86_64-unknown-linux-gnu", "znver4", "avx512_8x48", "vfmadd", "(%rsp)"),
        ("x86_64-unknown-linux-gnu", "skylake-avx512", "avx512_8x48", "vfmadd", "(%rsp)"),
        ("x86_64-unknown-linux-gnu", "haswell", "avx2_6x16", "vfmadd", "(%rsp)"),
        ("aarch64-unknown-linux-gnu", "neoverse-n1", "generic_8x12", "fmla", "[sp"),
        ("aarch64-unknown-linux-gnu", "generic", "generic_8x12", "fmla", "[sp"),
    ],
)
def test_the_loop_keeps_its_accumulators_in_registers(
    triple: str, cpu: str, name: str, multiply: str, stack: str
) -> None:
    text = assembly(triple, cpu, name)
    shape = TILES[name]
    blocks = [block for block in re.split(r"^\.L\w+:", text, flags=re.MULTILINE) if multiply in block]
    assert blocks
    for block in blocks:
        lines = block.splitlines()
        last = max(i for i, line in enumerate(lines) if multiply in line)
        inside = "\n".join(lines[: last + 1])
        assert inside.count(multiply) % (shape.rows * shape.columns // shape.lanes) == 0
        assert stack not in inside
    assert ("zmm" in text) == (name == "avx512_8x48")
    if name == "avx512_8x48":
        assert not re.search(r"zmm.*\(%rsp\)|\(%rsp\).*zmm", text), "the gates spill"


def main() -> None:
    assert host_tile() == sys.argv[1], host_tile()
    for k in (1, 3, 16, 50, 384):
        check_bound(k)
    for k in (1, 2, 5, 16):
        check_gates(k)
    if host_tile() == "avx2_6x16":
        compiled: Any = one_tile
        (text,) = compiled.inspect_asm().values()
        assert "vfmadd" in text
        assert "zmm" not in text


if __name__ == "__main__":
    main()
