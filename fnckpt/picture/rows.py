"""The row of each box: below all that feeds it; what runs in a circle is cut somewhere."""

from collections import Counter
from collections.abc import Sequence, Set
from heapq import heapify, heappop, heappush

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fnckpt.picture.boxes import Drawing


def rows_of(drawing: Drawing) -> list[int]:
    """The longest way to each box; what nothing feeds stands just above its first user.

    Entries stay at the top, exits are at the bottom. An edge that closes a circle goes up.
    """
    after, before = _neighbours(drawing)
    rows = [0] * len(drawing.boxes)
    place = {box: i for i, box in enumerate(_order(after, before))}
    for box in sorted(place, key=place.__getitem__):
        rows[box] = max((rows[a] + 1 for a in before[box] if place[a] < place[box]), default=0)
    for box, kind in enumerate(each.kind for each in drawing.boxes):
        if not before[box] and after[box] and kind != "entry":
            rows[box] = max(0, min(rows[b] for b in after[box]) - 1)
    last = max((rows[i] for i, b in enumerate(drawing.boxes) if b.kind != "exit"), default=-1) + 1
    return [last if b.kind == "exit" else r for b, r in zip(drawing.boxes, rows, strict=True)]


def _neighbours(drawing: Drawing) -> tuple[list[list[int]], list[list[int]]]:
    after: list[list[int]] = [[] for _ in drawing.boxes]
    before: list[list[int]] = [[] for _ in drawing.boxes]
    for edge in drawing.edges:
        after[edge.start].append(edge.end)
        before[edge.end].append(edge.start)
    return after, before


def _order(after: Sequence[Sequence[int]], before: Sequence[Sequence[int]]) -> list[int]:
    """What feeds comes first; of a circle that nothing else feeds the earliest box does."""
    waits = [len(each) for each in before]
    ready = [box for box, count in enumerate(waits) if not count]
    heapify(ready)
    circles = _Circles(after)
    done, order = set[int](), list[int]()
    while len(order) < len(waits):
        box = heappop(ready) if ready else circles.earliest(done)
        if box in done:
            continue
        done.add(box)
        order.append(box)
        circles.left(box)
        for b in after[box]:
            waits[b] -= 1
            if not waits[b] and b not in done:
                heappush(ready, b)
    return order


class _Circles:
    """The sets of boxes that feed each other, and how many edges still lead into each."""

    def __init__(self, after: Sequence[Sequence[int]]) -> None:
        self._after = after
        self._of = _circle_of(after)
        self._members: dict[int, list[int]] = {}
        for box, circle in enumerate(self._of):
            self._members.setdefault(circle, []).append(box)
        ends = (b for box, each in enumerate(after) for b in each if self._of[b] != self._of[box])
        self._waits = Counter(self._of[b] for b in ends)
        self._open = [b for c, m in self._members.items() if not self._waits[c] for b in m]
        heapify(self._open)

    def earliest(self, done: Set[int]) -> int:
        """The first box that only its own circle keeps waiting."""
        while True:
            box = heappop(self._open)
            if box not in done:
                return box

    def left(self, box: int) -> None:
        """Count the edges of a box that stands."""
        for b in self._after[box]:
            circle = self._of[b]
            if circle == self._of[box]:
                continue
            self._waits[circle] -= 1
            if not self._waits[circle]:
                for member in self._members[circle]:
                    heappush(self._open, member)


def _circle_of(after: Sequence[Sequence[int]]) -> list[int]:
    """The number of each box's circle; one that is in none has one of its own."""
    count = len(after)
    starts = [box for box, each in enumerate(after) for _ in each]
    ends = [b for each in after for b in each]
    edges = coo_array((np.ones(len(ends), np.int8), (starts, ends)), shape=(count, count))
    return connected_components(edges, connection="strong")[1].tolist()
