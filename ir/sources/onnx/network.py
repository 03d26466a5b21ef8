"""The operators of neural networks: products, convolutions, norms."""

from collections.abc import Sequence
from itertools import combinations

from fnckpt.ir.graph import Node
from fnckpt.ir.passes.rewrite import scalar_of
from fnckpt.ir.sources.build import FLOAT32, INT32, Builder, axis_of
from fnckpt.ir.sources.composed import response_normalized
from fnckpt.ir.sources.onnx.reduction import flattened
from fnckpt.ir.sources.onnx.registry import Site, imports
from fnckpt.ir.sources.source import Refusal

Pads = tuple[tuple[int, int], ...]


# ---------------------------------------------------------------------------------------- products


@imports("MatMul")
def import_matmul(site: Site, a: Node, y: Node) -> Node:
    return site.build.product(a, y)


@imports("Gemm")
def import_gemm(site: Site, a: Node, y: Node, c: Node | None = None) -> Node:
    b = site.build
    alpha, beta = site.number("alpha", 1.0), site.number("beta", 1.0)
    turned = {"transpose_a": site.flag("transA"), "transpose_b": site.flag("transB")}
    if c is not None and alpha == beta == 1 and len(c.aval.shape) == 1:
        columns = y.aval.shape[0 if turned["transpose_b"] else 1]
        if c.aval.shape[0] == columns:
            return b("Gemm", a, y, c, **turned)
    found = b("MatMul", a, y, **turned)
    found = found if alpha == 1 else b.mul(found, alpha)
    if c is None:
        return found
    return b.add(found, c if beta == 1 else b.mul(c, beta))


@imports("MatMulInteger")
def import_matmul_integer(
    site: Site, a: Node, y: Node, a_zero: Node | None = None, y_zero: Node | None = None
) -> Node:
    b = site.build
    return b.product(centred(b, a, a_zero, -1), centred(b, y, y_zero, 0))


def centred(b: Builder, x: Node, zero: Node | None, extra: int) -> Node:
    """Integers without their zero point, as int32; a vector of those is one a row, or a column."""
    wide = b.cast(x, INT32)
    if zero is None:
        return wide
    own = b.cast(zero, INT32)
    if extra == -1 and len(own.aval.shape) == 1 and own.aval.shape[0] > 1:
        own = b.unsqueeze(own, 1)
    return b.sub(wide, own)


# ------------------------------------------------------------------------------------ convolutions


def strides_of(site: Site, rank: int, name: str = "strides") -> tuple[int, ...]:
    """A number for each spatial axis, 1 where the file says none."""
    return site.integers(name, (1,) * rank)


