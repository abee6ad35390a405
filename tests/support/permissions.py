"""Permissions that hold for root too, to whom nothing is forbidden."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two sets of three words of 32 bits
Sets = ctypes.c_uint32 * 6  # effective, permitted and inheritable; the lower halves, then the upper ones
OBEY = "from support import permissions; permissions.obey()"
"""For a forked command, see `support.processes`."""


def obey() -> None:
    """From now on this thread may do what the permissions of files and folders allow, even as root.

    It stays the user that it is. As another one it could not read the environment that it runs in where that lies in
    a folder of root's own, and a module that is imported late would be missing.
    """
    if os.geteuid() == 0:
        _put_capabilities([0] * 6)


@contextmanager
def obeyed() -> Iterator[None]:
    """For a while."""
    if os.geteuid() != 0:
        yield
        return
    had = Sets()
    _call("capget", had)
    _, permitted, inheritable, _, permitted_high, inheritable_high = had
    _put_capabilities([0, permitted, inheritable, 0, permitted_high, inheritable_high])
    try:
        yield
    finally:
        _put_capabilities(list(had))


def _put_capabilities(words: list[int]) -> None:
    _call("capset", Sets(*words))


def _call(name: str, sets: ctypes.Array[ctypes.c_uint32]) -> None:
    header = (ctypes.c_uint32 * 2)(VERSION, 0)  # 0: this thread
    if getattr(ctypes.CDLL(None, use_errno=True), name)(header, sets):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
