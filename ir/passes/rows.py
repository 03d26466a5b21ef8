"""Products of rows as they lie, ``[batch, row, size]``, without a reshape around each.

A product with a matrix wants rows, so that the common passes flatten what comes before it. ONNX
Runtime does so itself. One token of a decoder is little work, in which each reshape counts: here
reshapes move towards the outputs, until they meet their inverse.
"""

from fnckpt.ir.attributes import flag, integer
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Rule, rewrites

ELEMENTWISE = ("Add", "Div", "Gelu", "Mul", "Relu", "Sigmoid", "Silu", "Sub", "Tanh")


@rewrites("MatMul")
def multiply_as_it_lies(root: CNode) -> Node | None:
    """rows(x) w is rows(x w)."""
    (x, weight), build = root.inputs, Build(root)
    source = _in_rows(x)
    turned = flag(root, "transpose_a") or flag(root, "transpose_b")
    if source is None or turned or len(weight.aval.shape) != 2:
        return None
    return build.reshape(build("MatMul", source, weight, **root.attrs), root.aval.shape)


@rewrites("Gemm")
def add_as_it_lies(root: CNode) -> Node | None:
    """rows(x) w + rows(y) is rows(x w + y)."""
    (x, weight, other), build = root.inputs, Build(root)
    sources, turned = [_in_rows(x), _in_rows(other)], any(root.attrs.values())
    if turned or sources[0] is None or sources[1] is None or other.aval != root.aval:
        return None
    product = build("MatMul", sources[0], weight, **root.attrs)
    if product.aval != sources[1].aval:
        return None
    return build.reshape(build("Add", product, sources[1]), root.aval.shape)


@rewrites("RmsNorm")
def normalize_as_it_lies(root: CNode) -> Node | None:
    """norm(rows(x)) is rows(norm(x)), along the last axis."""
    source, build = _in_rows(root.inputs[0]), Build(root)
    if source is None or integer(root, "axis") != 1:
        return None
    attrs = {**root.attrs, "axis": len(source.aval.shape) - 1}
    return build.reshape(build("RmsNorm", source, root.inputs[1], **attrs), root.aval.shape)


def compute_as_it_lies(root: CNode) -> Node | None:
    """f(rows(x), rows(y)) is rows(f(x, y)); a number or a vector in place of one stays."""
    sources = [_in_rows(each) for each in root.inputs]
    found = [each for each in sources if each is not None]
    if not found or any(each.aval.shape != found[0].aval.shape for each in found):
        return None
    operands = [a if b is None else b for a, b in zip(root.inputs, sources, strict=True)]
    if any(len(each.aval.shape) > 1 for each in operands if each not in found):
        return None
    build = Build(root)
    return build.reshape(build(root.op, *operands, **root.attrs), root.aval.shape)


def _in_rows(node: Node) -> Node | None:
    """``x[batch, row, size]`` of which ``node`` is the rows."""
    if not isinstance(node, CNode) or node.op != "Reshape" or len(node.aval.shape) != 2:
        return None
    (source,) = node.inputs
    same = len(source.aval.shape) == 3 and source.aval.shape[-1] == node.aval.shape[-1]
    return source if same else None


RULES: tuple[Rule, ...] = (
    multiply_as_it_lies,
    add_as_it_lies,
    normalize_as_it_lies,
    *(rewrites(op)(compute_as_it_lies) for op in ELEMENTWISE),
)
