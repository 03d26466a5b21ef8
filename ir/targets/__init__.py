"""The targets by name; each is imported when it is called for."""

from importlib import import_module

from fnckpt.ir.targets.target import Target

TARGETS = {
    "MINDIR": "fnckpt.ir.targets.mindir",
    "ONNX": "fnckpt.ir.targets.onnx",
    "AIR": "fnckpt.ir.targets.air",
}


def target(name: str) -> Target:
    """The target called ``name``, in any case.

    Raises:
      ValueError: there is none of that name.
    """
    if name.upper() not in TARGETS:
        raise ValueError(f"file_format must be one of {', '.join(TARGETS)}, got {name!r}")
    return import_module(TARGETS[name.upper()]).TARGET
