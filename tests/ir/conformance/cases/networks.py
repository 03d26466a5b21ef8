"""jax.nn, jax.scipy.special, jax.image and the layers of Flax: compositions that networks use."""

from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import BF16, F16, F32, F64, bools, integers, normal, uniform
from tests.ir.conformance.case import Case

ACTIVATIONS = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "swish",
    "tanh",
]
WITH_OPTIONS = {
    "gelu, exact": lambda x: jax.nn.gelu(x, approximate=False),
    "softmax over axis 0": lambda x: jax.nn.softmax(x, axis=0),
    "softmax over two axes": lambda x: jax.nn.softmax(x, axis=(0, 1)),
    "softmax where": lambda x: jax.nn.softmax(x, where=x > -0.5),
    "log_softmax over axis 0": lambda x: jax.nn.log_softmax(x, axis=0),
    "logsumexp over axis 0": lambda x: jax.nn.logsumexp(x, 0, keepdims=True),
    "logsumexp with weights": lambda x: jax.nn.logsumexp(x, 1, b=jnp.abs(x)),
    "leaky_relu 0.3": lambda x: jax.nn.leaky_relu(x, 0.3),
    "elu 0.5": lambda x: jax.nn.elu(x, 0.5),
    "one_hot": lambda x: jax.nn.one_hot(jnp.argmax(x, -1), 4),
    "log1mexp": lambda x: jax.nn.log1mexp(jnp.abs(x) + 0.1),
    "standardize over axis 0": lambda x: jax.nn.standardize(x, axis=0, epsilon=1e-3),
}
SPECIAL_UNARY = {
    "bernoulli": None,
    "betaln": None,
    "digamma": (0.3, 5),
    "entr": (0.1, 2),
    "erf": (-2, 2),
    "erfc": (-2, 2),
    "erfinv": (-0.9, 0.9),
    "expit": (-4, 4),
    "expn": None,
    "gamma": (0.5, 4),
    "gammaln": (0.3, 5),
    "i0": (-3, 3),
    "i0e": (-9, 9),
    "i1": (-3, 3),
    "i1e": (-9, 9),
    "log_ndtr": (-3, 3),
    "log_softmax": (-3, 3),
    "logit": (0.1, 0.9),
    "ndtr": (-3, 3),
    "ndtri": (0.1, 0.9),
    "softmax": (-3, 3),
    "spence": None,
    "exp1": None,
    "factorial": (0.5, 4),
    "sinc": (-2, 2),
    "fresnel": None,
    "erfcx": (-1, 3),
}
SPECIAL_BINARY = {
    "betaln": (0.5, 4),
    "xlogy": (0.1, 3),
    "xlog1py": (0.1, 3),
    "kl_div": (0.1, 2),
    "rel_entr": (0.1, 2),
    "zeta": (1.5, 6),
    "beta": (0.5, 4),
    "poch": (0.5, 3),
}
METHODS = ("nearest", "linear", "cubic", "lanczos3", "lanczos5")


def activations() -> Iterator[Case]:
    for name in ACTIVATIONS:
        if hasattr(jax.nn, name):
            fn = getattr(jax.nn, name)
            for dtype in (F32, F16, BF16, F64):
                yield Case(f"nn.{name}: {dtype}", fn, (normal(3, 4, dtype=dtype),))
    for name, fn in WITH_OPTIONS.items():
        yield Case(f"nn.{name}", fn, (normal(3, 4),))
    large = np.array([-100, -20, -1, 0, 1, 20, 100], F32)
    for name in (
        "softplus",
        "sigmoid",
        "log_sigmoid",
        "silu",
        "gelu",
        "elu",
        "selu",
        "softmax",
        "mish",
    ):
        yield Case(f"nn.{name}: far from 0", getattr(jax.nn, name), (large,))


def special() -> Iterator[Case]:
    for name, domain in SPECIAL_UNARY.items():
        if domain is not None and hasattr(jsp.special, name):
            x = uniform(3, 4, low=domain[0], high=domain[1])
            yield Case(f"scipy.special.{name}", getattr(jsp.special, name), (x,))
    for name, (low, high) in SPECIAL_BINARY.items():
        args = uniform(5, low=low, high=high), uniform(5, low=low, high=high, seed=1)
        if hasattr(jsp.special, name):
            yield Case(f"scipy.special.{name}", getattr(jsp.special, name), args)
    for n in (0, 1, 2, 4):
        yield Case(
            f"scipy.special.polygamma: {n}",
            lambda x, n=n: jsp.special.polygamma(n, x),
            (uniform(6, low=0.5, high=6),),
        )
    for dtype in (F32, F64):
        q = uniform(6, low=0.5, high=9, dtype=dtype)
        yield Case(
            f"scipy.special.zeta: of 3, {dtype}",
            lambda q: jsp.special.zeta(q.dtype.type(3), q),
            (q,),
        )
    q = np.array([-np.inf, -2, -1.5, -0.5, 0, 0.3, 1, 9, 1e10, np.nan], F32)
    for name, fn in (("zeta", lax.zeta), ("polygamma", lax.polygamma)):
        yield Case(
            f"scipy.special.{name}: edges",
            lambda s, q, fn=fn: fn(*jnp.broadcast_arrays(s, q)),
            (np.array([-1, 0.5, 1, 2, 3, 4, 1.5, 30.5, 101.5, np.nan], F32)[:, None], q),
        )
    ends = np.array([-1, 0, 0.3, 2, np.inf, np.nan], F32)
    places = np.array([-1, 0, 0.3, 1, 2, np.inf, np.nan], F32)
    yield Case(
        "betainc: edges",
        lambda a, b, x: lax.betainc(*jnp.broadcast_arrays(a, b, x)),
        (ends[:, None, None], ends[:, None], places),
    )
    for dtype in (F32, F64):
        a, x, p = (
            uniform(8, low=low, high=high, dtype=dtype, seed=i)
            for i, (low, high) in enumerate([(0.01, 200), (0.01, 250), (0, 1)])
        )
        limit = 1e-4 if dtype == F32 else 1e-10  # JAX's own distance from scipy
        for name in ("igamma", "igammac", "igamma_grad_a"):
            yield Case(f"{name}: {dtype}", getattr(jax.lax, name), (a, x), tolerance=limit)
        yield Case(f"betainc: {dtype}", jax.lax.betainc, (a, x, p), tolerance=limit)
    ends = np.array([0, 1, np.inf, np.nan, -1], np.float32)
    for name in ("igamma", "igammac"):
        yield Case(
            f"{name}: at its ends", getattr(jax.lax, name), (np.repeat(ends, 5), np.tile(ends, 5))
        )
    yield Case(
        "scipy.special.multigammaln",
        lambda x: jsp.special.multigammaln(x, 3),
        (uniform(4, low=2, high=5),),
    )
    yield Case(
        "scipy.stats.norm",
        lambda x: (jsp.stats.norm.logpdf(x), jsp.stats.norm.cdf(x)),
        (normal(5),),
    )
    yield Case(
        "scipy.signal.convolve2d", lambda x: jsp.signal.convolve2d(x, x[:2, :2]), (normal(4, 5),)
    )
    yield Case(
        "scipy.ndimage.map_coordinates",
        lambda x: jsp.ndimage.map_coordinates(
            x, [jnp.array([0.5, 1.2]), jnp.array([1.5, 2.1])], order=1
        ),
        (normal(4, 4),),
    )


