"""``.ckpt`` files under Orbax's ``CheckpointManager``."""

import dataclasses
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint

_FILE = "state.ckpt"


class CkptHandler(ocp.CheckpointHandler):
    """Saves and restores one ``.ckpt`` file in the directory that Orbax gives.

    >>> import tempfile
    >>> import numpy as np
    >>> tree = {"w": np.arange(3.0)}
    >>> with (
    ...     tempfile.TemporaryDirectory() as directory,
    ...     ocp.CheckpointManager(directory, item_names=("state",)) as manager,
    ... ):
    ...     _ = manager.save(1, args=ocp.args.Composite(state=CkptSave(tree)))
    ...     manager.restore(1, args=ocp.args.Composite(state=CkptRestore(tree)))["state"]
    {'w': array([0., 1., 2.])}
    """

    def save(self, directory: epath.Path, args: "CkptSave") -> None:
        """Write ``args.item`` to ``directory``."""
        save_checkpoint(args.item, Path(directory) / _FILE, crc=args.crc)

    def restore(self, directory: epath.Path, args: "CkptRestore | None" = None) -> Any:
        """The tree in ``directory``, as ``load_checkpoint`` gives it."""
        like = None if args is None else args.item
        return load_checkpoint(Path(directory) / _FILE, like)


@ocp.args.register_with_handler(CkptHandler, for_save=True)
@dataclasses.dataclass
class CkptSave(ocp.args.CheckpointArgs):
    """What ``CkptHandler`` saves: any tree that ``save_checkpoint`` takes."""

    item: object
    crc: bool = False


@ocp.args.register_with_handler(CkptHandler, for_restore=True)
@dataclasses.dataclass
class CkptRestore(ocp.args.CheckpointArgs):
    """What ``CkptHandler`` restores: a tree like ``item``, or a dict of arrays without one."""

    item: object = None
