"""A forward pass alone, which is all that TorchLens shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import torch

from tests.benchmarks.competitors import Context, gradscope, quiet
from tests.benchmarks.measure import Timings, interleave
from tests.benchmarks.workloads import Forward


def measure_forward(rounds: int) -> dict[str, Timings]:
    """Time the forward pass of a small transformer's encoder bare, recorded, and under TorchLens where it is there."""
    torch.manual_seed(0)
    forward = Forward()

    @contextmanager
    def torchlens() -> Iterator[None]:
        plain, forward.call = forward.call, import_module("torchlens").trace
        try:
            yield
        finally:
            forward.call = plain

    contexts: dict[str, Context] = {"gradscope": gradscope}
    if find_spec("torchlens") is not None:
        contexts["TorchLens"] = torchlens
    with quiet():
        return interleave(forward, contexts, rounds, calls=5)
