"""What the integers of a file cost: the error of its outputs and of each layer, on the sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from fnckpt.exporting.narrowing import greatest_error


@dataclass(frozen=True)
class Quantized:
    """What became integers, and what that costs.

    Attributes:
      name: ``int4``, ``int8`` or ``static int8``.
      weights: the names of the weights that became integers.
      kept: how many products and convolutions have weights that stayed.
      bytes_before: what the weights took, in the file and in memory, and
      bytes: what they take now.
      error: of the worst output: the greatest difference from the file without integers over the
        greatest number.
      layers: the same of each layer, by the name of its weight.
      given: ``"the sample"`` or ``"random inputs"``.
    """

    name: str
    weights: tuple[str, ...]
    kept: int
    bytes_before: int
    bytes: int
    error: float
    layers: Mapping[str, float]
    given: str

    def worst(self, count: int = 3) -> Sequence[tuple[str, float]]:
        """The layers with the greatest errors, the worst first."""
        return sorted(self.layers.items(), key=lambda each: -each[1])[:count]

    def __str__(self) -> str:
        """One line: how many, how large, how far off."""
        worst = ", ".join(f"{name} {error:.1e}" for name, error in self.worst())
        return (
            f"{self.name}: {len(self.weights):,} weights, {self.kept:,} kept in float; "
            f"{self.bytes_before:,} bytes of weights are {self.bytes:,}; on {self.given} error "
            f"{self.error:.1e}, of layers at most {worst}"
        )


def errors(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    layers: Mapping[str, tuple[str, str]],
    feeds: Sequence[np.ndarray],
) -> tuple[float, dict[str, float]]:
    """The error of the outputs, and of each layer.

    Args:
      before: the file of floats.
      after: the file of integers.
      layers: of each layer what its result is called before and after.
      feeds: an array for each input.
    """
    outputs = [value.name for value in before.graph.output]
    worst = _greatest(before, after, outputs, feeds)  # alone, as the runtime fuses them then
    first, second = ([pair[i] for pair in layers.values()] for i in (0, 1))
    wanted, found = _computed(before, first, feeds), _computed(after, second, feeds)
    pairs = zip(layers, wanted, found, strict=True)
    return worst, {layer: greatest_error([b], [a]) for layer, a, b in pairs}


def _greatest(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    names: Sequence[str],
    feeds: Sequence[np.ndarray],
) -> float:
    return greatest_error(_computed(after, names, feeds), _computed(before, names, feeds))


def _computed(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[np.ndarray]
) -> list[np.ndarray]:
    import onnxruntime

    more = onnx.ModelProto()
    more.CopyFrom(model)
    present = {value.name for value in more.graph.output}
    new = [name for name in dict.fromkeys(names) if name not in present]
    more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in new)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # of an operator in a domain of its own it warns
    session = onnxruntime.InferenceSession(
        more.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = dict(zip((value.name for value in session.get_inputs()), feeds, strict=True))
    distinct = list(dict.fromkeys(names))
    results = dict(zip(distinct, session.run(distinct, given), strict=True))
    return [np.asarray(results[name]) for name in names]
