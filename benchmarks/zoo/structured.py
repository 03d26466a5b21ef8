"""Many small products, scans, graphs and decoders: neither one chain of layers nor large."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.zoo.images import Network, initialized
from benchmarks.zoo.pixels import function
from benchmarks.zoo.small import rows


def segment_sums(x: jax.Array) -> jax.Array:
    """The sum of x from j + 1 to i at [i, j], and -inf above the diagonal."""
    size = x.shape[-1]
    below = jnp.tril(jnp.ones((size, size), bool), -1)
    wide = jnp.where(below, jnp.repeat(x[..., None], size, -1), 0)
    until = jnp.tril(jnp.ones((size, size), bool))
    return jnp.where(until, jnp.cumsum(wide, axis=-2), -jnp.inf)


class Mamba2(nn.Module):
    """Dao and Gu, "Transformers are SSMs": the selective state space in chunks of 16 steps."""

    heads: int = 4
    size: int = 16
    state: int = 16
    chunk: int = 16

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        batch, length, _ = u.shape
        wide = self.heads * self.size
        parts = nn.Dense(2 * wide + 2 * self.state + self.heads)(u)
        ends = tuple(np.cumsum([wide, wide, self.state, self.state]).tolist())
        z, x, b, c, dt = jnp.split(parts, ends, -1)
        dt = nn.softplus(dt + self.param("dt", nn.initializers.zeros, (self.heads,)))
        a = -jnp.exp(self.param("a", nn.initializers.ones, (self.heads,))) * dt
        x = x.reshape(batch, length, self.heads, self.size) * dt[..., None]
        count = length // self.chunk
        x, b, c, a = (v.reshape(batch, count, self.chunk, *v.shape[2:]) for v in (x, b, c, a))
        a = a.transpose(0, 3, 1, 2)
        sums = jnp.cumsum(a, axis=-1)
        within = jnp.exp(segment_sums(a))
        y = jnp.einsum("bcln,bcsn,bhcls,bcshp->bclhp", c, b, within, x)
        states = jnp.einsum("bcln,bhcl,bclhp->bchpn", b, jnp.exp(sums[..., -1:] - sums), x)
        states = jnp.concatenate([jnp.zeros_like(states[:, :1]), states], 1)
        across = jnp.exp(segment_sums(jnp.pad(sums[..., -1], ((0, 0), (0, 0), (1, 0)))))
        states = jnp.einsum("bhzc,bchpn->bzhpn", across, states)[:, :-1]
        y = y + jnp.einsum("bcln,bchpn,bhcl->bclhp", c, states, jnp.exp(sums))
        y = y.reshape(batch, length, wide) * nn.silu(z)
        return nn.Dense(u.shape[-1])(nn.RMSNorm()(y))


class Selective(nn.Module):
    """Gu and Dao, "Mamba": a diagonal state, by an associative scan over the steps."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features, state = x.shape[-1], 8
        dt = nn.softplus(nn.Dense(features)(x))
        b, c = nn.Dense(state)(x), nn.Dense(state)(x)
        a = -jnp.exp(self.param("a", nn.initializers.zeros, (features, state)))
        decay = jnp.exp(dt[..., None] * a)
        given = dt[..., None] * b[:, :, None] * x[..., None]

        def after(
            left: tuple[jax.Array, jax.Array], right: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            return left[0] * right[0], right[0] * left[1] + right[1]

        _, h = jax.lax.associative_scan(after, (decay, given), axis=1)
        return nn.Dense(features)((h * c[:, :, None]).sum(-1))


class BothWays(nn.Module):
    """A GRU in each direction, the last Dense on both."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Bidirectional(nn.RNN(nn.GRUCell(64)), nn.RNN(nn.GRUCell(64)))(x)
        return nn.Dense(8)(y)


class Recurrent(nn.Module):
    """An LSTM as a scan."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(8)(nn.RNN(nn.OptimizedLSTMCell(64))(x)[:, -1])


class NearAttention(nn.Module):
    """Attention of each block of 16 words to itself, the one before and the one behind."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, size = x.shape
        heads, block = 4, 16
        q, k, v = (nn.DenseGeneral((heads, size // heads))(x) for _ in range(3))
        q, k, v = (y.reshape(batch, length // block, block, heads, -1) for y in (q, k, v))

        def around(y: jax.Array) -> jax.Array:
            padded = jnp.pad(y, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
            return jnp.concatenate([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], 2)

        scores = jnp.einsum("bnqhd,bnkhd->bnhqk", q, around(k)) / np.sqrt(size // heads)
        places = jnp.arange(length).reshape(1, -1, block, 1, 1)
        there = jnp.squeeze(around(places + 1), (-1, -2)) > 0
        weights = nn.softmax(jnp.where(there[:, :, None, None], scores, -1e9))
        y = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, around(v)).reshape(batch, length, size)
        return x + nn.Dense(size)(y)


class LinearAttention(nn.Module):
    """Katharopoulos et al.: causal, by cumulative sums of products."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        q, k, v = (nn.DenseGeneral((4, 16))(x) for _ in range(3))
        q, k = nn.elu(q) + 1, nn.elu(k) + 1
        sums = jnp.cumsum(jnp.einsum("blhd,blhe->blhde", k, v), axis=1)
        total = jnp.einsum("blhd,blhd->blh", q, jnp.cumsum(k, axis=1))
        y = jnp.einsum("blhd,blhde->blhe", q, sums) / (total[..., None] + 1e-6)
        return nn.Dense(x.shape[-1])(y.reshape(*x.shape[:2], -1))


class GraphAttention(nn.Module):
    """Velickovic et al., "Graph attention networks", by a matrix of neighbours; two layers."""

    @nn.compact
    def __call__(self, x: jax.Array, edges: jax.Array) -> jax.Array:
        for heads, features in ((4, 16), (1, 7)):
            h = nn.DenseGeneral((heads, features))(x)
            source = h * self.param(f"s{heads}", nn.initializers.normal(0.3), (heads, features))
            target = h * self.param(f"t{heads}", nn.initializers.normal(0.3), (heads, features))
            scores = nn.leaky_relu(source.sum(-1)[:, None] + target.sum(-1)[None], 0.2)
            scores = jnp.where(edges[..., None] > 0, scores, -1e9)
            x = jnp.einsum("ijh,jhf->ihf", nn.softmax(scores, 1), h).reshape(x.shape[0], -1)
            x = nn.elu(x) if heads > 1 else x
        return nn.log_softmax(x)


class GraphMessages(nn.Module):
    """Messages along a list of edges, summed at their ends; three rounds."""

    @nn.compact
    def __call__(self, x: jax.Array, source: jax.Array, target: jax.Array) -> jax.Array:
        for _ in range(3):
            message = nn.relu(nn.Dense(32)(jnp.concatenate([x[source], x[target]], -1)))
            total = jax.ops.segment_sum(message, target, x.shape[0])
            x = nn.relu(nn.Dense(32)(jnp.concatenate([x, total], -1)))
        return nn.Dense(4)(x.mean(0))


class Experts(nn.Module):
    """Four MLPs, weighted by a Softmax over the best two."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gates = nn.softmax(nn.Dense(4)(x))
        best, which = jax.lax.top_k(gates, 2)
        kept = (jax.nn.one_hot(which, 4) * best[..., None]).sum(-2)
        up = self.param("up", nn.initializers.normal(0.1), (4, x.shape[-1], 128))
        down = self.param("down", nn.initializers.normal(0.1), (4, 128, x.shape[-1]))
        y = jnp.einsum("btef,efd->bted", nn.silu(jnp.einsum("btd,edf->btef", x, up)), down)
        return x + (y * kept[..., None]).sum(2)


class Decoder(nn.Module):
    """Two layers as in Llama: RMSNorm, rotated heads that share keys, SwiGLU."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(512, 128)(tokens)
        length = tokens.shape[1]
        angles = jnp.arange(length)[:, None] * 1e4 ** (-jnp.arange(0, 32, 2) / 32)

        def rotated(y: jax.Array) -> jax.Array:
            a, b = jnp.split(y, 2, -1)
            cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
            return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

        visible = jnp.tril(jnp.ones((length, length), bool))
        for _ in range(2):
            h = nn.RMSNorm()(x)
            q = rotated(nn.DenseGeneral((4, 32), use_bias=False)(h))
            k = rotated(nn.DenseGeneral((2, 32), use_bias=False)(h))
            v = nn.DenseGeneral((2, 32), use_bias=False)(h)
            k, v = jnp.repeat(k, 2, 2), jnp.repeat(v, 2, 2)
            y = nn.dot_product_attention(q, k, v, mask=visible)
            x = x + nn.Dense(128, use_bias=False)(y.reshape(*x.shape))
            h = nn.RMSNorm()(x)
            gate, up = (nn.Dense(256, use_bias=False)(h) for _ in range(2))
            x = x + nn.Dense(128, use_bias=False)(nn.silu(gate) * up)
        return nn.Dense(512, use_bias=False)(nn.RMSNorm()(x))


class Causal(nn.Module):
    """Oord et al., "WaveNet": dilated convolutions with gates."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, skips = nn.Dense(16)(x), 0.0
        for power in range(4):
            y = nn.Conv(32, (2,), kernel_dilation=2**power, padding="CAUSAL")(x)
            a, b = jnp.split(y, 2, -1)
            y = nn.tanh(a) * nn.sigmoid(b)
            skips = skips + nn.Dense(16)(y)
            x = x + nn.Dense(16)(y)
        return nn.Dense(8)(nn.relu(skips))


def ranked(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The best boxes, and how much they overlap."""
    scores, which = jax.lax.top_k(x[:, 4], 32)
    low, high = x[which, :2], x[which, :2] + jnp.abs(x[which, 2:4])
    sides = jnp.minimum(high[:, None], high) - jnp.maximum(low[:, None], low)
    both = jnp.maximum(sides, 0).prod(-1)
    area = (high - low).prod(-1)
    return scores, both / (area[:, None] + area - both + 1e-6)


def powers(x: jax.Array) -> jax.Array:
    """A polynomial, and what ``**`` makes of known exponents."""
    return 0.5 * x**3 - x**2 + x**4 / 24 + jnp.abs(x) ** 1.5 + jnp.abs(x) ** 0.5


def neighbours() -> np.ndarray:
    near = np.random.default_rng(0).random((64, 64)) < 0.1
    return (near | np.eye(64, dtype=bool)).astype(np.float32)


def ends(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 64, count).astype(np.int32)


STRUCTURED: dict[str, Callable[[], Network]] = {
    "Mamba-2": lambda: initialized(Mamba2(), rows(1, 64, 32)),
    "Mamba": lambda: initialized(Selective(), rows(1, 64, 32)),
    "GRU, both ways": lambda: initialized(BothWays(), rows(2, 20, 32)),
    "LSTM, scan": lambda: initialized(Recurrent(), rows(2, 20, 32)),
    "near attention": lambda: initialized(NearAttention(), rows(1, 128, 64)),
    "linear attention": lambda: initialized(LinearAttention(), rows(1, 64, 64)),
    "graph attention": lambda: initialized(GraphAttention(), rows(64, 32), neighbours()),
    "graph messages": lambda: initialized(GraphMessages(), rows(64, 16), ends(256), ends(257)[1:]),
    "experts": lambda: initialized(Experts(), rows(1, 32, 64)),
    "decoder": lambda: initialized(Decoder(), ends(64)[None]),
    "WaveNet": lambda: initialized(Causal(), rows(1, 256, 4)),
    "boxes": function(ranked, rows(256, 5)),
    "powers": function(powers, rows(64, 256)),
}
