"""Keeps glibc from returning freed memory to the kernel."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD_BYTES = 256 * 2**20


def keep_freed_memory() -> bool:
    """Reuse freed memory instead of faulting in new pages; True where glibc accepted.

    Activations are large enough for malloc to map each one afresh, and in a small virtual
    machine the page faults can cost more than the arithmetic.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, TOP_PAD_BYTES))
    done = [mallopt(name, value) == 1 for name, value in settings]
    return all(done)
