"""Operations that move elements."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import (
    BF16,
    BOOL,
    F32,
    INTS,
    REALS,
    SIGNED,
    bools,
    integers,
    normal,
    sample,
)
from tests.ir.conformance.case import Case

# Of one array, float32[2, 3, 4].
OF_CUBE = {
    "reshape": lambda x: x.reshape(4, 6),
    "reshape to a vector": lambda x: x.reshape(-1),
    "reshape with ones": lambda x: x.reshape(1, 2, 1, 12, 1),
    "ravel in Fortran's order": lambda x: jnp.ravel(x, order="F"),
    "transpose": lambda x: x.T,
    "transpose 1 2 0": lambda x: x.transpose(1, 2, 0),
    "transpose 0 1 2": lambda x: lax.transpose(x, (0, 1, 2)),
    "swapaxes": lambda x: jnp.swapaxes(x, 0, -1),
    "moveaxis": lambda x: jnp.moveaxis(x, 0, 1),
    "rollaxis": lambda x: jnp.rollaxis(x, 2),
    "squeeze": lambda x: x[:1].squeeze(0),
    "expand_dims": lambda x: (lax.expand_dims(x, (0, 2)), x[None, :, None]),
    "broadcast_to": lambda x: jnp.broadcast_to(x, (5, 2, 3, 4)),
    "broadcast_in_dim": lambda x: lax.broadcast_in_dim(x, (2, 7, 3, 4), (0, 2, 3)),
    "broadcast_in_dim of ones": lambda x: lax.broadcast_in_dim(x[:, :1], (2, 5, 4), (0, 1, 2)),
    "concatenate": lambda x: jnp.concatenate([x, x * 2, x[:, :1]], 1),
    "concatenate one": lambda x: lax.concatenate([x], 0),
    "concatenate with nothing": lambda x: jnp.concatenate([x, x[:0]], 0),
    "stack": lambda x: jnp.stack([x, -x], axis=-1),
    "stack first": lambda x: jnp.stack([x, -x, x]),
    "vstack, hstack, dstack": lambda x: (
        jnp.vstack([x, x]),
        jnp.hstack([x, x]),
        jnp.dstack([x, x]),
    ),
    "split": lambda x: jnp.split(x, [1, 2], axis=1),
    "split evenly": lambda x: jnp.split(x, 2, axis=-1),
    "array_split": lambda x: jnp.array_split(x, 3, axis=2),
    "lax.split": lambda x: lax.split(x, (1, 0, 2), 1),
    "unstack": lambda x: jnp.unstack(x, axis=1),
    "slice": lambda x: x[1:, :2, 1:3],
    "slice with steps": lambda x: x[::1, ::2, ::3],
    "slice backwards": lambda x: x[::-1, :, ::-2],
    "slice to nothing": lambda x: x[:, 2:2],
    "lax.slice": lambda x: lax.slice(x, (0, 1, 0), (2, 3, 4), (1, 1, 2)),
    "slice_in_dim": lambda x: lax.slice_in_dim(x, 1, 4, 2, axis=2),
    "index": lambda x: (x[0], x[-1, 1], x[..., 2], x[1, 2, 3]),
    "ellipsis and None": lambda x: x[..., None, :, 0],
    "rev": lambda x: lax.rev(x, (0, 2)),
    "rev of no axes": lambda x: lax.rev(x, ()),
    "flip": lambda x: (jnp.flip(x), jnp.fliplr(x), jnp.flipud(x)),
    "rot90": lambda x: jnp.rot90(x),
    "roll": lambda x: (jnp.roll(x, 2, 1), jnp.roll(x, -1), jnp.roll(x, (1, 2), (0, 2))),
    "tile": lambda x: (jnp.tile(x, (2, 1, 3)), jnp.tile(x, 2)),
    "repeat": lambda x: (jnp.repeat(x, 3, axis=1), jnp.repeat(x, 2)),
    "repeat by counts": lambda x: jnp.repeat(x, np.array([1, 0, 2]), axis=1, total_repeat_length=3),
    "pad": lambda x: jnp.pad(x, ((0, 1), (2, 0), (1, 1))),
    "pad with a number": lambda x: jnp.pad(x, 1, constant_values=7),
    "pad of a number": lambda x: lax.pad(jnp.sum(x), np.float32(0), ()) + x,
    "pad interior": lambda x: lax.pad(x, np.float32(1.5), ((1, 2, 1), (0, 0, 2), (0, 1, 0))),
    "pad negative": lambda x: lax.pad(x, np.float32(0), ((0, -1, 0), (-1, 1, 0), (-2, -1, 0))),
    "pad negative and interior": lambda x: lax.pad(
        x, np.float32(9), ((-1, 2, 3), (1, -2, 1), (0, 0, 0))
    ),
    "pad away and back": lambda x: lax.pad(x, np.float32(3), ((-4, 6, 0), (0, 0, 0), (0, 0, 0))),
    "pad edge": lambda x: jnp.pad(x, 1, mode="edge"),
    "pad reflect": lambda x: jnp.pad(x, ((0, 0), (1, 2), (2, 1)), mode="reflect"),
    "pad symmetric": lambda x: jnp.pad(x, 2, mode="symmetric"),
    "pad wrap": lambda x: jnp.pad(x, 1, mode="wrap"),
    "pad linear_ramp": lambda x: jnp.pad(x, 1, mode="linear_ramp"),
    "pad mean": lambda x: jnp.pad(x, 1, mode="mean"),
    "tril, triu": lambda x: (jnp.tril(x), jnp.triu(x, 1), jnp.tril(x, -1)),
    "diagonal": lambda x: (jnp.diagonal(x), jnp.trace(x), jnp.diagonal(x, 1, 1, 2)),
    "diag": lambda x: (jnp.diag(x[0, 0]), jnp.diag(x[0], 1), jnp.diagflat(x[0])),
    "meshgrid": lambda x: jnp.meshgrid(x[0, 0], x[0, :, 0]),
    "atleast": lambda x: (jnp.atleast_1d(x[0, 0, 0]), jnp.atleast_3d(x[0])),
    "block": lambda x: jnp.block([[x[0], x[1]], [x[1], x[0]]]),
    "insert, append, delete": lambda x: (
        jnp.append(x, x),
        jnp.delete(x, 1, axis=1),
        jnp.insert(x, 1, 5.0, axis=2),
    ),
    "copy": lambda x: (jnp.array(x, copy=True), lax.optimization_barrier(x)),
    "an output that is an input": lambda x: (x, x + 1, x),
    "a constant output": lambda x: (np.arange(3, dtype=np.int32), jnp.zeros(()), x * 0),
    "a dictionary of outputs": lambda x: {"b": x, "a": [x + 1, {"c": x[0]}]},
    "nothing of the input": lambda x: jnp.ones((2, 2)),
}

SHAPED = {
    "iota": lambda x: x + lax.iota(np.int32, 4).astype(x.dtype),
    "broadcasted_iota": lambda x: x + lax.broadcasted_iota(x.dtype, (3, 4), 0),
    "arange": lambda x: x + jnp.arange(4, dtype=x.dtype),
    "full": lambda x: jnp.full((3, 4), 2, x.dtype) + x,
    "full_like": lambda x: jnp.full_like(x, 1) + x,
    "eye": lambda x: jnp.eye(3, 4, dtype=x.dtype) * x,
    "concatenate": lambda x: jnp.concatenate([x, x]),
    "pad": lambda x: jnp.pad(x, 1),
    "transpose": lambda x: x.T,
    "slice": lambda x: x[1:, ::2],
    "flip": lambda x: x[::-1],
    "reshape": lambda x: x.reshape(2, 6),
}


def moves() -> Iterator[Case]:
    for name, fn in OF_CUBE.items():
        yield Case(f"shape: {name}", fn, (normal(2, 3, 4),))
    for name, fn in SHAPED.items():
        for dtype in (*REALS, BOOL):
            if dtype == BOOL and name in ("iota", "broadcasted_iota", "arange", "eye"):
                continue
            yield Case(f"shape: {name} of {dtype}", fn, (sample(dtype, 3, 4),))
    nothing = normal(0, 4)
    for name in ("concatenate", "pad", "transpose", "slice", "flip"):
        yield Case(f"shape: {name} where nothing is", SHAPED[name], (nothing,))
    yield Case("shape: reshape of nothing", lambda x: x.reshape(2, 0, 3), (nothing,))
    yield Case("shape: broadcast of nothing", lambda x: jnp.broadcast_to(x, (3, 0, 4)), (nothing,))
    for number in (np.int64(2**53 + 1), np.uint64(2**64 - 3)):
        yield Case(
            f"shape: reshape before {number.dtype} that no float64 holds",
            lambda x, number=number: x.reshape(2, 3) + number,
            (np.arange(6, dtype=number.dtype),),
        )
    yield Case(
        "shape: of a scalar",
        lambda x: (x.reshape(1, 1), jnp.broadcast_to(x, (2, 3)), x[None]),
        (np.array(3, np.float32),),
    )
    yield Case("shape: an input that is not used", lambda x, y: x * 2, (normal(2), normal(3)))
    yield Case(
        "shape: inputs of several dtypes",
        lambda x, y, z: jnp.where(x, y, z.astype(F32)),
        (bools(3), normal(3), integers(0, 5, 3)),
    )
    yield Case(
        "shape: iota of dtypes",
        lambda x: [lax.iota(d, 5) for d in INTS if d.itemsize < 8],
        (normal(1),),
    )
    yield Case(
        "shape: linspace, logspace, tri",
        lambda x: (
            jnp.linspace(0, 1, 5) * x,
            jnp.logspace(0, 1, 3),
            jnp.tri(3),
            jnp.indices((2, 3)),
        ),
        (normal(1),),
    )
    yield Case(
        "shape: linspace between inputs", lambda x: jnp.linspace(x[0], x[1], 4), (normal(2),)
    )
    yield Case("shape: vander", lambda x: jnp.vander(x, 3), (normal(4),))
    yield Case(
        "shape: unravel_index", lambda i: jnp.unravel_index(i, (3, 4)), (integers(0, 12, 5),)
    )
    yield Case(
        "shape: ravel_multi_index",
        lambda i: jnp.ravel_multi_index((i, i), (3, 3), mode="clip"),
        (integers(0, 3, 5),),
    )
    yield Case("shape: packbits", jnp.packbits, (bools(3, 16),))
    yield Case("shape: unpackbits", jnp.unpackbits, (integers(0, 255, 5, dtype=INTS[4]),))
    yield Case(
        "shape: pad of bfloat16 with a number",
        lambda x: jnp.pad(x, 2, constant_values=1),
        (normal(3, dtype=BF16),),
    )
    yield Case(
        "shape: int8 pad", lambda x: lax.pad(x, np.int8(-3), ((1, 0, 1),)), (sample(SIGNED[0], 4),)
    )


CASES = [*moves()]
