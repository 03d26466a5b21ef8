"""Where boxes lie: in rows by the longest way from an input, the rows ordered by what feeds them.

The method of Sugiyama, Tagawa and Toda (1981), with edges over several rows kept free by places
of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fnckpt.picture.drawing import Drawing

ROW, GAP, LETTER, HEIGHT, LANE = 58, 18, 7.2, 30, 10
SWEEPS = 4
MOST_LANES, SHORT = 20_000, 4  # over these rows an edge has places of its own in any graph

Point = tuple[float, float]


@dataclass(frozen=True)
class Placed:
    """The centre and width of each box, the way of each edge, and the size of the whole."""

    centres: tuple[Point, ...]
    widths: tuple[float, ...]
    ways: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def layout(drawing: Drawing) -> Placed:
    """The drawing in rows, from the top down."""
    rows = _rows(drawing)
    widths = [max(46.0, len(box.label) * LETTER + 20) for box in drawing.boxes]
    lanes, chains = _lanes(drawing, rows, widths)
    order = _ordered(lanes, chains)
    x = _across(order, lanes)
    whole = max((x[i] + lanes[i][1] / 2 for i in range(len(lanes))), default=0) + GAP
    points = [(x[i], ROW * row + ROW / 2) for i, (row, _) in enumerate(lanes)]
    ways = tuple(tuple(points[i] for i in chain) for chain in chains)
    count = len(drawing.boxes)
    height = ROW * (1 + max((row for row, _ in lanes), default=0))
    return Placed(tuple(points[:count]), tuple(widths), ways, whole, height)


def _rows(drawing: Drawing) -> list[int]:
    """The longest way to each box; an edge that goes back in the order of computation is none."""
    rows = [0] * len(drawing.boxes)
    forward: dict[int, list[int]] = {}
    for a, b in drawing.edges:
        if a < b:
            forward.setdefault(b, []).append(a)
    for box in range(len(rows)):
        rows[box] = max((rows[a] + 1 for a in forward.get(box, ())), default=0)
    return rows


def _lanes(
    drawing: Drawing, rows: Sequence[int], widths: Sequence[float]
) -> tuple[list[tuple[int, float]], list[list[int]]]:
    """Row and width of every box and of every place that an edge passes; the way of each edge."""
    lanes = list(zip(rows, widths, strict=True))
    chains = []
    free = sum(max(0, rows[b] - rows[a] - 1) for a, b in drawing.edges) <= MOST_LANES
    for a, b in drawing.edges:
        first = len(lanes)
        if free or rows[b] - rows[a] <= SHORT:  # else an edge of one curve, over what is there
            lanes += [(row, float(LANE)) for row in range(rows[a] + 1, rows[b])]
        chains.append([a, *range(first, len(lanes)), b])
    return lanes, chains


def _ordered(
    lanes: Sequence[tuple[int, float]], chains: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Each row from left to right, by the mean place of what it is joined to."""
    order: list[list[int]] = [[] for _ in range(1 + max((row for row, _ in lanes), default=0))]
    for i, (row, _) in enumerate(lanes):
        order[row].append(i)
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for chain in chains:
        for a, b in pairwise(chain):
            above.setdefault(b, []).append(a)
            below.setdefault(a, []).append(b)
    for sweep in range(SWEEPS):
        joined, rows = (above, order) if sweep % 2 == 0 else (below, order[::-1])
        place = {i: n for row in order for n, i in enumerate(row)}
        for row in rows:
            means = {i: _mean([place[j] for j in joined.get(i, ())], place[i]) for i in row}
            row.sort(key=means.__getitem__)
            place |= {i: n for n, i in enumerate(row)}
    return order


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _across(order: Sequence[Sequence[int]], lanes: Sequence[tuple[int, float]]) -> dict[int, float]:
    """The centre of each place: rows are centred over each other."""
    sizes = [sum(lanes[i][1] + GAP for i in row) for row in order]
    widest, x = max(sizes, default=0), {}
    for row, size in zip(order, sizes, strict=True):
        left = GAP + (widest - size) / 2
        for i in row:
            x[i] = left + lanes[i][1] / 2
            left += lanes[i][1] + GAP
    return x
