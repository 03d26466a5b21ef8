"""A pytree as named arrays in a file, and back; ``formats`` has a file for each format.

Called, this package lists: ``fnckpt.checkpoints(directory, prefix=None)`` gives the paths of the
checkpoints that ``train`` saved in ``directory``, in the order of training. The first run's come
first; the best states (``fnckpt.best_checkpoint``) are not among them. ``prefix`` may be left out
where the directory has checkpoints of one prefix; of several it raises a ValueError with their
names. A directory that does not exist gives ``[]``.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType


class _Listing(ModuleType):
    """This package as the function of the same name, which the API promises."""

    def __call__(self, directory: str | os.PathLike[str], prefix: str | None = None) -> list[Path]:
        """The checkpoints of ``prefix`` in ``directory``, in the order of training."""
        listing = import_module("fnckpt.training.saving.listing")  # above this room, so not before
        return listing.checkpoints(directory, prefix)


sys.modules[__name__].__class__ = _Listing
