"""The batches of each epoch, from the start or from the middle."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import chain, islice
from types import FunctionType
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np


@runtime_checkable
class Positioned(Protocol):
    """Data, or an iterator over it, that can say where it stands (torchdata's way)."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


@runtime_checkable
class Repositioned(Protocol):
    """An iterator that can say where it stands (grain's way)."""

    def get_state(self) -> Any: ...

    def set_state(self, state: Any, /) -> Any: ...


Batch = TypeVar("Batch")
Data = Iterable[Batch] | Callable[[int], Iterable[Batch]]


@dataclass
class Feed:
    """The data of a training; ``batches`` opens an epoch.

    Args:
      data: an iterable that is iterated anew every epoch, or a callable ``epoch -> iterable``.
    """

    data: Data
    _open: Any = None
    _source: Any = None

    def check(self, epochs: int) -> None:
        """Refuse what cannot give ``epochs`` epochs.

        Raises:
          TypeError: it is neither an iterable nor a callable that takes the number of an epoch.
          ValueError: it can be read only once, and is needed more often.
        """
        kind = type(self.data).__qualname__
        if not (_is_iterable(self.data) or callable(self.data)):
            raise TypeError(
                f"data: must be an iterable or a callable epoch -> iterable, got a {kind}"
            )
        if callable(self.data) and not _is_iterable(self.data):
            _check_takes_epoch(self.data)
        if _is_read_once(self.data) and epochs > 1:
            raise ValueError(
                f"data: a {kind} can be read only once, {epochs} epochs were asked for; give a "
                "list, a dataset, or a function epoch -> iterable"
            )

    def batches(
        self,
        epoch: int,
        *,
        skip: int = 0,
        position: Any = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Any]:
        """The batches of ``epoch`` (from 1), without the first ``skip``.

        Args:
          position: what ``position`` gave after ``skip`` batches; None reads over them.
          stop: whether to give up reading over them; asked after each.

        Raises:
          ValueError: there is no batch, or there are fewer than ``skip``.
        """
        data: Any = self.data
        iterable = data if _is_iterable(data) else data(epoch)
        if not _is_iterable(iterable):
            raise TypeError(
                f"data: must give an iterable for epoch {epoch}, it gave a "
                f"{type(iterable).__qualname__}"
            )
        self._open = iterable
        restored = position is not None and _restore(iterable, position)
        iterator = iter(iterable)  # once an epoch, as a for loop does: it may begin anew
        self._source = next((each for each in (iterator, iterable) if _has_position(each)), None)
        if position is not None and not (restored and self._stands_at(iterator, position)):
            restored = _restore(iterator, position)
        if skip and restored:
            return _rest(iterator)
        return self._read_over(iterator, epoch, skip, stop)

    def steps(self) -> int | None:
        """The number of batches of the open epoch, where its data has a length."""
        return len(self._open) if isinstance(self._open, Sized) else None

    def position(self) -> Any:
        """Where the open epoch stands; None where the data cannot tell, or not in JSON."""
        if isinstance(self._source, Positioned):
            return self._source.state_dict()
        return self._source.get_state() if isinstance(self._source, Repositioned) else None

    def _stands_at(self, iterator: Iterator[Any], position: Any) -> bool:
        """Whether ``iter()`` left the data, which was moved to ``position``, there."""
        return iterator is not self._open or unpacked(packed(self.position())) == position

    def _read_over(
        self, iterator: Iterator[Any], epoch: int, skip: int, stop: Callable[[], bool]
    ) -> Iterator[Any]:
        batches = _rest(iterator)
        read = 0
        for _ in islice(batches, skip):
            read += 1
            if stop():
                return batches
        if read < skip:
            raise ValueError(
                f"data: epoch {epoch} has {read} batches, the checkpoint was saved after {skip}; "
                "resume with the data that it was trained on"
            )
        if skip:
            return batches
        for first in batches:
            return chain([first], batches)
        raise ValueError(
            f"data: epoch {epoch} has no batch; give data that is not empty and can be read again "
            "every epoch"
        )


def _rest(iterator: Iterator[Any]) -> Iterator[Any]:
    """What ``iterator`` still gives; a for loop over this does not call its ``__iter__``."""
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch


def packed(position: Any) -> np.ndarray | None:
    """A position as the bytes of JSON; None where JSON cannot hold it."""
    if position is None:
        return None
    plain = {"bytes": position.hex()} if isinstance(position, bytes) else {"json": position}
    try:
        text = json.dumps(plain)
    except TypeError:
        return None
    if json.loads(text) != plain:  # tuples, keys that are no text
        return None
    return np.frombuffer(text.encode(), np.uint8)


def unpacked(stored: np.ndarray | None) -> Any:
    """The position that ``packed`` stored."""
    if stored is None:
        return None
    plain = json.loads(stored.tobytes())
    return bytes.fromhex(plain["bytes"]) if "bytes" in plain else plain["json"]


def _is_iterable(data: Any) -> bool:
    """Whether a for loop goes over ``data``, also by length and index, as over torch datasets."""
    by_index = hasattr(type(data), "__getitem__") and isinstance(data, Sized)
    return isinstance(data, Iterable) or by_index


def _check_takes_epoch(function: Callable[[int], Any]) -> None:
    try:
        inspect.signature(function).bind(1)
    except TypeError as error:
        raise TypeError(
            "data: a function is called with the number of the epoch, this one cannot be "
            f"({error}); give lambda epoch: ..., which calls yours"
        ) from None
    except ValueError:  # of a builtin nothing is known
        return


def _is_read_once(data: Any) -> bool:
    """Whether ``data`` is an iterator that cannot begin anew.

    An ``__iter__`` of the user's own may; one that only returns ``self`` does not.
    """
    if not isinstance(data, Iterator):
        return False
    own = type(data).__iter__
    plain = Iterator.__iter__
    if not (isinstance(own, FunctionType) and isinstance(plain, FunctionType)):
        return True
    return own.__code__.co_code == plain.__code__.co_code


def is_packed(stored: np.ndarray) -> bool:
    """Whether ``stored`` is a position that ``unpacked`` reads."""
    try:
        unpacked(stored)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return True


def _has_position(source: Any) -> bool:
    return isinstance(source, Positioned | Repositioned)


def _restore(source: Any, position: Any) -> bool:
    """Move ``source`` to ``position``; False where it cannot be moved."""
    if isinstance(source, Positioned):
        source.load_state_dict(position)
    elif isinstance(source, Repositioned):
        source.set_state(position)
    else:
        return False
    return True
