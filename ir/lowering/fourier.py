"""The Fourier transform as products with constant matrices, for axes of known length."""

import numpy as np
from jax import Array, lax
from jax import numpy as jnp

from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.registry import Site, Value, lowers_complex

# Up to here one matrix is better than two smaller ones with a transpose between.
DIRECT = 64


def wave(rows: int, columns: int, size: int, sign: int) -> np.ndarray:
    """``exp(sign * 2 pi i * j * k / size)`` for each row j and column k, from exact angles.

    Quarters of a turn are exact: the sine of a multiple of pi is 0.
    """
    turns = np.outer(np.arange(rows), np.arange(columns)) % size
    quarter, rest = np.divmod(4 * np.arange(size), size)
    first = np.exp(2j * np.pi * rest / (4 * size))
    circle = first * np.array([1, 1j, -1, -1j])[quarter]
    # Adding 0 makes 0.0 of -0.0, whose sign would turn a phase of pi.
    return ((circle if sign > 0 else np.conj(circle)) + 0)[turns]


def dft(x: Array, sign: int) -> Array:
    """The transform over the last axis, split by factors as Cooley and Tukey do."""
    n = x.shape[-1]
    first = next((k for k in range(int(n**0.5), 1, -1) if n % k == 0), 1)
    if n <= DIRECT or first == 1:
        return jnp.matmul(x, wave(n, n, n, sign).astype(x.dtype), precision="highest")
    second = n // first
    columns = jnp.swapaxes(x.reshape(*x.shape[:-1], first, second), -1, -2)
    twisted = dft(columns, sign) * wave(second, first, n, sign).astype(x.dtype)
    return jnp.swapaxes(dft(jnp.swapaxes(twisted, -1, -2), sign), -1, -2).reshape(x.shape)


def along(x: Array, axis: int, sign: int) -> Array:
    """The transform over one axis, divided by its length where it is the inverse."""
    result = jnp.moveaxis(dft(jnp.moveaxis(x, axis, -1), sign), -1, axis)
    return result / x.shape[axis] if sign > 0 else result


def of_real(x: Array, dtype: np.dtype) -> Array:
    """The first half of the transform of real numbers, the rest being its mirror image."""
    n, half = x.shape[-1], x.shape[-1] // 2 + 1
    if n > DIRECT:
        return dft(x.astype(dtype), -1)[..., :half]
    matrix = wave(n, half, n, -1)
    parts = (part.astype(x.dtype) for part in (np.real(matrix), np.imag(matrix)))
    return lax.complex(*(jnp.matmul(x, part, precision="highest") for part in parts))


def to_real(x: Array, n: int) -> Array:
    """Real numbers from the first half of their transform; the inverse of ``of_real``."""
    half = n // 2 + 1
    weights = np.full(half, 2.0)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    if n > DIRECT:
        mirrored = jnp.conj(jnp.flip(x[..., 1 : (n + 1) // 2], -1))
        return jnp.real(dft(jnp.concatenate([x, mirrored], -1), 1)) / n
    matrix = wave(half, n, n, 1) * weights[:, None] / n
    real, imag = jnp.real(x), jnp.imag(x)
    cosine, sine = (part.astype(real.dtype) for part in (matrix.real, matrix.imag))
    return jnp.matmul(real, cosine, precision="highest") - jnp.matmul(
        imag, sine, precision="highest"
    )


@lowers_complex("fft")
def lower_fft(site: Site, x: Value, *, fft_type: int, fft_lengths: tuple[int, ...]) -> Value:
    """Axis by axis; the real transforms act on the last one."""
    kind = lax.FftType(fft_type).name
    others = tuple(range(-len(fft_lengths), -1))

    def transform(z: Array) -> Array:
        if kind == "RFFT":
            z = of_real(z, site.aval.dtype)
        if kind in ("FFT", "IFFT"):
            z = along(z, -1, -1 if kind == "FFT" else 1)
        for axis in others:
            z = along(z, axis, 1 if kind in ("IFFT", "IRFFT") else -1)
        return to_real(z, fft_lengths[-1]) if kind == "IRFFT" else z

    (result,) = composed(site, transform, x)
    return result
