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
    "saved-behind-unseen-calls": KnownFalse(
        reason="what a scripted function saved is not read where its result has no name of its own",
        claim="saved-bytes",
        program=_program(
            """
            class OneSided(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h, s):
                    return h * s
                @staticmethod
                def backward(ctx, grad):
                    return grad, None
            @torch.jit.script
            def scripted(h):
                return torch.sigmoid(h) * h
            w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
            for step in range(1):
                h = x
                h = OneSided.apply(h, w)
                h = scripted(h)
                h = h + x
                h.sum().backward()
            """
        ),
        pieces=("scripted",),
        only_claim=True,
    ),
    "leaf-that-a-hook-gave": KnownFalse(
        reason="what a full backward hook gives is shown as it was inside, where a name had other values",
        claim="row-is_leaf",
        program=_program(
            """
            net = nn.Linear(3, 3)
            net.register_full_backward_hook(lambda module, inner, outer: None)
            for step in range(1):
                h = x
                h = net(h)
                h = torch.tensor(h.tolist())
            h = x
            h = net(h)
            torch.set_grad_enabled(False)
            h = net(h)
            torch.set_grad_enabled(True)
            h = h + net(x)
            """
        ),
        pieces=("full-backward-hook",),
        only_claim=True,
    ),
    "node-that-a-hook-gave": KnownFalse(
        reason="the same of its grad_fn",
        claim="row-grad_fn",
        program=_program(
            """
            net = nn.Linear(3, 3)
            net.register_full_backward_hook(lambda module, inner, outer: None)
            for step in range(1):
                h = x
                h = net(h)
                h = torch.tensor(h.tolist())
            h = x
            h = net(h)
            torch.set_grad_enabled(False)
            h = net(h)
            torch.set_grad_enabled(True)
            h = h + net(x)
            """
        ),
        pieces=("full-backward-hook",),
        only_claim=True,
    ),
    "cut-inside-a-hook": KnownFalse(
        reason="the view that a full backward hook makes inside is taken for a cut, of what is used twice",
        claim="why-cut",
        program=_program(
            """
            fc, norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
            norm.register_full_backward_hook(lambda module, inner, outer: None)
            h = fc(x)
            point = x.clone().requires_grad_()
            out = norm(point).tanh().sum()
            (slope,) = torch.autograd.grad(out, point)
            loss = h.sum() + slope.pow(2).sum()
            loss.backward()
            """
        ),
        pieces=("full-backward-hook",),
        only_claim=True,
    ),
    "copied-and-cut": KnownFalse(
        reason="of two cuts the copy of a module is named, which no gradient was meant to pass",
        claim="why-cut",
        program=_program(
            """
            norm = nn.BatchNorm1d(3)
            twin = copy.deepcopy(norm)
            h = torch.tanh(x)
            with torch.no_grad():
                h = norm(h)
            h = h + twin(x)
            h.sum().backward()
            """
        ),
        pieces=("deepcopy",),
        only_claim=True,
    ),
    "kept-in-earlier-runs": KnownFalse(
        reason="a name that a loop gave its tensor is taken for a later tensor of the same line",
        claim="gradient",
        program=_program(
            """
            norm = nn.BatchNorm1d(3)
            for step in range(3):
                h = x
                h = h + norm(h)
                if h.requires_grad:
                    kept = h
                    kept.retain_grad()
                point = x.clone().requires_grad_()
                out = norm(point).tanh().sum()
                (slope,) = torch.autograd.grad(out, point)
                loss = h.sum() + slope.pow(2).sum()
                loss.backward()
            h = x
            h = torch.from_numpy(h.detach().numpy())
            h = h.t().contiguous().t()
            h = h + norm(x)
            loss = h.pow(2).mean()
            loss.backward()
            """
        ),
        pieces=("retained",),
        only_claim=True,
    ),
    "function-on-written-memory": KnownFalse(
        reason="a Function's result that is its input is shown as it was inside, where its memory was written before",
        claim="row-is_leaf",
        program=_program(
            """
            class Same(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h):
                    return h
                @staticmethod
                def backward(ctx, grad):
                    return grad
            w = torch.randn(3, requires_grad=True)
            h = w * x
            h.mul_(2)
            h = Same.apply(h)
            h.sum().backward()
            """
        ),
        pieces=("function-that-gives-its-input", "function-that-gives-a-view"),
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
