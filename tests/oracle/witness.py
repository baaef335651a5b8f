"""Runs a program under torch itself and notes what a report speaks of: the oracle's own eyes.

Nothing of the recorder is used. The program's syntax tree gets a context around each statement; a function mode
notes what each call took and gave; passes are seen by hooks on the leaves and by a walk over ``next_functions``. All
tensors are kept, so that an ``id`` is one tensor for the whole run: values, graphs and memory do not depend on that.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import linecache
import sys
import types
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode

from tests.analysis.building import FILE

from .naming import Path, tensors_in

# Not by way of ``torch.Tensor``, where runs without cuts replace them.
_DETACH, _NUMPY = torch._C.TensorBase.detach, torch._C.TensorBase.numpy


class State(NamedTuple):
    """What torch says of one tensor at one moment."""

    shape: str
    dtype: str
    requires_grad: bool
    is_leaf: bool
    grad_fn: str
    version: int | None
    grad: torch.Tensor | None
    has_gradient: bool
    """Whether that has a value that is not zero."""
    values: bytes
    storage: int
    """Address of the storage object."""
    first_byte: int
    end_byte: int


@dataclass(eq=False)
class Moment:
    """The tensors that had a name when a statement began or had ended."""

    number: int
    names: dict[Path, torch.Tensor] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=dict)

    def state(self, tensor: torch.Tensor | None) -> State | None:
        """Of a tensor then; None where nothing led to it."""
        return None if tensor is None else self.states.get(id(tensor))


@dataclass(eq=False)
class Pass:
    """One backward pass, or one ``autograd.grad``."""

    line: int
    number: int
    """The moment at which its statement began."""
    kind: str
    """``backward`` or ``grad``."""
    roots: list[torch.Tensor]
    edges: list[Any]
    """The nodes of roots that are given as gradient edges."""
    values: list[torch.Tensor]
    """Copies of the roots."""
    inputs: list[torch.Tensor]
    led_to: set[int]
    """Leaves (by id) to which the graph of the roots led."""
    walked: set[Any]
    """The nodes behind the roots."""
    names: dict[Path, torch.Tensor]
    grad_before: dict[int, torch.Tensor | None]
    received: set[int] = field(default_factory=set)
    """Leaves into whose ``.grad`` it accumulated."""
    grad_after: dict[int, torch.Tensor | None] = field(default_factory=dict)
    gradients: dict[int, torch.Tensor] = field(default_factory=dict)
    """Copies of the gradients that were there after it: later passes add to the same tensors."""
    wanted: dict[int, bool] = field(default_factory=dict)
    """``requires_grad`` of all that had a name."""
    error: str = ""


Intervention = Callable[["Witness", int, types.FrameType], contextlib.AbstractContextManager[None] | None]
"""Called when a statement begins, with its line and frame; a context that it returns lasts as long as the statement."""


class Witness:
    """One run of a program, and what was seen of it.

    Args:
        source: The program's text.
        intervene: What to do at the statements of the run (see :mod:`.reruns`).
        watch: Whether states, calls and saved tensors are noted too, not only passes and names.
    """

    def __init__(self, source: str, intervene: Intervention | None = None, watch: bool = True) -> None:
        self.source = source
        self.lines = source.split("\n")
        self.watch = watch
        self.runs: dict[int, int] = defaultdict(int)
        """How often the statements of each line began."""
        self.runs_at: dict[int, Counter[int]] = defaultdict(Counter)
        """How often each of them did, by the column at which it begins: a line may hold several."""
        self.runs_in_passes: dict[int, int] = defaultdict(int)
        """How often of these inside a backward pass, of which no moments are kept."""
        self.before: dict[int, Moment] = {}
        self.after: dict[int, Moment] = {}
        """The last moments of each line."""
        self.moments: dict[int, list[tuple[Moment, Moment]]] = defaultdict(list)
        """All moments of each line's statements that came to their end."""
        self.ever: dict[Path, dict[int, torch.Tensor]] = defaultdict(dict)
        """Every tensor that a path ever led to, by id."""
        self.begun: list[Moment] = []
        """The moments at which statements began, in order."""
        self.passes: list[Pass] = []
        self.uses: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
        """For each tensor: moment, line and function of each call that took it."""
        self.saved_bytes = 0
        self.has_wrappers = False
        """``torch.func`` took gradients: what the nodes of its wrappers save is not counted."""
        self.has_own_inside = False
        """Whether a backward of the program's own ran passes itself."""
        self.changed_at: dict[int, list[tuple[int, Path]]] = defaultdict(list)
        """For each tensor: when its bytes were first seen to be others than before, birth included, and a name then."""
        self.ended: dict[int, int] = defaultdict(int)
        """How often the statement of each line came to its end outside of passes."""
        self.error: BaseException | None = None
        self.error_line = 0
        self.number = 0
        self.kept: list[Any] = []
        self.namespace: dict[str, Any] = {}
        """The program's names when it was over."""
        self._intervene = intervene
        self._bytes: dict[int, bytes] = {}
        self._nodes: set[Any] = set()
        self._storages: set[int] = set()
        self._depth = 0
        self.run()

    def run(self) -> None:
        """Run the program from its first line to its end or error."""
        linecache.cache[FILE] = (len(self.source), None, self.source.splitlines(keepends=True), FILE)
        module = types.ModuleType("__main__")
        module.__dict__["__witness__"] = self
        module.__dict__["__file__"] = FILE
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(_module_as_main(module))
            stack.enter_context(torch.random.fork_rng())
            stack.enter_context(self._passes_noted())
            if self.watch:
                stack.enter_context(_Calls(self))
            grad_mode = torch.is_grad_enabled()
            try:
                exec(_code_of(self.source), module.__dict__)
            except Exception as error:
                self.error = error
                self.error_line = _line_of(error)
            finally:
                torch.set_grad_enabled(grad_mode)
                self.namespace = vars(module)

    def statement(self, line: int, column: int) -> _Statement:
        """A context around each statement (called by the program)."""
        return _Statement(self, line, column)

    def begin(
        self, line: int, column: int, frame: types.FrameType
    ) -> tuple[contextlib.AbstractContextManager[None], Moment | None]:
        """A statement begins: what is to last as long as it, and the moment (None inside a backward pass)."""
        self.runs[line] += 1
        self.runs_at[line][column] += 1
        self.runs_in_passes[line] += bool(self._depth)
        self.number += 1
        moment = None
        if self.watch:
            moment = self._look(frame)
            self.begun.append(moment)
            if not self._depth:
                self.before[line] = moment
            else:  # (another thread's pass may be over when this statement is)
                self.before.pop(line, None)
                moment = None
        context = self._intervene(self, line, frame) if self._intervene is not None else None
        return context or contextlib.nullcontext(), moment

    def end(self, line: int, before: Moment | None, frame: types.FrameType) -> None:
        """A statement that began at a moment has ended without an error."""
        self.number += 1
        if self._depth or (self.watch and before is None):
            return
        self.ended[line] += 1
        if before is not None:
            self.after[line] = self._look(frame)
            self.moments[line].append((before, self.after[line]))

    def _look(self, frame: types.FrameType) -> Moment:
        moment = Moment(self.number)
        # (Inside ``torch.func.grad`` a detach() of any tensor would be one of its wrappers.)
        with torch._C.DisableTorchFunction(), temporarily_clear_interpreter_stack():
            moment.names = {path: tensor for path, tensor in names_in(frame).items() if _is_plain(tensor)}
            for path, tensor in moment.names.items() if self.watch else ():
                self.ever[path][id(tensor)] = tensor
                if id(tensor) not in moment.states:
                    state = moment.states[id(tensor)] = state_of(tensor)
                    if self._bytes.get(id(tensor)) != state.values:
                        self._bytes[id(tensor)] = state.values
                        self.changed_at[id(tensor)].append((self.number, path))
                    if not self._depth:  # (what made it was maybe no call, and none may take it)
                        self._count_saved(node_of(tensor))
        return moment

    @contextlib.contextmanager
    def _passes_noted(self) -> Iterator[None]:
        backward, grad = torch.autograd.backward, torch.autograd.grad

        def noted_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            inputs = kwargs.get("inputs")
            with self._pass("backward", tensors, inputs):
                backward(tensors, *args, **kwargs)

        def noted_grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            with self._pass("grad", outputs, inputs):
                return grad(outputs, inputs, *args, **kwargs)

        torch.autograd.backward, torch.autograd.grad = noted_backward, noted_grad
        try:
            yield
        finally:
            torch.autograd.backward, torch.autograd.grad = backward, grad

    @contextlib.contextmanager
    def _pass(self, kind: str, roots: Any, inputs: Any) -> Iterator[None]:
        if torch._C._functorch.peek_interpreter_stack() is not None:  # of torch.func's, over wrappers without values
            frame = _user_frame()
            assert frame is not None
            self.has_wrappers = True
            if not self._depth:
                self.passes.append(Pass(frame.f_lineno, self.number, kind, [], [], [], [], set(), set(), {}, {}))
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        frame = _user_frame()
        if self._depth:  # a pass inside a pass, as a reentrant checkpoint runs it, is part of that
            self.has_own_inside |= frame is not None and frame.f_lineno != self.passes[-1].line
            yield
            return
        tensors, given = _tensors(roots), _tensors(inputs)
        assert frame is not None, "a backward pass that the program did not ask for"
        with torch._C.DisableTorchFunction():
            moment = self._look(frame)
            edges = _edges(roots)
            leaves, nodes = walk(tensors, edges)
            named = {id(tensor): tensor for tensor in moment.names.values()}
            one = Pass(
                line=frame.f_lineno,
                number=self.number,
                kind=kind,
                roots=tensors,
                edges=edges,
                values=[_DETACH(root).clone() for root in tensors],
                inputs=given,
                led_to=set(map(id, leaves)),
                walked=nodes,
                names=moment.names,
                grad_before={key: grad_of(tensor) for key, tensor in named.items()},
            )
            one.wanted = {key: tensor.requires_grad for key, tensor in named.items()}
            self.kept += [*tensors, *leaves, *one.grad_before.values()]
            # (Leaves inside a reentrant checkpoint get theirs though the graph does not lead to them.)
            watched = {id(leaf): leaf for leaf in (*leaves, *named.values()) if leaf.is_leaf and leaf.requires_grad}
            handles = [_note_receipt(leaf, one.received) for leaf in watched.values()]
        self.passes.append(one)
        self._depth += 1
        try:
            yield
        except Exception as error:
            one.error = str(error)
            raise
        finally:
            self._depth -= 1
            for handle in handles:
                handle.remove()
            with torch._C.DisableTorchFunction():
                one.grad_after = {key: grad_of(tensor) for key, tensor in named.items()}
                there = ((key, gradient) for key, gradient in one.grad_after.items() if gradient is not None)
                one.gradients = {key: _DETACH(gradient).clone() for key, gradient in there}

    def note_call(self, func: Any, taken: list[torch.Tensor], given: list[torch.Tensor]) -> None:
        """A call at torch's Python API."""
        frame = _user_frame()
        line = frame.f_lineno if frame is not None else 0
        for tensor in taken:
            self.kept.append(tensor)
            self.uses[id(tensor)].append((self.number, line, getattr(func, "__name__", "")))
        self.kept += given
        for tensor in (*taken, *given):  # (what was taken may come from a scripted function, which no mode sees)
            self._count_saved(node_of(tensor))

    def _count_saved(self, node: Any) -> None:
        """Note the nodes that are new behind one; what was packed by a hook is not unpacked, as that may run code."""
        hooked = torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
        todo = [node]
        while todo:
            node = todo.pop()
            if node is None or node in self._nodes:
                continue
            self._nodes.add(node)
            self.kept.append(node)
            for tensor in () if hooked else saved_by(node):
                self.kept.append(tensor)
                storage = tensor.untyped_storage()
                if storage._cdata not in self._storages:
                    self._storages.add(storage._cdata)
                    self.saved_bytes += storage.nbytes()
            todo.extend(after for after, _ in node.next_functions)


