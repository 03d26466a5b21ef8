"""The messages have the fields of the real formats, and live beside MindSpore's and ONNX's."""

import ast
import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from fnckpt.proto import anf_ir_pb2, checkpoint_pb2, ge_ir_pb2, mind_ir_pb2
from fnckpt.proto.pool import POOL

MODULES = {
    "anf_ir": anf_ir_pb2,
    "checkpoint": checkpoint_pb2,
    "ge_ir": ge_ir_pb2,
    "mind_ir": mind_ir_pb2,
}

GE_FIELDS = Path(__file__).with_name("ge_fields.txt")  # graphengine r1.1

MINDSPORE = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    print(import_module(f"mindspore.train.{name}_pb2").DESCRIPTOR.serialized_pb.hex())
"""

# Each uses its own messages, so that a name taken by another's would be noticed.
USES = {
    "fnckpt": """
from fnckpt.proto import anf_ir_pb2, checkpoint_pb2, ge_ir_pb2, mind_ir_pb2
written = mind_ir_pb2.ModelProto(graph={"name": "a"}).SerializeToString()
assert mind_ir_pb2.ModelProto.FromString(written).graph.name == "a"
assert anf_ir_pb2.ModelProto(ir_version=1).SerializeToString() == b"\\x08\\x01"
assert ge_ir_pb2.ModelDef(name="a").SerializeToString() == b"\\x0a\\x01a"
assert checkpoint_pb2.Checkpoint.FromString(b"").ByteSize() == 0
""",
    "onnx": """
import onnx
written = onnx.ModelProto(ir_version=8).SerializeToString()
assert onnx.load_model_from_string(written).ir_version == 8
""",
    "mindspore": """
import mindspore
from mindspore.train import anf_ir_pb2, checkpoint_pb2, mind_ir_pb2
written = mind_ir_pb2.ModelProto(graph={"name": "a"}).SerializeToString()
assert mind_ir_pb2.ModelProto.FromString(written).graph.name == "a"
assert anf_ir_pb2.ModelProto(ir_version=1).SerializeToString() == b"\\x08\\x01"
assert checkpoint_pb2.Checkpoint.FromString(b"").ByteSize() == 0
""",
}
Schema = dict[str, set[str]]


def type_name(field: FieldDescriptorProto, package: str) -> str:
    """Like ``int64``, or the path of the message or enum inside its package."""
    if field.type_name:
        return field.type_name.removeprefix(".").removeprefix(f"{package}.")
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def field_line(message: DescriptorProto, field: FieldDescriptorProto, package: str) -> str:
    """Like ``repeated int64 dims = 1``; a oneof's name stands in the label's place."""
    typed = type_name(field, package)
    for entry in message.nested_type:
        if entry.options.map_entry and typed.endswith(f".{entry.name}"):
            key, value = (type_name(each, package) for each in entry.field)
            return f"map<{key}, {value}> {field.name} = {field.number}"
    words = [FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()]
    if field.HasField("oneof_index"):
        words = [message.oneof_decl[field.oneof_index].name]
    if field.options.packed:
        words.append("packed")
    return " ".join([*words, typed, field.name, "=", str(field.number)])


def entries(
    messages: Iterable[DescriptorProto],
    enums: Iterable[EnumDescriptorProto],
    package: str,
    path: str = "",
) -> Iterator[tuple[str, set[str]]]:
    for enum in enums:
        yield path + enum.name, {f"{value.name} = {value.number}" for value in enum.value}
    for message in messages:
        if message.options.map_entry:
            continue
        yield path + message.name, {field_line(message, each, package) for each in message.field}
        yield from entries(
            message.nested_type, message.enum_type, package, f"{path}{message.name}."
        )


def schema(file: FileDescriptorProto) -> Schema:
    """What is on the wire: each message's fields and each enum's values, whatever the package."""
    return dict(entries(file.message_type, file.enum_type, file.package))


def ours(name: str) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(MODULES[name].DESCRIPTOR.serialized_pb)


@pytest.fixture(scope="module")
def mindspore(run_python) -> dict[str, FileDescriptorProto]:
    """The descriptors in the real MindSpore."""
    names = ["anf_ir", "checkpoint", "mind_ir"]
    lines = run_python(MINDSPORE, *names).split()
    parsed = map(FileDescriptorProto.FromString, map(bytes.fromhex, lines))
    return dict(zip(names, parsed, strict=True))


@pytest.mark.parametrize("name", ["anf_ir", "checkpoint", "mind_ir"])
def test_a_schema_has_the_fields_of_mindspores(name, mindspore):
    assert schema(ours(name)) == schema(mindspore[name])
    assert ours(name).syntax == mindspore[name].syntax


def test_the_ge_schema_has_the_fields_of_graphengines():
    expected: Schema = {}
    path = ""
    for line in GE_FIELDS.read_text().splitlines():
        if line.startswith("  "):
            expected[path].add(line.strip())
        else:
            path = line
            expected[path] = set()
    assert schema(ours("ge_ir")) == expected
    assert ours("ge_ir").syntax == "proto3"


@pytest.mark.parametrize("name", MODULES)
def test_a_generated_module_is_what_its_proto_file_says(name, root, tmp_path):
    source, target = f"fnckpt/proto/{name}.proto", tmp_path / "set.pb"
    command = ["-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={target}", source]
    subprocess.run([sys.executable, *command], cwd=root, check=True)
    (parsed,) = FileDescriptorSet.FromString(target.read_bytes()).file
    assert parsed.name == ours(name).name
    assert parsed.package == ours(name).package
    assert schema(parsed) == schema(ours(name))


@pytest.mark.parametrize("name", MODULES)
def test_the_messages_are_in_our_pool_and_not_in_protobufs(name):
    file = MODULES[name].DESCRIPTOR
    assert POOL.FindFileByName(file.name) is file
    for message in file.message_types_by_name.values():
        assert file.pool is POOL
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindMessageTypeByName(message.full_name)
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName(file.name)


@pytest.mark.parametrize("name", MODULES)
def test_every_name_in_the_types_of_a_module_exists(name, root):
    """The .pyi file is made together with the module; pyright believes it."""
    declared = ast.parse((root / "proto" / f"{name}_pb2.pyi").read_text()).body
    module = MODULES[name]
    classes = [node for node in declared if isinstance(node, ast.ClassDef)]
    values = [node.target for node in declared if isinstance(node, ast.AnnAssign)]
    names = {each.name for each in classes} | {
        each.id for each in values if isinstance(each, ast.Name)
    }
    assert names == {each for each in vars(module) if not each.startswith("_")} - {"build"}


@pytest.mark.parametrize("order", list(itertools.permutations(USES)), ids=" then ".join)
def test_all_three_can_be_imported_and_used_in_any_order(order, run_python):
    run_python("".join(USES[name] for name in order))


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_nested_classes_are_attributes_in_each_implementation(implementation, run_python):
    code = (
        f"import os; os.environ['PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION'] = '{implementation}'\n"
        "import pickle\n"
        "from google.protobuf.internal import api_implementation\n"
        "from fnckpt.proto.ge_ir_pb2 import AttrDef\n"
        "value = AttrDef(list=AttrDef.ListValue(i=[1], val_type=AttrDef.ListValue.VT_LIST_INT))\n"
        "assert pickle.loads(pickle.dumps(value)) == value\n"
        "print(api_implementation.Type(), value.list.i)"
    )
    assert run_python(code) == f"{implementation} [1]\n"
