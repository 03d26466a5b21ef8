"""Factorizations whose signs are free, as what is the same whatever these are.

That is the values, the matrix put together again, and the products of vectors with themselves.
"""

from collections.abc import Callable, Sequence

import numpy as np

Arrays = Sequence[np.ndarray]


def adjoint(x: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(x, -1, -2))


def of_svd(_: np.ndarray, found: Arrays) -> Arrays:
    if len(found) == 1:
        return found
    s, u, vh = found
    k = s.shape[-1]
    return s, (u[..., :k] * s[..., None, :]) @ vh[..., :k, :], adjoint(u) @ u, vh @ adjoint(vh)


def of_eigh(_: np.ndarray, found: Arrays) -> Arrays:
    v, w = found
    return w, (v * w[..., None, :]) @ adjoint(v), adjoint(v) @ v


def of_eig(a: np.ndarray, found: Arrays) -> Arrays:
    """The values in any order, what is left of ``a v - v w``, and the lengths of the vectors.

    The vectors are those of the left, then of the right. A single array may be either.
    """
    w, *vectors = found
    rests: list[np.ndarray] = []
    for i, v in enumerate(vectors):
        right = np.abs(a @ v - v * w[..., None, :]).max(initial=0)
        left = np.abs(adjoint(a) @ v - v * np.conj(w)[..., None, :]).max(initial=0)
        rest = min(left, right) if len(vectors) == 1 else (left, right)[i]
        rests += [np.asarray(rest, np.real(v).dtype), np.linalg.norm(v, axis=-2)]
    return *(np.sort(x, -1) for x in (np.real(w), np.imag(w), np.abs(w))), *rests


INVARIANTS: dict[str, Callable[[np.ndarray, Arrays], Arrays]] = {
    "eig": of_eig,
    "eigh": of_eigh,
    "svd": of_svd,
}
