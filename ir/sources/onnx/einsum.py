"""Einsum: sums of products over named axes, pair by pair, each pair a product of matrices."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import INT64, Builder, few
from fnckpt.ir.sources.onnx.registry import Site, imports


@dataclass(frozen=True)
class Term:
    """An array whose axes have letters."""

    value: Node
    letters: str


@imports("Einsum")
def import_einsum(site: Site, *inputs: Node) -> Node:
    b = site.build
    parts, wanted = equation(site.text("equation"), [len(x.aval.shape) for x in inputs])
    terms = [diagonal(b, Term(x, letters)) for x, letters in zip(inputs, parts, strict=True)]
    whole = terms[0]
    for place, term in enumerate(terms[1:], 1):
        later = "".join(each.letters for each in terms[place + 1 :]) + wanted
        whole = product(b, whole, term, later)
    over = [axis for axis, letter in enumerate(whole.letters) if letter not in wanted]
    left = "".join(letter for letter in whole.letters if letter in wanted)
    value = b.sum(whole.value, over) if over else whole.value
    return b.transpose(value, [left.index(letter) for letter in wanted])


def equation(text: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each input and of the result; what ``...`` stands for are capitals.

    >>> equation("...ij,...jk", [3, 3])
    (['Zij', 'Zjk'], 'Zik')
    """
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    counts = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    dots = ["".join(chr(ord("Z") - i) for i in reversed(range(n))) if "..." in term else ""
            for term, n in zip(terms, counts, strict=True)]  # fmt: skip
    found = [term.replace("...", d) for term, d in zip(terms, dots, strict=True)]
    longest = max(dots, key=len)
    if arrow:
        return found, right.replace("...", longest)
    counted = Counter(letter for term in terms for letter in term.replace("...", ""))
    return found, longest + "".join(sorted(c for c, n in counted.items() if n == 1))


def diagonal(b: Builder, term: Term) -> Term:
    """A letter that stands twice is one axis: where both are equal."""
    value, letters = term.value, term.letters
    while len(set(letters)) < len(letters):
        letter = next(c for c in letters if letters.count(c) > 1)
        first, second = (i for i, c in enumerate(letters) if c == letter and i in
                         [k for k, each in enumerate(letters) if each == letter][:2])  # fmt: skip
        order = [first, second, *(i for i in range(len(letters)) if i not in (first, second))]
        size = value.aval.shape[first]
        few(size)
        places = np.stack([np.arange(size)] * 2, -1)
        value = b("GatherNd", b.transpose(value, order), b.constant(places, INT64))
        letters = letter + "".join(letters[i] for i in order[2:])
    return Term(value, letters)


def product(b: Builder, x: Term, y: Term, later: str) -> Term:
    """Two terms as one: letters that nobody needs later are summed over."""
    x, y = (alone(b, each, other.letters + later) for each, other in ((x, y), (y, x)))
    both = [c for c in x.letters if c in y.letters]
    batch = [c for c in both if c in later]
    inner = [c for c in both if c not in later]
    rows = [c for c in x.letters if c not in both]
    columns = [c for c in y.letters if c not in both]
    sizes: dict[str, int] = {}
    for term in (x, y):
        for letter, size in zip(term.letters, term.value.aval.shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    left = matrix(b, x, (batch, rows, inner), sizes)
    right = matrix(b, y, (batch, inner, columns), sizes)
    found = b.matmul(left, right)
    letters = [*batch, *rows, *columns]
    return Term(b.reshape(found, [sizes[c] for c in letters]), "".join(letters))


def alone(b: Builder, term: Term, needed: str) -> Term:
    """A term summed over the letters that stand nowhere else."""
    over = [axis for axis, letter in enumerate(term.letters) if letter not in needed]
    if not over:
        return term
    left = "".join(letter for letter in term.letters if letter in needed)
    return Term(b.sum(term.value, over), left)


def matrix(b: Builder, term: Term, groups: Sequence[Sequence[str]], sizes: dict[str, int]) -> Node:
    """A term with the letters of each group as one axis; the first ones stay apart."""
    order = [letter for group in groups for letter in group]
    turned = b.transpose(term.value, [term.letters.index(c) for c in order])
    whole = b.broadcast(turned, [sizes[c] for c in order])
    batch, rows, columns = groups
    ends = [math.prod(sizes[c] for c in group) for group in (rows, columns)]
    return b.reshape(whole, [*(sizes[c] for c in batch), *ends])
