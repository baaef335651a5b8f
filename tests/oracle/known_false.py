"""What reports are known to say that is not so: one entry a cause, each with a program that shows it.

The generated programs of the normal run leave out the pieces of these entries, and the kinds of claims that fail
everywhere. An entry whose program no longer shows it fails its test: it is to be taken out, and its pieces come back.
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
    everywhere: bool = False
    """Whether claims of this kind are not looked at in generated programs at all."""
    only_claim: bool = False
    """Whether the pieces stay, and only claims of this kind are not looked at in programs that have them."""
    healthy: bool = False
    """Whether the program does only what it means to, so that a warning is false by itself."""


_HEAD = "import copy\nimport torch\nfrom torch import nn\ntorch.manual_seed(0)\nx = torch.randn(2, 3)\n"


def _program(text: str) -> str:
    return _HEAD + dedent(text).lstrip("\n")


KNOWN_FALSE: dict[str, KnownFalse] = {
    "calls-of-one-statement": KnownFalse(
        reason="×N counts calls of one function, or runs in which something happened, not runs of the line",
        claim="executions",
        program=_program(
            """
            a, b = nn.Linear(3, 3), nn.Linear(3, 3)
            """
        ),
        everywhere=True,
    ),
    "cuts-of-one-statement": KnownFalse(
        reason="×N of a cut counts the layers of a model that one statement ran under no_grad",
        claim="cut-executions",
        program=_program(
            """
            net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
            with torch.no_grad():
                h = net(x)
            h = h + net(x)
            """
        ),
        everywhere=True,
    ),
    "fused-step": KnownFalse(
        reason="fused optimizers write past the version counter: their steps are said to have changed nothing",
        claim="step-changed",
        program=_program(
            """
            net = nn.Linear(3, 3)
            opt = torch.optim.AdamW(net.parameters(), fused=True)
            for step in range(3):
                opt.zero_grad()
                loss = net(x).sum()
                loss.backward()
                opt.step()
            """
        ),
        pieces=("adamw-fused", "sgd-fused"),
    ),
    "fused-step-between": KnownFalse(
        reason="a fused step between forward and backward falsifies the gradient without an error, and is not told",
        claim="silently-wrong-missed",
        program=_program(
            """
            net = nn.Linear(3, 3)
            opt = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
            loss = net(net(x)).sum()
            loss.backward(retain_graph=True)
            opt.step()
            loss.backward()
            """
        ),
    ),
    "swapped-names": KnownFalse(
        reason="after a swap the names are those of before",
        claim="gradient",
        program=_program(
            """
            a, b = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
            y = a * b
            a, b = b, a
            loss = a.sum()
            loss.backward()
            print(b.grad)
            """
        ),
        pieces=("swapped-modules", "swapped-leaves", "rebound-leaf"),
    ),
    "loop-variable": KnownFalse(
        reason="a parameter is called by a loop variable that is another by then, though a list or a module holds it",
        claim="gradient",
        program=_program(
            """
            nets = [nn.Linear(3, 3), nn.Linear(3, 3)]
            for net in nets:
                loss = net(x).sum()
                loss.backward()
            """
        ),
        pieces=("each-in-turn", "ema", "ema-data"),
    ),
    "state-at-birth": KnownFalse(
        reason="a Function's result that is its input, and what a full backward hook wraps, are shown as they were",
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
            h = Same.apply(h)
            h.sum().backward()
            """
        ),
        pieces=("function-that-gives-its-input", "full-backward-hook"),
    ),
    "cut-inside-a-function": KnownFalse(
        reason="the forward of a custom Function is taken for a cut of the graph around it",
        claim="why-cut",
        program=_program(
            """
            class OneSided(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h, s):
                    return h * s
                @staticmethod
                def backward(ctx, grad):
                    return grad, None
            w = torch.randn(3, requires_grad=True)
            a, b = nn.Linear(3, 3), nn.Linear(3, 3)
            h = a(x)
            h = OneSided.apply(h, w)
            with torch.no_grad():
                h = b(h)
            loss = (h + a(x)).sum()
            loss.backward()
            """
        ),
        pieces=("function-that-gives-none",),
    ),
    "named-before": KnownFalse(
        reason="a tensor that a second name holds is called by the first, which is another tensor's by then",
        claim="gradient",
        program=_program(
            """
            w = torch.randn(3, requires_grad=True)
            net = nn.Linear(3, 3)
            h = w * x
            kept = h
            kept.retain_grad()
            h = h + net(x)
            loss = h.sum()
            loss.backward()
            """
        ),
        pieces=("retained",),
    ),
    "kept-by-functions": KnownFalse(
        reason="what custom Functions keep for backward is not counted where the next call hides their node",
        claim="saved-bytes",
        program=_program(
            """
            class Halved(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h):
                    ctx.save_for_backward(h)
                    return h * 0.5
                @staticmethod
                def backward(ctx, grad):
                    return grad * 0.5
            fc = nn.Linear(3, 3)
            h = x
            h = h * 2
            h = fc(h)
            h = fc(h)
            h = Halved.apply(h)
            loss = h.sum()
            loss.backward()
            """
        ),
        pieces=("function",),
        only_claim=True,
    ),
    "some-inputs": KnownFalse(
        reason="inputs= is not named as the reason why other leaves got no gradient",
        claim="why-inputs",
        program=_program(
            """
            w, v = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
            loss = (w * v).sum()
            loss.backward(inputs=[w])
            """
        ),
        pieces=("some-inputs",),
    ),
    "encoder-under-no-grad": KnownFalse(
        reason="an encoder that runs under no_grad and is in no optimizer is warned about",
        claim="alarm",
        program=_program(
            """
            encoder, head = nn.Linear(3, 3), nn.Linear(3, 3)
            opt = torch.optim.SGD(head.parameters(), lr=0.1)
            for step in range(3):
                with torch.no_grad():
                    h = encoder(x)
                loss = head(h).pow(2).mean()
                opt.zero_grad()
                loss.backward()
                opt.step()
            """
        ),
        pieces=("encoder-under-no-grad",),
        healthy=True,
    ),
    "several-models-on-a-line": KnownFalse(
        reason="of models that one backward line serves in turn, the others are called untouched",
        claim="gradient",
        program=_program(
            """
            nets = [nn.Linear(3, 3) for _ in range(2)]
            for step in range(2):
                for net in nets:
                    net.zero_grad()
                    loss = net(x).pow(2).mean()
                    loss.backward()
            """
        ),
    ),
    "storage-written": KnownFalse(
        reason="a write through the storage falsifies the gradient without an error, and is not told",
        claim="silently-wrong-missed",
        program=_program(
            """
            w = torch.randn(3, requires_grad=True)
            y = w.sigmoid()
            y.untyped_storage().fill_(0)
            y.sum().backward()
            """
        ),
    ),
    "numpy-written": KnownFalse(
        reason="a write through numpy falsifies the gradient without an error, and is not told",
        claim="silently-wrong-missed",
        program=_program(
            """
            w = torch.randn(3, requires_grad=True)
            y = w.sigmoid()
            y.detach().numpy()[0] = 5
            y.sum().backward()
            """
        ),
    ),
    "version-at-first-sight": KnownFalse(
        reason="a tensor that enters late has the version that it got by the next line's write",
        claim="row-version",
        program=_program(
            """
            n = torch.from_numpy(torch.ones(4).numpy())
            n[0] = 7
            """
        ),
    ),
    "target-network": KnownFalse(
        reason="a target network under no_grad is warned about though that is what is meant",
        claim="alarm",
        program=_program(
            """
            net = nn.Linear(3, 3)
            target = copy.deepcopy(net)
            opt = torch.optim.SGD(net.parameters(), lr=0.1)
            for step in range(3):
                opt.zero_grad()
                with torch.no_grad():
                    goal = target(x)
                loss = (net(x) - goal).pow(2).mean()
                loss.backward()
                opt.step()
                target.load_state_dict(net.state_dict())
            """
        ),
        pieces=("target",),
        healthy=True,
    ),
}


def pieces_left_out() -> frozenset[str]:
    """The pieces that generated programs do not use."""
    return frozenset(piece for entry in KNOWN_FALSE.values() for piece in entry.pieces if not entry.only_claim)


def claims_left_out(pieces: Collection[str]) -> frozenset[str]:
    """The kinds of claims that are not looked at in a generated program of some pieces."""
    return frozenset(
        entry.claim
        for entry in KNOWN_FALSE.values()
        if entry.everywhere or (entry.only_claim and not set(entry.pieces).isdisjoint(pieces))
    )
