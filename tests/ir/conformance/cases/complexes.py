"""Complex numbers inside a function, the Fourier transform among them."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import BOOL, F32, F64, SIGNED, normal, sample, uniform
from tests.ir.conformance.case import Case

Array = jax.Array


def parts(z: Array) -> tuple[Array, Array]:
    return jnp.real(z), jnp.imag(z)


def of_pair(fn: Callable[..., Array]) -> Callable[..., tuple[Array, Array]]:
    """``fn`` of one complex array, as a function of its two parts."""
    return lambda a, b: parts(fn(lax.complex(a, b)))


def of_two(fn: Callable[..., Array]) -> Callable[..., tuple[Array, Array]]:
    """``fn`` of two complex arrays, as a function of their four parts."""
    return lambda a, b, c, d: parts(fn(lax.complex(a, b), lax.complex(c, d)))


UNARY = {
    "abs": jnp.abs,
    "arccos": jnp.arccos,
    "arccosh": jnp.arccosh,
    "arcsin": jnp.arcsin,
    "arcsinh": jnp.arcsinh,
    "arctan": jnp.arctan,
    "arctanh": jnp.arctanh,
    "cumprod": lambda z: jnp.cumprod(z, 1),
    "cummax": lambda z: lax.cummax(z, 1),
    "cummin, reversed": lambda z: lax.cummin(z, 1, reverse=True),
    "max": lambda z: z.max(0),
    "min": lambda z: z.min(),
    "sort": lambda z: jnp.sort(jnp.round(z), 1),
    "reduce by a function": lambda z: lax.reduce(z, 2j, lambda a, b: a + b, (0,)),
    "window sum": lambda z: lax.reduce_window(z, 0j, lax.add, (2, 2), (1, 1), "SAME"),
    "window max": lambda z: lax.reduce_window(z, -jnp.inf, lax.max, (2, 2), (1, 2), "SAME"),
    "window product": lambda z: lax.reduce_window(z, 1j, lax.mul, (2, 2), (1, 1), "VALID"),
    "at multiply, twice": lambda z: z.at[jnp.array([0, 2, 0])].multiply(2j),
    "at max": lambda z: z.at[1].max(0.5j),
    "at subtract": lambda z: z.at[1, 2].subtract(0.5j),
    "lu": lambda z: lax.linalg.lu(z[:, :3])[0],
    "qr": lambda z: z @ jnp.linalg.qr(z.T.conj())[0],
    "cholesky": lambda z: jnp.linalg.cholesky(z @ z.T.conj() + 9 * np.eye(3, dtype=z.dtype)),
    "solve": lambda z: jnp.linalg.solve(z[:, :3] + 2 * np.eye(3, dtype=z.dtype), z),
    "iota": lambda z: z * lax.iota(z.dtype, 4),
    "angle": jnp.angle,
    "conj": jnp.conj,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "exp": jnp.exp,
    "exp2": lax.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "logistic": lax.logistic,
    "neg": jnp.negative,
    "reciprocal": lambda z: 1 / z,
    "rsqrt": lax.rsqrt,
    "sign": lax.sign,
    "sin": jnp.sin,
    "sinh": jnp.sinh,
    "sqrt": jnp.sqrt,
    "square": jnp.square,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
    "z ** 3": lambda z: z**3,
    "z ** -2": lambda z: z**-2,
    "z ** 0": lambda z: z**0,
    "z ** 1.5": lambda z: z**1.5,
    "sum": lambda z: z.sum(1),
    "prod": lambda z: z.prod(1),
    "mean": jnp.mean,
    "reshape": lambda z: z.reshape(6, 2),
    "transpose": lambda z: z.T,
    "take": lambda z: z[1],
    "slice": lambda z: z[1:, ::2],
    "pad": lambda z: jnp.pad(z, 1),
    "flip": lambda z: z[::-1],
    "broadcast": lambda z: jnp.broadcast_to(z, (2, *z.shape)),
    "cumsum": lambda z: jnp.cumsum(z, 1),
    "at add": lambda z: z.at[1].add(2j),
    "at set": lambda z: z.at[0, 1].set(1 + 1j),
    "concatenate": lambda z: jnp.concatenate([z, 2 * z]),
    "real": jnp.real,
    "imag": jnp.imag,
    "matmul": lambda z: z @ z.T,
    "matmul by real": lambda z: z @ jnp.real(z).T,
    "einsum": lambda z: jnp.einsum("ab,cb->ac", z, jnp.conj(z)),
    "where": lambda z: jnp.where(jnp.real(z) > 0, z, 1j),
    "scan": lambda z: lax.scan(lambda c, r: (c * r, c + r), z[0], z)[1],
    "times a constant": lambda z: z * np.array([1, 1j, -1, 2 - 1j], np.complex64),
    "take rows": lambda z: z[jnp.array([1, 0, 1])],
    "linear map": lambda z: z @ np.full((4, 2), 1j, np.complex64),
    "is finite": jnp.isfinite,
    "convert": lambda z: z.astype(np.float32),
}
BINARY = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "pow": jnp.power,
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "matmul of two": lambda x, y: x @ y.T,
    "dot": jnp.vdot,
}
FFTS = {
    "fft": jnp.fft.fft,
    "ifft": jnp.fft.ifft,
    "rfft of the real part": lambda z: jnp.fft.rfft(jnp.real(z)),
    "irfft": jnp.fft.irfft,
    "irfft of odd length": lambda z: jnp.fft.irfft(z, 9),
    "hfft": jnp.fft.hfft,
    "ihfft": lambda z: jnp.fft.ihfft(jnp.real(z)),
    "fft over axis 0": lambda z: jnp.fft.fft(z, axis=0),
    "fft, cut": lambda z: jnp.fft.fft(z, 3),
    "fft, padded": lambda z: jnp.fft.fft(z, 12),
    "fft, orthonormal": lambda z: jnp.fft.fft(z, norm="ortho"),
    "fft2": jnp.fft.fft2,
    "ifft2": jnp.fft.ifft2,
    "fftn": jnp.fft.fftn,
    "rfft2": lambda z: jnp.fft.rfft2(jnp.real(z)),
    "irfft2": jnp.fft.irfft2,
    "fftshift": lambda z: jnp.fft.fftshift(jnp.fft.fft(z)),
}


def functions() -> Iterator[Case]:
    for dtype in (F32, F64):
        for name, fn in UNARY.items():
            args = normal(3, 4, dtype=dtype), normal(3, 4, dtype=dtype, seed=1)
            if name == "convert":
                fn = lambda z: lax.convert_element_type(jnp.real(z), z.dtype)  # noqa: E731
            yield Case(f"complex {name}: {dtype}", of_pair(fn), args)
        for name, fn in BINARY.items():
            args = tuple(normal(3, 4, dtype=dtype, seed=i) for i in range(4))
            yield Case(f"complex {name}: {dtype}", of_two(fn), args)
        for name, fn in FFTS.items():
            args = normal(3, 8, dtype=dtype), normal(3, 8, dtype=dtype, seed=1)
            yield Case(f"complex {name}: {dtype}", of_pair(fn), args)
    for size in (1, 2, 5, 7, 31, 64, 96, 128, 210, 67):
        args = normal(2, size), normal(2, size, seed=1)
        both = lambda z: jnp.fft.fft(z)  # noqa: E731
        yield Case(f"fft: length {size}", of_pair(both), args)
        yield Case(
            f"rfft and irfft: length {size}",
            lambda x, n=size: (jnp.abs(jnp.fft.rfft(x)), jnp.fft.irfft(jnp.fft.rfft(x), n)),
            args[:1],
        )
    x = uniform(1, 32, 3, low=-1, high=1)
    yield Case("fft: Fourier mixing of FNet", lambda x: jnp.fft.fft2(x).real, (x,))
    for dtype in (BOOL, SIGNED[2], F32):
        yield Case(
            f"complex from {dtype}",
            lambda x: parts(x.astype(np.complex64) * 1j),
            (sample(dtype, 4),),
        )
    huge = np.array([1e30, 3e-30, 0.0, -2.0], np.float32)
    yield Case("complex abs: huge and tiny", of_pair(jnp.abs), (huge, huge[::-1].copy()))
    yield Case(
        "complex div: huge and tiny",
        of_two(jnp.divide),
        (huge[:2], huge[:2], huge[:2], huge[1::-1].copy()),
    )
    yield Case(
        "complex sqrt: on the axes",
        of_pair(jnp.sqrt),
        (
            np.array([4.0, -4.0, 0.0, 0.0, 0.0], np.float32),
            np.array([0.0, 0.0, 9.0, -9.0, 0.0], np.float32),
        ),
    )
    on_cuts = np.array([-2, -0.5, 0, 0.5, 2], np.float32)
    for name in ("sqrt", "log", "arcsin", "arccos", "arctanh", "arcsinh"):
        yield Case(
            f"complex {name}: beside its cut", of_pair(getattr(jnp, name)),
            (on_cuts, np.copysign(np.float32(1e-3), [1, -1, 1, -1, 1]).astype(np.float32)),
        )  # fmt: skip
    yield Case(
        "fft: the phase of a bin that is real",
        lambda x: jnp.angle(jnp.fft.rfft(x))[..., np.array([0, 4])],
        (np.array([[1, -2, 1, -1, 3, -2, 1, -1], [-1, 2, -1, 1, -3, 2, -1, 1]], np.float32),),
    )
    yield Case(
        "complex from parts of other sizes", lambda a, b: parts(lax.complex(a, b)),
        (normal(3, 1), normal(3, 2)),
    )  # fmt: skip
    yield Case(
        "conv: complex",
        lambda a, b: parts(lax.conv(lax.complex(a, a * 2), lax.complex(b, -b), (1, 1), "SAME")),
        (normal(1, 2, 5, 5), normal(3, 2, 3, 3)),
    )


CASES = [*functions()]
