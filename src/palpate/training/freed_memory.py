"""What becomes of memory that tensors leave free on a CPU."""

from __future__ import annotations

import ctypes
import platform

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Keep freed memory in this process, so that the next step's tensors take it again; whether that was possible.

    glibc maps every block of 32 MB and more anew and gives it back when it is freed; the system then clears each page
    again. In training, whose tensors are as large and the same in every step, that took a seventh of the time. Other C
    libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    largest = 2**31 - 1
    return bool(mallopt(M_MMAP_THRESHOLD, largest) and mallopt(M_TRIM_THRESHOLD, largest))
