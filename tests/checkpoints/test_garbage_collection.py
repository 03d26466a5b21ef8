"""The collector is as it was when all threads that had put it off are done."""

import gc
import threading

import pytest

from fnckpt.checkpoints.garbage_collection import uncollected


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_after_blocks_that_overlap(enabled: bool) -> None:
    entered, leave = threading.Event(), threading.Event()

    def inner() -> None:
        with uncollected():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=inner)
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with uncollected():
            thread.start()
            entered.wait(10)
        assert not gc.isenabled()  # the other block goes on
        leave.set()
        thread.join()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