def images() -> Iterator[Case]:
    image = normal(1, 6, 5, 2)
    for method in METHODS:
        for shape in ((1, 12, 10, 2), (1, 9, 4, 2), (1, 3, 3, 2)):
            for antialias in (True, False) if method != "nearest" else (True,):
                yield Case(
                    f"image.resize: {method} {list(shape)} antialias={antialias}",
                    lambda x, m=method, s=shape, a=antialias: jax.image.resize(
                        x, s, m, antialias=a
                    ),
                    (image,),
                )
    yield Case(
        "image.scale_and_translate",
        lambda x: jax.image.scale_and_translate(
            x, (1, 8, 8, 2), (1, 2), jnp.array([1.3, 1.7]), jnp.array([0.5, 0.2]), "linear"
        ),
        (image,),
    )


LAYERS = {
    "Dense": nn.Dense(4),
    "Conv": nn.Conv(4, (3, 3)),
    "Conv, strided": nn.Conv(4, (3, 2), strides=2, padding="VALID"),
    "Conv, circular": nn.Conv(4, (3, 3), padding="CIRCULAR"),
    "Conv, depthwise": nn.Conv(6, (3, 3), feature_group_count=3),
    "ConvTranspose": nn.ConvTranspose(4, (3, 3), strides=(2, 2)),
    "BatchNorm": nn.BatchNorm(use_running_average=True),
    "LayerNorm": nn.LayerNorm(),
    "RMSNorm": nn.RMSNorm(),
    "GroupNorm": nn.GroupNorm(3),
    "InstanceNorm": nn.InstanceNorm(),
    "WeightNorm": nn.WeightNorm(nn.Dense(4)),
    "Dropout, at rest": nn.Dropout(0.5, deterministic=True),
    "PReLU": nn.PReLU(),
    "MultiHeadDotProductAttention": nn.MultiHeadDotProductAttention(3),
    "DenseGeneral": nn.DenseGeneral((2, 3), axis=(-2, -1)),
    "Einsum": nn.Einsum((3, 4), "bhwc,cd->bhwd"),
    "half": nn.Dense(4, dtype=jnp.bfloat16),
}


def weights(layer: nn.Module, x: np.ndarray) -> dict[str, dict[str, object]]:
    """Numbers from 0.1 to 1 for each of a layer's variables, without running it."""
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: uniform(*s.shape, low=0.1, high=1, dtype=s.dtype), shapes)


def layers() -> Iterator[Case]:
    x = normal(2, 6, 5, 3)
    for name, layer in LAYERS.items():
        variables = weights(layer, x)
        yield Case(f"flax {name}", lambda x, m=layer, v=variables: m.apply(v, x), (x,))
    yield Case(
        "flax Embed",
        lambda i: nn.Embed(7, 4).apply(
            {"params": {"embedding": jnp.arange(28.0).reshape(7, 4)}}, i
        ),
        (integers(0, 7, 2, 3),),
    )
    cell = nn.RNN(nn.LSTMCell(4))
    steps = normal(2, 5, 3)
    variables = weights(cell, steps)
    yield Case("flax LSTM", lambda x: cell.apply(variables, x), (steps,))
    gru = nn.RNN(nn.GRUCell(4), reverse=True)
    others = weights(gru, steps)
    yield Case("flax GRU, reverse", lambda x: gru.apply(others, x), (steps,))
    yield Case(
        "flax Dropout, a constant key",
        lambda x: nn.Dropout(0.5, deterministic=False).apply(
            {}, x, rngs={"dropout": jax.random.key(2)}
        ),
        (x,),
    )
    yield Case(
        "attention with a mask",
        lambda q, m: jax.nn.softmax(jnp.where(m, q @ q.swapaxes(-1, -2), -1e9)) @ q,
        (normal(2, 3, 4), bools(2, 3, 3)),
    )


CASES = [*activations(), *special(), *images(), *layers()]
