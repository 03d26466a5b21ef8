"""A run belongs to one process from the moment that its name is there, and its graph is whole."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fnckpt.training.saving import store
from fnckpt.training.saving.store import Checkpoint, Run

GRAPH = b"a graph" * 1000


def write_graph(path: Path) -> None:
    path.write_bytes(GRAPH)


def test_a_run_is_live_as_soon_as_its_name_is_there(tmp_path: Path) -> None:
    with store.claimed(tmp_path, "a", write_graph) as run:
        assert store.is_live(run)
        assert store.abandoned(tmp_path, "a") is None
        assert run.graph.read_bytes() == GRAPH
    assert store.abandoned(tmp_path, "a") == run


def test_a_graph_that_a_kill_left_empty_is_written_by_who_takes_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, "a")
    run.graph.touch()
    with store.hold(run, write_graph):
        assert run.graph.read_bytes() == GRAPH
        assert store.is_live(run)
        with pytest.raises(BlockingIOError), store.hold(run):
            pass
    assert not store.is_live(run)
    assert os.listdir(tmp_path) == ["a-graph.meta"]


def test_an_abandoned_run_that_another_process_took_meanwhile_is_not_taken(tmp_path: Path) -> None:
    abandoned = store.claim(tmp_path, "a", write_graph)
    with store.hold(abandoned), store.taken(abandoned, tmp_path, "a", write_graph) as run:
        assert run.number == 2
    abandoned.path(Checkpoint(1, 1)).touch()  # it took it, and has ended
    with store.taken(abandoned, tmp_path, "a", write_graph) as run:
        assert run.number == 3


def test_an_abandoned_run_is_taken_by_one_at_a_time(tmp_path: Path) -> None:
    abandoned = store.claim(tmp_path, "a", write_graph)
    with store.taken(abandoned, tmp_path, "a", write_graph) as run:
        assert run == abandoned
        with store.taken(abandoned, tmp_path, "a", write_graph) as other:
            assert other.number == 2


def test_a_temporary_graph_of_a_claim_under_way_is_not_stale(tmp_path: Path) -> None:
    removed: list[Path] = []

    def written(path: Path) -> None:
        write_graph(path)
        if not removed:  # another run starts beside this one at the worst moment
            removed.extend(store.remove_stale(tmp_path, "a"))

    with store.claimed(tmp_path, "a", written) as run:
        assert removed
        assert run.graph.read_bytes() == GRAPH
        assert store.remove_stale(tmp_path, "a") == []


def test_runs_are_claimed_where_the_file_system_has_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    for number in (1, 2):
        with store.claimed(tmp_path, "a", write_graph) as run:
            assert run.number == number
            assert store.is_live(run)
            assert run.graph.read_bytes() == GRAPH
    assert sorted(os.listdir(tmp_path)) == ["a-graph.meta", "a_2-graph.meta"]


BESIDE = """
import sys, time
from pathlib import Path
from fnckpt.training.saving import store
directory, start, resume = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
write = lambda path: path.write_bytes(b"graph" * 20_000)
while time.time() < start: pass
run = store.abandoned(directory, "a") if resume else None
store.remove_stale(directory, "a")
with store.taken(run, directory, "a", write) as run:
    print(run.number, flush=True)
    sys.stdin.read()
"""


@contextmanager
def beside(directory: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    start = str(time.time() + 4)
    command = [sys.executable, "-c", BESIDE, str(directory), start]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen([*command, str(i % 2)], **pipes) for i in range(count)]
    try:
        yield children
    finally:
        for child in children:
            child.communicate()


def test_processes_that_start_and_resume_side_by_side_never_share_a_run(tmp_path: Path) -> None:
    with beside(tmp_path, 8) as children:
        numbers = [int(child.stdout.readline()) for child in children if child.stdout]
    assert len(set(numbers)) == 8


KILLED = """
import sys
from pathlib import Path
from fnckpt.files import replacing
from fnckpt.training.saving import store
def write(path):
    with replacing(path) as file:
        file.write(b"graph" * 20_000)
print("ready", flush=True)
for _ in range(100_000):
    with store.claimed(Path(sys.argv[1]), "a", write): pass
"""


def test_a_kill_at_any_moment_of_a_claim_leaves_whole_graphs_alone(tmp_path: Path) -> None:
    chance = random.Random(0)
    for trial in range(6):
        folder = tmp_path / str(trial)
        folder.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, folder], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0.01, 0.1))
            child.send_signal(signal.SIGKILL)
        assert {path.stat().st_size for path in folder.glob("a*.meta")} <= {100_000}
        store.remove_stale(folder, "a")
        assert list(folder.glob(".*")) == []
