"""Functions of arrays whose sizes are left open: one line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PyTree = object
Sizes = Mapping[str, int]

F, I = np.dtype(np.float32), np.dtype(np.int32)  # noqa: E741
WEIGHTS = {
    "w": np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32),
    "e": np.random.default_rng(1).standard_normal((10, 4)).astype(np.float32),
}


@dataclass(frozen=True, eq=False)
class Open:
    """A function ``fn(params, *inputs)``, and its inputs as dtype and sizes."""

    name: str
    fn: Callable[..., PyTree]
    inputs: tuple[tuple[np.dtype, str], ...]
    params: PyTree = None
    tolerance: float = 1e-5

    def samples(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """The inputs with symbols, all of one scope."""
        scope = jax.export.SymbolicScope()
        shapes = [jax.export.symbolic_shape(text, scope=scope) for _, text in self.inputs]
        dtypes = [dtype for dtype, _ in self.inputs]
        return tuple(map(jax.ShapeDtypeStruct, shapes, dtypes))

    def arrays(self, sizes: Sizes) -> tuple[np.ndarray, ...]:
        """Inputs of certain sizes; integers are 0 or 1, so that each is an index."""
        rng, found = np.random.default_rng(2), []
        for dtype, text in self.inputs:
            shape = tuple(eval(size, {}, dict(sizes)) for size in text.split(",") if size.strip())
            normal = np.asarray(rng.standard_normal(shape), np.float32)
            found.append(normal if dtype == F else np.asarray(normal > 0, np.int32))
        return tuple(found)


def flax(name: str, module: nn.Module, dtype: np.dtype, sizes: str, *example: int) -> Open:
    """A linen module; ``example`` is a shape that it can be initialized with."""
    variables = module.init(jax.random.key(0), jnp.zeros(example, dtype))
    return Open(name, module.apply, ((dtype, sizes),), variables, tolerance=1e-4)


class Cnn(nn.Module):
    """An image of a known size, in batches."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.avg_pool(nn.relu(nn.Conv(8, (3, 3))(x)), (2, 2), (2, 2))
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3), strides=2)(x)))
        return nn.log_softmax(nn.Dense(10)(x.reshape(x.shape[0], -1)))


class Pyramid(nn.Module):
    """Images of any size, down and up again."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = nn.relu(nn.Conv(8, (3, 3), padding=[(1, 1), (1, 1)])(x))
        low = nn.GroupNorm(4)(nn.max_pool(y, (2, 2), (2, 2)))
        up = jnp.repeat(jnp.repeat(low, 2, 1), 2, 2)
        return nn.Dense(10)(low.mean((1, 2))), jnp.concatenate([up, y], -1)


class Decoder(nn.Module):
    """Tokens of any number: positions, a causal mask, the last token, the mean."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        places = nn.Embed(64, 16)(jnp.arange(tokens.shape[1]))
        x = nn.Embed(10, 16)(tokens) + places[None]
        mask = nn.make_causal_mask(tokens)
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(2)(x, mask=mask))
        x = nn.LayerNorm()(x + nn.Dense(16)(nn.gelu(nn.Dense(32)(x))))
        return x[:, -1], x.mean(1)


BN4 = ((F, "b, n, 4"),)

NB4, N4 = ((F, "n, b, 4"),), ((F, "n, 4"),)


