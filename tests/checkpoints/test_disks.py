"""Real disks that are full, under a quota, read-only or hide a file, under a training that saves.

The disk is a tmpfs of 20 MB in a mount namespace of the child's own (``unshare -rm``), so nothing
is left mounted. Where the kernel forbids that, RLIMIT_FSIZE in ``test_files`` and ``tests/train``
and directories without the right to write, here and in ``tests/policy``, stand in. The quota is
that of a btrfs image, which only root may mount.
"""

import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MOUNTS = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
on_a_mount = pytest.mark.skipif(
    not MOUNTS, reason="this kernel forbids mounts to users; RLIMIT_FSIZE stands in elsewhere"
)
QUOTA_IMAGE = Path(__file__).parents[1] / "golden" / "quota.btrfs.xz"


def can_mount(image: Path) -> bool:
    """Whether this user may mount a btrfs image, in a namespace that ends at once."""
    image.write_bytes(lzma.decompress(QUOTA_IMAGE.read_bytes()))
    command = ["unshare", "-m", "mount", "-o", "loop", str(image), str(image.parent)]
    return subprocess.run(command, capture_output=True).returncode == 0


CHILD = """
import json, os, subprocess, sys, warnings
from pathlib import Path
import numpy as np
from fnckpt.checkpoints.pytree import load_checkpoint
from fnckpt.errors import FormatError
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.loop import train

disk, asynchronous = Path(sys.argv[1]), sys.argv[2] == "async"
told = {}

def fit(steps=12, keep=100, **options):
    options = {"directory": disk, "async_save": asynchronous} | options
    state = {"w": np.zeros(750_000, np.float32), "n": 0}  # 3 MB
    step = lambda state, batch: ({"w": state["w"] + 1, "n": state["n"] + 1}, {})
    policy = CheckpointPolicy(1, keep_max=keep)
    return train(step, state, [np.float32(0)] * steps, policy=policy, **options)

def attempt(**options):
    try:
        return int(fit(**options).state["n"])
    except OSError as error:
        return [error.errno, str(error)]

def whole():  # the steps of the checkpoints, each read and looked at
    found = []
    for path in sorted(disk.glob("*.ckpt")):
        stored = load_checkpoint(path)
        assert (stored["w"] == stored["n"]).all()
        found.append(int(stored["n"]))
    return sorted(found)

def mount(*options):
    subprocess.run(["mount", *options, disk], check=True)

def tell():
    told["left"] = [name for name in os.listdir(disk) if name.startswith(".")]
    print(json.dumps(told))
"""

TMPFS = """
mount("-t", "tmpfs", "-o", "size=20m", "tmpfs")
"""

QUOTA = """
mount("-o", "loop", sys.argv[3])
disk = disk / "limited"  # to 20 MB
"""

FULL = """
told["error"] = attempt()
told["whole"] = whole()
(disk / "CKP-1_1.ckpt").unlink()
(disk / "CKP-1_2.ckpt").unlink()
told["resumed"] = attempt(resume=True, keep=3)
told["whole after"] = whole()
tell()
"""

READ_ONLY_MOUNT = """
told["trained"] = attempt(steps=4, keep=3)
mount("-o", "remount,ro")
told["error"] = attempt(steps=8, keep=3, resume=True)
told["whole"] = whole()
mount("-o", "remount,rw")
told["resumed"] = attempt(steps=8, keep=3, resume=True)
told["whole after"] = whole()
tell()
"""

AS_NOBODY = """
import tempfile
"".encode("utf-32-le")  # Python's own files may be out of reach below
if os.getuid() == 0:  # root reads and writes everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = tempfile.TemporaryDirectory()
disk = Path(folder.name)
"""

# A disk with a file open for writing, such as the run's lock, cannot be mounted read-only; so the
# directory turns read-only to a user that is not root.
READ_ONLY = """
def freeze(path):
    if path.name == "CKP-1_3.ckpt":
        disk.chmod(0o555)
told["error"] = attempt(steps=8, keep=3, on_checkpoint=freeze)
told["whole"] = whole()
disk.chmod(0o755)
told["resumed"] = attempt(steps=8, keep=3, resume=True)
told["whole after"] = whole()
tell()
"""

UNREADABLE = """
told["trained"] = attempt(steps=4)
(disk / "CKP-1_4.ckpt").chmod(0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    told["resumed"] = attempt(steps=6, resume=True)
told["warned"] = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
for path in disk.glob("*.ckpt"):
    path.chmod(0)
try:
    fit(steps=6, resume=True)
except FormatError as error:
    told["none"] = str(error)
tell()
"""


def run(code: str, *arguments: object, namespace: str | None = "-rm") -> dict[str, Any]:
    command = ["unshare", namespace] if namespace else []
    command += [sys.executable, "-c", CHILD + code, *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True)
    assert not child.returncode, child.stderr
    return json.loads(child.stdout.splitlines()[-1])


both_ways = pytest.mark.parametrize("how", ["async", "sync"])


@on_a_mount
@both_ways
def test_a_disk_that_fills_up_raises_and_loses_nothing(tmp_path: Path, how: str):
    told = run(TMPFS + FULL, tmp_path, how)
    assert told["error"][0] == 28
    assert "No space left on device" in told["error"][1]
    assert told["whole"] == [1, 2, 3, 4, 5, 6]  # what fits into 20 MB
    assert (told["resumed"], told["whole after"]) == (12, [10, 11, 12])
    assert told["left"] == []


@both_ways
def test_a_quota_that_is_reached_raises_and_loses_nothing(tmp_path: Path, how: str):
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    if not can_mount(image):
        pytest.skip("only root may mount an image, and only on a kernel that has btrfs")
    told = run(QUOTA + FULL, disk, how, image, namespace="-m")
    assert told["error"][0] == 122
    assert "Disk quota exceeded" in told["error"][1]
    assert told["whole"] == [1, 2, 3, 4, 5, 6]  # what fits into 20 MB
    assert (told["resumed"], told["whole after"]) == (12, [10, 11, 12])
    assert told["left"] == []


@on_a_mount
def test_a_read_only_disk_is_an_error_before_the_first_step(tmp_path: Path):
    told = run(TMPFS + READ_ONLY_MOUNT, tmp_path, "sync")
    assert told["trained"] == 4
    assert "Read-only file system; nothing was trained" in told["error"][1]
    assert told["whole"] == [2, 3, 4]
    assert (told["resumed"], told["whole after"]) == (8, [6, 7, 8])
    assert told["left"] == []


@both_ways
def test_a_directory_that_turns_read_only_raises_and_loses_nothing(tmp_path: Path, how: str):
    told = run(AS_NOBODY + READ_ONLY, tmp_path, how, namespace=None)
    assert told["error"][0] == 13
    assert told["whole"] == [1, 2, 3]
    assert (told["resumed"], told["whole after"]) == (8, [6, 7, 8])
    assert told["left"] == []


def test_a_file_that_may_not_be_read_is_passed_over_by_name(tmp_path: Path):
    told = run(AS_NOBODY + UNREADABLE, tmp_path, "sync", namespace=None)
    assert (told["trained"], told["resumed"]) == (4, 6)
    assert [message for message in told["warned"] if "CKP-1_4.ckpt: cannot be read" in message]
    assert "checkpoints of 'CKP' can be read" in told["none"]
    assert told["left"] == []
