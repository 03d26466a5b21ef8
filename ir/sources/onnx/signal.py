"""Fourier transforms as products with matrices of sines and cosines."""

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import INT64, Builder, axis_of, few
from fnckpt.ir.sources.onnx.registry import Site, imports
from fnckpt.ir.sources.source import Refusal

MOST = 8192  # elements of an axis, whose matrix has their square


@imports("DFT", since=20)
def import_dft(
    site: Site, x: Node, length: Node | None = None, axis: Node | None = None
) -> Node | None:
    return transformed(site, x, length, -2 if axis is None else site.build.size(axis, "its axis"))


@imports("DFT", since=17)
def import_old_dft(site: Site, x: Node, length: Node | None = None) -> Node | None:
    return transformed(site, x, length, site.integer("axis", 1))


@imports("MelWeightMatrix", since=17)
def import_mel_weights(
    site: Site, bins: Node, length: Node, rate: Node, lowest: Node, highest: Node
) -> Node:
    """Triangles over the frequencies of a spectrum, at equal distances as ears hear them."""
    b = site.build
    count, size = b.size(bins, "the number of its bands"), b.size(length, "its length")
    few(count + 2, size // 2 + 1)
    hertz = b.asked(rate, "its sample rate").item()
    ends = [
        2595 * np.log10(1 + b.asked(each, "its ends").item() / 700) for each in (lowest, highest)
    ]
    mels = ends[0] + np.arange(count + 2) * (ends[1] - ends[0]) / (count + 2)
    edges = np.floor((size + 1) * 700 * (10 ** (mels / 2595) - 1) / hertz).astype(np.int64)
    found = np.zeros((size // 2 + 1, count))
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising = np.arange(low, middle + 1)
        found[rising, band] = (rising - low) / (middle - low) if middle > low else 1
        falling = np.arange(middle, high)
        found[falling, band] = (high - falling) / max(high - middle, 1)
    return b.constant(found, site.around.dtype(site.integer("output_datatype", 1)))


def transformed(site: Site, x: Node, length: Node | None, axis: int) -> Node:
    b, rank = site.build, len(x.aval.shape)
    along = axis_of(axis, rank)
    inverse, half = site.flag("inverse"), site.flag("onesided")
    if length is not None:
        size = b.size(length, "its length")
    else:
        size = x.aval.shape[along]
        size = 2 * (size - 1) if inverse and half else size
    return dft(b, x, along, size, inverse=inverse, onesided=half)


def dft(b: Builder, x: Node, axis: int, size: int, *, inverse: bool, onesided: bool) -> Node:
    """Complex numbers are pairs along the last axis; a lone real part may stand there."""
    rank, real = len(x.aval.shape), x.aval.shape[-1] == 1
    if size > MOST:
        raise Refusal(f"it transforms {size} elements; up to {MOST} are written as a matrix")
    have = x.aval.shape[axis]
    if have > size:
        x = b.slice(x, axis, 0, size)
    elif have < size:
        high = [0] * rank
        high[axis] = size - have
        x = b.pad(x, [0] * rank, high, b.number(0, x))
    if inverse and onesided:
        return _real_inverse(b, x, axis, size)
    kept = size // 2 + 1 if onesided else size
    angle = 2 * np.pi * (np.outer(np.arange(size), np.arange(kept)) % size) / size
    factor = 1 / size if inverse else 1.0
    cos, sin = np.cos(angle) * factor, (np.sin(angle) if inverse else -np.sin(angle)) * factor
    matrices = [b.constant(each.astype(x.aval.dtype)) for each in (cos, sin)]
    parts = [b.moved(b.at(x, rank - 1, i), axis, rank - 2) for i in range(1 if real else 2)]
    found = [b.matmul(parts[0], each) for each in matrices]
    if not real:
        found = [
            b.sub(found[0], b.matmul(parts[1], matrices[1])),
            b.add(found[1], b.matmul(parts[1], matrices[0])),
        ]
    return b.stack([b.moved(each, rank - 2, axis) for each in found], rank - 1)


def _real_inverse(b: Builder, x: Node, axis: int, size: int) -> Node:
    """Real numbers from the half of a spectrum that mirrors the other."""
    rank, half = len(x.aval.shape), size // 2 + 1
    part = b.slice(x, axis, 0, min(half, x.aval.shape[axis]))
    count = part.aval.shape[axis]
    weight = np.where((np.arange(count) == 0) | (2 * np.arange(count) == size), 1.0, 2.0) / size
    angle = 2 * np.pi * (np.outer(np.arange(count), np.arange(size)) % size) / size
    cos, sin = np.cos(angle) * weight[:, None], -np.sin(angle) * weight[:, None]
    sides = [b.moved(b.at(part, rank - 1, i), axis, rank - 2) for i in range(part.aval.shape[-1])]
    total = b.matmul(sides[0], b.constant(cos.astype(x.aval.dtype)))
    if len(sides) == 2:
        total = b.add(total, b.matmul(sides[1], b.constant(sin.astype(x.aval.dtype))))
    return b.unsqueeze(b.moved(total, rank - 2, axis), rank - 1)


@imports("STFT")
def import_stft(
    site: Site, x: Node, step: Node, window: Node | None = None, length: Node | None = None
) -> Node:
    """The transform of each frame: ``[batch, frames, frequencies, 2]``."""
    b, hop = site.build, site.build.size(step, "its step")
    if length is not None:
        size = b.size(length, "the length of its frames")
    elif window is not None:
        size = window.aval.shape[0]
    else:
        raise Refusal("it has neither a window nor a length; the file is not valid")
    whole = x if len(x.aval.shape) == 3 else b.unsqueeze(x, 2)
    count = (whole.aval.shape[1] - size) // hop + 1
    few(count, size)
    places = np.arange(count)[:, None] * hop + np.arange(size)[None, :]
    frames = b("Gather", whole, b.constant(places, INT64), axis=1)
    if window is not None:
        frames = b.mul(frames, b.unsqueeze(window, 1))
    return dft(b, frames, 2, size, inverse=False, onesided=site.flag("onesided", True))
