"""Which axes of a reshape belong together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fnckpt.ir.passes.axes import axes_before, before

SHAPES = [((6, 1, 20), (2, 3, 1, 20)), ((1, 8, 1, 1), (1, 1, 1, 8)), ((2, 3, 4), (6, 4))]


@given(st.sampled_from(SHAPES), st.data())
def test_what_is_repeated_after_a_reshape_is_the_same_before_it(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    source, target = shapes
    small = tuple(data.draw(st.sampled_from([1, size])) for size in target)
    earlier = before(small, source, target)
    if earlier is None:
        return
    x = np.arange(np.prod(source)).reshape(source)
    y = np.arange(np.prod(small)).reshape(small)
    np.testing.assert_array_equal((x + y.reshape(earlier)).reshape(target), x.reshape(target) + y)


@given(st.sampled_from(SHAPES), st.data())
def test_a_sum_over_axes_after_a_reshape_is_the_sum_over_those_before_it(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    source, target = shapes
    axes = tuple(i for i in range(len(target)) if data.draw(st.booleans()))
    earlier = axes_before(axes, source, target)
    if earlier is None:
        return
    x = np.arange(np.prod(source)).reshape(source)
    after = x.reshape(target).sum(axes, keepdims=True)
    assert x.sum(earlier, keepdims=True).ravel().tolist() == after.ravel().tolist()


def test_half_of_a_joined_axis_is_no_axis_before_the_reshape() -> None:
    assert axes_before((2,), (5, 12), (5, 3, 4)) is None
    assert before((4,), (5, 12), (5, 3, 4)) is None
