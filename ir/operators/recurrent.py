"""Recurrent networks, as ONNX means its LSTM and GRU of one direction.

Inputs lie as ``[time, batch, features]``; weights, states and biases have a first axis of 1, the
direction. The bias is that of the input, then that of the state. Lengths are ``int32[batch]``: a
sequence ends after as many steps, or begins there where it is gone through from its end. All states
are 0 beyond, and so is the last one of a sequence without steps, as ONNX Runtime has it.
"""

from collections.abc import Callable

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import JNP, LAX, is_jax, module_of, special_of
from fnckpt.ir.operators.table import operator

States = tuple[np.ndarray, ...]
Step = Callable[[np.ndarray, States], States]
Trip = Callable[[States, States], tuple[States, States]]  # the states, and what is shown


def _infer(gates: int, carried: int) -> Callable[..., tuple[Aval, ...]]:
    def infer(x: Aval, w: Aval, r: Aval, b: Aval, *states: Aval, **_: object) -> tuple[Aval, ...]:
        units, (time, batch, features) = r.shape[-1], x.shape
        first, lengths = states[:carried], states[carried:]
        wanted = {
            "the weight": (w, (1, gates * units, features)),
            "the weight of the state": (r, (1, gates * units, units)),
            "the bias": (b, (1, 2 * gates * units)),
        } | {f"the state {i}": (state, (1, batch, units)) for i, state in enumerate(first)}
        whole = {what: (aval, Aval(shape, x.dtype)) for what, (aval, shape) in wanted.items()}
        if lengths:
            whole["the lengths"] = lengths[0], Aval((batch,), np.dtype(np.int32))
        for what, (aval, right) in whole.items():
            if aval != right:
                raise ValueError(f"{what} is {aval}, it must be {right}")
        return (Aval((time, 1, batch, units), x.dtype), *first)

    return infer


def _over_time(
    x: np.ndarray, states: States, lengths: np.ndarray | None, reverse: bool, step: Step
) -> States:
    """The first state of all times, and the last states; ``x`` is multiplied for all at once."""
    if lengths is None:

        def plain(rows: States, states: States) -> tuple[States, States]:
            after = step(rows[0], states)
            return after, after

        return _scanned((x,), states, reverse, plain)
    xp = module_of(x, lengths)
    live = xp.arange(len(x))[:, None, None] < lengths[:, None]

    def masked(rows: States, states: States) -> tuple[States, States]:
        after = step(rows[0], states)
        kept = tuple(xp.where(rows[1], *both) for both in zip(after, states, strict=True))
        return kept, (xp.where(rows[1], after[0], 0),)

    every, *last = _scanned((x, live), states, reverse, masked)
    return (every, *(xp.where((lengths == 0)[:, None], 0, each) for each in last))


def _scanned(rows: States, states: States, reverse: bool, step: Trip) -> States:
    """What is shown of each step, and the last states."""
    if is_jax(*rows, *states):

        def trip(carry: States, row: States) -> tuple[States, np.ndarray]:
            after, shown = step(row, carry)
            return after, shown[0]

        carry, whole = LAX.scan(trip, tuple(map(JNP.asarray, states)), rows, reverse=reverse)
        return (whole, *carry)
    x = rows[0]
    whole = np.empty((len(x), *states[0].shape), x.dtype)
    for i in reversed(range(len(x))) if reverse else range(len(x)):
        states, shown = step(tuple(row[i] for row in rows), states)
        whole[i] = shown[0]
    return (whole, *states)


def _products(x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The product with the weights of all gates, their biases added; of one step or of all."""
    return module_of(x, w).matmul(x, w[0].T) + bias


@operator("Lstm", _infer(4, 2))
def lstm(
    x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray, h: np.ndarray, c: np.ndarray,
    lengths: np.ndarray | None = None, *, reverse: bool,
) -> States:  # fmt: skip
    """All states, the last one and the last cell; gates lie as input, output, forget, cell."""
    xp, sigmoid = module_of(x, w), special_of(x, w).expit
    of_input, of_state = xp.split(b[0], 2)

    def step(row: np.ndarray, states: States) -> States:
        h, c = states
        i, o, f, g = xp.split(row + _products(h, r, of_state), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * xp.tanh(g)
        return sigmoid(o) * xp.tanh(c), c

    return _over_time(_products(x, w, of_input), (h, c), lengths, reverse, step)


@operator("Gru", _infer(3, 1))
def gru(
    x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray, h: np.ndarray,
    lengths: np.ndarray | None = None, *, reverse: bool, reset_after: bool,
) -> States:  # fmt: skip
    """All states and the last one; gates lie as update, reset, new.

    ``reset_after``: the reset gate multiplies the product with the state, else the state.
    """
    xp, sigmoid = module_of(x, w), special_of(x, w).expit
    of_input, of_state = xp.split(b[0], 2)
    units = h.shape[-1]

    def step(row: np.ndarray, states: States) -> States:
        (h,) = states
        of_row, of_h = (xp.split(x, 3, axis=-1) for x in (row, _products(h, r, of_state)))
        update, reset = (sigmoid(of_row[i] + of_h[i]) for i in (0, 1))
        own = slice(2 * units, None)
        later = xp.matmul(reset * h, r[0, own].T) + of_state[own]
        new = xp.tanh(of_row[2] + (reset * of_h[2] if reset_after else later))
        return ((1 - update) * new + update * h,)

    return _over_time(_products(x, w, of_input), (h,), lengths, reverse, step)
