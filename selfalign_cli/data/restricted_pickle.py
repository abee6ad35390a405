"""Read a pickle without running it: plain data, numpy arrays, and stand-ins for the few names that a caller allows.

A pickle is a program. Here it may build dicts, lists, tuples, sets, texts, bytes and numbers; every other name that it
refers to is looked up in a table of stand-ins, and the first that is missing is refused. The objects named in the file
are never imported, so nothing of it runs.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from selfalign_cli.errors import DataError, blaming

StandIns = Mapping[str, Callable[..., object]]
"""`module.name` as written in the file → what is called instead."""

# Types an array may have: numbers, truth values, texts, and objects (which are read by the same rules).
_SAFE_TYPE = re.compile(r"[<>=|]?([biufcSU][1-9][0-9]*|O[0-9]*|\?)")


def load_restricted(
    source: bytes | BinaryIO, allowed: StandIns | None = None, *, what: str = "the pickle", encoding: str = "utf-8"
) -> object:
    """Read one pickle.

    Args:
        source: the bytes, or a stream positioned at the first of them.
        allowed: stand-ins for the names that the pickle may refer to, e.g. `ARRAYS`; none when left out. A stand-in
            must be harmless whatever it is called with.
        what: name of the source, for messages.
        encoding: of texts written by Python 2; `bytes` leaves them as bytes, `latin-1` reads any.

    Returns:
        What it holds. Arrays are of a private subclass; `np.asarray` makes ordinary ones of them.

    Raises:
        DataError: it refers to another name (which is reported), or is no whole pickle.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    # A faulty pickle can fail in any way an opcode or a stand-in can.
    with blaming(f"{what} is not a whole pickle", "the file is damaged; fetch it again", catch=(Exception,)):
        return _Unpickler(stream, dict(allowed or {}), what, encoding).load()


def names_in_pickle(stream: BinaryIO) -> Iterator[str]:
    """Yield `module.name` of all that one pickle refers to, without loading it; stop where it is damaged.

    Args:
        stream: positioned at the first byte; left at the end of the pickle.
    """
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".", 1)
            elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                yield ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts = [*texts[-1:], argument]
    except Exception:  # a damaged pickle can fail in any way an opcode can
        return


class _Unpickler(pickle._Unpickler):
    """An unpickler that imports nothing. Each name gets a new object, so that no file can change what others see.

    It subclasses the one written in Python, a private name: the one in C allocates 16 bytes for every memo index up to
    the largest in the file, and a single flipped bit makes that index a billion.
    """

    def __init__(self, stream: BinaryIO, allowed: dict[str, Callable[..., object]], what: str, encoding: str) -> None:
        super().__init__(stream, fix_imports=False, encoding=encoding)
        self._allowed = allowed
        self._what = what

    def find_class(self, module: str, name: str) -> Any:
        found = self._allowed.get(f"{module}.{name}")
        if found is None:
            raise DataError(
                f"{self._what} asks for the Python object {module}.{name}, which this kind of file never holds; "
                "nothing of it was run",
                "do not open this file with other programs unless you trust whoever made it",
            )
        if isinstance(found, type):
            return type(found.__name__, (found,), {"__slots__": ()})
        return lambda *arguments: found(*arguments)


class DtypeStandIn:
    """numpy's dtype in a pickle: one of the plain types, never one whose flags or fields the file chooses."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not _SAFE_TYPE.fullmatch(text):
            raise ValueError(f"an array of type {text!r}")
        self._code = text
        self._order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *composite = state[:5]
        if composite != [None, None, None]:
            raise ValueError("an array with fields")
        self._order = order.decode("ascii") if isinstance(order, bytes) else order

    def dtype(self) -> np.dtype[Any]:
        """The real type."""
        found = np.dtype(self._code)
        if self._order not in ("<", ">"):
            return found
        return found.newbyteorder("<" if self._order == "<" else ">")


class _Array(np.ndarray[Any, Any]):
    """An array that is filled from a pickle only after its type and its size were checked."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, content = state[-4:]
        real = _real_dtype(dtype)
        data = content.encode("latin-1") if isinstance(content, str) else content
        count = math.prod(_whole(length) for length in shape)
        expected = list if real.hasobject else bytes
        if type(data) is not expected or len(data) != count * (1 if real.hasobject else real.itemsize):
            raise ValueError("an array whose data do not fill its shape")
        super().__setstate__((1, tuple(shape), real, bool(fortran), data))  # type: ignore[arg-type]


def _reconstruct(*_: object) -> _Array:
    """An empty array, which the pickle then fills."""
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _from_buffer(data: bytes | bytearray, dtype: object, shape: tuple[int, ...], order: str) -> np.ndarray[Any, Any]:
    flat = np.frombuffer(bytearray(data), _real_dtype(dtype))
    return flat.reshape(tuple(_whole(length) for length in shape), order="F" if order == "F" else "C")


def numpy_scalar(dtype: object, data: bytes | str) -> object:
    """A numpy number in a pickle, as a Python number or text."""
    raw = data.encode("latin-1") if isinstance(data, str) else data
    found: object = np.frombuffer(raw, _real_dtype(dtype), count=1)[0].item()
    return found


def _real_dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, DtypeStandIn):
        raise ValueError("an array without a type")
    return dtype.dtype()


def _whole(length: object) -> int:
    if type(length) is not int or length < 0:
        raise ValueError(f"an array of length {length!r}")
    return length


def _bytes_of(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes written as {encoding!r}")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """How Python 3 writes b"" for Python 2."""
    return b""


class _ArrayType:
    """The name of numpy's array class, which arrays in a pickle pass around."""

    __slots__ = ()


NUMPY_SCALARS: StandIns = {
    "numpy.core.multiarray.scalar": numpy_scalar,
    "numpy._core.multiarray.scalar": numpy_scalar,
    "numpy.dtype": DtypeStandIn,
}
"""Numbers of numpy, as plain Python numbers."""

ARRAYS: StandIns = {
    **NUMPY_SCALARS,
    "numpy.ndarray": _ArrayType,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
    "_codecs.encode": _bytes_of,
    "__builtin__.bytes": _no_bytes,
}
"""Arrays and numbers of numpy, of plain types or of objects that are read by the same rules."""
