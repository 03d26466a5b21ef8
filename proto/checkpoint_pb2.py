# Made from checkpoint.proto by "make proto"; do not edit.
from fnckpt.proto.pool import build

globals().update(build(b'\n\x1d\x66nckpt/proto/checkpoint.proto\x12\x11\x66nckpt.checkpoint\"\xca\x01\n\nCheckpoint\x12\x32\n\x05value\x18\x01 \x03(\x0b\x32#.fnckpt.checkpoint.Checkpoint.Value\x1a\x87\x01\n\x05Value\x12\x0b\n\x03tag\x18\x01 \x02(\t\x12\x30\n\x06tensor\x18\x02 \x01(\x0b\x32\x1e.fnckpt.checkpoint.TensorProtoH\x00\x12\x36\n\tmaptensor\x18\x03 \x01(\x0b\x32!.fnckpt.checkpoint.MapTensorProtoH\x00\x42\x07\n\x05value\"H\n\x0bTensorProto\x12\x0c\n\x04\x64ims\x18\x01 \x03(\x03\x12\x13\n\x0btensor_type\x18\x02 \x02(\t\x12\x16\n\x0etensor_content\x18\x03 \x02(\x0c\"@\n\x0eMapTensorProto\x12.\n\x06tensor\x18\x01 \x03(\x0b\x32\x1e.fnckpt.checkpoint.TensorProto'))
