"""Generating with ONNX Runtime GenAI, and whether its tokens are those that JAX would choose."""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.decoders.call import Decoder, arrays_in
from fnckpt.decoders.genai import pad_of
from fnckpt.errors import VerificationError
from fnckpt.extras import require

NEAR = 1e-3  # how far below the greatest logit another token may be, in parts of the greatest


def generate(
    directory: str | os.PathLike[str], prompts: np.ndarray | Sequence[Sequence[int]], new: int
) -> np.ndarray:
    """Continue prompts greedily with ONNX Runtime GenAI.

    Args:
      directory: what ``export_decoder`` wrote.
      prompts: ``int[batch, length]``; rows may have different lengths.
      new: how many tokens, if none before is the end.

    Returns:
      ``int32[batch, length + new]``, prompts included; behind a shorter one comes padding first.

    Raises:
      ModuleNotFoundError: onnxruntime-genai is not installed (``pip install 'fnckpt[genai]'``).
    """
    require("onnxruntime_genai", "generating with a directory of export_decoder")
    genai = import_module("onnxruntime_genai")  # it says nothing of its types
    rows = [list(map(int, row)) for row in prompts]
    longest = max(map(len, rows))
    model = genai.Model(os.fspath(directory))
    params = genai.GeneratorParams(model)
    params.set_search_options(
        max_length=longest + new, batch_size=len(rows), do_sample=False, num_beams=1
    )
    generator = genai.Generator(model, params)
    generator.append_tokens(padded(rows, pad_of(Path(directory))))
    while not generator.is_done():
        generator.generate_next_token()
    found = [np.asarray(generator.get_sequence(i), np.int32) for i in range(len(rows))]
    return np.stack(found)


def padded(rows: Sequence[Sequence[int]], pad: int) -> np.ndarray:
    """Rows of one length, ``pad`` behind the shorter ones, where GenAI masks it."""
    longest = max(map(len, rows))
    return np.array([list(row) + [pad] * (longest - len(row)) for row in rows], np.int32)


def check(
    place: Path, decoder: Decoder, prompt: np.ndarray, new: int, *, exact: bool, name: Path
) -> np.ndarray:
    """The tokens that ONNX Runtime GenAI generates; each is one that JAX would choose.

    Args:
      place: the directory with the file and its configuration.
      decoder: the function.
      prompt: ``int32[1, length]``.
      new: how many tokens.
      exact: False for a file with integers, which may choose others.
      name: what the directory will be called.

    Raises:
      VerificationError: naming the first token that JAX would not choose.
    """
    found = generate(place, prompt, new)
    if not exact:
        return found
    logits = _logits(decoder, found)
    for at in range(prompt.shape[1], found.shape[1]):
        row, chosen = logits[0, at - 1], int(found[0, at])
        best = int(row.argmax())
        gap = float(row[best] - row[chosen])
        if not gap <= NEAR * float(np.abs(row).max()):
            raise VerificationError(
                f"{name}: onnxruntime-genai continues {found[0, :at].tolist()} with {chosen}, "
                f"JAX with {best}, whose logit is {gap:.2g} greater; nothing was written"
            )
    return found


def _logits(decoder: Decoder, ids: np.ndarray) -> np.ndarray:
    """Of every place at once, without a past."""
    shape = ids.shape
    mask = jnp.ones(shape, jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32), shape)
    past = decoder.cache.empty(shape[0])
    arrays, whole = arrays_in(decoder.params)

    @jax.jit
    def apply(given: Sequence[object], ids: jax.Array) -> jax.Array:
        return decoder(whole(given), ids, mask, positions, past)[0]

    logits = apply(arrays, jnp.asarray(ids))
    return np.asarray(logits, np.float32)