class _Calls(TorchFunctionMode):
    """Notes what calls took and gave."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunction():
            seen = [_tensors(those) for those in ([args, kwargs or {}], result)]
            taken, given = (list(filter(_is_plain, those)) for those in seen)
            self._witness.has_wrappers |= len(taken) + len(given) < sum(map(len, seen))
            self._witness.note_call(func, taken, given)
        return result


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether it is no wrapper of ``torch.func``'s, which has no values of its own."""
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


@functools.lru_cache(maxsize=4)
def _code_of(source: str) -> types.CodeType:
    """A program with a context of the witness around each statement."""
    return compile(ast.fix_missing_locations(_Noting().visit(ast.parse(source))), FILE, "exec")


class _Statement:
    """Lasts as long as one statement."""

    def __init__(self, witness: Witness, line: int, column: int) -> None:
        self._witness = witness
        self._line = line
        self._column = column

    def __enter__(self) -> None:
        self._context, self._before = self._witness.begin(self._line, self._column, sys._getframe(1))
        self._context.__enter__()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._context.__exit__(kind, error, traceback)
        if kind is None:
            self._witness.end(self._line, self._before, sys._getframe(1))


class _Noting(ast.NodeTransformer):
    """Puts a context of the witness around each statement."""

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                setattr(node, name, [_noted(statement) for statement in body])
        return node


