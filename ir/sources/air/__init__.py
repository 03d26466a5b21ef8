"""AIR files become graphs; importing this fills the table of imports."""

from fnckpt.ir.sources.air import elementwise, image, index, network, pool, reduction, shape
from fnckpt.ir.sources.air.reading import source

__all__ = ["elementwise", "image", "index", "network", "pool", "reduction", "shape", "source"]
