"""AIR files, ours and such as MindSpore writes, as functions of JAX."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special

import fnckpt
from fnckpt.importing.load import load_graph
from fnckpt.ir.border import NO_COMPLEX
from fnckpt.ir.graph import Aval, Parameter, aval_of
from fnckpt.ir.sources.air.registry import RULES
from fnckpt.ir.targets.air.codes import Value, descriptor
from fnckpt.ir.targets.air.encode import model_parts
from fnckpt.ir.targets.air.kernels_window import KERNELS
from fnckpt.ir.targets.air.prototypes import prototype
from fnckpt.ir.targets.air.writer import Ref, Writer
from fnckpt.proto.ge_ir_pb2 import ModelDef
from tests.importing.test_load import X, net, weights

Array = np.ndarray
Port = Array | list[Array] | None
Results = Array | tuple[Array, ...]


def f(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def i(*values: int) -> Array:
    return np.array(values, np.int32)


def number(value: float) -> Array:
    return np.array(value, np.float32)


def flat(inputs: Sequence[Port]) -> list[Array]:
    """The arrays at all ports."""
    given = [each for each in inputs if each is not None]
    return [x for each in given for x in (each if isinstance(each, list) else [each])]


def file_of(
    kind: str, inputs: Sequence[Port], results: Sequence[Array], held: int, **attrs: Value
) -> bytes:
    """A file of one operator; the last ``held`` inputs are Consts."""
    arrays = flat(inputs)
    given = [Parameter(f"x{n}", aval_of(x)) for n, x in enumerate(arrays[: len(arrays) - held])]
    writer = Writer({id(each): each.name for each in given})
    for index, each in enumerate(given):
        writer.data(each, index)
    consts = [writer.constant(f"c{n}", x) for n, x in enumerate(arrays[len(given) :])]
    refs = iter([*map(writer.ref, given), *consts])
    ports = [None if each is None else [next(refs) for _ in each] if isinstance(each, list)
             else next(refs) for each in inputs]  # fmt: skip
    proto = prototype(kind)
    assert proto is not None
    avals = [Aval(x.shape, x.dtype) for x in results]
    count = len(proto.outputs)  # one for any number of results
    writer.op(kind, "op", ports, avals[:count], "NCHW", attrs)
    more = [descriptor(aval.dtype, aval.shape, "NCHW") for aval in avals[count:]]
    writer.written[-1].op.output_desc.extend(more)
    outputs = [Ref("op", index, aval) for index, aval in enumerate(avals)]
    return b"".join(map(bytes, model_parts("net", writer.written, outputs, NO_COMPLEX)))


def close(found: object, wanted: Sequence[Array]) -> None:
    for a, b in zip(map(np.asarray, jax.tree.leaves(found)), wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


X23, POSITIVE = f(2, 3), np.abs(f(2, 3)) + 0.5
IMAGE, LAST = f(1, 2, 4, 4), f(1, 2, 4, 4).transpose(0, 2, 3, 1).copy()
KERNEL = f(4, 2, 3, 3)
LOG = scipy.special.log_expit
VALID = {"strides": (1, 1, 1, 1), "pads": (0, 0, 0, 0)}


def conv(x: Array, kernel: Array, groups: int = 1) -> Array:
    return np.asarray(
        jax.lax.conv_general_dilated(
            jax.numpy.asarray(x), jax.numpy.asarray(kernel), (1, 1), "VALID",
            feature_group_count=groups,
        )
    )  # fmt: skip


# Type, inputs, how many of the last are Consts, attributes, results: as MindSpore r1.1 uses them.
OPERATORS: list[tuple[str, Sequence[Port], int, Mapping[str, Value], Results]] = [
    ("Relu6", [9 * X23], 0, {}, np.clip(9 * X23, 0, 6)),
    ("SquaredDifference", [X23, POSITIVE], 0, {}, (X23 - POSITIVE) ** 2),
    ("FloorDiv", [i(7, -7), i(2, 2)], 0, {}, i(3, -4)),
    ("FloorMod", [i(7, -7), i(2, 2)], 0, {}, i(1, 1)),
    ("DivNoNan", [X23, 0 * X23], 0, {}, 0 * X23),
    ("Xlogy", [0 * X23, 0 * X23], 0, {}, 0 * X23),
    ("AddN", [[X23, X23, X23]], 0, {"N": 3}, 3 * X23),
    ("BiasAdd", [IMAGE, f(2)], 1, {"data_format": "NCHW"}, IMAGE + f(2)[:, None, None]),
    ("BiasAdd", [LAST, f(2)], 1, {"data_format": "NHWC"}, LAST + f(2)),
    ("PRelu", [IMAGE, f(2)], 1, {}, np.where(IMAGE < 0, IMAGE * f(2)[:, None, None], IMAGE)),
    ("ClipByValue", [X23, number(-0.5), number(0.5)], 2, {}, np.clip(X23, -0.5, 0.5)),
    ("Exp", [X23], 0, {"base": 2.0}, np.exp2(X23)),
    ("Log", [POSITIVE], 0, {"base": 2.0}, np.log2(POSITIVE)),
    ("Conv2D", [IMAGE, KERNEL, None, None], 1, {**VALID, "data_format": "NCHW"},
     conv(IMAGE, KERNEL)),
    ("Conv2D", [LAST, KERNEL.transpose(2, 3, 1, 0).copy(), None, None], 1,
     {**VALID, "data_format": "NHWC"}, conv(IMAGE, KERNEL).transpose(0, 2, 3, 1)),
    ("MaxPool", [IMAGE], 0, {"ksize": (1, 1, 2, 2), "strides": (1, 1, 2, 2), "padding": "SAME",
     "data_format": "NCHW"}, IMAGE.reshape(1, 2, 2, 2, 2, 2).max((3, 5))),
    ("AvgPool", [LAST], 0, {"ksize": (1, 2, 2, 1), "strides": (1, 2, 2, 1), "padding": "VALID",
     "data_format": "NHWC"}, LAST.reshape(1, 2, 2, 2, 2, 2).mean((2, 4))),
    ("L2Normalize", [X23], 0, {"axis": (1,)}, X23 / np.linalg.norm(X23, axis=1, keepdims=True)),
    ("ArgMaxWithValue", [X23], 0, {"dimension": 1},
     (X23.argmax(1).astype(np.int32), X23.max(1))),
    ("CumsumD", [X23], 0, {"axis": 1, "exclusive": True}, np.cumsum(X23, 1) - X23),
    ("TileD", [X23], 0, {"multiples": (2, 1)}, np.tile(X23, (2, 1))),
    ("Pack", [[X23, X23]], 0, {"axis": 1, "N": 2}, np.stack([X23, X23], 1)),
    ("Unpack", [X23], 0, {"axis": 0, "num": 2}, (X23[0], X23[1])),
    ("SplitD", [IMAGE], 0, {"split_dim": -1, "num_split": 2}, (IMAGE[..., :2], IMAGE[..., 2:])),
    ("SplitVD", [X23], 0, {"split_dim": 1, "num_split": 2, "size_splits": (1, 2)},
     (X23[:, :1], X23[:, 1:])),
    ("StridedSlice", [X23, i(0, 0), i(1, -1), i(1, 1)], 3, {"shrink_axis_mask": 1}, X23[0, :-1]),
    ("StridedSliceD", [X23], 0, {"begin": (1, -1), "end": (0, 0), "strides": (1, -1),
     "begin_mask": 1, "end_mask": 3}, X23[:, ::-1]),
    ("ExpandDims", [X23, i(1)], 1, {}, X23[:, None]),
    ("Squeeze", [f(2, 1, 3)], 0, {"axis": (1,)}, f(2, 1, 3)[:, 0]),
    ("MirrorPad", [X23, np.array([[0, 0], [1, 1]], np.int32)], 1, {"mode": "SYMMETRIC"},
     np.pad(X23, ((0, 0), (1, 1)), "symmetric")),
    ("OneHotD", [i(2, 0), number(1), number(0)], 2, {"depth": 3},
     np.eye(3, dtype=np.float32)[[2, 0]]),
    ("UnsortedSegmentSumD", [X23, i(1, 1)], 0, {"num_segments": 3},
     np.stack([0 * X23[0], X23.sum(0), 0 * X23[0]])),
    ("SpaceToDepth", [LAST], 0, {"block_size": 2, "data_format": "NHWC"},
     LAST.reshape(1, 2, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 2, 2, 8)),
    ("ResizeNearestNeighborV2D", [IMAGE], 0, {"size": (8, 8)}, IMAGE.repeat(2, 2).repeat(2, 3)),
    ("ResizeBilinearV2D", [IMAGE], 0, {"size": (2, 2)}, IMAGE[..., ::2, ::2]),
    ("LRN", [IMAGE], 0, {"depth_radius": 0}, IMAGE / np.sqrt(1 + IMAGE**2)),
    ("SigmoidCrossEntropyWithLogits", [X23, POSITIVE], 0, {},
     -(POSITIVE * LOG(X23) + (1 - POSITIVE) * LOG(-X23))),
    ("ReduceStd", [X23], 0, {"dim": (1,), "unbiased": False}, (X23.std(1), X23.mean(1))),
    ("Range", [i(2), i(9), i(3)], 3, {}, i(2, 5, 8)),
    ("InstanceNorm", [IMAGE, f(2), f(2)], 2, {"data_format": "NCHW", "epsilon": 0.0},
     ((IMAGE - IMAGE.mean((2, 3), keepdims=True)) / IMAGE.std((2, 3), keepdims=True)
      * f(2)[:, None, None] + f(2)[:, None, None], IMAGE.mean((2, 3), keepdims=True),
      IMAGE.var((2, 3), keepdims=True))),
]  # fmt: skip
LABELS = [f"{n}-{row[0]}" for n, row in enumerate(OPERATORS)]


@pytest.mark.parametrize(("kind", "inputs", "held", "attrs", "wanted"), OPERATORS, ids=LABELS)
def test_an_operator_of_mindspore_computes_what_its_documents_say(
    kind: str, inputs: Sequence[Port], held: int, attrs: Mapping[str, Value], wanted: Results
) -> None:
    results = wanted if isinstance(wanted, tuple) else (wanted,)
    arrays = flat(inputs)
    params, apply_fn = load_graph(file_of(kind, inputs, results, held, **attrs))
    close(apply_fn(params, *arrays[: len(arrays) - held]), results)


def test_a_depthwise_convolution_of_either_layout() -> None:
    kernel = f(2, 2, 3, 3)  # multiplier, channels
    wanted = conv(IMAGE, kernel.transpose(1, 0, 2, 3).reshape(4, 1, 3, 3), 2)
    x, w, y = (each.astype(np.float16) for each in (IMAGE, kernel, wanted))  # GE has no float32
    turned = [x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0)]
    kind, more = "DepthwiseConv2D", [None, None]
    first = file_of(kind, [x, w, *more], [y], 1, **VALID, data_format="NCHW")
    last = file_of(
        kind, [*turned, *more], [y.transpose(0, 2, 3, 1)], 1, **VALID, data_format="NHWC"
    )
    a = load_graph(first).apply_fn({}, x)
    b = load_graph(last).apply_fn({}, turned[0])
    np.testing.assert_allclose(a, wanted, rtol=0.02, atol=0.02)
    np.testing.assert_array_equal(a, np.transpose(b, (0, 3, 1, 2)))


def test_an_lstm_of_mindspore_gives_its_states() -> None:
    x, w, bias = f(3, 2, 4), f(6, 8)[:, :8], f(8)  # 2 hidden; gates input, cell, forget, output
    h = c = np.zeros((2, 2), np.float32)
    wanted: list[list[Array]] = []
    for row in x:
        gates = np.concatenate([row, h], 1) @ w + bias
        a, j, g, o = np.split(gates, 4, 1)
        c = scipy.special.expit(g + 1) * c + scipy.special.expit(a) * np.tanh(j)
        h = scipy.special.expit(o) * np.tanh(c)
        wanted.append([h, c])
    hs, cs = (np.stack(each).astype(np.float32) for each in zip(*wanted, strict=True))
    more = [hs] * 5
    data = file_of("DynamicRNN", [x, w, bias], [hs, hs, cs, *more], 2, forget_bias=1.0)
    loaded = load_graph(data)
    found = jax.jit(loaded.apply_fn)(loaded.params, x)
    close(tuple(found[:3]), (hs, hs, cs))


def test_every_operator_of_our_files_has_a_rule() -> None:
    assert set(KERNELS) <= set(RULES)


def test_files_of_ours_give_back_the_parameters(tmp_path: Path) -> None:
    file = fnckpt.export(weights(), net, X, "AIR", file_name=tmp_path / "net")
    params, apply_fn = load_graph(file)
    assert jax.tree.structure(params) == jax.tree.structure(weights())
    np.testing.assert_allclose(apply_fn(params, X), net(weights(), X), rtol=1e-5, atol=1e-5)
    found = jax.grad(lambda p: apply_fn(p, X).sum())(params)
    wanted = jax.grad(lambda p: net(p, X).sum())(weights())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


def test_an_operator_without_a_rule_is_named(tmp_path: Path) -> None:
    file = fnckpt.export(weights(), net, X, "AIR", file_name=tmp_path / "net")
    model = ModelDef.FromString(file.path.read_bytes())
    op = next(each for each in model.graph[0].op if each.type not in ("Data", "Const"))
    op.type = "NMSWithMask"
    with pytest.raises(fnckpt.UnsupportedError, match="NMSWithMask: "):
        load_graph(model.SerializeToString())


def damaged(change: Callable[[ModelDef], object], folder: Path) -> bytes:
    file = fnckpt.export(weights(), net, X, "AIR", file_name=folder / "net")
    model = ModelDef.FromString(file.path.read_bytes())
    change(model)
    return model.SerializeToString()


def cycle(model: ModelDef) -> None:
    ops = [op for op in model.graph[0].op if op.type not in ("Data", "Const")]
    ops[0].input[0] = f"{ops[-1].name}:0"


def twice(model: ModelDef) -> None:
    model.graph[0].op.append(model.graph[0].op[-1])


def without_value(model: ModelDef) -> None:
    next(op for op in model.graph[0].op if op.type == "Const").attr["value"].t.data = b"1"


def unknown_link(model: ModelDef) -> None:
    model.graph[0].output[0] = "nothing:0"


def without_input(model: ModelDef) -> None:
    del next(op for op in model.graph[0].op if op.type == "Relu").input[:]


@pytest.mark.parametrize(
    ("change", "told"),
    [(cycle, "needs inputs"), (twice, "2 operators are called"),
     (without_value, "without the value"), (unknown_link, "nothing computes it"),
     (without_input, "nothing is connected to its input x")],
)  # fmt: skip
def test_a_damaged_file_is_a_format_error(
    change: Callable[[ModelDef], object], told: str, tmp_path: Path
) -> None:
    with pytest.raises(fnckpt.FormatError, match=told):
        _ = load_graph(damaged(change, tmp_path)).graph
