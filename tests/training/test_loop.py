"""The loop: signals, errors, callbacks, evaluation, positions of data, the bar."""

import io
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.checkpoints import pytree
from fnckpt.training import batches
from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy

RARE = CheckpointPolicy(1000)


def step(total: Any, batch: Any) -> tuple[Any, Any]:
    return total + batch, {"loss": batch, "total": total}


def numbers(count: int, at: int = 0, event: Any = None) -> Iterator[np.float32]:
    """1, 2, ...; before item ``at``, ``event()`` happens."""
    for number in range(1, count + 1):
        if number == at:
            event()
        yield np.float32(number)


def send(number: signal.Signals) -> Any:
    return lambda: os.kill(os.getpid(), number)


def fit(data: Any, directory: Path, **options: Any) -> TrainResult:
    given = {"policy": RARE, "directory": directory}
    return train(step, np.float32(0), data, **(given | options))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.ckpt"))


# ---------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_finishes_the_step_saves_and_raises(tmp_path: Path, number, error):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error):
        fit(numbers(8, 5, send(number)), tmp_path)
    assert names(tmp_path) == ["CKP-1_5.ckpt"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    result = fit(list(numbers(8)), tmp_path, resume=True)
    assert float(result.state) == 36
    assert result.history["loss"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_sigterm_ends_the_process_with_143(tmp_path: Path, run_python):
    code = (
        "import os, signal, sys, numpy as np\n"
        "from fnckpt.training.loop import train\n"
        "try: train(lambda s, b: (s + b, b), 0.0, (os.kill(os.getpid(), signal.SIGTERM) or b\n"
        "    for b in [np.float32(1)] * 9))\n"
        "except SystemExit as end: print(end.code)\n"
    )
    assert run_python(code).strip() == "143"


def test_a_handler_of_the_user_is_called_after_the_save(tmp_path: Path):
    called: list[list[str]] = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append(names(tmp_path)))
    try:
        result = fit(numbers(8, 5, send(signal.SIGTERM)), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert called == [["CKP-1_5.ckpt"]]
    assert result.history["loss"].tolist() == [1, 2, 3, 4, 5]


def test_an_ignored_signal_stays_ignored(tmp_path: Path):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        result = fit(numbers(8, 5, send(signal.SIGTERM)), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(result.history["loss"]) == 8


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path):
    def twice() -> None:
        send(signal.SIGINT)()
        send(signal.SIGINT)()

    with pytest.raises(KeyboardInterrupt):
        fit(numbers(8, 5, twice), tmp_path)
    assert names(tmp_path) == []


def test_a_thread_trains_without_handlers(tmp_path: Path):
    results: list[TrainResult] = []
    thread = threading.Thread(target=lambda: results.append(fit(numbers(4), tmp_path)))
    thread.start()
    thread.join()
    assert float(results[0].state) == 10


# ----------------------------------------------------------------------------------------- errors


def fail() -> None:
    raise RuntimeError("it broke")


def not_six(value: np.ndarray) -> np.ndarray:
    if value == 6:
        raise ValueError("six")
    return value


def test_an_error_of_the_data_keeps_what_was_saved(tmp_path: Path):
    with pytest.raises(RuntimeError, match="it broke"):
        fit(numbers(8, 6, fail), tmp_path, policy=CheckpointPolicy(2))
    assert names(tmp_path) == ["CKP-1_2.ckpt", "CKP-1_4.ckpt"]


def test_an_error_inside_the_step_keeps_what_was_saved(tmp_path: Path):
    def risky(total: Any, batch: Any) -> tuple[Any, Any]:
        kind = jax.ShapeDtypeStruct((), jnp.float32)
        return total + jax.pure_callback(not_six, kind, batch), {"loss": batch}

    options: Any = {"policy": CheckpointPolicy(2), "directory": tmp_path}
    with pytest.raises((ValueError, RuntimeError), match="six"):
        train(risky, np.float32(0), numbers(8), **options)
    assert names(tmp_path) == ["CKP-1_2.ckpt", "CKP-1_4.ckpt"]
    assert float(pytree.load_checkpoint(tmp_path / "CKP-1_4.ckpt")[""]) == 10


def test_an_error_of_the_data_saves_the_last_state_when_asked(tmp_path: Path):
    with pytest.raises(RuntimeError, match="it broke") as raised:
        fit(numbers(8, 6, fail), tmp_path, save_on_error=True)
    assert names(tmp_path) == ["CKP-1_5.ckpt"]
    assert "the state before this error is in" in raised.value.__notes__[0]
    assert float(pytree.load_checkpoint(tmp_path / "CKP-1_5.ckpt")[""]) == 15


def test_an_error_inside_the_compiled_step_saves_the_state_before_it(tmp_path: Path):
    def risky(total: Any, batch: Any) -> tuple[Any, Any]:
        batch = jax.pure_callback(not_six, jax.ShapeDtypeStruct((), jnp.float32), batch)
        return total + batch, {"loss": batch}

    options: Any = {"policy": RARE, "directory": tmp_path, "save_on_error": True}
    with pytest.raises((ValueError, RuntimeError), match="six"):
        train(risky, np.float32(0), numbers(8), **options)
    assert names(tmp_path) == ["CKP-1_5.ckpt"]
    assert float(pytree.load_checkpoint(tmp_path / "CKP-1_5.ckpt")[""]) == 15


@pytest.mark.filterwarnings("ignore:directory:UserWarning")  # without a policy it is ignored
@pytest.mark.parametrize("policy", [CheckpointPolicy(None, None), None])
def test_an_error_is_the_users_own_where_nothing_can_be_saved(tmp_path: Path, policy: Any):
    with pytest.raises(RuntimeError, match="it broke"):
        fit(numbers(8, 6, fail), tmp_path, save_on_error=True, policy=policy)
    assert names(tmp_path) == []


@pytest.mark.parametrize("callback", ["on_step", "on_epoch", "on_checkpoint", "eval_fn"])
def test_an_error_of_a_callback_ends_the_training(tmp_path: Path, callback: str):
    with pytest.raises(RuntimeError, match="it broke"):
        fit(numbers(4), tmp_path, **{callback: lambda *_: fail()})
    assert fit(numbers(4), tmp_path).checkpoints[0].name == "CKP_2-1_4.ckpt"


# ------------------------------------------------------------------------------------- saving


def test_files_hold_the_state_of_their_step_though_it_is_donated_at_once(tmp_path: Path):
    """A view of the donated buffer would show a later step."""

    def add(state: Any, batch: Any) -> tuple[Any, Any]:
        return {"w": state["w"] + batch, "key": jax.random.split(state["key"])[0]}, batch

    state = {"w": np.zeros(500_000, np.float32), "key": jax.random.key(0)}
    data = [np.float32(1)] * 12
    train(add, state, data, policy=CheckpointPolicy(1, keep_max=99), directory=tmp_path)
    keys = set()
    for number in range(1, 13):
        stored = pytree.load_checkpoint(tmp_path / f"CKP-1_{number}.ckpt")
        assert (stored["w"] == number).all()
        assert stored["fnckpt.history.steps.loss"].tolist() == [1.0] * number
        keys.add(stored["key"].tobytes())
    assert len(keys) == 12


def test_one_save_at_most_is_in_flight_and_the_order_is_kept(tmp_path: Path):
    flying: list[int] = []
    told: list[str] = []

    def look(number: int, *_: object) -> None:
        """Count the saves under way once that of this step is, which is on another thread."""
        done = tmp_path / f"CKP-1_{number}.ckpt"
        while not (under_way := list(tmp_path.glob(".*.tmp"))) and not done.exists():
            time.sleep(0.0005)
        flying.append(len(under_way))

    state = np.zeros(2_000_000, np.float32)
    train(
        lambda s, b: (s + b, b),
        state,
        [np.float32(1)] * 12,
        policy=CheckpointPolicy(1, keep_max=99),
        directory=tmp_path,
        on_step=look,
        on_checkpoint=lambda path: told.append(path.name),
    )
    assert max(flying) == 1
    assert told == [f"CKP-1_{number}.ckpt" for number in range(1, 13)]
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_the_real_mindspore_reads_a_checkpoint_of_a_training(tmp_path: Path, run_python):
    fit(numbers(4), tmp_path)
    code = (
        "import json, sys, mindspore\n"
        "found = mindspore.load_checkpoint(sys.argv[1])\n"
        "print('found', json.dumps({k: str(v.asnumpy() if hasattr(v, 'asnumpy') else v)\n"
        "                           for k, v in found.items()}))\n"
    )
    printed = run_python(code, tmp_path / "CKP-1_4.ckpt")
    found = json.loads(printed.rpartition("found")[2])
    assert found[""] == "10.0"
    assert found["fnckpt.epoch"] == "1"
    assert found["fnckpt.step"] == "4"
    assert found["fnckpt.history.steps.loss"] == "[1. 2. 3. 4.]"


# ------------------------------------------------------------------------------ history, callbacks


def test_callbacks_are_told_in_order_what_happened(tmp_path: Path):
    told: list[object] = []
    fit(
        [np.float32(1), np.float32(3)],
        tmp_path,
        epochs=2,
        policy=CheckpointPolicy(2),
        async_save=False,
        on_step=lambda number, state, metrics: told.append((number, float(state))),
        on_epoch=lambda number, state, means: told.append((number, dict(means))),
        on_checkpoint=lambda path: told.append(path.name),
    )
    assert told == [
        (1, 1.0),
        "CKP-1_2.ckpt",
        (2, 4.0),
        (1, {"loss": 2.0, "total": 0.5}),
        (3, 5.0),
        "CKP-2_2.ckpt",
        (4, 8.0),
        (2, {"loss": 2.0, "total": 4.5}),
    ]


def test_the_history_has_every_step_and_the_means_of_epochs(tmp_path: Path):
    result = fit(
        [np.float32(1), np.float32(3)], tmp_path, epochs=3, eval_fn=lambda s: {"half": s / 2}
    )
    history = result.history
    assert history.steps["loss"].tolist() == [1, 3, 1, 3, 1, 3]
    assert history.steps["loss"].dtype == np.float32
    assert history.epochs["loss"].tolist() == [2, 2, 2]
    assert history.epochs["eval.half"].tolist() == [2, 4, 6]
    assert history.ends.tolist() == [2, 4, 6]


def test_evaluations_survive_a_resumption(tmp_path: Path):
    data = [np.float32(1), np.float32(3)]
    options: Any = {"eval_fn": lambda s: s, "policy": CheckpointPolicy(2)}
    fit(data, tmp_path, epochs=2, **options)
    result = fit(data, tmp_path, epochs=3, resume=True, **options)
    assert result.history.epochs["eval.loss"].tolist() == [4, 8, 12]


def test_a_long_epoch_does_not_keep_all_its_metrics_on_the_device(tmp_path: Path):
    result = train(step, np.float32(0), [np.float32(i) for i in range(1000)])
    assert result.history["loss"].tolist() == list(range(1000))


def test_integer_and_half_metrics_keep_their_dtype(tmp_path: Path):
    def both(state: Any, batch: Any) -> tuple[Any, Any]:
        return state, {"n": jnp.int32(3), "h": jnp.bfloat16(0.5), "ok": batch > 0}

    options: Any = {"policy": RARE, "directory": tmp_path}
    train(both, 0.0, [np.float32(1)] * 2, **options)
    history = train(both, 0.0, [np.float32(1)] * 2, epochs=2, resume=True, **options).history
    kinds = {name: str(values.dtype) for name, values in history.steps.items()}
    assert kinds == {"n": "int32", "h": "bfloat16", "ok": "bool"}
    assert history.epochs["ok"].tolist() == [1.0, 1.0]


def test_a_result_says_what_was_trained_and_where_the_files_are(tmp_path: Path):
    result = fit(numbers(4), tmp_path)
    lines = repr(result).splitlines()
    assert re.fullmatch(r"  trained: 4 steps, 1 epochs, \d+\.\d s", lines[1])
    assert lines[2] == "  loss: 2.5 in epoch 1, 2.5 in the last"
    assert lines[-2:] == ["  checkpoints: CKP-1_4.ckpt", f"  directory: {tmp_path}"]
    html = result._repr_html_()
    assert html.startswith("<table>")
    assert "CKP-1_4.ckpt" in html


# ------------------------------------------------------------------------------------------- data


class Shuffled:
    """Gives numbers in an order of its own, which goes on from epoch to epoch, and can tell where
    it stands: torchdata's protocol, on the data.
    """

    def __init__(self) -> None:
        self.state, self.at, self.read = 7, 0, 0

    def __iter__(self) -> Iterator[np.float32]:
        while self.at < 6:
            self.state = (self.state * 31 + 1) % 1009
            self.at, self.read = self.at + 1, self.read + 1
            yield np.float32(self.state)
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"state": self.state, "at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.state, self.at = state["state"], state["at"]


class Cursor:
    """An iterator that can tell where it stands: grain's protocol, as bytes."""

    def __init__(self) -> None:
        self.at = self.read = 0

    def __iter__(self) -> "Cursor":
        return self

    def __next__(self) -> np.float32:
        if self.at == 6:
            raise StopIteration
        self.at, self.read = self.at + 1, self.read + 1
        return np.float32(self.at)

    def get_state(self) -> bytes:
        return bytes([self.at])

    def set_state(self, state: bytes) -> None:
        self.at = state[0]


def test_an_iterator_with_a_position_is_moved_there_not_read_over(tmp_path: Path):
    cursors: list[Cursor] = []

    def data(epoch: int) -> Cursor:
        cursors.append(Cursor())
        return cursors[-1]

    def cut(number: int, *_: object) -> None:
        if number == 4:
            fail()

    with pytest.raises(RuntimeError, match="it broke"):
        fit(data, tmp_path, policy=CheckpointPolicy(4), on_step=cut)
    result = fit(data, tmp_path, resume=True)
    assert float(result.state) == 21
    assert [cursor.read for cursor in cursors] == [4, 2]


@pytest.mark.parametrize("last", [4, 6, 8, 12])
def test_data_with_a_position_is_moved_there_not_read_over(tmp_path: Path, last: int):
    whole = fit(Shuffled(), tmp_path / "whole", epochs=3)

    def cut(number: int, *_: object) -> None:
        if number == last:
            fail()

    with pytest.raises(RuntimeError, match="it broke"):
        fit(Shuffled(), tmp_path / "cut", epochs=3, policy=CheckpointPolicy(2), on_step=cut)
    data = Shuffled()
    result = fit(data, tmp_path / "cut", epochs=3, resume=True)
    assert result.history["loss"].tolist() == whole.history["loss"].tolist()
    assert data.read == 18 - last


@pytest.mark.parametrize("position", [{"a": (1, 2)}, {1: 2}, object(), {"a": {1, 2}}])
def test_a_position_that_json_cannot_hold_is_not_stored(position: object):
    assert batches.packed(position) is None


@pytest.mark.parametrize("position", [{"a": [1, None, "x"]}, b"\0\xff", 3, "at"])
def test_a_position_is_restored_as_it_was(position: object):
    assert batches.unpacked(batches.packed(position)) == position


# -------------------------------------------------------------------------------------------- bar


def drawn(tmp_path: Path, **options: Any) -> str:
    screen = io.StringIO()
    with redirect_stderr(screen):
        fit([np.float32(1)] * 3, tmp_path, epochs=2, policy=CheckpointPolicy(2), **options)
    return screen.getvalue()


def test_the_bar_shows_epoch_step_loss_speed_and_the_last_checkpoint(tmp_path: Path):
    lines = re.split(r"[\r\n]", drawn(tmp_path, progress=True))
    text = next(line for line in reversed(lines) if "epoch 2/2" in line)
    for part in ("epoch 2/2", "3/3", "step/s", "loss 1", "saved CKP-"):
        assert part in text


def test_the_bar_names_the_checkpoint_that_was_resumed_from_at_once(tmp_path: Path):
    fit([np.float32(1)] * 3, tmp_path)
    drawn(tmp_path)
    seen: list[str] = []
    screen = io.StringIO()
    options: Any = {"progress": True, "on_step": lambda *_: seen.append(screen.getvalue())}
    with redirect_stderr(screen):
        fit([np.float32(7)] * 3, tmp_path, epochs=3, resume=True, **options)
    assert "saved CKP_2-2_3.ckpt" in seen[0]
    assert "loss 1" in seen[0]


def test_no_bar_is_drawn_where_nobody_looks(tmp_path: Path):
    assert drawn(tmp_path) == ""
    assert drawn(tmp_path, progress=False) == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_looks_for_a_terminal(terminal: bool, tmp_path: Path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    fit([np.float32(1)] * 3, tmp_path)
    assert bool(screen.getvalue()) == terminal
