"""What reports are known to say that is not so: one entry a cause, each with a program that shows it.

The generated programs of the normal run leave out the pieces of these entries. An entry whose program no longer shows
it fails its test: it is to be taken out, and its pieces come back.
"""

from __future__ import annotations

from collections.abc import Collection
from textwrap import dedent
from typing import NamedTuple


class KnownFalse(NamedTuple):
    """One cause of false statements."""

    reason: str
    claim: str
    """Kind of the claim that torch refutes in the program."""
    program: str
    pieces: tuple[str, ...] = ()
    """Pieces of generated programs that bring it about."""
    only_claim: bool = False
    """Whether the pieces stay, and only claims of this kind are not looked at in programs that have them."""
    healthy: bool = False
    """Whether the program does only what it means to, so that a warning is false by itself."""


_HEAD = "import copy\nimport torch\nfrom torch import nn\ntorch.manual_seed(0)\nx = torch.randn(2, 3)\n"


def _program(text: str) -> str:
    return _HEAD + dedent(text).lstrip("\n")


KNOWN_FALSE: dict[str, KnownFalse] = {
    "recomputed-in-backward": KnownFalse(
        reason="what reentrant checkpoint computes again inside a backward pass is not seen",
        claim="row-requires_grad",
        program=_program(
            """
            from torch.utils.checkpoint import checkpoint
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.first = nn.Linear(3, 3)
                def forward(self, h):
                    h = torch.tanh(self.first(h))
                    return h * 2
            net, fc = Net(), nn.Linear(3, 3)
            h = fc(x)
            h = checkpoint(net, h, use_reentrant=True)
            h.sum().backward()
            """
        ),
        pieces=("reentrant-checkpoint",),
    ),
    "counted-again-in-backward": KnownFalse(
        reason="×N of a line leaves out what checkpoint (not reentrant) runs again inside a backward pass",
        claim="executions",
        program=_program(
            """
            from torch.utils.checkpoint import checkpoint
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.first = nn.Linear(3, 3)
                def forward(self, h):
                    h = torch.tanh(self.first(h))
                    return h * 2
            net = Net()
            h = checkpoint(net, x, use_reentrant=False)
            h.sum().backward()
            """
        ),
        pieces=("checkpoint",),
        only_claim=True,
    ),
}


def pieces_left_out() -> frozenset[str]:
    """The pieces that generated programs do not use."""
    return frozenset(piece for entry in KNOWN_FALSE.values() for piece in entry.pieces if not entry.only_claim)


def claims_left_out(pieces: Collection[str]) -> frozenset[str]:
    """The kinds of claims that are not looked at in a generated program of some pieces."""
    return frozenset(
        entry.claim for entry in KNOWN_FALSE.values() if entry.only_claim and not set(entry.pieces).isdisjoint(pieces)
    )
