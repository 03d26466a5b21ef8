"""LSTM, GRU and RNN: a scan over time of each direction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fnckpt.ir.graph import Aval, FuncGraph, Node, Parameter
from fnckpt.ir.sources.build import BOOL, INT32, Builder
from fnckpt.ir.sources.onnx.registry import Site, imports
from fnckpt.ir.sources.source import Refusal

Function = Callable[[Node], Node]
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class Cell:
    """What one direction computes with.

    Attributes:
      recurrent: ``[H, gates * H]``; bias: ``[gates * H]`` of the recurrent side.
      peepholes: ``[3 * H]`` or None.
      activations: in the order of the file.
    """

    site: Site
    hidden: int
    recurrent: Node
    bias: Node
    peepholes: Node | None
    activations: Sequence[Function]


def activation(b: Builder, name: str, alpha: float | None, beta: float | None) -> Function:
    """A function by ONNX's name for it, in any case."""
    first = {"leakyrelu": 0.01, "hardsigmoid": 0.2, "elu": 1.0, "thresholdedrelu": 1.0}
    a = first.get(name.lower(), 1.0) if alpha is None else alpha
    c = (0.5 if name.lower() == "hardsigmoid" else 0.0) if beta is None else beta
    functions: dict[str, Function] = {
        "sigmoid": lambda x: b("Sigmoid", x),
        "tanh": lambda x: b("Tanh", x),
        "relu": lambda x: b("Relu", x),
        "softplus": lambda x: b("Softplus", x),
        "softsign": lambda x: b.div(x, b.add(b("Abs", x), 1)),
        "affine": lambda x: b.add(b.mul(x, a), c),
        "leakyrelu": lambda x: b("LeakyRelu", x, alpha=a),
        "elu": lambda x: b("Elu", x, alpha=a),
        "scaledtanh": lambda x: b.mul(b("Tanh", b.mul(x, c)), a),
        "hardsigmoid": lambda x: b("Clip", b.add(b.mul(x, a), c), low=0.0, high=1.0),
        "thresholdedrelu": lambda x: b.where(b.compare("Greater", x, a), x, b.number(0, x)),
    }
    if name.lower() not in functions:
        raise Refusal(f"there is no rule for its activation {name}")
    return functions[name.lower()]


@imports("LSTM", "GRU", "RNN", since=7)
def import_recurrent(
    site: Site,
    x: Node,
    w: Node,
    r: Node,
    bias: Node | None = None,
    lengths: Node | None = None,
    first: Node | None = None,
    first_cell: Node | None = None,
    peepholes: Node | None = None,
) -> tuple[Node, ...]:
    b, kind = site.build, site.node.op_type
    batch_first = bool(site.integer("layout", 0))
    if batch_first:
        x = b.moved(x, 0, 1)
        first, first_cell = (None if s is None else b.moved(s, 0, 1) for s in (first, first_cell))
    batch = x.aval.shape[1]
    direction = site.text("direction", "forward")
    turned = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    hidden, gates = r.aval.shape[-1], GATES[kind]
    outs: list[tuple[Node, list[Node]]] = []
    for place, backwards in enumerate(turned):
        both = b.full((2 * gates * hidden,), 0, x) if bias is None else b.at(bias, 0, place)
        own, other = (b.slice(both, 0, i * gates * hidden, (i + 1) * gates * hidden)
                      for i in (0, 1))  # fmt: skip
        states = [first] if kind != "LSTM" else [first, first_cell]
        start = [
            b.full((batch, hidden), 0, x) if state is None else b.at(state, 0, place)
            for state in states
        ]
        cell = Cell(
            site, hidden, b.transpose(b.at(r, 0, place), (1, 0)), other,
            None if peepholes is None else b.at(peepholes, 0, place),
            activations_of(site, place, len(turned)),
        )  # fmt: skip
        rows = b.add(b("MatMul", x, b.at(w, 0, place), transpose_a=False, transpose_b=True), own)
        output, ends = over_time(cell, kind, rows, start, lengths, reverse=backwards)
        outs.append((output, ends))
    whole = b.stack([output for output, _ in outs], 1)
    last = [b.stack([ends[i] for _, ends in outs], 0) for i in range(len(outs[0][1]))]
    if batch_first:
        whole = b.transpose(whole, (2, 0, 1, 3))
        last = [b.moved(each, 0, 1) for each in last]
    return (whole, *last)


def activations_of(site: Site, place: int, directions: int) -> list[Function]:
    """The functions of one direction."""
    defaults = DEFAULTS[site.node.op_type]
    names = site.texts("activations", defaults * directions)
    alphas, betas = (list(site.numbers(each, ())) for each in ("activation_alpha",
                                                              "activation_beta"))  # fmt: skip
    found: list[Function] = []
    for name in names:
        with_alpha = name.lower() in ("affine", "leakyrelu", "elu", "scaledtanh", "hardsigmoid",
                                      "thresholdedrelu")  # fmt: skip
        with_beta = name.lower() in ("affine", "scaledtanh", "hardsigmoid")
        alpha = alphas.pop(0) if with_alpha and alphas else None
        beta = betas.pop(0) if with_beta and betas else None
        found.append(activation(site.build, name, alpha, beta))
    count = len(defaults)
    return found[place * count : (place + 1) * count]


