"""What the causes mean that only the recordings of several processes together tell: for people who meet one first."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.comparison.rank_model import RankCauseName


class RankCauseKind(NamedTuple):
    """One kind of cause; each text is one paragraph, however its lines break."""

    kind: RankCauseName
    severity: str
    """The severities that it may have."""
    title: str
    meaning: str
    """What was seen."""
    reason: str
    """Why torch behaves so."""
    remedy: str
    shows: str
    """Lines of a program, run by two ranks, that show it."""


KINDS = (
    RankCauseKind(
        "layer-on-some-ranks",
        "problem",
        "a layer that not all ranks use",
        """A backward pass gave parameters in DistributedDataParallel a gradient on some ranks and none on others; or a
            layer under fully_shard did not run as often on all ranks.""",
        """DistributedDataParallel lets every rank wait in each pass until all of its parameters have a gradient to be
            averaged. A layer under fully_shard gathers its parameters from all ranks when it runs: those that run it
            wait for those that do not.""",
        """Let all ranks use the same layers as often. Under DistributedDataParallel, find_unused_parameters=True lets
            a rank go without some.""",
        "model = DistributedDataParallel(net)\nmodel(x, use_extra_layer=rank == 0).sum().backward()\n",
    ),
    RankCauseKind(
        "called-by-some-ranks",
        "problem, or warning where all ended well",
        "a call in which all ranks must take part, and not all do",
        """The first call that is not the same on all ranks of a group: a collective, a backward pass in which gradients
            are averaged or sharded parameters gathered, a forward of DistributedDataParallel that sends buffers (those
            of batch norms). Named are who called what or waits in it, and, where it is known, the if that let only some
            ranks come there, the line that led there, or that one had more batches.""",
        """Collectives are matched by their order, not by their place: whoever calls one waits until all others call
            their next one. One call too many on one rank shifts all that follow, and the wait is often elsewhere.""",
        """Let all ranks make the same calls in the same order. Evaluate on one rank with model.module (no buffers are
            sent then), never with a model under fully_shard. With uneven data use Join, or drop the last batches.""",
        "if rank == 0:\n    dist.all_reduce(loss)  # the others never call it\n",
    ),
    RankCauseKind(
        "send-without-recv",
        "problem, or warning where all ended well",
        "a send that was not received, or a recv of what was not sent",
        """What goes between two ranks is matched pair by pair: the k-th send of one to the other (in one group, under
            one tag) meets the k-th recv there. Named is the first that meets none, or two that wait for each other.
            Nothing is said where a recv takes from whoever sends first.""",
        """send waits until it is received, and recv until something is sent: two ranks that both send first wait for
            each other. (Small tensors may get through, so that it happens with large ones only.)""",
        """Give each send its recv in the same order, with the same tag. Where both send, use isend and irecv and wait
            for both, or batch_isend_irecv.""",
        "dist.send(x, 1 - rank)\ndist.recv(y, 1 - rank)\n",
    ),
    RankCauseKind(
        "branch-on-some-ranks",
        "warning where a rank is asked for, else note",
        "an if that leads ranks that train one model to different losses",
        """All ended well, and lines that backward passes went through, or that cut a graph, did not run as often on all
            ranks. The if (or match) that decided is named where the number of runs of the lines around it tells it
            exactly: the block around it was begun equally often by all, what it decides on was not.""",
        """Gradients are averaged as if all ranks had computed the same loss on other data. A branch that asks for the
            rank, or for values that ranks do not share, makes them gradients of different losses; nothing fails.""",
        """Let all ranks compute alike. Where data must decide, decide by a value that all have: all_reduce or broadcast
            it first. Under find_unused_parameters=True branches that depend on data are meant, and not told.""",
        "h = encoder(x)\nif rank == 1:\n    h = h.detach()\nhead(h).sum().backward()\n",
    ),
    RankCauseKind(
        "evaluated-on-some-ranks",
        "warning",
        "a model that some ranks train in evaluation mode",
        """eval() was called on some ranks only, and before the next train() there were backward passes that gave the
            module's parameters gradients.""",
        """Dropout is off and batch norms use their running statistics on these ranks: the ranks average gradients of
            different functions.""",
        """Call train() after an evaluation that only some ranks make.""",
        "if rank == 0:\n    model.eval()\n    evaluate(model)\nmodel(x).sum().backward()\n",
    ),
    RankCauseKind(
        "replicas-differ",
        "warning",
        "ranks whose gradients are the same and whose parameters are not",
        """Before an optimizer's steps 1, 2, 4, 8 … the norms of its parameters and their gradients were noted: those of
            the gradients are the same on all ranks, those of the parameters are not.""",
        """Averaging gradients does not make parameters equal: models that were made with another seed, or that were
            not broadcast, stay apart.""",
        """Make the model with the same seed on all ranks, or broadcast its parameters from rank 0 before training.
            DistributedDataParallel does so when it wraps a model.""",
        "torch.manual_seed(rank)\nmodel = Net()  # and gradients are averaged by hand\n",
    ),
    RankCauseKind(
        "gradient-not-averaged",
        "warning",
        "parameters that DistributedDataParallel does not average",
        """By the same norms: the gradients of some parameters differ between the ranks, those of others do not.""",
        """DistributedDataParallel averages what required grad in the model when it was wrapped. A layer that was added,
            or a parameter that was unfrozen, later is not among it.""",
        """Change the model first, and wrap it then.""",
        "model = DistributedDataParallel(net)\nmodel.module.head = nn.Linear(4, 2)\n",
    ),
)
"""Every kind."""


def rank_cause_kind(code: str) -> RankCauseKind | None:
    """The kind of a name; None: there is none."""
    return next((known for known in KINDS if known.kind == code), None)
