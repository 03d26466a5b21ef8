"""The descriptor pool that holds our message classes, and nobody else's.

A process may also hold MindSpore's or ONNX's messages, which live in protobuf's default pool. A
pool of our own cannot collide with them, whatever they are called and whoever is imported first.
"""

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

POOL = DescriptorPool()


def build(serialized: bytes) -> dict[str, object]:
    """The names of the ``_pb2`` module of one .proto file.

    Args:
      serialized: a ``google.protobuf.FileDescriptorProto``, as protoc writes it.

    Returns:
      ``DESCRIPTOR``, the message classes, the enums and their values, each under its name. The
      ``.pyi`` file beside the module gives their types.

    >>> sorted(build(b'\\n\\x04text\\"\\x06\\n\\x04Text'))
    ['DESCRIPTOR', 'Text']
    """
    file = POOL.AddSerializedFile(serialized)
    names: dict[str, object] = {"DESCRIPTOR": file}
    names |= {name: message_class(each) for name, each in file.message_types_by_name.items()}
    for name, enum in file.enum_types_by_name.items():
        names[name] = EnumTypeWrapper(enum)
        names |= {value.name: value.number for value in enum.values}
    return names


def message_class(message: Descriptor) -> type[Message]:
    """The class of ``message``, its nested classes being attributes."""
    made = GetMessageClass(message)
    made.__module__ = message.file.name.replace("/", ".").removesuffix(".proto") + "_pb2"
    for nested in message.nested_types:
        setattr(made, nested.name, message_class(nested))  # protobuf in pure Python leaves this out
    return made
