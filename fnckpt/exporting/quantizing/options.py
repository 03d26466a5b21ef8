"""What ``export(quantize=...)`` takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fnckpt.errors import UnsupportedError
from fnckpt.ir.targets.target import Target

PyTree = object

BITS = {"int4": 4, "int8": 8}
SMALLEST_BLOCK, OLDEST_OPSET = 16, 21  # of MatMulNBits; of DequantizeLinear with blocks


@dataclass(frozen=True)
class Quantization:
    """Weights of products as integers; what they are multiplied with stays float32.

    A weight is cut along its rows into blocks of ``block_size`` numbers, each with a scale.

    Attributes:
      bits: 4 or 8.
      block_size: a power of 2, from 16.
      symmetric: without a zero point; with one it is a little larger and more accurate where a
        weight's numbers lie on one side of 0.
      skip: patterns of weights that stay as they are, of the names that ``fnckpt inspect`` shows:
        ``"*head*"``, ``"params.layers.0.*"``.

    Raises:
      ValueError: another number of bits or another block size.

    Examples:
      >>> Quantization(bits=8, skip=("*head*",)).name
      'int8'
    """

    bits: int = 4
    block_size: int = 32
    symmetric: bool = True
    skip: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.bits not in BITS.values():
            raise ValueError(f"Quantization: bits must be 4 or 8, got {self.bits!r}")
        size = self.block_size
        if size < SMALLEST_BLOCK or size & (size - 1):
            raise ValueError(
                f"Quantization: block_size must be a power of 2 from {SMALLEST_BLOCK}, got {size!r}"
            )
        if isinstance(self.skip, str):
            raise ValueError(f"Quantization: skip is a tuple of patterns, got {self.skip!r}")

    @property
    def name(self) -> str:
        """``int4`` or ``int8``."""
        return f"int{self.bits}"


@dataclass(frozen=True)
class Calibration:
    """Weights and what they meet as int8, with ranges found on samples: for convolutions.

    Attributes:
      batches: samples; each is what ``sample_input`` may be, with the shapes of the file.
      skip: patterns of weights that stay as they are.
      per_channel: a scale for each output channel of a weight, not one for all.
      reduce_range: keep weights to seven bits, which processors without VNNI need.

    Raises:
      ValueError: ``skip`` is a text.
    """

    batches: Iterable[PyTree]
    skip: Sequence[str] = ()
    per_channel: bool = True
    reduce_range: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.skip, str):
            raise ValueError(f"Calibration: skip is a tuple of patterns, got {self.skip!r}")

    @property
    def name(self) -> str:
        """``static int8``."""
        return "static int8"


Quantize = str | Quantization | Calibration | None


def asked(
    quantize: Quantize, goal: Target, dtype: str | None, name: str
) -> Quantization | Calibration | None:
    """What is to be done to the weights of the function ``name``.

    Raises:
      UnsupportedError: the format has no such integers.
      ValueError: a name that none has, or with ``dtype``.
    """
    if quantize is None:
        return None
    if isinstance(quantize, str) and quantize in BITS:
        quantize = Quantization(BITS[quantize])
    if not isinstance(quantize, Quantization | Calibration):
        raise ValueError(
            f"quantize must be one of {', '.join(BITS)}, a Quantization, a Calibration or None, "
            f"got {quantize!r}"
        )
    if goal.name != "ONNX":
        raise UnsupportedError(
            f"{name} cannot be exported to {goal.name} with quantize={quantize.name!r}, nothing "
            f"was written:\n  {NOT_THERE[goal.name]}"
        )
    if dtype is not None:
        raise ValueError(
            f"quantize={quantize.name!r} needs float32 around its integers, and dtype={dtype!r} "
            "leaves no float32; give only one of the two"
        )
    return quantize


NOT_THERE = {
    "MINDIR": (
        "MindSpore loads integer weights only from files that its own converter has quantized; "
        "export without quantize and convert the .mindir with MindSpore Lite's converter_lite, "
        "or give dtype='float16'"
    ),
    "AIR": (
        "GE computes with integer weights only in graphs that its own tool AMCT has quantized; "
        "export ONNX with quantize, or give dtype='float16'"
    ),
}


def checked_opset(options: dict[str, int | str], runtime: str | None, name: str) -> None:
    """Blocks of scales came to the standard with opset 21; it is the default here.

    Raises:
      ValueError: an older opset, without a runtime that has an operator of its own.
    """
    if runtime is not None:
        return
    opset = options.setdefault("opset", OLDEST_OPSET)
    if isinstance(opset, int) and opset < OLDEST_OPSET:
        raise ValueError(
            f"quantize={name!r} needs opset {OLDEST_OPSET}, got {opset}; leave opset out, or give "
            "runtime='onnxruntime'"
        )
