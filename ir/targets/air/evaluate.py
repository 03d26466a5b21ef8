"""Computes an AIR file with numpy: what GE's documentation says the operators mean.

It reads the file alone. The kernels are written from the prototypes' documented meaning, and from
the framework operators that those name as compatible, so that agreement with the reference
evaluator says that a file means what the graph meant. What the documents leave open is what the
hardware does; docs/air.md lists it.
"""

import os
from collections import deque
from collections.abc import Sequence

import numpy as np

from fnckpt.errors import FormatError
from fnckpt.ir.targets.air.codes import OF_NAME
from fnckpt.ir.targets.air.kernels import Input
from fnckpt.ir.targets.air.kernels_window import KERNELS
from fnckpt.ir.targets.air.read import read_model
from fnckpt.ir.targets.air.view import OpView, output_names, view
from fnckpt.proto.ge_ir_pb2 import GraphDef


def evaluate(path: str | os.PathLike[str], inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The results of the file's graph for ``inputs``, in order of ``index``.

    Raises:
      FormatError: the file is no AIR file, or has an operator without a kernel here, or one whose
        result is not of the type that the file declares.
      ValueError: an input is not of the declared shape and type.
    """
    graph = read_model(path).graph[0]
    values = given(graph, inputs)
    for op in ordered(graph, str(path)):
        if op.type not in ("Data", "NetOutput"):
            results = compute(op, values, str(path))
            values |= {f"{op.name}:{i}": result for i, result in enumerate(results)}
    return tuple(values[name] for name in output_names(graph))


def given(graph: GraphDef, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs by the name of their Data operators."""
    data = sorted((op for op in graph.op if op.type == "Data"), key=lambda op: op.attr["index"].i)
    if len(data) != len(inputs):
        raise ValueError(f"{graph.name}: expected {len(data)} inputs, found {len(inputs)}")
    values: dict[str, np.ndarray] = {}
    for op, value in zip(map(view, data), map(np.asarray, inputs), strict=True):
        (declared,) = op.outputs
        if value.dtype != OF_NAME[declared.dtype].dtype or value.shape != declared.shape:
            found = f"{value.dtype}{list(value.shape)}"
            raise ValueError(f"{op.name}: expected {declared}, found {found}")
        values[f"{op.name}:0"] = value
    return values


def ordered(graph: GraphDef, path: str) -> list[OpView]:
    """The operators, each after those it uses; the file may list them in any order."""
    waiting = {op.name: view(op) for op in graph.op if op.type != "NetOutput"}
    users: dict[str, list[str]] = {}
    missing: dict[str, set[str]] = {}
    for op in waiting.values():
        missing[op.name] = {source.rpartition(":")[0] for source in op.sources()}
        for producer in missing[op.name]:
            users.setdefault(producer, []).append(op.name)
    ready = deque(name for name, op in waiting.items() if op.type == "Data" or not missing[name])
    order: list[OpView] = []
    while ready:
        done = ready.popleft()
        order.append(waiting.pop(done))
        for user in users.get(done, ()):
            missing[user].discard(done)
            if not missing[user] and user in waiting and waiting[user].type != "Data":
                ready.append(user)
    if waiting:
        raise FormatError(f"{path}: {min(waiting)!r} needs inputs that no operator computes")
    return order


def compute(op: OpView, values: dict[str, np.ndarray], path: str) -> tuple[np.ndarray, ...]:
    """The results of one operator, of the declared types."""
    if op.const is not None:
        return (op.const,)
    if op.type not in KERNELS:
        raise FormatError(f"{path}: {op.name}: there is no kernel of {op.type} here")
    arguments: list[Input] = [_argument(each, values) for each in op.inputs]
    with np.errstate(all="ignore"):
        result = KERNELS[op.type](op, *arguments)
    results = tuple(map(np.asarray, result if isinstance(result, tuple) else (result,)))
    for index, (array, declared) in enumerate(zip(results, op.outputs, strict=True)):
        if array.dtype != OF_NAME[declared.dtype].dtype or array.shape != declared.shape:
            found = f"{array.dtype}{list(array.shape)}"
            fault = f"output {index} of {op.type} is {found}, declared {declared}"
            raise FormatError(f"{path}: {op.name}: {fault}")
    return results


def _argument(source: str | tuple[str, ...] | None, values: dict[str, np.ndarray]) -> Input:
    if isinstance(source, tuple):
        return [values[each] for each in source]
    return None if source is None else values[source]
