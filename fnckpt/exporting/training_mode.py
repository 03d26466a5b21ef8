"""Modules that a function calls as in training: BatchNorm with the batch's statistics, Dropout.

Both are found by the frames that JAX keeps with each equation, which name the methods that made it:
a reduction inside ``BatchNorm.__call__`` (of linen, NNX, Haiku, Equinox or the user's own), random
numbers inside ``Dropout.__call__`` or an attention with dropout.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxprs_in_params
from jax.extend.source_info_util import summarize

from fnckpt.ir.lowering.source import user_line

FUNCTION = re.compile(r"\((?P<name>[^()]*)\)$", re.MULTILINE)
BATCH_NORM = re.compile(r"BatchNorm\w*\.\w+", re.IGNORECASE)
DROPOUT = re.compile(r"dropout|dot_product_attention", re.IGNORECASE)
REDUCTIONS = frozenset({"reduce_sum", "psum"})
DRAWS = frozenset({"random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform"})

KEYS = re.compile(r"\bP?RNG|\brngs?\b|\brequires? a key", re.IGNORECASE)
WITHOUT_DROPOUT = "deterministic=True of linen, eqx.nn.inference_mode(model) of Equinox"
REMEDY = "export it in inference mode: model.eval() of NNX, "
BATCH_NORM_IN = "uses the statistics of the batch, so that each result depends on the whole batch"
DROPOUT_IN = "drops values, the same ones in every run of the file unless its key is an input"


def in_training_mode(closed: ClosedJaxpr) -> list[str]:
    """A line for each module that is called as in training."""
    return list(dict.fromkeys(line for eqn in _outer(closed.jaxpr) for line in _told(eqn)))


@contextmanager
def noting_keys() -> Iterator[None]:
    """Add to an error of a dropout that was given no key how to switch the dropout off."""
    try:
        yield
    except _key_errors() as error:
        if KEYS.search(str(error)):
            error.add_note(f"fnckpt: if this is dropout, {REMEDY}{WITHOUT_DROPOUT}")
        raise


def _key_errors() -> tuple[type[Exception], ...]:
    """What linen, NNX, Haiku and Equinox raise without a key; asked for only when one comes."""
    from flax.errors import InvalidRngError

    return InvalidRngError, RuntimeError, ValueError


def _told(eqn: JaxprEqn) -> Iterator[str]:
    """What is wrong with one equation, which may hold others (``jit``, ``bernoulli``)."""
    names = _primitives(eqn)
    if names & REDUCTIONS and _made_in(eqn, BATCH_NORM):
        remedy = f"{REMEDY}use_running_average=True of linen, is_training=False of Haiku"
        yield f"{_module(eqn, 'BatchNorm')} {BATCH_NORM_IN}; {remedy}"
    if names & DRAWS and _made_in(eqn, DROPOUT):
        remedy = f"{REMEDY}{WITHOUT_DROPOUT}"
        yield f"{_module(eqn, 'Dropout')} {DROPOUT_IN}; {remedy}"


def _module(eqn: JaxprEqn, kind: str) -> str:
    """The path of the module in JAX's name stack, if it is there, and the user's line."""
    scope = str(eqn.source_info.name_stack)
    return f"{scope or kind} ({user_line([eqn])})"


def _made_in(eqn: JaxprEqn, function: re.Pattern[str]) -> bool:
    frames = summarize(eqn.source_info, num_frames=64)
    return any(function.search(name) for name in FUNCTION.findall(frames))


def _outer(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """The outermost equations that have frames: those of a cached inner jaxpr may have none."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from _outer(inner)


def _primitives(eqn: JaxprEqn) -> set[str]:
    held = {eqn.primitive.name}
    for inner in jaxprs_in_params(eqn.params):
        for each in inner.eqns:
            held |= _primitives(each)
    return held
