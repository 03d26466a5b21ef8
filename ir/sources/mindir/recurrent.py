"""Recurrent layers."""

import numpy as np

from fnckpt.ir.graph import FuncGraph, Node, Parameter
from fnckpt.ir.sources.mindir.registry import Site, Value, imports
from fnckpt.ir.sources.source import Refusal


@imports("LSTM")
def import_lstm(site: Site, x: Node, h: Node, c: Node, weights: Node) -> tuple[Value, ...]:
    """One layer in one direction: its weights are one vector, gates input, forget, cell, output."""
    b, held = site.build, site.attributes
    if int(held["num_layers"]) != 1 or held["bidirectional"] or int(held.get("proj_size", 0)):
        raise Refusal("an LSTM of several layers, both directions or a projection")
    size, hidden = int(held["input_size"]), int(held["hidden_size"])
    flat = b.reshape(weights, (weights.aval.size,))
    ends = np.cumsum([0, 4 * hidden * size, 4 * hidden * hidden]).tolist()
    w, r = (b.slice(flat, 0, ends[i], ends[i + 1]) for i in range(2))
    of_row, of_state = b.reshape(w, (4 * hidden, size)), b.reshape(r, (4 * hidden, hidden))
    rest = b.slice(flat, 0, ends[2], flat.aval.shape[0])
    count = rest.aval.shape[0] // (4 * hidden)
    rows = b("MatMul", x, of_row, transpose_a=False, transpose_b=True)
    for i in range(count):
        rows = b.add(rows, b.slice(rest, 0, 4 * hidden * i, 4 * hidden * (i + 1)))
    start = [b.at(each, 0, 0) for each in (h, c)]
    own = Parameter("weight", of_state.aval)
    state = [Parameter(name, each.aval) for name, each in zip("hc", start, strict=True)]
    row = Parameter("row", b.at(rows, 0, 0).aval)
    whole_ = b.add(row, b("MatMul", state[0], own, transpose_a=False, transpose_b=True))
    i, f, g, o = (b.slice(whole_, 1, n * hidden, (n + 1) * hidden) for n in range(4))
    after = b.add(b.mul(b("Sigmoid", f), state[1]), b.mul(b("Sigmoid", i), b("Tanh", g)))
    out = b.mul(b("Sigmoid", o), b("Tanh", after))
    body = FuncGraph("lstm", (own, *state, row), (out, after, out), ("h", "c", "y"))
    h_n, c_n, y = b.items("Scan", of_state, *start, rows, body=body, captured=1, carried=2,
                          length=rows.aval.shape[0], reverse=False)  # fmt: skip
    return y, b.unsqueeze(h_n, 0), b.unsqueeze(c_n, 0), None, None