def _noted(statement: ast.stmt) -> ast.stmt:
    (noted,) = ast.parse(f"with __witness__.statement({statement.lineno}, {statement.col_offset}): pass").body
    assert isinstance(noted, ast.With)
    for part in ast.walk(noted):
        ast.copy_location(part, statement)
    noted.body = [statement]
    return noted


@contextlib.contextmanager
def _module_as_main(module: types.ModuleType) -> Iterator[None]:
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _line_of(error: BaseException) -> int:
    line, at = 0, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == FILE:
            line = at.tb_lineno
        at = at.tb_next
    return line


def _user_frame() -> types.FrameType | None:
    """The innermost frame of the program; None where it has none (torch's own clean-up, the oracle's)."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != FILE:
        frame = frame.f_back
    return frame


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return _tensors(list(value.values()))
    return []


def _edges(value: Any) -> list[Any]:
    """The nodes of gradient edges."""
    if isinstance(value, GradientEdge):
        return [value.node]
    return [node for item in value for node in _edges(item)] if isinstance(value, (list, tuple)) else []


def _note_receipt(leaf: torch.Tensor, received: set[int]) -> Any:
    """Hooks after accumulation run for a gradient that is None too; this one does not."""

    def note(grad: torch.Tensor | None) -> None:
        if grad is not None:
            received.add(id(leaf))

    return leaf.register_hook(note)


def names_in(frame: types.FrameType) -> dict[Path, torch.Tensor]:
    """The tensors to which names of a frame lead, the module's included."""
    names = dict(tensors_in(frame.f_globals))
    if frame.f_locals is not frame.f_globals:
        names.update(tensors_in(frame.f_locals))
    return names


