"""LSTM and GRU, of one direction."""

from fnckpt.ir.attributes import flag
from fnckpt.ir.graph import CNode
from fnckpt.ir.targets.onnx.emit import emits
from fnckpt.ir.targets.onnx.writer import Attribute, Writer


@emits("Gru", "Lstm")
def emit_recurrent(node: CNode, w: Writer) -> None:
    """Each sequence is as long as the time axis where no lengths are given."""
    x, weight, of_state, bias, *given = node.inputs
    carried = len(node.results) - 1
    states, lengths = given[:carried], given[carried:]
    attrs: dict[str, Attribute] = {"hidden_size": int(of_state.aval.shape[-1])}
    if flag(node, "reverse"):
        attrs["direction"] = "reverse"
    if node.op == "Gru":
        attrs["linear_before_reset"] = int(flag(node, "reset_after"))
    w.node(node.op.upper(), node, x, weight, of_state, bias, *(lengths or [""]), *states, **attrs)
