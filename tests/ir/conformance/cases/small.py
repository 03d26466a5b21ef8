"""Small things with one right answer: axes of vmap, one device, a reducer's order, no elements."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from tests.ir.conformance.arrays import normal
from tests.ir.conformance.case import Case

ONE_DEVICE = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("i",))
SPLIT = jax.sharding.PartitionSpec("i")
WHOLE = jax.sharding.PartitionSpec()

COLLECTIVES: dict[str, Callable[[Array], Array]] = {
    "psum": lambda r: lax.psum(r, "i"),
    "pmean": lambda r: lax.pmean(r, "i"),
    "pmax": lambda r: lax.pmax(r, "i"),
    "pmin": lambda r: lax.pmin(r, "i"),
    "all_gather": lambda r: lax.all_gather(r, "i"),
    "all_gather, tiled": lambda r: lax.all_gather(r, "i", tiled=True),
    "axis_index": lambda r: r * lax.axis_index("i"),
}
OF_ONE: dict[str, Callable[[Array], Array]] = {
    "ppermute": lambda r: lax.ppermute(r, "i", [(0, 0)]),
    "ppermute to nobody": lambda r: lax.ppermute(r, "i", []),
    "all_to_all": lambda r: lax.all_to_all(r[:1], "i", 0, 0),
    "psum_scatter": lambda r: lax.psum_scatter(r[:1], "i"),
}


def decay(a: Array, b: Array) -> Array:
    return a * 0.5 + b


REDUCERS: dict[str, tuple[Callable[[Array, Array], Array], tuple[int, ...]]] = {
    "the greatest magnitude": (lambda a, b: jnp.maximum(a, jnp.abs(b)), (0, 1, 2)),
    "a decaying sum of rows": (lambda a, b: a * 0.5 + b, (0,)),
    "a decaying sum of columns": (lambda a, b: a * 0.5 + b, (2,)),
    "a decaying sum of two axes": (lambda a, b: a * 0.5 + b, (2, 0)),
}


def cases() -> Iterator[Case]:
    x = normal(2, 3)
    for name, fn in COLLECTIVES.items():
        yield Case(f"collective: {name} over vmap", jax.vmap(fn, axis_name="i"), (x,))
    for name, fn in (COLLECTIVES | OF_ONE).items():
        alone = jax.shard_map(fn, mesh=ONE_DEVICE, in_specs=SPLIT, out_specs=SPLIT, check_vma=False)
        yield Case(f"collective: {name} of one device", alone, (x,))
    for name, (fn, axes) in REDUCERS.items():
        reduce = lambda x, f=fn, a=axes: lax.reduce(x, np.float32(0.25), f, a)  # noqa: E731
        yield Case(f"reduce in order: {name}", reduce, (normal(3, 2, 4),))
    for shape, axes in (((100,), (0,)), ((3, 65), (0, 1)), ((40, 5), (0,)), ((3, 4), ())):
        reduce = lambda x, a=axes: lax.reduce(x, np.float32(1), decay, a)  # noqa: E731
        yield Case(f"reduce in order: {shape} along {axes}", reduce, (normal(*shape),))
    padded = lambda x: lax.reduce_window(x, np.float32(3), lax.add, (2, 2), (1, 1), "SAME")  # noqa: E731
    yield Case("window whose start is not 0: nothing is added of the padding", padded, (x,))
    total = jax.shard_map(
        lambda r: lax.psum(r, "i"), mesh=ONE_DEVICE, in_specs=SPLIT, out_specs=WHOLE
    )
    yield Case("collective: psum of one device, which is the same on all", total, (x,))
    yield Case(
        "convolution over nothing, which is spread",
        lambda x, w: lax.conv_transpose(
            x, w, (2, 2), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW")
        ),
        (normal(1, 2, 3, 4)[:, :, :0], normal(5, 2, 3, 3)),
    )
    yield Case(
        "ragged_dot: groups from an input",
        lax.ragged_dot,
        (normal(6, 3), normal(3, 3, 5), np.array([2, 1, 1], np.int32)),
    )
    yield Case(
        "window larger than its input: conv",
        lambda x, w: lax.conv(x, w, (1, 1), "VALID"),
        (normal(1, 2, 3, 3), normal(4, 2, 5, 5)),
    )
    for name, op, fill in (("max", lax.max, -np.inf), ("sum", lax.add, 0.0)):
        pool = lambda x, f=fill, o=op: lax.reduce_window(x, f, o, (5, 1), (1, 1), "VALID")  # noqa: E731
        yield Case(f"window larger than its input: {name}", pool, (normal(3, 3),))


CASES = [*cases()]