def over_time(
    cell: Cell,
    kind: str,
    rows: Node,
    start: list[Node],
    lengths: Node | None,
    *,
    reverse: bool,
) -> tuple[Node, list[Node]]:
    """What is given at each step, and the last state.

    Past the end of a sequence the state stays and 0 is given; from its end, the first state stays
    until there.
    """
    b = cell.site.build
    steps = rows.aval.shape[0]
    captured = [cell.recurrent, cell.bias, *([] if cell.peepholes is None else [cell.peepholes])]
    inner = [Parameter(f"weight{i}", each.aval) for i, each in enumerate(captured)]
    state = [Parameter(f"state{i}", each.aval) for i, each in enumerate(start)]
    row = Parameter("row", Aval(rows.aval.shape[1:], rows.aval.dtype))
    stacked, live_in = [rows], list[Parameter]()
    if lengths is not None:
        times = b.unsqueeze(b.counted(steps, INT32), 1)
        live = b("Less", times, b.unsqueeze(b.cast(lengths, INT32), 0))
        stacked.append(b.unsqueeze(live, 2))
        live_in.append(Parameter("live", Aval((live.aval.shape[1], 1), BOOL)))
    inside = Cell(cell.site, cell.hidden, inner[0], inner[1],
                  inner[2] if len(inner) > 2 else None, cell.activations)  # fmt: skip
    new = STEPS[kind](inside, row, state)
    shown = new[0]
    if live_in:
        shown = b.where(live_in[0], new[0], b.number(0, new[0]))
        new = [b.where(live_in[0], after, before) for after, before in zip(new, state, strict=True)]
    outputs = (*new, shown)
    names = tuple(f"out{i}" for i in range(len(outputs)))
    body = FuncGraph(kind, (*inner, *state, row, *live_in), outputs, names)
    found = b.items("Scan", *captured, *start, *stacked, body=body, captured=len(captured),
                    carried=len(start), length=steps, reverse=reverse)  # fmt: skip
    return found[-1], list(found[: len(start)])


def _parts(cell: Cell, x: Node, count: int, axis: int) -> list[Node]:
    h = cell.hidden
    return [cell.site.build.slice(x, axis, i * h, (i + 1) * h) for i in range(count)]


def _clipped(cell: Cell, x: Node) -> Node:
    if not cell.site.has("clip"):
        return x
    limit = cell.site.number("clip")
    return cell.site.build("Clip", x, low=-limit, high=limit)


def _times(cell: Cell, state: Node, weight: Node) -> Node:
    return cell.site.build("MatMul", state, weight, transpose_a=False, transpose_b=False)


def lstm_step(cell: Cell, row: Node, state: Sequence[Node]) -> list[Node]:
    """The gates are input, output, forget, cell."""
    b, (h, c) = cell.site.build, state
    f, g, last = cell.activations
    whole = b.add(b.add(row, _times(cell, h, cell.recurrent)), cell.bias)
    i, o, forget, new = _parts(cell, whole, 4, 1)
    if cell.peepholes is not None:
        p_i, _, p_f = _parts(cell, cell.peepholes, 3, 0)
        i, forget = b.add(i, b.mul(c, p_i)), b.add(forget, b.mul(c, p_f))
    gate = f(_clipped(cell, i))
    kept = (
        b.sub(b.number(1, gate), gate)
        if cell.site.flag("input_forget")
        else f(_clipped(cell, forget))
    )
    after = b.add(b.mul(kept, c), b.mul(gate, g(_clipped(cell, new))))
    if cell.peepholes is not None:
        o = b.add(o, b.mul(after, _parts(cell, cell.peepholes, 3, 0)[1]))
    return [b.mul(f(_clipped(cell, o)), last(after)), after]


def gru_step(cell: Cell, row: Node, state: Sequence[Node]) -> list[Node]:
    """The gates are update, reset, hidden."""
    b, (h,) = cell.site.build, state
    f, g = cell.activations
    after, own = cell.site.flag("linear_before_reset"), cell.recurrent
    count, hidden = (3 if after else 2), cell.hidden
    product = _times(cell, h, own if after else b.slice(own, 1, 0, 2 * hidden))
    h_z, h_r, *h_h = _parts(cell, product, count, 1)
    b_z, b_r, b_h = _parts(cell, cell.bias, 3, 0)
    x_z, x_r, x_h = _parts(cell, row, 3, 1)
    z = f(_clipped(cell, b.add(b.add(x_z, h_z), b_z)))
    r = f(_clipped(cell, b.add(b.add(x_r, h_r), b_r)))
    if after:
        reset = b.mul(r, b.add(h_h[0], b_h))
    else:
        later = _times(cell, b.mul(r, h), b.slice(own, 1, 2 * hidden, 3 * hidden))
        reset = b.add(later, b_h)
    new = g(_clipped(cell, b.add(x_h, reset)))
    return [b.add(b.mul(b.sub(b.number(1, z), z), new), b.mul(z, h))]


def rnn_step(cell: Cell, row: Node, state: Sequence[Node]) -> list[Node]:
    b, (h,) = cell.site.build, state
    whole = b.add(b.add(row, _times(cell, h, cell.recurrent)), cell.bias)
    return [cell.activations[0](_clipped(cell, whole))]


STEPS = {"LSTM": lstm_step, "GRU": gru_step, "RNN": rnn_step}
