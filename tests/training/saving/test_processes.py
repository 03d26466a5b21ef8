"""Two processes of ``jax.distributed`` on loopback: side by side, gathered, resumed elsewhere."""

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.checkpoints import pytree
from fnckpt.checkpoints.pytree import load_checkpoint
from fnckpt.errors import FormatError
from fnckpt.training.saving import processes

CODE = """
import json, os, resource, signal, sys, warnings
asked = json.loads(sys.argv[1])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={asked['devices']}"
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
if asked["count"] > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{asked['port']}", asked["count"], asked["number"])
import jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.loop import train

mesh = Mesh(np.array(jax.devices()), ("rows",))
rows, all = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("rows",), ()))
def put(value, sharding):
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
state = {"w": put(np.arange(16, dtype=np.float32).reshape(8, 2), rows),
         "b": put(np.zeros(3, np.float32), all), "n": 0, "key": jax.random.key(0)}
data = [put(np.full(8, i, np.float32), rows) for i in range(4)]

def step(state, batch):
    key, use = jax.random.split(state["key"])
    w = state["w"] + batch[:, None] + jax.random.randint(use, (8, 2), 0, 5)
    return {"w": w, "b": state["b"] + 1, "n": state["n"] + 1, "key": key}, {"first": w.sum()}

def on_step(number, *_):
    if number == asked.get("kill") and jax.process_index() == asked["count"] - 1:
        os.kill(os.getpid(), signal.SIGTERM)
    if number == asked.get("fill") and jax.process_index() == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))  # to a writer, the disk is full

directory = asked["directory"]
if asked.get("apart"):  # on disks of their own
    directory = os.path.join(directory, str(asked["number"]))
result, error = None, ""
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always", UserWarning)
    try:
        result = train(step, state, data, policy=CheckpointPolicy(asked.get("every", 3)),
                       directory=directory, epochs=asked["epochs"], on_step=on_step,
                       resume=asked["resume"], gather=asked["gather"])
    except SystemExit as end:
        error = f"exit {end.code}"
    except (OSError, ValueError) as fault:
        error = f"{type(fault).__name__}: {fault}"
told = [str(each.message) for each in warned if "is skipped" in str(each.message)]
if result is not None:
    w = jax.jit(lambda w: w, out_shardings=all)(result.state["w"])
    print(json.dumps({"w": np.asarray(w).tolist(), "first": result.history["first"].tolist(),
                      "files": [os.path.relpath(p, asked["directory"]) for p in result.checkpoints],
                      "devices": len(result.state["w"].sharding.device_set), "error": error,
                      "warned": told}))
else:
    print(json.dumps({"error": error, "warned": told}))
sys.stdout.flush()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def together(root: Path, directory: Path, count: int, **asked: Any) -> list[dict[str, Any]]:
    """What ``count`` processes print that train together."""
    given = {"count": count, "devices": 2, "epochs": 1, "resume": False, "gather": False}
    given |= {"directory": str(directory), "port": free_port()} | asked
    environment = os.environ | {"PYTHONPATH": str(root)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, json.dumps(given | {"number": number})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for number in range(count)
    ]
    try:
        printed = [child.communicate(timeout=120) for child in children]
    finally:
        for child in children:
            child.kill()
    for child, (_, errors) in zip(children, printed, strict=True):
        assert child.returncode == 0, errors
    # Gloo says on the standard output whom it met, at a moment of its own.
    lines = [[line for line in out.splitlines() if line.startswith("{")] for out, _ in printed]
    return [json.loads(own[-1]) for own in lines]


def files(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def test_each_process_writes_its_own_directory_and_any_number_resumes(tmp_path, root):
    [whole] = together(root, tmp_path / "whole", 1, epochs=2)
    both = together(root, tmp_path / "ranks", 2)
    assert [each["files"] for each in both] == [
        [f"rank_{rank}/CKP-1_3.ckpt", f"rank_{rank}/CKP-1_4.ckpt"] for rank in (0, 1)
    ]
    stored = load_checkpoint(tmp_path / "ranks/rank_1/CKP-1_4.ckpt")
    assert stored["w"].shape == (4, 2)
    assert stored["fnckpt.part.w"].tolist() == [[4, 0], [8, 2], [8, 2]]
    assert stored["b"].tolist() == [4.0] * 3
    resumed = together(root, tmp_path / "ranks", 2, epochs=2, devices=1, resume=True)
    [alone] = together(root, tmp_path / "ranks", 1, epochs=2, devices=1, resume=True)
    for found in (*resumed, alone):
        assert (found["w"], found["first"]) == (whole["w"], whole["first"])
    assert [each["devices"] for each in (whole, resumed[0], alone)] == [2, 2, 1]


def test_gathered_the_first_process_writes_whole_files(tmp_path, root):
    [whole] = together(root, tmp_path / "whole", 1, epochs=2)
    both = together(root, tmp_path / "out", 2, gather=True)
    assert [each["files"] for each in both] == [["CKP-1_3.ckpt", "CKP-1_4.ckpt"], []]
    assert files(tmp_path / "out") == ["CKP-1_3.ckpt", "CKP-1_4.ckpt", "CKP-graph.meta"]
    stored = load_checkpoint(tmp_path / "out/CKP-1_4.ckpt")
    assert stored["w"].shape == (8, 2)
    assert stored["w"].sum() == whole["first"][3]
    resumed = together(root, tmp_path / "out", 2, gather=True, epochs=2, devices=1, resume=True)
    for found in resumed:
        assert (found["w"], found["first"]) == (whole["w"], whole["first"])


def test_a_signal_to_one_process_ends_all_at_the_next_checkpoint(tmp_path, root):
    ended = together(root, tmp_path, 2, kill=1)
    assert [each["error"] for each in ended] == ["exit 143", "exit 143"]
    assert files(tmp_path) == [
        f"rank_{rank}/{name}" for rank in (0, 1) for name in ("CKP-1_3.ckpt", "CKP-graph.meta")
    ]


def damage(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_a_file_that_only_one_process_finds_damaged_is_passed_over_by_all(tmp_path, root):
    """Each process sees its own directory alone, so that only one can tell."""
    [whole] = together(root, tmp_path / "whole", 1, epochs=2)
    together(root, tmp_path / "apart", 2, apart=True, every=1)
    damage(tmp_path / "apart/1/rank_1/CKP-1_4.ckpt")
    damage(tmp_path / "apart/0/rank_0/CKP-1_3.ckpt")
    resumed = together(root, tmp_path / "apart", 2, apart=True, every=1, epochs=2, resume=True)
    for found, name in zip(resumed, ("CKP-1_3", "CKP-1_4"), strict=True):
        assert found["first"] == whole["first"]
        assert found["w"] == whole["w"]
        [told] = found["warned"]
        assert f"{name}.ckpt: cannot be read and is skipped" in told


@pytest.mark.parametrize("gather", [False, True])
def test_a_damaged_file_that_all_see_is_passed_over_by_all(tmp_path, root, gather):
    [whole] = together(root, tmp_path / "whole", 1, epochs=2)
    together(root, tmp_path / "out", 2, gather=gather)
    damage(tmp_path / ("out/CKP-1_4.ckpt" if gather else "out/rank_0/CKP-1_4.ckpt"))
    resumed = together(root, tmp_path / "out", 2, gather=gather, epochs=2, resume=True)
    for found in resumed:
        assert (found["w"], found["first"]) == (whole["w"], whole["first"])
        assert len(found["warned"]) == 1


def test_where_one_process_can_read_no_file_none_starts_afresh(tmp_path, root):
    together(root, tmp_path, 2, apart=True)
    for path in (tmp_path / "1/rank_1").glob("*.ckpt"):
        damage(path)
    first, second = together(root, tmp_path, 2, apart=True, resume=True)
    assert first["error"] == "FormatError: process 1 cannot resume, see its error; no process does"
    assert "none of the 2 checkpoints of 'CKP' can be read" in second["error"]


def test_a_full_disk_at_the_gathering_process_raises_in_all_and_loses_nothing(tmp_path, root):
    ended = together(root, tmp_path, 2, gather=True, every=1, fill=2)
    assert [each["error"] for each in ended] == [
        "OSError: [Errno 27] File too large",
        "OSError: a checkpoint could not be saved by process 0; see its error",
    ]
    assert files(tmp_path) == ["CKP-1_1.ckpt", "CKP-1_2.ckpt", "CKP-graph.meta"]
    assert [int(load_checkpoint(tmp_path / f"CKP-1_{n}.ckpt")["n"]) for n in (1, 2)] == [1, 2]
    [whole] = together(root, tmp_path / "whole", 1)
    resumed = together(root, tmp_path, 2, gather=True, every=1, resume=True)
    assert [each["w"] for each in resumed] == [whole["w"]] * 2


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(tmp_path, root, monkeypatch):
    """Mapped, it would end this process by SIGBUS."""
    together(root, tmp_path, 2)
    columns = 1 << 20  # small arrays are read with the headers
    for rank in (0, 1):
        path = tmp_path / f"rank_{rank}/CKP-1_4.ckpt"
        place = np.array([[4 * rank, 0], [4 * rank + 4, columns], [8, columns]])
        large = {"w": np.full((4, columns), rank, np.float32), "fnckpt.part.w": place}
        pytree.write_leaves((dict(load_checkpoint(path)) | large).items(), path, crc=True)
    like = {"w": jnp.zeros((8, columns)), "b": jnp.zeros(3), "n": 0, "key": jax.random.key(0)}
    like["w"] = jax.device_put(like["w"], jax.devices()[0])
    found = processes.newest(tmp_path, "CKP", like)
    assert found is not None
    assert found.state["w"].mean(1).tolist() == [0.0] * 4 + [1.0] * 4
    opened = processes._opened

    @contextmanager
    def cut(path: Path):
        with opened(path) as file:
            damage(path)
            yield file

    monkeypatch.setattr(processes, "_opened", cut)
    with pytest.raises(FormatError, match=r"CKP-1_4\.ckpt: .* was cut off while it was read"):
        processes.newest(tmp_path, "CKP", like)