def pads_of(site: Site, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]) -> Pads:
    """Pairs of (before, after) for each spatial axis, of windows that reach so far."""
    mode, rank = site.text("auto_pad", "NOTSET"), len(sizes)
    if mode in ("NOTSET", ""):
        flat = site.integers("pads", (0,) * (2 * rank))
        return tuple(zip(flat[:rank], flat[rank:], strict=True))
    if mode == "VALID":
        return ((0, 0),) * rank
    found: list[tuple[int, int]] = []
    for size, window, stride in zip(sizes, reach, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return tuple(found)


def reach_of(window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """How far a window with gaps reaches."""
    return tuple((size - 1) * step + 1 for size, step in zip(window, dilation, strict=True))


@imports("Conv")
def import_conv(site: Site, x: Node, w: Node, *bias: Node | None) -> Node:
    return convolved(site, x, w, *bias)


def convolved(site: Site, x: Node, w: Node, *bias: Node | None) -> Node:
    """The convolution that the node's attributes say."""
    rank = len(x.aval.shape) - 2
    strides, dilation = strides_of(site, rank), strides_of(site, rank, "dilations")
    pads = pads_of(site, x.aval.shape[2:], reach_of(w.aval.shape[2:], dilation), strides)
    given = [each for each in bias if each is not None]
    if any(number < 0 for pair in pads for number in pair):
        low, high = ([0, 0, *(pair[side] for pair in pads)] for side in (0, 1))
        x, pads = site.build.pad(x, low, high, site.build.number(0, x)), ((0, 0),) * rank
    return site.build(
        "Conv", x, w, *given,
        strides=strides, pads=pads, dilation=dilation, groups=site.integer("group", 1),
    )  # fmt: skip


@imports("ConvInteger")
def import_conv_integer(
    site: Site, x: Node, w: Node, x_zero: Node | None = None, w_zero: Node | None = None
) -> Node:
    """In float32, which holds what products of bytes sum up to, up to 2^24."""
    b = site.build
    wide = b.cast(centred(b, x, x_zero, 0), FLOAT32)
    kernel = centred(b, w, None, 0)
    if w_zero is not None:
        shape = (w_zero.aval.size, *(1,) * (len(w.aval.shape) - 1))
        kernel = b.sub(kernel, b.reshape(b.cast(w_zero, INT32), shape))
    return b.cast(convolved(site, wide, b.cast(kernel, FLOAT32)), INT32)


@imports("ConvTranspose")
def import_conv_transpose(site: Site, x: Node, w: Node, *bias: Node | None) -> Node:
    rank = len(x.aval.shape) - 2
    strides, dilation = strides_of(site, rank), strides_of(site, rank, "dilations")
    extra = site.integers("output_padding", (0,) * rank)
    reach = reach_of(w.aval.shape[2:], dilation)
    full = [
        (size - 1) * stride + window + more
        for size, stride, window, more in zip(x.aval.shape[2:], strides, reach, extra, strict=True)
    ]
    cut = _cut(site, full, [n * s for n, s in zip(x.aval.shape[2:], strides, strict=True)])
    pads = tuple((-low, more - high) for (low, high), more in zip(cut, extra, strict=True))
    given = [each for each in bias if each is not None]
    return site.build(
        "ConvTranspose", x, w, *given,
        strides=strides, pads=pads, dilation=dilation, groups=site.integer("group", 1),
    )  # fmt: skip


def _cut(site: Site, full: Sequence[int], same: Sequence[int]) -> Pads:
    """What is cut from the full result of a transposed convolution, before and after."""
    mode, rank = site.text("auto_pad", "NOTSET"), len(full)
    wanted = site.integers("output_shape", ())[-rank:]
    if not wanted and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(same)
    if not wanted:
        flat = (
            site.integers("pads", (0,) * (2 * rank)) if mode in ("NOTSET", "") else (0,) * 2 * rank
        )
        return tuple(zip(flat[:rank], flat[rank:], strict=True))
    cuts = [size - goal for size, goal in zip(full, wanted, strict=True)]
    if mode == "SAME_UPPER":
        return tuple((cut // 2, cut - cut // 2) for cut in cuts)
    return tuple((cut - cut // 2, cut // 2) for cut in cuts)


# ------------------------------------------------------------------------------------------- norms


@imports("BatchNormalization")
def import_batch_norm(
    site: Site, x: Node, scale: Node, bias: Node, mean: Node, variance: Node
) -> tuple[Node, ...]:
    """With the running statistics, as after training; of training mode with the batch's."""
    b, epsilon, own = site.build, site.number("epsilon", 1e-5), x.aval.dtype
    if not site.flag("training_mode"):
        vectors = [b.cast(each, own) for each in (scale, bias, mean, variance)]
        return (b("BatchNorm", x, *vectors, axis=1, epsilon=epsilon),)
    axes = tuple(axis for axis in range(len(x.aval.shape)) if axis != 1)
    of_batch = b("ReduceMean", x, axes=axes, keepdims=False)
    shape = (1, -1, *(1,) * (len(axes) - 1))
    column = [of_batch.aval.shape[0] if size == -1 else size for size in shape]
    spread = b("Square", b.sub(x, b.reshape(of_batch, column)))
    its_variance = b("ReduceMean", spread, axes=axes, keepdims=False)
    momentum = site.number("momentum", 0.9)
    found = b("BatchNorm", x, scale, bias, of_batch, its_variance, axis=1, epsilon=epsilon)
    running = [
        b.add(b.mul(old, momentum), b.mul(b.cast(new, old.aval.dtype), 1 - momentum))
        for old, new in ((mean, of_batch), (variance, its_variance))
    ]
    return (found, *running)


@imports("InstanceNormalization")
def import_instance_norm(site: Site, x: Node, scale: Node, bias: Node) -> Node:
    epsilon = site.number("epsilon", 1e-5)
    if scalar_of(scale) == 1 and scalar_of(bias) == 0:
        axes = tuple(range(2, len(x.aval.shape)))
        return site.build("Standardize", x, axes=axes, epsilon=epsilon)
    return site.build("InstanceNorm", x, scale, bias, epsilon=epsilon)


@imports("LayerNormalization")
def import_layer_norm(
    site: Site, x: Node, scale: Node, bias: Node | None = None
) -> tuple[Node, ...] | None:
    """Over the last axis alone it is an operator of ours; else ONNX says it by others."""
    b, epsilon = site.build, site.number("epsilon", 1e-5)
    rank = len(x.aval.shape)
    axis = axis_of(site.integer("axis", -1), rank)
    plain = scale.aval.shape == x.aval.shape[-1:]
    if axis != rank - 1 or site.results > 1 or not plain or scale.aval.dtype != x.aval.dtype:
        return None
    if bias is not None and bias.aval.shape != scale.aval.shape:
        return None
    shift = b.full(scale.aval.shape, 0, scale) if bias is None else bias
    return (b("LayerNorm", x, scale, shift, epsilon=epsilon),)


@imports("Attention", since=23)
def import_attention(
    site: Site, q: Node, k: Node, v: Node, mask: Node | None = None, *others: Node | None
) -> Node | None:
    """As our writer writes it; else as ONNX defines it, which gives 0 where nothing is seen."""
    ours = {"scale", "q_num_heads", "kv_num_heads"} == site.attributes.keys()
    if not (site.ours and ours) or len(q.aval.shape) != 3 or others or site.results > 1:
        return None
    added = () if mask is None else (mask,)
    heads = (site.integer("q_num_heads"), site.integer("kv_num_heads"))
    return site.build("Attention", q, k, v, *added, scale=site.number("scale"), heads=heads)


@imports("RMSNormalization")
def import_rms_norm(site: Site, x: Node, scale: Node) -> Node | None:
    rank = len(x.aval.shape)
    axis = axis_of(site.integer("axis", -1), rank)
    plain = scale.aval.shape == x.aval.shape[-1:] and scale.aval.dtype == x.aval.dtype
    if axis != rank - 1 or not plain:
        return None
    return site.build("RmsNorm", x, scale, axis=axis, epsilon=site.number("epsilon", 1e-5))


@imports("LpNormalization")
def import_lp_norm(site: Site, x: Node) -> Node:
    """0 where all are 0."""
    b, order = site.build, site.integer("p", 2)
    axes = (axis_of(site.integer("axis", -1), len(x.aval.shape)),)
    powers = b("Abs", x) if order == 1 else b("Square", x)
    total = b.sum(powers, axes, keepdims=True)
    norm = total if order == 1 else b("Sqrt", total)
    nothing = b.compare("Equal", norm, 0)
    return b.where(nothing, b.number(0, x), b.div(x, b.where(nothing, b.number(1, x), norm)))


@imports("LRN")
def import_lrn(site: Site, x: Node) -> Node:
    size, beta = site.integer("size"), site.number("beta", 0.75)
    alpha, bias = site.number("alpha", 1e-4), site.number("bias", 1.0)
    return response_normalized(site.build, x, size, alpha / size, bias, beta)


@imports("Softmax", "LogSoftmax", since=13)
def import_softmax(site: Site, x: Node) -> Node:
    axis = axis_of(site.integer("axis", -1), len(x.aval.shape))
    return site.build(site.node.op_type, x, axis=axis)


@imports("Softmax", "LogSoftmax", since=1)
def import_old_softmax(site: Site, x: Node) -> Node:
    """Over all axes from ``axis`` on."""
    b = site.build
    axis = axis_of(site.integer("axis", 1), len(x.aval.shape))
    if axis == len(x.aval.shape) - 1:
        return b(site.node.op_type, x, axis=axis)
    return b.reshape(b(site.node.op_type, flattened(b, x, axis), axis=1), x.aval.shape)


# ------------------------------------------------------------------------------------------- other


@imports("Det")
def import_det(site: Site, x: Node) -> Node:
    """Written out by minors, which a small matrix bears."""
    size = x.aval.shape[-1]
    if size > 8:
        raise Refusal(f"the determinant of {size} rows; it is written out up to 8")
    return _minors(site.build, x, size)


def _minors(b: Builder, x: Node, size: int) -> Node:
    """The sum of the first row times what is left without its row and column."""
    entries = {(i, j): b.at(b.at(x, len(x.aval.shape) - 2, i), len(x.aval.shape) - 2, j)
               for i in range(size) for j in range(size)}  # fmt: skip
    found: dict[tuple[int, ...], Node] = {(j,): entries[size - 1, j] for j in range(size)}
    for row in reversed(range(size - 1)):
        wider: dict[tuple[int, ...], Node] = {}
        for columns in combinations(range(size), size - row):
            terms = [
                b.mul(entries[row, j], found[tuple(c for c in columns if c != j)]) for j in columns
            ]
            total = terms[0]
            for place, term in enumerate(terms[1:], 1):
                total = b.sub(total, term) if place % 2 else b.add(total, term)
            wider[columns] = total
        found = wider
    return found[tuple(range(size))]
