"""The row of each box: below all that feeds it; what runs in a circle is cut somewhere."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

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
    """What feeds comes first; in a circle the earliest box does."""
    waits = [len(each) for each in before]
    ready = [box for box, count in enumerate(waits) if not count]
    heapify(ready)
    done, order, next_box = set[int](), list[int](), 0
    while len(order) < len(waits):
        while not ready:
            if next_box not in done:
                ready.append(next_box)
            next_box += 1
        box = heappop(ready)
        if box in done:
            continue
        done.add(box)
        order.append(box)
        for b in after[box]:
            waits[b] -= 1
            if not waits[b] and b not in done:
                heappush(ready, b)
    return order
