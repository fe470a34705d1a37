"""Memory that this process has allocated, which says more about leaks than its resident memory does.

Resident memory also has what allocators keep: with each new thread of the executor it grows by hundreds of kB.
"""

from __future__ import annotations

import ctypes
import gc
import sys

SMALL_BYTES = 512  # largest object that Python does not allocate by malloc

# Of struct mallinfo2 of glibc 2.33 and later, all of type size_t.
_NAMES = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _NAMES]


def allocated_bytes() -> int:
    """Bytes allocated by malloc, and by Python for small objects, which count as SMALL_BYTES each.

    It grows by at least what leaks. Raises AttributeError without glibc 2.33.
    """
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd + SMALL_BYTES * sys.getallocatedblocks())
