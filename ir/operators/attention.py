"""Scaled dot-product attention, whose weights are never written down."""

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import module_of
from fnckpt.ir.operators.network import softmax, summed
from fnckpt.ir.operators.table import operator

Ints = tuple[int, ...]


def _attention_aval(q: Aval, k: Aval, v: Aval, *_: Aval, scale: float, heads: Ints) -> Aval:
    of_query, of_key = heads
    if q.shape[-1] * of_key != k.shape[-1] * of_query or k.shape[:2] != v.shape[:2]:
        raise ValueError(f"{q} cannot attend to {k} and {v} with {of_query} and {of_key} heads")
    return Aval((*q.shape[:-1], v.shape[-1] // of_key * of_query), q.dtype)


def _apart(x: np.ndarray, heads: int, repeats: int = 1) -> np.ndarray:
    """``[B, S, H * D]`` as ``[B, H, S, D]``, each head as often as asked."""
    apart = summed(x).reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
    xp = module_of(x)
    turned = xp.moveaxis(apart, 2, 1)
    return turned if repeats == 1 else xp.repeat(turned, repeats, 1)


@operator("Attention", _attention_aval)
def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, *mask: np.ndarray, scale: float, heads: Ints
) -> np.ndarray:
    """``softmax(q k^T * scale + mask) v`` of each head.

    Args:
      q: ``[B, S, H * D]``.
      k: ``[B, T, G * D]``; each of its G heads serves H / G of ``q``.
      v: ``[B, T, G * E]``.
      mask: one that broadcasts to ``[B, H, S, T]``, or none.
      scale: a positive number.
      heads: H and G.
    """
    xp, (of_query, of_key) = module_of(q, k, v), heads
    queries = _apart(q, of_query)
    keys, values = (_apart(x, of_key, of_query // of_key) for x in (k, v))
    with np.errstate(all="ignore"):
        logits = xp.matmul(queries, xp.swapaxes(keys, -1, -2)) * queries.dtype.type(scale)
        weights = softmax(sum(mask, start=logits), axis=-1)
        found = xp.moveaxis(xp.matmul(weights, values), 1, 2)
    return found.reshape(*found.shape[:2], -1).astype(q.dtype)
