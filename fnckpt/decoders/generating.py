"""Generating with a directory, and whether its tokens are those that JAX would choose."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.decoders import in_mindspore
from fnckpt.decoders.call import Decoder, arrays_in
from fnckpt.decoders.genai import pad_of
from fnckpt.decoders.in_mindspore import Facts
from fnckpt.errors import VerificationError
from fnckpt.exporting.runtimes import ISOLATED
from fnckpt.extras import require

FACTS = "decoder.json"  # beside MindIR files
NEAR = 1e-3  # how far below the greatest logit another token may be, in parts of the greatest


def generate(
    directory: str | os.PathLike[str], prompts: np.ndarray | Sequence[Sequence[int]], new: int
) -> np.ndarray:
    """Continue prompts greedily, in ONNX Runtime GenAI or, with MindIR files, in MindSpore.

    Args:
      directory: what ``export_decoder`` wrote.
      prompts: ``int[batch, length]``; rows may have different lengths.
      new: how many tokens, if none before is the end.

    Returns:
      ``int32[batch, length + new]``, prompts included; behind a shorter one comes padding first.

    Raises:
      ValueError: of MindIR files, more tokens than the context has, or prompts of different
        lengths where the function takes no mask.
      RuntimeError: MindSpore does not run the files; the message ends with what it said.
      ModuleNotFoundError: onnxruntime-genai is not installed (``pip install 'fnckpt[genai]'``),
        or MindSpore.
    """
    place, rows = Path(directory), [list(map(int, row)) for row in prompts]
    if (place / FACTS).is_file():
        return _in_mindspore(place, rows, new)
    return _in_genai(place, rows, new)


def _in_genai(directory: Path, rows: Sequence[Sequence[int]], new: int) -> np.ndarray:
    require("onnxruntime_genai", "generating with a directory of export_decoder")
    genai = import_module("onnxruntime_genai")  # it says nothing of its types
    longest = max(map(len, rows))
    model = genai.Model(os.fspath(directory))
    params = genai.GeneratorParams(model)
    params.set_search_options(
        max_length=longest + new, batch_size=len(rows), do_sample=False, num_beams=1
    )
    generator = genai.Generator(model, params)
    generator.append_tokens(padded(rows, pad_of(directory)))
    while not generator.is_done():
        generator.generate_next_token()
    found = [np.asarray(generator.get_sequence(i), np.int32) for i in range(len(rows))]
    return np.stack(found)


def _in_mindspore(directory: Path, rows: Sequence[Sequence[int]], new: int) -> np.ndarray:
    """All batches in one process, which compiles the files once."""
    require("mindspore", "generating with MindIR files")
    facts = Facts(**json.loads((directory / FACTS).read_text()))
    masked, longest = "attention_mask" in facts.step_inputs, max(map(len, rows))
    if not masked and len(set(map(len, rows))) > 1:
        raise ValueError(
            f"{directory}: the prompts have {sorted(set(map(len, rows)))} tokens, but the function "
            "takes no mask that hides padding; give prompts of one length"
        )
    length = max(longest, facts.prompt) if masked else longest
    if (length if facts.buffers else longest) + new > facts.context:
        raise ValueError(
            f"{directory}: a prompt of {length} tokens and {new} new ones are more than the "
            f"context of {facts.context} tokens that the files have; export them with a longer one"
        )
    whole = [*rows, *[rows[-1]] * (-len(rows) % facts.batch)]
    shape = (-1, facts.batch, length)
    with tempfile.TemporaryDirectory() as scratch:
        given, found = Path(scratch, "given.npz"), Path(scratch, "found.npy")
        np.savez(
            given,
            rows=_in_front(whole, length, facts.pad_token_id).reshape(shape),
            masks=_in_front([[1] * len(row) for row in whole], length, 0).reshape(shape),
            new=new,
        )
        program = os.path.abspath(in_mindspore.__file__)
        command = [*ISOLATED, program, os.path.abspath(directory), str(given), str(found)]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{directory}: MindSpore does not run it: {done.stderr[-2000:]}")
        tokens = np.load(found).reshape(-1, new)[: len(rows)]
    return np.concatenate([padded(rows, facts.pad_token_id), tokens], 1)


def _in_front(rows: Sequence[Sequence[int]], length: int, pad: int) -> np.ndarray:
    return np.array([[pad] * (length - len(row)) + list(row) for row in rows], np.int32)


def padded(rows: Sequence[Sequence[int]], pad: int) -> np.ndarray:
    """Rows of one length, ``pad`` behind the shorter ones, where GenAI masks it."""
    longest = max(map(len, rows))
    return np.array([list(row) + [pad] * (longest - len(row)) for row in rows], np.int32)


def check(
    place: Path, decoder: Decoder, prompt: np.ndarray, new: int, *, exact: bool, name: Path
) -> np.ndarray:
    """The tokens that the runtime generates; each is one that JAX would choose.

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
    runtime = "mindspore" if (place / FACTS).is_file() else "onnxruntime-genai"
    for at in range(prompt.shape[1], found.shape[1]):
        row, chosen = logits[0, at - 1], int(found[0, at])
        best = int(row.argmax())
        gap = float(row[best] - row[chosen])
        if not gap <= NEAR * float(np.abs(row).max()):
            raise VerificationError(
                f"{name}: {runtime} continues {found[0, :at].tolist()} with {chosen}, "
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
