"""Train pure JAX functions under a checkpoint policy, and export them to MindIR, ONNX and AIR."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fnckpt.checkpoints.mindspore_kinds import CONV_TRANSPOSE
    from fnckpt.checkpoints.mindspore_names import from_mindspore, mindspore_names, to_mindspore
    from fnckpt.checkpoints.named_arrays import Arrays
    from fnckpt.checkpoints.orbax_handler import CkptRestore, CkptSave
    from fnckpt.checkpoints.pytree import differences, load_checkpoint, save_checkpoint
    from fnckpt.decoders.export import DecoderResult, export_decoder
    from fnckpt.decoders.generating import generate
    from fnckpt.errors import (
        CheckpointMismatch,
        FnckptError,
        FormatError,
        UnsupportedError,
        VerificationError,
    )
    from fnckpt.exporting.export import export
    from fnckpt.exporting.narrowing import greatest_error
    from fnckpt.exporting.quantizing.measured import Quantized
    from fnckpt.exporting.quantizing.options import Calibration, Quantization
    from fnckpt.exporting.result import ExportResult
    from fnckpt.exporting.run import run
    from fnckpt.exporting.verify import Verified
    from fnckpt.importing.converting import convert
    from fnckpt.importing.load import LoadedGraph, load_graph
    from fnckpt.ir.passes.pipeline import PASSES
    from fnckpt.training.history import History
    from fnckpt.training.loop import TrainResult, train
    from fnckpt.training.policy import CheckpointPolicy
    from fnckpt.training.result import Best
    from fnckpt.training.saving.listing import best_checkpoint, checkpoints, latest_checkpoint
    from fnckpt.training.stopping import STOP, EarlyStopping, StopTraining

    __version__: str
else:
    import fnckpt.checkpoints as checkpoints  # a package, which can be called

# Where each name lives; a module is imported when its name is first asked for.
_HOMES = {
    "Arrays": "checkpoints.named_arrays",
    "Best": "training.result",
    "CONV_TRANSPOSE": "checkpoints.mindspore_kinds",
    "Calibration": "exporting.quantizing.options",
    "CheckpointMismatch": "errors",
    "CheckpointPolicy": "training.policy",
    "CkptRestore": "checkpoints.orbax_handler",
    "CkptSave": "checkpoints.orbax_handler",
    "DecoderResult": "decoders.export",
    "EarlyStopping": "training.stopping",
    "ExportResult": "exporting.result",
    "FnckptError": "errors",
    "FormatError": "errors",
    "History": "training.history",
    "LoadedGraph": "importing.load",
    "PASSES": "ir.passes.pipeline",
    "Quantization": "exporting.quantizing.options",
    "Quantized": "exporting.quantizing.measured",
    "STOP": "training.stopping",
    "StopTraining": "training.stopping",
    "TrainResult": "training.result",
    "UnsupportedError": "errors",
    "VerificationError": "errors",
    "Verified": "exporting.verify",
    "best_checkpoint": "training.saving.listing",
    "convert": "importing.converting",
    "differences": "checkpoints.pytree",
    "export": "exporting.export",
    "export_decoder": "decoders.export",
    "from_mindspore": "checkpoints.mindspore_names",
    "generate": "decoders.generating",
    "greatest_error": "exporting.narrowing",
    "latest_checkpoint": "training.saving.listing",
    "load_checkpoint": "checkpoints.pytree",
    "load_graph": "importing.load",
    "mindspore_names": "checkpoints.mindspore_names",
    "run": "exporting.run",
    "save_checkpoint": "checkpoints.pytree",
    "to_mindspore": "checkpoints.mindspore_names",
    "train": "training.loop",
}

__all__ = [
    "CONV_TRANSPOSE",
    "PASSES",
    "STOP",
    "Arrays",
    "Best",
    "Calibration",
    "CheckpointMismatch",
    "CheckpointPolicy",
    "CkptRestore",
    "CkptSave",
    "DecoderResult",
    "EarlyStopping",
    "ExportResult",
    "FnckptError",
    "FormatError",
    "History",
    "LoadedGraph",
    "Quantization",
    "Quantized",
    "StopTraining",
    "TrainResult",
    "UnsupportedError",
    "VerificationError",
    "Verified",
    "__version__",
    "best_checkpoint",
    "checkpoints",
    "convert",
    "differences",
    "export",
    "export_decoder",
    "from_mindspore",
    "generate",
    "greatest_error",
    "latest_checkpoint",
    "load_checkpoint",
    "load_graph",
    "mindspore_names",
    "run",
    "save_checkpoint",
    "to_mindspore",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("fnckpt")
    if name not in _HOMES:
        raise AttributeError(f"module 'fnckpt' has no attribute {name!r}")
    value = vars(import_module(f"fnckpt.{_HOMES[name]}"))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
