"""Where boxes lie: in rows by the longest way from an input, the rows ordered by what feeds them.

The method of Sugiyama, Tagawa and Toda (1981): edges over several rows are kept free by places of
their own. A box lies as near to the middle of its neighbours as the others in its row allow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from fnckpt.picture.boxes import Drawing
from fnckpt.picture.rows import rows_of

HEIGHT, BETWEEN, GAP, LETTER, LANE = 30, 30, 18, 6.6, 8  # BETWEEN rows, GAP in a row
SWEEPS = 6
LONGEST = 40  # rows that an edge is led through; longer ones go straight, so that work is linear

Point = tuple[float, float]


@dataclass(frozen=True)
class Way:
    """An edge: the middle of each place that it passes in the rows between its ends."""

    start: int
    end: int
    lanes: tuple[float, ...]


@dataclass(frozen=True)
class Placed:
    """The row, middle and width of each box, the way of each edge, and the size of the whole."""

    rows: tuple[int, ...]
    middles: tuple[float, ...]
    widths: tuple[float, ...]
    ways: tuple[Way, ...]
    width: float
    height: float


@dataclass(frozen=True)
class _Lanes:
    """Boxes and the places of edges, alike: row and width of each, and the neighbours."""

    rows: Sequence[int]
    widths: Sequence[float]
    above: Sequence[Sequence[int]]
    below: Sequence[Sequence[int]]
    boxes: int


def layout(drawing: Drawing) -> Placed:
    """The drawing in rows, from the top down."""
    rows = rows_of(drawing)
    widths = [max(46.0, len(box.label) * LETTER + 20) for box in drawing.boxes]
    chains, lanes = _lanes(drawing, rows, widths)
    order = _ordered(lanes)
    x = _across(order, lanes)
    left = min((x[i] - lanes.widths[i] / 2 for i in range(len(x))), default=0.0) - GAP
    x = [each - left for each in x]
    ways = tuple(Way(c[0], c[-1], tuple(x[i] for i in c[1:-1])) for c in chains)
    width = max((x[i] + lanes.widths[i] / 2 for i in range(len(x))), default=0.0) + GAP
    height = (1 + max(rows, default=0)) * (HEIGHT + BETWEEN)
    count = len(drawing.boxes)
    return Placed(tuple(rows), tuple(x[:count]), tuple(widths), ways, width, height)


def _lanes(
    drawing: Drawing, rows: Sequence[int], widths: Sequence[float]
) -> tuple[list[list[int]], _Lanes]:
    all_rows, all_widths, chains = list(rows), list(widths), list[list[int]]()
    for edge in drawing.edges:
        between = range(rows[edge.start] + 1, rows[edge.end])
        if len(between) > LONGEST:
            between = range(0)
        first = len(all_rows)
        all_rows += between
        all_widths += [LANE] * len(between)
        chains.append([edge.start, *range(first, len(all_rows)), edge.end])
    above: list[list[int]] = [[] for _ in all_rows]
    below: list[list[int]] = [[] for _ in all_rows]
    for a, b in (pair for chain in chains for pair in pairwise(chain)):
        if all_rows[b] == all_rows[a] + 1:
            above[b].append(a)
            below[a].append(b)
    return chains, _Lanes(all_rows, all_widths, above, below, len(rows))


def _ordered(lanes: _Lanes) -> list[list[int]]:
    """Each row from left to right, by the mean place of what it is joined to."""
    order: list[list[int]] = [[] for _ in range(1 + max(lanes.rows, default=0))]
    for i, row in enumerate(lanes.rows):
        order[row].append(i)
    place = [0.0] * len(lanes.rows)
    for row in order:
        _number(row, place)
    for sweep in range(SWEEPS):
        joined, rows = (lanes.above, order) if sweep % 2 == 0 else (lanes.below, order[::-1])
        for row in rows:
            means = {i: _mean((place[j] for j in joined[i]), place[i]) for i in row}
            row.sort(key=means.__getitem__)
            _number(row, place)
    return order


def _number(row: Sequence[int], place: list[float]) -> None:
    """Places from 0 to 1, so that rows of any length compare."""
    for n, i in enumerate(row):
        place[i] = (n + 0.5) / len(row)


def _mean(numbers: Iterable[float], otherwise: float) -> float:
    values = list(numbers)
    return sum(values) / len(values) if values else otherwise


def _across(order: Sequence[Sequence[int]], lanes: _Lanes) -> list[float]:
    """The middle of each place: near its neighbours, and clear of those in its row."""
    x = [0.0] * len(lanes.rows)
    for sweep in range(SWEEPS + 1):
        down = sweep % 2 == 0
        joined, rows = (lanes.above, order) if down else (lanes.below, order[::-1])
        for row in rows:
            wished = [_mean((x[j] for j in joined[i]), x[i]) for i in row]
            weights = [1.0 if i < lanes.boxes else 4.0 for i in row]  # long edges are straight
            sizes = [lanes.widths[i] + GAP for i in row]
            for i, found in zip(row, spread(wished, weights, sizes), strict=True):
                x[i] = found
    return x


def spread(
    wished: Sequence[float], weights: Sequence[float], sizes: Sequence[float]
) -> list[float]:
    """The middles nearest to those wished for (least squares) that do not overlap, in order.

    Without the sizes this is isotonic regression; pools of adjacent violators, linear in time.

    >>> spread([0, 0], [1, 1], [10, 10])
    [-5.0, 5.0]
    """
    offsets = [0.0, *accumulate((a + b) / 2 for a, b in pairwise(sizes))][: len(sizes)]
    pools: list[tuple[float, float, int]] = []  # mean, weight, count
    for wish, weight, offset in zip(wished, weights, offsets, strict=True):
        mean, total, count = wish - offset, weight, 1
        while pools and pools[-1][0] > mean:
            other, more, n = pools.pop()
            mean = (mean * total + other * more) / (total + more)
            total, count = total + more, count + n
        pools.append((mean, total, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
