"""Running code of the user's that the program must not notice: an expectation that is evaluated in between."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put back what code may change in passing: random numbers, grad mode, and whether ``.grad`` was asked for.

    What it writes to a tensor or an object stays written.
    """
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    arrays = numpy.random.get_state() if numpy is not None else None
    torch = sys.modules.get("torch")
    tensors = torch.get_rng_state() if torch is not None else None
    devices = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else []
    grad_mode = torch.is_grad_enabled() if torch is not None else True
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(arrays)
        if torch is not None:
            torch.set_rng_state(tensors)
            if torch.cuda.is_initialized():
                torch.cuda.set_rng_state_all(devices)
            torch._C._set_grad_enabled(grad_mode)
