"""Train pure JAX functions under a checkpoint policy, and export them to MindIR, ONNX and AIR."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fnckpt.bridge import from_mindspore, mindspore_names, to_mindspore
    from fnckpt.checkpoint import load_checkpoint, save_checkpoint
    from fnckpt.errors import CheckpointMismatch, FnckptError, FormatError, UnsupportedError
    from fnckpt.exporting import ExportResult, export
    from fnckpt.policy import CheckpointPolicy
    from fnckpt.training import TrainResult, train

    __version__: str

# Where each name lives; a module is imported when its name is first asked for.
_HOMES = {
    "CheckpointMismatch": "errors",
    "CheckpointPolicy": "policy",
    "ExportResult": "exporting",
    "FnckptError": "errors",
    "FormatError": "errors",
    "TrainResult": "training",
    "UnsupportedError": "errors",
    "export": "exporting",
    "from_mindspore": "bridge",
    "load_checkpoint": "checkpoint",
    "mindspore_names": "bridge",
    "save_checkpoint": "checkpoint",
    "to_mindspore": "bridge",
    "train": "training",
}

__all__ = [
    "CheckpointMismatch",
    "CheckpointPolicy",
    "ExportResult",
    "FnckptError",
    "FormatError",
    "TrainResult",
    "UnsupportedError",
    "__version__",
    "export",
    "from_mindspore",
    "load_checkpoint",
    "mindspore_names",
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
