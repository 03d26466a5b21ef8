"""States placed on several devices: compiled once, resumed on another number of devices."""

import json
from pathlib import Path
from typing import Any

CODE = """
import json, os, sys
devices, epochs, resume = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.loop import train
rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
w = jax.device_put(np.arange(8, dtype=np.float32), rows)
state = {"w": w, "n": 0, "key": jax.random.key(0)}
data = [jax.device_put(np.ones(4, np.float32), rows)] * 4
traces = []

def step(state, batch):
    traces.append(1)
    key, use = jax.random.split(state["key"])
    w = state["w"] + batch.sum() + jax.random.randint(use, (8,), 0, 5)
    return {"w": w, "n": state["n"] + 1, "key": key}, {"first": w.min()}

result = train(step, state, data, epochs=epochs, policy=CheckpointPolicy(3),
               directory=sys.argv[1], resume=resume)
print(json.dumps({"traces": len(traces), "w": result.state["w"].tolist(),
                  "devices": len(result.state["w"].sharding.device_set),
                  "first": result.history["first"].tolist(),
                  "usable": not state["w"].is_deleted()}))
"""


def test_a_sharded_state_is_compiled_once_and_resumes_on_fewer_devices(tmp_path: Path, run_python):
    def child(directory: str, devices: int, epochs: int, *, resume: bool) -> dict[str, Any]:
        return json.loads(run_python(CODE, tmp_path / directory, devices, epochs, resume))

    whole = child("whole", 1, 3, resume=False)
    first = child("parts", 4, 1, resume=False)
    rest = child("parts", 2, 3, resume=True)
    assert [each["devices"] for each in (whole, first, rest)] == [1, 4, 2]
    assert [each["traces"] for each in (whole, first, rest)] == [1, 1, 1]
    assert first["usable"]
    assert (rest["w"], rest["first"]) == (whole["w"], whole["first"])