def grad_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """The ``.grad`` of a tensor, without the warning that reading it of a non-leaf gives."""
    return tensor.grad if tensor.is_leaf or tensor.retains_grad else None


def node_of(tensor: torch.Tensor) -> Any:
    """The ``grad_fn`` of a tensor; None for a view made under no_grad whose base was written since, which has none."""
    try:
        return tensor.grad_fn
    except RuntimeError as error:
        if "A view was created in no_grad mode" not in str(error):
            raise
        return None


def state_of(tensor: torch.Tensor) -> State:
    """What torch says of a tensor now."""
    node, plain, gradient = node_of(tensor), _DETACH(tensor), grad_of(tensor)
    if plain.dtype is torch.bfloat16:  # which numpy does not know
        plain = plain.view(torch.int16)
    start = tensor.storage_offset() * tensor.element_size()
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    end = start + (reach + 1) * tensor.element_size() if tensor.numel() else start
    return State(
        shape=str(tuple(tensor.shape)),
        dtype=str(tensor.dtype).removeprefix("torch."),
        requires_grad=tensor.requires_grad,
        is_leaf=tensor.is_leaf,
        grad_fn=node.name().rpartition("::")[2] if node is not None else "",
        version=None if tensor.is_inference() else tensor._version,
        grad=gradient,
        has_gradient=gradient is not None and bool(_DETACH(gradient).any()),
        values=_NUMPY(plain).tobytes(),
        storage=tensor.untyped_storage()._cdata,
        first_byte=start,
        end_byte=end,
    )


def walk(roots: list[torch.Tensor], nodes: list[Any] | None = None) -> tuple[list[torch.Tensor], set[Any]]:
    """The leaves to which the graph behind some roots and nodes leads, and its nodes."""
    leaves = {id(root): root for root in roots if root.requires_grad and root.grad_fn is None}
    todo = [*(root.grad_fn for root in roots if root.grad_fn is not None), *(nodes or ())]
    seen: set[Any] = set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves[id(node.variable)] = node.variable
        todo.extend(after for after, _ in node.next_functions if after is not None)
    return list(leaves.values()), seen


def saved_by(node: Any) -> list[torch.Tensor]:
    """The tensors that a node keeps for backward; nothing of a node that is used up."""
    found: list[torch.Tensor] = _tensors(
        list(getattr(node, "__dict__", {}).values())
    )  # what a Function put into its ctx
    names = [name for name in dir(node) if name.startswith("_saved_") or name == "saved_tensors"]
    for name in names:
        with contextlib.suppress(RuntimeError):
            found += _tensors(getattr(node, name))
    return found
