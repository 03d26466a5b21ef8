"""Sizes that are 0, 1 or symbolic are ordinary: right numbers, or a refusal with the user's line.

``EDGE_SIZES=3000`` tries so many of the combinations of function, sizes, dtype and format.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

import fnckpt
from fnckpt.ir.sizes import InconclusiveDimensionOperation
from fnckpt.ir.targets.air.evaluate import evaluate as evaluate_air
from tests.ir.targets.onnx.test_operators import computed

Function = Callable[[jax.Array], object]

FUNCTIONS: dict[str, Function] = {
    "abs": jnp.abs,
    "add a row": lambda x: x + x[:1],
    "all": lambda x: (x > 0).all(0),
    "any": lambda x: (x > 0).any(),
    "arange": lambda x: jnp.arange(x.shape[1]) + jnp.zeros(x.shape, np.int32),
    "argmax": lambda x: jnp.argmax(x, 1),
    "argmin": lambda x: jnp.argmin(x, 0),
    "argsort": jnp.argsort,
    "associative_scan": lambda x: lax.associative_scan(jnp.add, x),
    "at add": lambda x: x.at[0].add(x.dtype.type(1)),
    "at set": lambda x: x.at[:, 0].set(x.dtype.type(0)),
    "broadcast": lambda x: jnp.broadcast_to(x[None], (2, *x.shape)),
    "cast": lambda x: x.astype(np.float32),
    "clamp": lambda x: jnp.clip(x, x.dtype.type(0), x.dtype.type(1)),
    "column": lambda x: x[:, 0],
    "concatenate": lambda x: jnp.concatenate([x, x[:, :1]], 1),
    "cond": lambda x: lax.cond(x.shape[0] > 1, lambda y: y, lambda y: y + y, x),
    "cond by data": lambda x: lax.cond(x.sum() > 1, lambda y: y, lambda y: y + y, x),
    "conv transpose": lambda x: lax.conv_transpose(
        x[None, None].astype(np.float32), jnp.ones((1, 1, 2, 2)), (2, 1), "VALID",
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    ),
    "convolve": lambda x: lax.conv_general_dilated(
        x[None, None], jnp.ones((1, 1, 2, 2), x.dtype), (1, 1), "SAME"
    ),
    "cumsum": lambda x: jnp.cumsum(x, 0),
    "cummax": lambda x: lax.cummax(x, 1),
    "diagonal": jnp.diagonal,
    "diff": lambda x: jnp.diff(x.astype(np.float32), axis=0),
    "dot": lambda x: x @ x.T,
    "dynamic_slice": lambda x: lax.dynamic_slice_in_dim(x, 1, 1),
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(jnp.tile(x, (2, 1)), x, (1, 0)),
    "einsum": lambda x: jnp.einsum("ij,kj->ik", x, x),
    "eye": lambda x: jnp.eye(x.shape[0], x.shape[1]),
    "fft": lambda x: jnp.fft.fft(x.astype(np.float32)).real,
    "flip": lambda x: jnp.flip(x, 1),
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, y: y + x, x),
    "full": lambda x: jnp.full(x.shape, 3, x.dtype),
    "gather": lambda x: jnp.take(x, jnp.zeros(x.shape[1], np.int32), axis=0),
    "histogram": lambda x: jnp.zeros(4, np.int32).at[x.astype(np.int32).reshape(-1)].add(1),
    "interp": lambda x: jnp.interp(x.astype(np.float32), jnp.arange(3.0), jnp.arange(3.0)),
    "layer norm": lambda x: jax.nn.standardize(x.astype(np.float32)),
    "logsumexp": lambda x: jax.nn.logsumexp(x.astype(np.float32), 1),
    "map": lambda x: lax.map(lambda row: row + row, x),
    "max": lambda x: x.max(1),
    "mean": lambda x: x.mean(0),
    "median": lambda x: jnp.median(x.astype(np.float32)),
    "meshgrid": lambda x: jnp.meshgrid(x[0], x[:, 0]),
    "min with initial": lambda x: x.min(0, initial=0),
    "moveaxis": lambda x: jnp.moveaxis(x[None], 0, 2),
    "normal": lambda x: jax.random.normal(jax.random.key(0), x.shape),
    "one hot": lambda x: jax.nn.one_hot(x.astype(np.int32), 3),
    "outer": lambda x: jnp.outer(x[0], x[:, 0]),
    "pad": lambda x: jnp.pad(x, ((1, 0), (0, 2))),
    "pad with the edge": lambda x: jnp.pad(x, 1, mode="edge"),
    "pad inside": lambda x: lax.pad(x, x.dtype.type(0), ((0, 1, 1), (-1, 0, 0))),
    "permutation": lambda x: jax.random.permutation(jax.random.key(0), x),
    "pool": lambda x: lax.reduce_window(x, -np.inf, lax.max, (2, 1), (1, 1), "SAME")
    if x.dtype == np.float32 else x,
    "prod": lambda x: x.prod(),
    "ravel": jnp.ravel,
    "repeat": lambda x: jnp.repeat(x, 2, axis=1),
    "reshape": lambda x: x.reshape(x.shape[1], x.shape[0]),
    "roll": lambda x: jnp.roll(x, 1, 0),
    "scan": lambda x: lax.scan(lambda c, r: (c + r, c), x.sum(0, dtype=x.dtype), x),
    "select": lambda x: jnp.where(x > 0, x, x + x),
    "segment_sum": lambda x: jax.ops.segment_sum(x, jnp.zeros(x.shape[0], np.int32), 2),
    "softmax": lambda x: jax.nn.softmax(x.astype(np.float32), 0),
    "sort": lambda x: jnp.sort(x, 0),
    "split": lambda x: jnp.split(jnp.concatenate([x, x]), 2),
    "squeeze": lambda x: x[:, None].squeeze(1),
    "stack": lambda x: jnp.stack([x, x], 1),
    "steps": lambda x: x[::2, ::-1],
    "sum": lambda x: x.sum(1),
    "swap": lambda x: x.T,
    "take along": lambda x: jnp.take_along_axis(x, jnp.zeros(x.shape, np.int32), 1),
    "tile": lambda x: jnp.tile(x, (2, 3)),
    "top_k": lambda x: lax.top_k(x, 1),
    "tril": jnp.tril,
    "uniform": lambda x: jax.random.uniform(jax.random.key(0), (x.shape[0], 3)),
    "unique places": lambda x: jnp.searchsorted(jnp.sort(x[:, 0]), x[:, 0]),
    "variance": lambda x: jnp.var(x.astype(np.float32), 1),
    "vmap": lambda x: jax.vmap(lambda row: row @ row)(x),
    "while": lambda x: lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1] + x), (0, x)),
}  # fmt: skip

SIZES = ("0", "1", "3", "m", "n", "m+1", "2*m")
DTYPES = (np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.uint8, np.bool_)
FORMATS = ("ONNX", "MINDIR", "AIR")
VALUES = ({"m": 1, "n": 1}, {"m": 2, "n": 5})
TOLERANCES = {2: 3e-2, 4: 1e-5}  # by the bytes of a number


@dataclass(frozen=True)
class Try:
    """A function of an array of two sizes and a dtype, in a format."""

    name: str
    rows: str
    columns: str
    dtype: np.dtype
    file_format: str

    @property
    def sample(self) -> jax.ShapeDtypeStruct:
        shape = jax.export.symbolic_shape(f"{self.rows}, {self.columns}")
        return jax.ShapeDtypeStruct(shape, self.dtype)

    def array(self, sizes: dict[str, int]) -> np.ndarray:
        shape = tuple(int(eval(size, {}, dict(sizes))) for size in (self.rows, self.columns))
        return np.random.default_rng(0).integers(0, 3, shape).astype(self.dtype)

    @property
    def is_open(self) -> bool:
        return not (self.rows + self.columns).isdigit()


def every_try() -> Iterator[Try]:
    for name, rows, columns, dtype, form in product(FUNCTIONS, SIZES, SIZES, DTYPES, FORMATS):
        if form != "AIR" or dtype != ml_dtypes.bfloat16:  # which the format lacks
            yield Try(name, rows, columns, np.dtype(dtype), form)


def traces(each: Try) -> bool:
    """Whether JAX itself takes the function with these sizes."""
    try:
        jax.eval_shape(FUNCTIONS[each.name], each.sample)
    except (
        InconclusiveDimensionOperation,
        IndexError,
        NotImplementedError,
        TypeError,
        ValueError,
        ZeroDivisionError,
    ):
        return False
    return True


def tells_where(each: Try, text: str) -> bool:
    """The user's line; AIR has no symbolic sizes, which no line is to blame for."""
    return Path(__file__).name in text or (each.file_format == "AIR" and each.is_open)


