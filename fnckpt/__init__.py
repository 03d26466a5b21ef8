"""Train pure JAX functions under a checkpoint policy, and export them to MindIR, ONNX and AIR."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fnckpt.checkpoints.mindspore_names import (
        CONV_TRANSPOSE,
        from_mindspore,
        mindspore_names,
        to_mindspore,
    )
    from fnckpt.checkpoints.named_arrays import Arrays
    from fnckpt.checkpoints.orbax_handler import CkptRestore, CkptSave
    from fnckpt.checkpoints.pytree import differences, load_checkpoint, save_checkpoint
    from fnckpt.errors import CheckpointMismatch, FnckptError, FormatError, UnsupportedError
    from fnckpt.exporting.export import ExportResult, export
    from fnckpt.exporting.narrowing import greatest_error
    from fnckpt.exporting.run import run
    from fnckpt.importing.converting import convert
    from fnckpt.importing.load import LoadedGraph, load_graph
    from fnckpt.ir.passes.pipeline import PASSES
    from fnckpt.training.history import History
    from fnckpt.training.loop import TrainResult, train
    from fnckpt.training.policy import CheckpointPolicy
    from fnckpt.training.result import Best

    __version__: str

# Where each name lives; a module is imported when its name is first asked for.
_HOMES = {
    "Arrays": "checkpoints.named_arrays",
    "Best": "training.result",
    "CONV_TRANSPOSE": "checkpoints.mindspore_names",
    "CheckpointMismatch": "errors",
    "CheckpointPolicy": "training.policy",
    "CkptRestore": "checkpoints.orbax_handler",
    "CkptSave": "checkpoints.orbax_handler",
    "ExportResult": "exporting.export",
    "FnckptError": "errors",
    "FormatError": "errors",
    "History": "training.history",
    "LoadedGraph": "importing.load",
    "PASSES": "ir.passes.pipeline",
    "TrainResult": "training.result",
    "UnsupportedError": "errors",
    "convert": "importing.converting",
    "differences": "checkpoints.pytree",
    "export": "exporting.export",
    "from_mindspore": "checkpoints.mindspore_names",
    "greatest_error": "exporting.narrowing",
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
    "Arrays",
    "Best",
    "CheckpointMismatch",
    "CheckpointPolicy",
    "CkptRestore",
    "CkptSave",
    "ExportResult",
    "FnckptError",
    "FormatError",
    "History",
    "LoadedGraph",
    "TrainResult",
    "UnsupportedError",
    "__version__",
    "convert",
    "differences",
    "export",
    "from_mindspore",
    "greatest_error",
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
