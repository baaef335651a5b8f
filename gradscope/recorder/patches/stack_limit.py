"""Room for deep graphs to be freed in.

Once Python has looked at a node, freeing a chain of nodes recurses in C++, about 800 bytes a node: with the usual
stack of 8 MiB a chain of some 50,000 crashes the interpreter. The main thread's stack grows up to the soft limit in
force, so raising that is enough. It stays raised: what was recorded may be freed long after the recording.
"""

from __future__ import annotations

import contextlib

ROOM = 1 << 30
"""Bytes: a chain of one million nodes."""


def raise_stack_limit() -> None:
    """Raise the soft limit of the stack to :data:`ROOM`, or as far as the hard limit allows."""
    try:
        import resource
    except ImportError:  # Windows fixes the stack when a program is linked
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = ROOM if hard == resource.RLIM_INFINITY else min(ROOM, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # not permitted here: then the limit is what it was
            resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
