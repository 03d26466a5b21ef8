"""Scaled dot-product attention, whose weights are never written down, and rotary embedding."""

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import module_of
from fnckpt.ir.operators.network import matmul, softmax, summed
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
        products = matmul(queries, keys, transpose_a=False, transpose_b=True)
        logits = products * queries.dtype.type(scale)
        weights = softmax(sum(mask, start=logits), axis=-1)
        found = matmul(weights, values, transpose_a=False, transpose_b=False)
    found = xp.moveaxis(found, 1, 2)
    return found.reshape(*found.shape[:2], -1).astype(q.dtype)


def _cached_aval(
    q: Aval, k: Aval, v: Aval, past_k: Aval, past_v: Aval, *_: Aval, heads: Ints, **__: object
) -> tuple[Aval, Aval, Aval]:
    of_query, of_key = heads
    batch, groups, past, size = past_k.shape
    fits = groups == of_key and k.shape == v.shape == (batch, q.shape[1], groups * size)
    if not fits or past_k.shape != past_v.shape or q.shape[-1] != of_query * size:
        raise ValueError(f"{q}, {k} and {v} do not go on {past_k} and {past_v} with heads {heads}")
    present = Aval((batch, groups, past + q.shape[1], size), k.dtype)
    return q, present, present


@operator("CachedAttention", _cached_aval)
def cached_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, past_k: np.ndarray, past_v: np.ndarray,
    *mask: np.ndarray, scale: float, heads: Ints, window: int, cap: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Causal attention to what was seen before and to the new tokens, and both together.

    Args:
      q: ``[B, S, H * D]``.
      k, v: ``[B, S, G * D]``; each of the G heads serves H / G of ``q``.
      past_k, past_v: ``[B, G, P, D]``.
      mask: one that is added and broadcasts to ``[B, H, S, P + S]``, or none.
      scale: of the products.
      heads: H and G.
      window: how many places a query looks at, its own among them; 0 is all.
      cap: products are ``cap * tanh(products / cap)``; 0 leaves them.

    Returns:
      ``[B, S, H * D]``, and the keys and values ``[B, G, P + S, D]``.
    """
    xp, (of_query, of_key) = module_of(q, k, v, past_k), heads
    keys, values = (
        xp.concatenate([old, _apart(new, of_key).astype(old.dtype)], 2)
        for old, new in ((past_k, k), (past_v, v))
    )
    queries, repeats = _apart(q, of_query), of_query // of_key
    rows, total = q.shape[1], keys.shape[2]
    distance = np.arange(total - rows, total)[:, None] - np.arange(total)
    seen = (distance >= 0) & ((distance < window) | (window == 0))
    with np.errstate(all="ignore"):
        logits = xp.matmul(queries, xp.swapaxes(xp.repeat(summed(keys), repeats, 1), -1, -2))
        logits = logits * logits.dtype.type(scale)
        logits = cap * xp.tanh(logits / cap) if cap else logits
        weights = softmax(xp.where(seen, sum(mask, start=logits), -np.inf), axis=-1)
        found = xp.moveaxis(xp.matmul(weights, xp.repeat(summed(values), repeats, 1)), 1, 2)
    return found.reshape(q.shape).astype(q.dtype), keys, values


def _rotary_aval(x: Aval, cos: Aval, sin: Aval, *, heads: int, interleaved: bool) -> Aval:
    del interleaved
    if cos != sin or x.shape[:2] != cos.shape[:2] or x.shape[2] != 2 * heads * cos.shape[2]:
        raise ValueError(f"{heads} heads of {x} cannot be turned by {cos} and {sin}")
    return x


@operator("Rotary", _rotary_aval)
def rotary(
    x: np.ndarray, cos: np.ndarray, sin: np.ndarray, *, heads: int, interleaved: bool
) -> np.ndarray:
    """``(a cos - b sin, b cos + a sin)`` of pairs (a, b) in each head.

    Args:
      x: ``[B, S, H * D]``.
      cos, sin: ``[B, S, D / 2]``.
      heads: H.
      interleaved: a pair is of neighbours; else of the same place in both halves.
    """
    xp, apart = module_of(x, cos, sin), x.reshape(*x.shape[:2], heads, x.shape[2] // heads)
    halves = (apart[..., ::2], apart[..., 1::2]) if interleaved else xp.split(apart, 2, -1)
    (a, b), (c, s) = halves, (each[:, :, None] for each in (cos, sin))
    turned = (a * c - b * s, b * c + a * s)
    both = xp.stack(turned, -1) if interleaved else xp.concatenate(turned, -1)
    return both.reshape(x.shape)
