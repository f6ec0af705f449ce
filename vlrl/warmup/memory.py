"""Keeps glibc from handing freed tensors back to the kernel."""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory(top_pad: int = 256 * 2**20) -> bool:
    """Reuse freed memory instead of faulting in new pages; True where glibc obeyed.

    Activations are large enough for malloc to map each one afresh, and in a small virtual
    machine the page faults cost more than the arithmetic (measured: 2 to 15 times).
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, top_pad))
    obeyed = [mallopt(name, value) == 1 for name, value in settings]
    return all(obeyed)
