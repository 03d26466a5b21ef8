"""Two processes of ``jax.distributed`` on loopback: side by side, gathered, resumed elsewhere."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from fnckpt.checkpoint import load_checkpoint

CODE = """
import json, os, signal, sys
asked = json.loads(sys.argv[1])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={asked['devices']}"
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
if asked["count"] > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{asked['port']}", asked["count"], asked["number"])
import jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from fnckpt.policy import CheckpointPolicy
from fnckpt.training import train

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

result, error = None, ""
try:
    result = train(step, state, data, policy=CheckpointPolicy(asked.get("every", 3)),
                   directory=asked["directory"], epochs=asked["epochs"], on_step=on_step,
                   resume=asked["resume"], gather=asked["gather"])
except SystemExit as end:
    error = f"exit {end.code}"
except OSError as fault:
    error = f"{type(fault).__name__}: {fault}"
if result is not None:
    w = jax.jit(lambda w: w, out_shardings=all)(result.state["w"])
    print(json.dumps({"w": np.asarray(w).tolist(), "first": result.history["first"].tolist(),
                      "files": [os.path.relpath(p, asked["directory"]) for p in result.checkpoints],
                      "devices": len(result.state["w"].sharding.device_set), "error": error}))
else:
    print(json.dumps({"error": error}))
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
    return [json.loads(out.splitlines()[-1]) for out, _ in printed]


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
