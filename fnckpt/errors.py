"""The errors that fnckpt raises, all below one root.

FnckptError
├── UnsupportedError    (NotImplementedError)  export: what the target cannot say
├── VerificationError   (RuntimeError)         export: the file computes another result
├── FormatError         (ValueError)           a file: damaged or foreign
└── CheckpointMismatch  (ValueError)           a checkpoint: does not fit the tree

Bad arguments raise the built-in ``TypeError`` and ``ValueError``, a failing disk ``OSError``.
"""


class FnckptError(Exception):
    """Any error that fnckpt raises on its own account."""


class UnsupportedError(FnckptError, NotImplementedError):
    """A function cannot be exported; the message lists every place, and no file was written."""


class VerificationError(FnckptError, RuntimeError):
    """A runtime computes another result of an exported file than JAX; no file was written."""


class FormatError(FnckptError, ValueError):
    """A file is damaged or is no file of its format; the message says where."""


class CheckpointMismatch(FnckptError, ValueError):
    """A checkpoint does not fit the tree it is loaded into; the message names every leaf."""


for _error in (
    FnckptError,
    UnsupportedError,
    VerificationError,
    FormatError,
    CheckpointMismatch,
):
    _error.__module__ = "fnckpt"  # tracebacks show the name that users import