def cell(c: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.tanh(c * 0.5 + r), c


def scanned(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return lax.scan(cell, x[0] * 0, x)


CASES = (
    Open("mlp", lambda p, x: jax.nn.softmax(jnp.tanh(x @ p["w"])), ((F, "b, 4"),), WEIGHTS),
    Open("einsum", lambda _, x, y: jnp.einsum("bnd,bmd->bnm", x, y), (*BN4, *BN4)),
    Open("argmax of a product", lambda p, x: (x @ p["w"]).argmax(-1), BN4, WEIGHTS),
    Open("embedding", lambda p, i: jnp.take(p["e"], i, axis=0), ((I, "b, n"),), WEIGHTS),
    Open("one-hot", lambda p, i: jax.nn.one_hot(i, 10) @ p["e"], ((I, "b, n"),), WEIGHTS),
    Open("mean of the batch", lambda p, x: (x @ p["w"]).mean(0), ((F, "b, 4"),), WEIGHTS),
    Open("mean of two axes", lambda _, x: x.mean((0, 1)), BN4),
    Open("variance", lambda _, x: x.reshape(x.shape[0], -1).var(1), BN4),
    Open("standard deviation", lambda _, x: x.std((1, 2)), BN4),
    Open("softmax along n", lambda _, x: jax.nn.softmax(x, 1), BN4),
    Open("softmax with infinities", lambda _, x: jax.nn.softmax(jnp.log(jnp.maximum(x, 0))), BN4),
    Open("log_softmax", lambda _, x: jax.nn.log_softmax(x), BN4),
    Open("logsumexp", lambda _, x: jax.nn.logsumexp(x, 1), BN4),
    Open("cumsum", lambda _, x: jnp.cumsum(x, 1), BN4),
    Open("extremes", lambda _, x: (x.max(1), x.min(0), x.prod(2)), BN4),
    Open("flatten", lambda _, x: x.reshape(x.shape[0] * x.shape[1], -1), BN4),
    Open("flatten all", lambda _, x: x.reshape(-1), BN4),
    Open("heads", lambda _, x: x.reshape(*x.shape[:2], 2, 2).transpose(0, 2, 1, 3), BN4),
    Open("reshape by a product", lambda _, x: x.reshape(x.shape[1], x.shape[0] * 4), BN4),
    Open("arange", lambda _, x: x + jnp.arange(x.shape[1], dtype=F)[:, None], BN4),
    Open("size as a number", lambda _, x: x * x.shape[1] + x.shape[0], BN4),
    Open("full", lambda _, x: jnp.full((x.shape[0], 3), 2.0), BN4),
    Open("ones of two sizes", lambda _, x: jnp.ones(x.shape[:2]), BN4),
    Open("outer", lambda _, x, y: x[:, None] * y[None], ((F, "b, 4"), (F, "n, 4"))),
    Open("first", lambda _, x: x[:, 0], BN4),
    Open("last", lambda _, x: x[:, -1], BN4),
    Open("but the first", lambda _, x: x[:, 1:], BN4),
    Open("but the last", lambda _, x: x[:, :-1], BN4),
    Open("every second", lambda _, x: x[:, ::2], ((F, "b, 2*n, 4"),)),
    Open("differences", lambda _, x: x[:, 1:] - x[:, :-1], ((F, "b, n + 1, 4"),)),
    Open("flip", lambda _, x: jnp.flip(jnp.stack([x, x * 2], 1), 2), BN4),
    Open("split", lambda _, x: jnp.split(x, 2, -1), BN4),
    Open("concatenate", lambda _, x: jnp.concatenate([jnp.ones((x.shape[0], 1, 4)), x], 1), BN4),
    Open("pad", lambda _, x: jnp.pad(x, ((0, 0), (1, 2), (0, 0))), BN4),
    Open("tile", lambda _, x: jnp.tile(x, (1, 2, 1)), BN4),
    Open("repeat", lambda _, x: jnp.repeat(x, 2, axis=1), BN4),
    Open("tril", lambda _, x: jnp.tril(x), ((F, "b, n, n"),)),
    Open("where", lambda _, x: jnp.where(x > 0, x, jnp.zeros_like(x)), BN4),
    Open("sort", lambda _, x: jnp.sort(x), BN4),
    Open("top_k", lambda _, x: jax.lax.top_k(x, 2), BN4),
    Open("take_along_axis", lambda _, x: jnp.take_along_axis(x, jnp.argsort(x), -1), BN4),
    Open("rows", lambda _, x, i: x[jnp.arange(x.shape[0]), i], ((F, "b, 4"), (I, "b"))),
    Open("one row", lambda _, x, i: x[i], ((F, "n, 4"), (I, ""))),
    Open("write one row", lambda _, x, i: x.at[i].set(0), ((F, "n + 1, 4"), (I, ""))),
    Open("batched product", lambda _, x, y: x @ y, ((F, "b, n, 4"), (F, "b, 4, n"))),
    Open("gradient", lambda _, x: jax.grad(lambda v: jnp.sum(jnp.tanh(v) ** 3))(x), BN4),
    Open("vmap", lambda p, x: jax.vmap(lambda row: row @ p["w"])(x), BN4, WEIGHTS),
    Open("an output that is an input", lambda _, x: (x, x + 1), BN4),
    Open("fft", lambda _, x: jnp.abs(jnp.fft.fft(x)), BN4),
    Open("resize", lambda _, x: jax.image.resize(x, (*x.shape[:2], 8), "linear"), BN4),
    Open("places of no numbers", lambda _, x: jnp.digitize(x, jnp.arange(3)), ((I, "0, n"),)),
    Open("zeros in no rows", lambda _, x: jnp.zeros((x.shape[0], 0)), N4),
    Open("a loop", lambda _, x: jax.lax.fori_loop(0, 3, lambda i, c: c * 2 + i, x), BN4),
    Open("inverse", lambda _, x: jnp.linalg.inv(x @ x.mT + jnp.eye(3)), ((F, "b, 3, 4"),)),
    Open("scan over n", lambda _, x: lax.scan(cell, x[0] * 0, x), NB4),
    Open("scan over n, reversed", lambda _, x: lax.scan(cell, x[0] * 0, x, reverse=True), NB4),
    Open("gradient of a scan over n", jax.grad(lambda _, x: scanned(x)[0].sum(), 1), NB4),
    Open("scan over n in a scan over b", lambda _, x: lax.scan(
        lambda c, r: (lax.scan(cell, c, r)[0], c), jnp.zeros(4), x), BN4),
    Open("scan that divides by n", lambda _, x: lax.scan(
        lambda c, r: (c + r / x.shape[0], None), x[0] * 0, x)[0], NB4),
    Open("scan that makes zeros of b", lambda _, x: lax.scan(
        lambda c, r: (c + r.sum(), jnp.zeros((x.shape[1], 4)) + c), jnp.float32(0), x), NB4),
    Open("two scans over n", lambda _, x: (scanned(x)[0], scanned(x * 0.5)[1]), NB4),
    Open("map over n", lambda p, x: lax.map(lambda r: jnp.sin(r) @ p["w"], x), N4, WEIGHTS),
    Open("while with b inside", lambda _, x: lax.while_loop(
        lambda v: v.sum() < 90, lambda v: v + jnp.ones((x.shape[0], 4)), jnp.abs(x)), N4),
    Open("while up to n", lambda _, x: lax.while_loop(
        lambda s: s[0] < x.shape[0], lambda s: (s[0] + 1, s[1] * 0.5 + 1), (0, x)), N4),
    Open("while of a batch", lambda _, x: jax.vmap(
        lambda r: lax.while_loop(lambda v: v.sum() < 5, lambda v: v + 1, r))(x), N4),
    Open("cond", lambda _, x: lax.cond(
        x.sum() > 0, lambda: jnp.ones((x.shape[0], 4)), lambda: x * 2), N4),
    Open("cond of a number with n inside", lambda _, x: lax.cond(
        x.sum() > 0, lambda s: s * x.shape[0], lambda s: s, x.sum()), N4),
    Open("while of a number with n inside", lambda _, x: lax.while_loop(
        lambda s: s < 90, lambda s: jnp.broadcast_to(s, (x.shape[0], 2)).mean() + x.shape[0],
        x.sum()), N4),
    Open("cond with n in a loop of a number", lambda _, x: lax.while_loop(
        lambda s: s < 90, lambda s: lax.cond(
            s > 3, lambda s: s + x.shape[0] * x.shape[1], lambda s: s + 1, s), x.sum()), BN4),
    flax("LSTM over n", nn.RNN(nn.LSTMCell(8)), F, "b, n, 3", 1, 4, 3),
    flax("GRU over n, reversed", nn.RNN(nn.GRUCell(8), reverse=True), F, "b, n, 3", 1, 4, 3),
    flax("LSTM", nn.RNN(nn.LSTMCell(8)), F, "b, 4, 3", 1, 4, 3),
    flax("ConvTranspose", nn.ConvTranspose(4, (2, 2), (2, 2)), F, "b, h, w, 3", 1, 8, 8, 3),
    flax("Conv of one axis", nn.Conv(3, (3,)), F, "b, n, 3", 1, 8, 3),
    flax("Conv, stride 2", nn.Conv(3, (3, 3), 2, padding="VALID"), F, "b, h, w, 3", 1, 8, 8, 3),
    flax("LayerNorm", nn.LayerNorm(), F, "b, n, 3", 1, 8, 3),
    flax("Cnn", Cnn(), F, "b, 8, 8, 3", 1, 8, 8, 3),
    flax("Pyramid", Pyramid(), F, "b, 2*h, 2*w, 3", 1, 8, 8, 3),
    flax("Decoder", Decoder(), I, "b, n", 1, 8),
)  # fmt: skip
