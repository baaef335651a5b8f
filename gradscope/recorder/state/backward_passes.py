"""One backward pass: what it did to the ``.grad`` of each leaf that was there."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch._C import DisableTorchFunctionSubclass
from torch.autograd.graph import GradientEdge

from gradscope.recorder.state.fingerprints import Fingerprints
from gradscope.recorder.state.gradient_looks import GradientLooks
from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity, Seen
from gradscope.recorder.state.many_tensors import GradientBefore, ManyTensors
from gradscope.recorder.state.passes_in_flight import PassesInFlight, RunningPass
from gradscope.recorder.state.tensor_states import TensorStates
from gradscope.recorder.state.tensors_in import PLAIN, tensors_in
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import OpKind
from gradscope.recording.tables import NONE

_BACKWARD, _GRAD = int(OpKind.BACKWARD), int(OpKind.GRAD)


class PassObserver:
    """Observes the backward passes of one recording: what all of them share."""

    def __init__(
        self,
        tape: Tape,
        states: TensorStates,
        many: ManyTensors,
        looks_for_births: bool,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        self.tape = tape
        self.states = states
        self.identity = identity = states.identity
        self.graph = graph = states.graph
        self.many = many
        self.looks = GradientLooks(tape, identity, graph, looks_for_births)
        self.fingerprints = fingerprints
        self.in_flight = PassesInFlight(identity, graph)

    def was_given_node(self, root: Any) -> bool:
        """Whether a Function gave what its forward returned a ``grad_fn``, which is not known yet."""
        seen = self.identity.tensors.get(id(root))
        if seen is None or seen.node != NONE or type(root) not in PLAIN or not root.requires_grad:
            return False
        return not root._is_view() and not root.is_leaf  # (to ask a view for its node can raise, or rebuild it)

    def take_up(self, root: Tensor, read_saved: bool) -> None:
        """Note such a ``grad_fn`` before the pass frees what its node saved."""
        seen = self.identity.tensors[id(root)]
        self.identity.leaves.pop(seen.row, None)
        self.states.compare(root, seen, self.tape.op_count, self.graph.begun, read_saved)

    def leads_on(self, thread: int, roots: Any) -> None:
        """A pass that is begun inside the one of a thread, as a reentrant checkpoint's is, belongs to that."""
        tensors = [root for root in roots if isinstance(root, Tensor)] if isinstance(roots, tuple) else []
        led = self.in_flight.leads_on(thread, tensors)
        if led is not None and led[0].before is not None:
            led[0].before.update(self.many.before(led[1]))

    def under_way(
        self,
        seen: Seen,
        node: int,
        retain_graph: bool,
        create_graph: bool,
        running: RunningPass,
        before: dict[int, GradientBefore],
    ) -> ObservedPass:
        """A pass from one tensor that the native core has begun, and that is to be finished here."""
        begun = object.__new__(ObservedPass)
        begun._passes, begun._identity, begun._thread = self, self.identity, running.thread
        begun._roots, begun._unseen, begun._inputs = [(seen, node)], [], []
        begun._look, begun._fingerprints = None, None
        begun._retain_graph, begun._create_graph = retain_graph, create_graph
        begun._running, begun._before = running, before
        return begun


