"""Matrix products, convolutions and windows."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import pooling as nn
from jax import lax

from tests.ir.conformance.arrays import (
    BF16,
    F16,
    F32,
    F64,
    FLOATS,
    INTS,
    NARROW_INTS,
    SIGNED,
    bools,
    normal,
    sample,
)
from tests.ir.conformance.case import Case

SIZES = dict(zip("abcdehqk", (2, 3, 4, 5, 6, 2, 3, 4), strict=True))
EINSUMS = [
    "ab,bc->ac",
    "ab,cb->ac",
    "ba,bc->ac",
    "ba,cb->ca",
    "abc,abd->acd",
    "abc,cd->abd",
    "bhqd,bhkd->bhqk",
    "bqhd,bkhd->bhqk",
    "bhqk,bkhd->bqhd",
    "ab,ab->",
    "a,a->",
    "a,b->ab",
    "abc,dc->abd",
    "abcd,cde->abe",
    "abc,ca->b",
    "ab,cbd->acd",
    "abc,bc->ab",
    "ab,b->a",
    "ab,a->b",
    "abc,bd->acd",
    "a,ab->b",
    ",ab->ab",
    "aab->ab",
    "ab->ba",
    "abc->a",
    "ab,ac->bc",
    "abcd,abce->de",
    "abc,acb->a",
    "ba,ca->bc",
    "abc,ab->c",
    "abcd,bd->ac",
    "ab,bc,cd->ad",
    "abc,abc->abc",
]
DOTS = {
    "vectors": ((5,), (5,)),
    "matrix and vector": ((3, 5), (5,)),
    "vector and matrix": ((5,), (5, 3)),
    "matrices": ((3, 5), (5, 2)),
    "batches": ((2, 3, 5), (2, 5, 4)),
    "a batch and a matrix": ((2, 3, 5), (5, 4)),
    "a matrix and a batch": ((3, 5), (2, 5, 4)),
    "broadcast batches": ((2, 1, 3, 5), (4, 5, 2)),
    "nothing to sum": ((3, 0), (0, 2)),
    "no rows": ((0, 4), (4, 2)),
    "no batch": ((0, 3, 4), (0, 4, 2)),
    "ones": ((1, 1), (1, 1)),
}


def dots() -> Iterator[Case]:
    for equation in EINSUMS:
        arguments = equation.split("->")[0].split(",")
        if equation == ",ab->ab":
            arrays = (np.array(2, np.float32), normal(2, 3))
        else:
            shapes = [[SIZES[c] for c in a] for a in arguments]
            arrays = tuple(normal(*shape, seed=i) for i, shape in enumerate(shapes))
        yield Case(f"einsum: {equation}", lambda *xs, e=equation: jnp.einsum(e, *xs), arrays)
    for name, (a, b) in DOTS.items():
        yield Case(f"matmul: {name}", jnp.matmul, (normal(*a), normal(*b, seed=1)))
    for dtype in (*FLOATS, *INTS):
        yield Case(
            f"matmul: {dtype}", jnp.matmul, (sample(dtype, 3, 5), sample(dtype, 5, 2, seed=1))
        )
    yield Case("matmul: bool", lambda x, y: lax.dot(x, y), (bools(3, 5), bools(5, 2, seed=1)))
    yield Case(
        "matmul: int8 wraps",
        jnp.matmul,
        (np.full((2, 9), 100, np.int8), np.full((9, 2), 7, np.int8)),
    )
    for a, to in (
        (SIGNED[0], np.int32),
        (INTS[4], np.int32),
        (F16, F32),
        (BF16, F32),
        (SIGNED[2], F32),
    ):
        yield Case(
            f"dot: {a} to {np.dtype(to)}",
            lambda x, y, to=to: lax.dot_general(
                x, y, (((1,), (0,)), ((), ())), preferred_element_type=to
            ),
            (sample(a, 3, 5), sample(a, 5, 2, seed=1)),
        )
    yield Case(
        "dot: float16 and float32",
        lambda x, y: lax.dot_general(x, y, (((1,), (0,)), ((), ())), preferred_element_type=F32),
        (normal(3, 5, dtype=F16), normal(5, 2)),
    )
    x, y = normal(2, 3, 4, 5), normal(3, 5, 2, 6, seed=1)
    for numbers in (
        (((3,), (1,)), ((), ())),
        (((3,), (1,)), ((1,), (0,))),
        (((3, 0), (1, 2)), ((1,), (0,))),
        (((1, 3), (0, 1)), ((0,), (2,))),
        (((0, 1, 3), (2, 0, 1)), ((), ())),
        (((), ()), ((0,), (2,))),
        (((), ()), ((), ())),
        (((1,), (0,)), ((3, 0), (1, 2))),
    ):
        yield Case(
            f"dot_general: {numbers}", lambda x, y, n=numbers: lax.dot_general(x, y, n), (x, y)
        )
    yield Case(
        "inner, outer, vdot, tensordot",
        lambda x: (jnp.inner(x, x), jnp.outer(x, x), jnp.vdot(x, x), jnp.tensordot(x, x.T, 1)),
        (normal(2, 3),),
    )
    yield Case("multi_dot", lambda x: jnp.linalg.multi_dot([x, x.T, x]), (normal(2, 5),))
    yield Case("dot: a product with itself", lambda x: x @ x.T, (normal(4, 3),))
    attention = lambda q, k, v: jax.nn.dot_product_attention(q, k, v)  # noqa: E731
    yield Case(
        "dot_product_attention", attention, tuple(normal(2, 4, 3, 8, seed=i) for i in range(3))
    )
    yield Case(
        "dot_product_attention: causal",
        lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
        tuple(normal(2, 4, 2, 8, seed=i) for i in range(3)),
    )


# XLA's CPU backend of JAX 0.10.2 is wrong where one axis has a negative and a positive pad, so
# no case has both; tests/lowering/test_fuzz.py states such a convolution by lax.pad.
CONVS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]] = {
    "1 dimension": ((2, 3, 8), (4, 3, 3), {"window_strides": (1,), "padding": "SAME"}),
    "1 dimension, strides": ((2, 3, 9), (4, 3, 3), {"window_strides": (2,), "padding": "VALID"}),
    "2 dimensions": ((2, 3, 8, 7), (4, 3, 3, 2), {"window_strides": (1, 1), "padding": "SAME"}),
    "3 dimensions": (
        (1, 2, 4, 5, 4),
        (3, 2, 2, 3, 2),
        {"window_strides": (1, 2, 1), "padding": "SAME"},
    ),
    "no dimensions": ((2, 3), (4, 3), {"window_strides": (), "padding": ()}),
    "strides": ((2, 3, 8, 7), (4, 3, 3, 3), {"window_strides": (2, 3), "padding": "SAME"}),
    "uneven padding": (
        (2, 3, 6, 5),
        (4, 3, 3, 3),
        {"window_strides": (1, 1), "padding": ((0, 2), (3, 1))},
    ),
    "negative padding": (
        (2, 3, 9, 8),
        (4, 3, 2, 3),
        {"window_strides": (1, 1), "padding": ((-1, 0), (0, -2))},
    ),
    "dilated kernel": (
        (2, 3, 9, 8),
        (4, 3, 3, 2),
        {"window_strides": (1, 1), "padding": "VALID", "rhs_dilation": (2, 3)},
    ),
    "dilated input": (
        (2, 3, 4, 5),
        (4, 3, 3, 3),
        {"window_strides": (1, 1), "padding": ((1, 2), (2, 1)), "lhs_dilation": (2, 3)},
    ),
    "dilated input, 1 dimension": (
        (2, 3, 5),
        (4, 3, 3),
        {"window_strides": (1,), "padding": ((2, 2),), "lhs_dilation": (2,)},
    ),
    "dilated input, 3 dimensions": (
        (1, 2, 3, 2, 3),
        (2, 2, 2, 2, 2),
        {"window_strides": (1, 1, 1), "padding": ((0, 0),) * 3, "lhs_dilation": (2, 1, 2)},
    ),
    "dilated both": (
        (2, 3, 4, 5),
        (4, 3, 2, 2),
        {
            "window_strides": (1, 1),
            "padding": ((1, 1), (1, 1)),
            "lhs_dilation": (2, 2),
            "rhs_dilation": (2, 3),
        },
    ),
    "dilated input and strides": (
        (2, 3, 6, 5),
        (4, 3, 3, 3),
        {"window_strides": (2, 1), "padding": ((1, 1), (0, 1)), "lhs_dilation": (3, 2)},
    ),
    "dilated input, cut": (
        (2, 3, 4, 5),
        (4, 3, 3, 3),
        {"window_strides": (1, 1), "padding": ((-1, 0), (-2, -1)), "lhs_dilation": (2, 2)},
    ),
    "groups": (
        (2, 4, 6, 5),
        (6, 2, 3, 3),
        {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
    ),
    "depthwise": (
        (2, 4, 6, 5),
        (4, 1, 3, 3),
        {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 4},
    ),
    "depthwise, twice as many": (
        (2, 4, 6, 5),
        (8, 1, 3, 3),
        {"window_strides": (2, 2), "padding": "SAME", "feature_group_count": 4},
    ),
    "dilated input in groups": (
        (2, 4, 4, 5),
        (6, 2, 3, 3),
        {
            "window_strides": (1, 1),
            "padding": ((1, 1), (2, 1)),
            "lhs_dilation": (2, 2),
            "feature_group_count": 2,
        },
    ),
    "groups of the batch": (
        (4, 3, 6, 5),
        (6, 3, 3, 3),
        {"window_strides": (1, 1), "padding": "SAME", "batch_group_count": 2},
    ),
    "1 x 1": ((2, 3, 4, 4), (5, 3, 1, 1), {"window_strides": (1, 1), "padding": "VALID"}),
    "1 x 1, strides": ((2, 3, 5, 4), (5, 3, 1, 1), {"window_strides": (2, 2), "padding": "VALID"}),
    "kernel as large as the input": (
        (2, 3, 4, 4),
        (5, 3, 4, 4),
        {"window_strides": (1, 1), "padding": "VALID"},
    ),
    "no batch": ((0, 3, 4, 4), (5, 3, 2, 2), {"window_strides": (1, 1), "padding": "VALID"}),
}
LAYOUTS = (
    ("NHWC", "HWIO", "NHWC"),
    ("NCHW", "OIHW", "NCHW"),
    ("NHWC", "OIHW", "NCHW"),
    ("CNHW", "IOHW", "HWNC"),
    ("HWNC", "HWOI", "NHWC"),
    ("NCWH", "OIWH", "NCHW"),
)


def convolutions() -> Iterator[Case]:
    for name, (x, w, options) in CONVS.items():
        yield Case(
            f"conv: {name}",
            lambda x, w, o=options: lax.conv_general_dilated(x, w, **o),
            (normal(*x), normal(*w, seed=1)),
        )
    for layout in LAYOUTS:
        sizes = {"N": 2, "C": 3, "H": 6, "W": 5}, {"O": 4, "I": 3, "H": 3, "W": 2}
        x, w = ([s[c] for c in part] for s, part in zip(sizes, layout[:2], strict=True))
        for strides in ((1, 1), (2, 1)):
            yield Case(
                f"conv: {' '.join(layout)} strides {strides}",
                lambda x, w, d=layout, s=strides: lax.conv_general_dilated(
                    x, w, s, "SAME", dimension_numbers=d
                ),
                (normal(*x), normal(*w, seed=1)),
            )
    for dtype in (*FLOATS, *NARROW_INTS):
        yield Case(
            f"conv: {dtype}",
            lambda x, w: lax.conv(x, w, (1, 1), "SAME"),
            (sample(dtype, 1, 2, 5, 4), sample(dtype, 3, 2, 3, 3, seed=1)),
        )
    yield Case(
        "conv: int8 to int32",
        lambda x, w: lax.conv_general_dilated(
            x, w, (1, 1), "SAME", preferred_element_type=np.int32
        ),
        (sample(SIGNED[0], 1, 2, 5, 4), sample(SIGNED[0], 3, 2, 3, 3, seed=1)),
    )
    for strides in ((1, 1), (2, 2), (3, 2)):
        for padding in ("SAME", "VALID"):
            for kernel in ((3, 3), (2, 4), (4, 1)):
                yield Case(
                    f"conv_transpose: {strides} {padding} {kernel}",
                    lambda x, w, s=strides, p=padding: lax.conv_transpose(
                        x, w, s, p, dimension_numbers=("NHWC", "HWIO", "NHWC")
                    ),
                    (normal(2, 4, 5, 3), normal(*kernel, 3, 2, seed=1)),
                )
    yield Case(
        "conv_transpose: transposed kernel",
        lambda x, w: lax.conv_transpose(
            x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=True
        ),
        (normal(2, 4, 5, 3), normal(3, 3, 2, 3, seed=1)),
    )
    yield Case(
        "conv: gradient by its input",
        lambda x, w: jax.grad(lambda v: (lax.conv(v, w, (2, 2), "SAME") ** 2).sum())(x),
        (normal(1, 2, 6, 5), normal(3, 2, 3, 3)),
    )
    yield Case(
        "conv: gradient by its kernel",
        lambda x, w: jax.grad(lambda v: (lax.conv(x, v, (2, 2), "SAME") ** 2).sum())(w),
        (normal(2, 2, 6, 5), normal(3, 2, 3, 3)),
    )
    yield Case(
        "conv patches",
        lambda x: lax.conv_general_dilated_patches(x, (2, 2), (1, 2), "SAME"),
        (normal(1, 2, 4, 5),),
    )
    yield Case(
        "conv_local",
        lambda x, w: lax.conv_general_dilated_local(x, w, (1, 1), "VALID", (2, 2)),
        (normal(1, 2, 3, 3), normal(3, 8, 2, 2)),
    )


POOLS = {
    "2 x 2": {"window_shape": (2, 2), "strides": (2, 2)},
    "3 x 2": {"window_shape": (3, 2), "strides": (2, 1), "padding": "SAME"},
    "strides 1": {"window_shape": (2, 3)},
    "uneven padding": {"window_shape": (3, 3), "strides": (2, 2), "padding": ((1, 0), (0, 2))},
}


def windows() -> Iterator[Case]:
    image = normal(2, 7, 6, 3)
    for name, options in POOLS.items():
        for fn in (nn.max_pool, nn.avg_pool, nn.min_pool):
            yield Case(f"{fn.__name__}: {name}", lambda x, f=fn, o=options: f(x, **o), (image,))
        yield Case(
            f"avg_pool: {name}, only what is there",
            lambda x, o=options: nn.avg_pool(x, **o, count_include_pad=False),
            (image,),
        )
    for rank, window in ((1, (2,)), (3, (2, 1, 2))):
        x = normal(2, *(4, 5, 3)[:rank], 2)
        yield Case(f"max_pool: {rank} dimensions", lambda x, w=window: nn.max_pool(x, w, w), (x,))
        yield Case(f"avg_pool: {rank} dimensions", lambda x, w=window: nn.avg_pool(x, w, w), (x,))
    init = {
        "max": (-np.inf, lax.max),
        "min": (np.inf, lax.min),
        "sum": (0, lax.add),
        "mul": (1, lax.mul),
    }
    more = {
        "dilated window": {"window_dilation": (2, 1)},
        "dilated base": {"base_dilation": (2, 3)},
        "dilated both": {"base_dilation": (2, 1), "window_dilation": (1, 2)},
    }
    for name, (start, fn) in init.items():
        for label, options in more.items():
            for padding in ("VALID", ((1, 2), (0, 1)), ((-1, 1), (0, -1))):
                yield Case(
                    f"window {name}: {label}, {padding}",
                    lambda x, s=start, f=fn, o=options, p=padding: lax.reduce_window(
                        x, np.float32(s), f, (2, 3), (1, 2), p, **o
                    ),
                    (normal(6, 7),),
                )
        for dtype in (F16, BF16, F64, *INTS):
            info = np.iinfo(dtype.name) if dtype in INTS else None
            first = {"max": info.min, "min": info.max}.get(name, start) if info else start
            least = np.asarray(first, dtype)[()]
            yield Case(
                f"window {name}: {dtype}",
                lambda x, s=least, f=fn: lax.reduce_window(x, s, f, (2, 2), (1, 1), "SAME"),
                (sample(dtype, 4, 5),),
            )
        yield Case(
            f"window {name}: over all axes",
            lambda x, s=start, f=fn: lax.reduce_window(
                x, np.float32(s), f, (2, 2, 2), (1, 2, 1), "SAME"
            ),
            (normal(3, 4, 3),),
        )
        yield Case(
            f"window {name}: of one element",
            lambda x, s=start, f=fn: lax.reduce_window(
                x, np.float32(s), f, (1, 1), (2, 1), "VALID"
            ),
            (normal(3, 4),),
        )
    yield Case(
        "window and: bool",
        lambda x: lax.reduce_window(x, True, lax.bitwise_and, (2, 2), (1, 1), "SAME"),
        (bools(4, 5),),
    )
    yield Case(
        "window or: bool",
        lambda x: lax.reduce_window(x, False, lax.bitwise_or, (2, 2), (1, 1), "SAME"),
        (bools(4, 5),),
    )
    pool = lambda x: lax.reduce_window(x, -np.inf, lax.max, (2, 3), (1, 2), "SAME")  # noqa: E731
    yield Case(
        "max_pool: its gradient",
        lambda x: jax.grad(lambda v: (pool(v) ** 2).sum())(x),
        (normal(5, 6),),
    )
    yield Case("max_pool: its derivative", lambda x: jax.jvp(pool, (x,), (x + 1,)), (normal(5, 6),))
    yield Case(
        "avg_pool: its gradient",
        lambda x: jax.grad(
            lambda v: (nn.avg_pool(v[None, ..., None], (2, 2), (1, 2), "SAME") ** 2).sum()
        )(x),
        (normal(5, 6),),
    )
    yield Case(
        "max_pool: of -inf and NaN",
        lambda x: nn.max_pool(x, (2, 2)),
        (np.array([-np.inf, np.nan, 1, 2, -np.inf, -np.inf, 0, 0, 5], F32).reshape(1, 3, 3, 1),),
    )
    yield Case("global average", lambda x: x.mean((1, 2)), (image,))
    yield Case(
        "cumulative window",
        lambda x: lax.reduce_window(x, 0.0, lax.add, (5,), (1,), ((4, 0),)),
        (normal(5),),
    )


CASES = [*dots(), *convolutions(), *windows()]