def run(each: Try, file: fnckpt.ExportResult, x: np.ndarray) -> list[np.ndarray]:
    if each.file_format == "AIR":
        return list(evaluate_air(Path(file.path), (x,)))
    return list(computed(Path(file.path), (x,)))


def judge(each: Try, folder: Path) -> str | None:
    """What is wrong, or None. MindSpore takes seconds to compile: such a file is written alone."""
    function = FUNCTIONS[each.name]
    try:
        file = fnckpt.export(
            {}, lambda _, x: function(x), each.sample, each.file_format, file_name=folder / "edge"
        )
    except fnckpt.UnsupportedError as error:
        return None if tells_where(each, str(error)) else f"no line: {error}"
    if each.file_format == "MINDIR":
        return None
    for sizes in VALUES if each.is_open else VALUES[:1]:
        x = each.array(sizes)
        wanted = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.jit(function)(x))]
        for found, leaf in zip(run(each, file, x), wanted, strict=True):
            if text := difference(found, leaf):
                return f"{sizes}: {text}"
    return None


def difference(found: np.ndarray, wanted: np.ndarray) -> str | None:
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return f"{found.dtype}{found.shape} for {wanted.dtype}{wanted.shape}"
    limit = 0 if wanted.dtype.kind in "biu" else TOLERANCES[wanted.dtype.itemsize]
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    near = np.isclose(a, b, rtol=limit, atol=limit, equal_nan=True)
    return None if near.all() else f"{found.tolist()} for {wanted.tolist()}"


COUNT = int(os.environ.get("EDGE_SIZES", "90"))
CHOSEN = random.Random(COUNT).sample([*every_try()], COUNT)


@pytest.mark.parametrize("part", range(0, COUNT, 30))
def test_sizes_of_zero_one_and_symbols_are_right_or_refused(part: int, tmp_path: Path) -> None:
    tries = [each for each in CHOSEN[part : part + 30] if traces(each)]
    found = {each: judge(each, tmp_path) for each in tries}
    assert [(each, problem) for each, problem in found.items() if problem] == []
