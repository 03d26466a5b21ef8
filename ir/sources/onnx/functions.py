"""Operators that are defined by others: functions of the file, and those of ONNX itself."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import onnx
from onnx import helper

from fnckpt.ir.graph import Node
from fnckpt.ir.sizes import is_known
from fnckpt.ir.sources.onnx.model import Model
from fnckpt.ir.sources.onnx.registry import Value


@runtime_checkable
class Defined(Protocol):
    """What a schema of the onnx package has beside what its types say."""

    has_function: bool
    has_context_dependent_function: bool
    function_opset_versions: Sequence[int]
    context_dependent_function_opset_versions: Sequence[int]

    def get_function_with_opset_version(self, opset: int) -> bytes: ...

    def get_context_dependent_function_with_opset_version(
        self, opset: int, node: bytes, types: Sequence[bytes]
    ) -> bytes: ...


class Definitions:
    """The functions that a model may call; ``opsets`` are the versions of its domains."""

    def __init__(self, model: Model) -> None:
        self.opsets = {
            "" if each.domain == "ai.onnx" else each.domain: each.version
            for each in model.proto.opset_import
        }
        self._of_file = {(each.domain, each.name): each for each in model.proto.functions}

    def of_file(self, domain: str, op: str) -> onnx.FunctionProto | None:
        """A function that the file itself defines."""
        return self._of_file.get((domain, op))

    def of_onnx(
        self, node: onnx.NodeProto, opset: int, inputs: Sequence[Value]
    ) -> onnx.FunctionProto | None:
        """How ONNX defines an operator by others; None for what it takes for granted."""
        if not onnx.defs.has(node.op_type, node.domain):
            return None
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        except onnx.defs.SchemaError:
            return None
        found = self._body(schema, node, opset, inputs)
        if found is None:
            return None
        have = {each.name for each in (*node.attribute, *found.attribute_proto)}
        for name, attribute in schema.attributes.items():
            if name not in have and attribute.default_value.name:
                found.attribute_proto.append(attribute.default_value)
        return found

    def is_defined(self, node: onnx.NodeProto, opset: int) -> bool:
        """Whether ONNX defines an operator by others, for some inputs at least."""
        if not onnx.defs.has(node.op_type, node.domain):
            return False
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        except onnx.defs.SchemaError:
            return False
        assert isinstance(schema, Defined)
        versions = (
            *schema.function_opset_versions,
            *schema.context_dependent_function_opset_versions,
        )
        return any(version <= opset for version in versions)

    def _body(
        self,
        schema: onnx.defs.OpSchema,
        node: onnx.NodeProto,
        opset: int,
        inputs: Sequence[Value],
    ) -> onnx.FunctionProto | None:
        """Of the newest version that is not newer than the file's."""
        assert isinstance(schema, Defined)
        if schema.has_function:
            versions = [v for v in schema.function_opset_versions if v <= opset]
            if versions:
                content = schema.get_function_with_opset_version(max(versions))
                return onnx.FunctionProto.FromString(content)
        if schema.has_context_dependent_function:
            types = [_type_of(each) for each in inputs]
            allowed = schema.context_dependent_function_opset_versions
            versions = [v for v in allowed if v <= opset]
            if versions:
                content = schema.get_context_dependent_function_with_opset_version(
                    max(versions), node.SerializeToString(), types
                )
                return onnx.FunctionProto.FromString(content) if content else None
        return None


def _type_of(value: Value) -> bytes:
    if not isinstance(value, Node):
        return onnx.TypeProto().SerializeToString()
    element = helper.np_dtype_to_tensor_dtype(value.aval.dtype)
    shape = [size if is_known(size) else str(size) for size in value.aval.shape]
    return helper.make_tensor_type_proto(element, shape).SerializeToString()