class ObservedPass:
    """Compares every known leaf's ``.grad`` before and after a pass, but for those that another thread's may write.

    Only numbers are held while the pass runs: a gradient held by Python could change how autograd accumulates.
    """

    def __init__(self, passes: PassObserver, kind: int, args: Any, kwargs: Any, thread: int) -> None:
        identity = passes.identity
        if identity.dead:
            identity.bury()
        self._passes = passes
        self._identity = identity
        self._thread = thread
        options = kwargs or {}
        named = (options[name] for name in ("self", "tensors", "outputs") if name in options)
        roots = args[0] if args else next(named, ())
        if type(roots) is Tensor:  # as most are
            tensors, known = [roots], [identity.tensors.get(id(roots))]
        else:
            listed = (roots,) if isinstance(roots, (Tensor, GradientEdge)) else tuple(roots)
            tensors = [root for root in listed if isinstance(root, Tensor)]
            known = [identity.tensors.get(id(root)) for root in tensors]
            known += [_at_edge(root, identity, passes.graph) for root in listed if isinstance(root, GradientEdge)]
        self._roots = [(seen, seen.node) for seen in known if seen is not None]
        # (the call's arguments keep them alive; what was not seen before is entered when the call is over)
        self._unseen = [root for root in tensors if id(root) not in identity.tensors] if None in known else []
        self._look = passes.looks.before(tensors)
        looked = passes.fingerprints
        self._fingerprints = None if looked is None else looked.in_pass(tensors, passes.graph)
        self._inputs: list[int] = []
        if kind == _GRAD:
            inputs = options.get("inputs", args[1] if len(args) > 1 else ())
            self._inputs = [identity.row_of(tensor) for tensor in tensors_in(inputs)]
        # Positions of retain_graph: backward(tensors, gradient, here, …), grad(outputs, inputs, grad_outputs, here, …).
        at = 3 if kind == _GRAD else 2
        create = options.get("create_graph", args[at + 1] if len(args) > at + 1 else False)
        retain = options.get("retain_graph", args[at] if len(args) > at else None)
        self._create_graph = bool(create)
        self._retain_graph = bool(create if retain is None else retain)
        self._running = passes.in_flight.begin(thread, tensors)
        self._before: dict[int, GradientBefore] = {}
        if kind == _BACKWARD:
            self._before = passes.many.before(passes.in_flight.readable(self._running, identity.leaves))
            self._running.before = self._before

    def _note_roots(self, op: int, tape: Tape) -> None:
        """Write the pass's roots."""
        if self._unseen:
            entered = [self._identity.tensors.get(id(root)) for root in self._unseen]
            self._unseen = []
            self._roots += [(seen, seen.node) for seen in entered if seen is not None]
        for seen, node in self._roots:
            # (what a Function gave its grad_fn to, the hook of a module's among them, is known to have one by now)
            found = seen.node if node == NONE else node
            tape.pending["backwards"] += (op, seen.row, found, self._retain_graph, self._create_graph)

    def finish(self, op: int, result: Any, span: int) -> None:
        """Write the pass's roots, the outcome for each leaf that was there before it, and what was looked at.

        Args:
            op: The pass.
            result: What it returned.
            span: Where it was called.
        """
        given = self._outcomes(op)
        if isinstance(result, tuple) and len(result) == len(self._inputs):
            given += [(row, gradient) for row, gradient in zip(self._inputs, result, strict=True) if row != NONE]
        if self._look is not None:
            self._passes.looks.after(self._look, op, span, self._thread, given)
        if self._fingerprints is not None:
            self._fingerprints.finish(op, given)

    def finish_raised(self, op: int) -> None:
        """Write the pass's roots and what it gave; it may have been on its way to others."""
        if self._look is not None:
            self._look.end()
        given = self._outcomes(op, raised=True)
        if self._fingerprints is not None:
            self._fingerprints.finish(op, given)

    def _outcomes(self, op: int, *, raised: bool = False) -> list[tuple[int, Any]]:
        """Write the outcomes; the leaves that got a gradient, and what they have now."""
        passes = self._passes
        passes.in_flight.end(self._running)
        self._note_roots(op, passes.tape)
        leaves = passes.in_flight.readable(self._running, self._before)
        return passes.many.after(leaves, self._before, op, raised)


def _at_edge(edge: GradientEdge, identity: Identity, graph: GraphNodes) -> Seen | None:
    """The known tensor that lives and whose gradient an edge leads to; None where there is none."""
    node = graph.row_of(edge.node)
    for seen in identity.tensors.values() if node != NONE else ():
        tensor = seen() if seen.node == node else None
        if tensor is not None:
            with DisableTorchFunctionSubclass():
                if tensor.output_nr == edge.output_nr:
                    return seen
    return None
