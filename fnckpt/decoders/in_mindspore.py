"""Generating with two MindIR files of fixed sizes. A program: MindSpore has a process of its own.

It imports nothing of the project.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

Arrays = Sequence[np.ndarray]
Compute = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Facts:
    """What ``decoder.json`` holds beside the files.

    Attributes:
      prefill, step: the names of the files.
      batch, prompt, context: the sizes that are fixed.
      vocab_size: the last size of the logits.
      eos_token_id: the tokens that end a text.
      pad_token_id: what stands for no token.
      prefill_inputs: the names of what the first file takes.
      step_inputs: what the second takes in front of the cache.
      buffers: whether the cache is filled from the front; else each step drops the oldest place.
      cache: the shape of each array of the cache.
      dtype: of them.
    """

    prefill: str
    step: str
    batch: int
    prompt: int
    context: int
    vocab_size: int
    eos_token_id: list[int]
    pad_token_id: int
    prefill_inputs: list[str]
    step_inputs: list[str]
    buffers: bool
    cache: list[list[int]]
    dtype: str


@dataclass
class Continuing:
    """The state between two steps: which places are seen, the cache, and how many are filled."""

    facts: Facts
    prefill: Compute
    step: Compute
    seen: np.ndarray
    cache: Arrays
    filled: int = 0

    def begin(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The logits behind a prompt, ``int32[batch, prompt]``."""
        for column in mask.T:
            self._put(column)
        given = {"input_ids": ids, "attention_mask": mask}
        logits, *self.cache = self.prefill([given[name] for name in self.facts.prefill_inputs])
        return logits

    def go_on(self, token: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The logits behind one more token, ``int32[batch]``; ``column`` is 0 for padding."""
        place = self.filled
        self._put(column)
        given = {
            "input_ids": token[:, None],
            "attention_mask": self.seen,
            "position_ids": np.full_like(token[:, None], place),
            "cache_index": np.asarray(place, np.int32),
        }
        names = self.facts.step_inputs
        logits, *self.cache = self.step([*(given[name] for name in names), *self.cache])
        return logits

    def _put(self, column: np.ndarray) -> None:
        """The next place is a token's."""
        if not self.facts.buffers:
            self.seen[:, :-1] = self.seen[:, 1:].copy()
        self.seen[:, self.filled if self.facts.buffers else -1] = column
        self.filled += 1


def continued(
    prefill: Compute, step: Compute, facts: Facts, rows: np.ndarray, mask: np.ndarray, new: int
) -> np.ndarray:
    """The tokens behind some prompts, chosen greedily.

    Args:
      prefill: the first file.
      step: the second.
      facts: about both.
      rows: ``int32[batch, length]``, padded in front.
      mask: ``int32[batch, length]``, 0 for padding.
      new: how many tokens.

    Returns:
      ``int32[batch, new]``; behind an end comes padding.
    """
    seen = np.zeros((len(rows), facts.context), np.int32)
    empty = [np.zeros(shape, facts.dtype) for shape in facts.cache]
    state, logits = Continuing(facts, prefill, step, seen, empty), np.zeros((len(rows), 1))
    if rows.shape[1] >= facts.prompt:
        logits = state.begin(rows[:, : facts.prompt], mask[:, : facts.prompt])
    for at in range(state.filled, rows.shape[1]):
        logits = state.go_on(rows[:, at], mask[:, at])
    found = np.full((len(rows), new), facts.pad_token_id, np.int32)
    done = np.zeros(len(rows), bool)
    for at in range(new):
        found[:, at] = np.where(done, facts.pad_token_id, np.argmax(logits, -1))
        done |= np.isin(found[:, at], facts.eos_token_id)
        if done.all() or at + 1 == new:
            break
        logits = state.go_on(found[:, at], np.ones(len(rows), np.int32))
    return found


def main(directory: str, given: str, found: str) -> None:
    """Continue the prompts in ``given`` with the files in ``directory``."""
    ms = import_module("mindspore")  # it says nothing of its types
    ms.set_context(mode=ms.GRAPH_MODE)
    facts = Facts(**json.loads(Path(directory, "decoder.json").read_text()))

    def loaded(name: str) -> Compute:
        network = ms.nn.GraphCell(ms.load(str(Path(directory, name))))

        def compute(inputs: Arrays) -> Arrays:
            return [x.asnumpy() for x in network(*(ms.Tensor(x) for x in inputs))]

        return compute

    prefill, step = loaded(facts.prefill), loaded(facts.step)
    with np.load(given) as arrays:
        pairs, new = list(zip(arrays["rows"], arrays["masks"], strict=True)), int(arrays["new"])
    np.save(found, np.stack([continued(prefill, step, facts, *pair, new) for pair in pairs]))


if __name__ == "__main__":
    main(*sys.argv[1:])
