"""What a rule that fails says of the file: that it is damaged, or that a size is not known yet."""

from collections.abc import Iterable

from fnckpt.ir.graph import Node
from fnckpt.ir.sizes import InconclusiveDimensionOperation
from fnckpt.ir.sources.build import Builder
from fnckpt.ir.targets.foreign import BAD_NUMBERS

# AttributeError: a number, a function or nothing stands where an array should.
FAULTS = (InconclusiveDimensionOperation, AttributeError, *BAD_NUMBERS)


def of_sizes(build: Builder, error: Exception, inputs: Iterable[object]) -> str | None:
    """Why a node fails while sizes are symbols; None where all are numbers.

    Two sizes that a file does not tell may be equal in every call.
    """
    symbolic = any(isinstance(each, Node) and build.has_symbols(each) for each in inputs)
    if not symbolic and not isinstance(error, InconclusiveDimensionOperation):
        return None
    return f"it depends on a symbolic size: {str(error).partition(chr(10))[0]}"
