"""MindIR files become graphs; importing this fills the table of imports."""

from fnckpt.ir.sources.mindir import elementwise, loss, network, pool, recurrent, shape
from fnckpt.ir.sources.mindir.reading import source

__all__ = ["elementwise", "loss", "network", "pool", "recurrent", "shape", "source"]
