"""Causal attention to a cache and to new tokens, with the cache's new arrays, as one operator.

``softmax(mask(q k^T * scale)) v`` of ``k = concat(past_k, new_k)``, and of ``v`` alike, whatever
way the heads are split, repeated and merged: the axes are followed by name. The mask must hide what
comes after each query, which is shown by its places. A window goes into the operator, and what is
left, as padding, is added. A query that sees nothing is padding itself: the operator gives the mean
of the values before it and JAX the mean of all. What is padding nobody looks at.

The cache is used in several places (an output has it too), so that this is a pass, not a rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fnckpt.ir.graph import CNode, Constant, FuncGraph, Node, Parameter, inputs_of, rebuilt
from fnckpt.ir.operators import item
from fnckpt.ir.passes.attention import HIDDEN
from fnckpt.ir.passes.build import FLOAT32, Build
from fnckpt.ir.passes.masks import KEY, QUERY, Places, seen_of
from fnckpt.ir.passes.named_axes import MOVES, Axes, Names, below, flat
from fnckpt.ir.passes.reshape import reshaped, transposed
from fnckpt.ir.passes.scores import (
    CACHED,
    KEYS,
    QUERIES,
    Cached,
    Scores,
    axes_of,
    cached,
    chain_to,
    multiple_of,
    scores_of,
)
from fnckpt.ir.sizes import InconclusiveDimensionOperation


@dataclass(frozen=True)
class Site:
    """An attention: ``root`` has its result, with the axes of ``QUERIES`` in order."""

    root: CNode
    q: Node
    k: Cached
    v: Cached
    scores: Scores
    names: Names


def cached_attention(graph: FuncGraph) -> FuncGraph:
    """Each attention to a cache as one operator that gives the new cache too."""
    tried: dict[int, Node] = {}  # an id is good for as long as its node lives
    while True:
        found = _first(graph, tried)
        if found is None:
            return graph
        graph = found


def caches_of(graph: FuncGraph) -> list[Parameter]:
    """The inputs that are nothing but the past of an attention: they may be longer than it."""
    users = _users(graph)

    def is_past(node: Node) -> bool:
        found = users.get(id(node), [])
        return bool(found) and all(
            user is not None
            and user.op == "CachedAttention"
            and [i for i, each in enumerate(user.inputs) if each is node] in ([3], [4])
            for user in found
        )

    return [each for each in graph.inputs if is_past(each)]


def _first(graph: FuncGraph, tried: dict[int, Node]) -> FuncGraph | None:
    """``graph`` with one attention more, of those that start at a softmax not yet tried."""
    users = _users(graph)
    for node in graph.cnodes():
        if node.op != "Softmax" or id(node) in tried:
            continue
        try:
            site = _site(node, users)
            found = site and _joined(graph, site)
        except InconclusiveDimensionOperation:
            found = None
        if found is not None:
            return found
        tried[id(node)] = node
    return None


def _users(graph: FuncGraph) -> Mapping[int, list[CNode | None]]:
    """Who uses each node; None is the graph itself."""
    users: dict[int, list[CNode | None]] = {}
    for node in graph.cnodes():
        for each in node.inputs:
            users.setdefault(id(each), []).append(node)
    for each in graph.outputs:
        users.setdefault(id(each), []).append(None)
    return users


def _site(softmax: CNode, users: Mapping[int, list[CNode | None]]) -> Site | None:
    chain = chain_to(softmax.inputs[0])
    weighted = _weighted(softmax, users)
    if chain is None or weighted is None or softmax.aval.dtype != FLOAT32:
        return None
    product, values = chain[0], _cached_below(weighted[-1])
    operands = [multiple_of(each) for each in product.inputs]
    keys = [_cached_below(base) for base, _ in operands]
    places = [i for i, key in enumerate(keys) if key is not None]
    if len(places) != 1 or values is None:
        return None
    at = places[0]
    key, query = keys[at], below(operands[1 - at][0])[0]
    names = _names(query, key, values)
    if names is None or key is None:
        return None
    factor = operands[0][1] * operands[1][1]
    axes = [axes_of(operand, names) for operand in product.inputs]
    scores = scores_of(chain, axes, names, factor)
    root = scores and _root(softmax, weighted, scores, names, users)
    return Site(root, query, key, values, scores, names) if root and scores else None


def _weighted(softmax: CNode, users: Mapping[int, list[CNode | None]]) -> list[Node] | None:
    """The nodes from the softmax to the product with the values, and the values."""
    path: list[Node] = [softmax]
    if softmax.attrs["axis"] != len(softmax.aval.shape) - 1:
        return None
    while True:
        last = path[-1]
        user = _only(users.get(id(last), []))
        if user is None:
            return None
        path.append(user)
        if user.op == "MatMul":
            values = [each for each in user.inputs if each is not last]
            return [*path, *values] if len(values) == 1 else None
        if user.op not in MOVES:
            return None


def _only(users: Sequence[CNode | None]) -> CNode | None:
    """The one operator that uses a value, if no other and no output does."""
    return users[0] if len(users) == 1 else None


def _cached_below(node: Node) -> Cached | None:
    return cached(below(node)[0])


def _names(query: Node, key: Cached | None, value: Cached) -> Names | None:
    """How long each axis is, if queries and cache fit each other."""
    if key is None or key.past.aval != value.past.aval:
        return None
    batch, groups, past, size = key.past.aval.shape
    rows = key.new.aval.shape[key.axes.index("t")]
    rest = query.aval.size
    repeats = [r for r in range(1, 129) if rest == batch * rows * groups * r * size]
    if not repeats or value.new.aval.shape[value.axes.index("t")] != rows:
        return None
    lengths = (batch, rows, groups, repeats[0], size, past + rows)
    return Names(dict(zip("bsgrdt", lengths, strict=True)))


def _root(
    softmax: CNode,
    weighted: Sequence[Node],
    scores: Scores,
    names: Names,
    users: Mapping[int, list[CNode | None]],
) -> CNode | None:
    """The node that has the result with its axes in order."""
    wanted = tuple(name for name in (KEY,) if names.sizes[name] != 1)
    axes: Axes | None = scores.axes
    if axes[-1] != wanted:
        return None
    *path, product, values = weighted
    for node in path[1:]:
        assert isinstance(node, CNode)
        axes = axes and names.moved(axes, node)
    of_values = axes_of(values, names)
    if axes is None or of_values is None or not isinstance(product, CNode):
        return None
    turned = product.inputs[0] is values
    both = (of_values, axes) if turned else (axes, of_values)
    axes, node = names.product(product, *both, KEY), product
    order = tuple(name for name in QUERIES if names.sizes[name] != 1)
    while axes is not None and flat(axes) != order:
        following = _only(users.get(id(node), []))
        if following is None or following.op not in MOVES:
            return None
        node, axes = following, names.moved(axes, following)
    return node if axes is not None else None


def _joined(graph: FuncGraph, site: Site) -> FuncGraph | None:
    """``graph`` with one operator for the attention of ``site``, and for its cache."""
    names, build = site.names, Build(site.root)
    mask = _mask(site)
    key, value = (_caches(graph, each) for each in (site.k, site.v))
    news = [_new_tokens(each, names, build) for each in (site.k, site.v)]
    if mask is None or key is None or value is None or None in news:
        return None
    window, added = mask
    batch, rows, groups, repeats, size = (names.sizes[name] for name in QUERIES)
    heads = groups * repeats
    queries = reshaped(site.q, (batch, rows, heads * size), site.root)
    node = build(
        "CachedAttention",
        queries, *(each for each in news if each is not None), site.k.past, site.v.past, *added,
        scale=site.scores.factor, heads=(heads, groups), window=window, cap=site.scores.cap,
    )  # fmt: skip
    new: dict[int, Node] = {id(site.root): reshaped(item(node, 0), site.root.aval.shape, site.root)}
    for i, caches in ((1, key), (2, value)):
        present = item(node, i)
        for each in caches:
            perm = tuple(CACHED.index(name) for name in each.axes)
            new[id(each.node)] = transposed(present, perm, each.node)
    return _with(graph, new)


def _mask(site: Site) -> tuple[int, list[Node]] | None:
    """The window, and what is added to the products; None where the future is not hidden."""
    sizes = site.names.sizes
    rows, keys = sizes[QUERY], sizes[KEY]
    seen = seen_of(site.scores.conditions, keys)
    if seen is None or seen.ahead is None or seen.ahead != keys - rows:
        return None
    window = 0 if seen.back is None else keys - rows + 1 - seen.back
    if seen.back is not None and not (isinstance(window, int) and window > 0):
        return None
    if not seen.conditions:
        return window, []
    build = Build(site.root)
    parts = [_apart(build, *each, sizes) for each in seen.conditions]
    if any(each is None for each in parts):
        return None
    where, *others = [each for each in parts if each is not None]
    for each in others:
        where = build("LogicalAnd", where, each)
    zero, hidden = (Constant(np.array(number, np.float32)) for number in (0, HIDDEN))
    added = build.where(where, zero, hidden)
    batch = added.aval.shape[0]
    return window, [build.broadcast(added, (batch, 1, rows, keys))]


def _apart(build: Build, node: Node, names: Places, sizes: Mapping[str, int]) -> Node | None:
    """A condition as ``[batch, 1, rows, keys]``, or 1 in place of each."""
    found = [name for name in names if name]
    if found != [name for name in ("b", QUERY, KEY) if name in found]:
        return None
    batch, row, key = (sizes[name] if name in found else 1 for name in ("b", QUERY, KEY))
    return build.reshape(node, (batch, 1, row, key))


def _caches(graph: FuncGraph, own: Cached) -> list[Cached] | None:
    """Every place where the cache gets the same new tokens."""
    every = [each for each in map(cached, graph.cnodes()) if each and each.past is own.past]
    same = below(own.new)[0]
    return every if all(below(each.new)[0] is same for each in every) else None


def _new_tokens(own: Cached, names: Names, build: Build) -> Node | None:
    """The new keys or values as ``[batch, rows, heads * size]``."""
    base, path = below(own.new)
    lengths = Names({**names.sizes, "t": names.sizes["s"]})
    axes = lengths.of(KEYS, base.aval.shape)
    for each in path:
        axes = axes and lengths.moved(axes, each)
    wanted = own.axes.replace("t", "s")
    if axes is None or flat(axes) != tuple(n for n in wanted if lengths.sizes[n] != 1):
        return None
    batch, rows, groups, size = (names.sizes[name] for name in KEYS)
    return build.reshape(base, (batch, rows, groups * size))


def _with(graph: FuncGraph, new: Mapping[int, Node]) -> FuncGraph:
    """``graph`` with other nodes in place of some, which may use nodes of ``graph``."""
    done: dict[int, Node] = {}
    for node in _ordered(graph, new):
        instead = new.get(id(node))
        done[id(node)] = rebuilt(node, done) if instead is None else done[id(instead)]
    return replace(graph, outputs=tuple(done[id(node)] for node in graph.outputs))


def _ordered(graph: FuncGraph, new: Mapping[int, Node]) -> list[Node]:
    """Every node that is needed, each after what it uses or what stands in its place."""
    order: list[Node] = []
    seen: set[int] = set()
    for output in graph.outputs:
        stack: list[tuple[Node, Iterator[Node]]] = [(output, iter(_uses(output, new)))]
        while stack:
            node, rest = stack[-1]
            following = (
                None if id(node) in seen else next((n for n in rest if id(n) not in seen), None)
            )
            if following is not None:
                stack.append((following, iter(_uses(following, new))))
                continue
            stack.pop()
            if id(node) not in seen:
                seen.add(id(node))
                order.append(node)
    return order


def _uses(node: Node, new: Mapping[int, Node]) -> tuple[Node, ...]:
    return (new[id(node)],) if id(node) in new else inputs_of(node)
