"""Losses."""

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import INT64
from fnckpt.ir.sources.composed import combined, smooth_l1
from fnckpt.ir.sources.mindir.registry import Site, Value, imports
from fnckpt.ir.sources.source import Refusal

LOG_FLOOR = 1e-12  # added to what BinaryCrossEntropy takes a logarithm of


@imports("SmoothL1Loss")
def import_smooth_l1(
    site: Site, x: Node, y: Node, beta: Value = None, reduction: Value = None
) -> Node:
    b = site.build
    limit = float(site.attributes.get("beta", 1.0) if beta is None else beta)
    how = site.attributes.get("reduction", "none") if reduction is None else reduction
    return combined(b, smooth_l1(b, x, y, limit), reduction_of(how))


@imports("BCEWithLogitsLoss")
def import_bce(
    site: Site, x: Node, y: Node, weight: Value = None, positive: Value = None,
    reduction: Value = None,
) -> Node:  # fmt: skip
    b = site.build
    how = site.attributes.get("reduction", "mean") if reduction is None else reduction
    of_one = b("Softplus", b("Neg", x))
    if positive is not None:
        of_one = b.mul(of_one, positive)
    rest = b.mul(b.sub(b.number(1, y), y), b("Softplus", x))
    found = b.add(b.mul(y, of_one), rest)
    return combined(b, found if weight is None else b.mul(found, weight), reduction_of(how))


def reduction_of(how: Value) -> str:
    """How losses are combined: by name, or by number in this order."""
    return how if isinstance(how, str) else ("sum", "mean", "none")[int(how)]


def how_of(site: Site, given: Value) -> str:
    """How the losses of a primitive are combined."""
    return reduction_of(site.attributes.get("reduction", "mean") if given is None else given)


@imports("BinaryCrossEntropy")
def import_binary_cross_entropy(
    site: Site, x: Node, y: Node, weight: Value = None, reduction: Value = None
) -> Node:
    b = site.build
    of_one = b.mul(y, b("Log", b.add(x, LOG_FLOOR)))
    rest = b.sub(b.number(1, x), x)
    of_zero = b.mul(b.sub(b.number(1, y), y), b("Log", b.add(rest, LOG_FLOOR)))
    found = b("Neg", b.add(of_one, of_zero))
    return combined(b, found if weight is None else b.mul(found, weight), how_of(site, reduction))


@imports("KLDivLoss")
def import_kl_div(site: Site, x: Node, y: Node, reduction: Value = None) -> Node:
    """``y * (log(y) - x)``, 0 where ``y`` is; ``x`` is a logarithm already."""
    b, how = site.build, how_of(site, reduction)
    positive = b.compare("Greater", y, 0)
    safe = b.where(positive, y, 1)
    found = b.where(positive, b.mul(y, b.sub(b("Log", safe), x)), 0)
    if how == "batchmean":
        return b.div(combined(b, found, "sum"), x.aval.shape[0])
    return combined(b, found, how)


@imports("SoftmaxCrossEntropyWithLogits")
def import_softmax_cross_entropy(site: Site, x: Node, y: Node) -> tuple[Node, Node]:
    """The loss of each row, and its slope."""
    b, last = site.build, len(x.aval.shape) - 1
    chances = b("LogSoftmax", x, axis=last)
    loss = b("Neg", b.sum(b.mul(y, chances), (last,)))
    return loss, b.sub(b("Exp", chances), y)


@imports("SparseSoftmaxCrossEntropyWithLogits")
def import_sparse_cross_entropy(site: Site, x: Node, at: Node) -> Node:
    """The mean loss of the classes that ``at`` names."""
    b = site.build
    if site.attributes.get("is_grad"):
        raise Refusal("it is the slope of a loss; take it with jax.grad")
    chances = b("LogSoftmax", x, axis=len(x.aval.shape) - 1)
    chosen = b("GatherElements", chances, b.unsqueeze(b.cast(at, INT64), 1), axis=1)
    return b("Neg", combined(b, chosen, "mean"))
