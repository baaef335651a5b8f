"""Functions whose forward saves a tensor and writes it in place afterwards, so that backward is given what was written.

What ``save_for_backward`` is given is taken when forward has returned: with the values and the version of then. Many
such writes are meant (a buffer that is filled, a result of which backward knows the derivative). So forward is read
twice as a formula of single numbers: with what was saved as it ends up, and as it was where it was saved. A write is
told of where the derivative is wrong in the first way and right in the second.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Definition, WrittenBackward
from gradscope.analysis.facts.losses.scalar_formulas import WrongDerivative, wrong_derivatives
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index

_SAME_MEMORY = frozenset(("detach", "view_as", "view", "requires_grad_"))
_OF_CONTEXT = frozenset(("mark_dirty", "mark_non_differentiable", "set_materialize_grads"))
"""Methods of ctx that compute nothing."""
_NAMESPACES = ("torch", "F", "torch.nn.functional")


class LateWrite(NamedTuple):
    """A statement that writes what an earlier one saved."""

    statement: ast.stmt
    saved: ast.stmt
    name: str


class WrittenAfterSaved(NamedTuple):
    """One Function of a run."""

    write: LateWrite
    wrong: list[WrongDerivative]
    """What follows for the gradients."""
    saved_row: int
    op: int
    """The write."""


def written_after_saved(index: Index, written: WrittenBackward, nodes: Iterable[int]) -> WrittenAfterSaved | None:
    """What is written too late; None where nothing is known to be.

    Args:
        index: The run.
        written: The Function.
        nodes: Its nodes that a pass walked.
    """
    if written.forward is None or len(written.returns) != 1:
        return None
    lowered = _Lowered(written.forward)
    if not lowered.late:
        return None
    wrong = list(wrong_derivatives(_with_forward(written, lowered.as_it_ends)))
    if not wrong or any(wrong_derivatives(_with_forward(written, lowered.as_it_stands))):
        return None
    for write in lowered.late:
        found = _seen(index, written, write, nodes)
        if found is not None:
            return WrittenAfterSaved(write, wrong, *found)
    return None


def _with_forward(written: WrittenBackward, forward: Definition) -> WrittenBackward:
    return WrittenBackward(written.name, written.file, written.function, written.definition, {"forward": forward})


def _seen(index: Index, written: WrittenBackward, write: LateWrite, nodes: Iterable[int]) -> tuple[int, int] | None:
    """A row of what a node saved, whose memory a call at the statement wrote, and that call."""
    lines = range(write.statement.lineno, (write.statement.end_lineno or write.statement.lineno) + 1)
    storages, wrote = index.recording.saved.column("storage"), dict[int, int]()
    for op, tensor, *_ in all_writes(index):
        if op < index.op_count:
            where = index.statements[index.op_statement[op]]
            if where.file == written.file and where.line in lines:
                wrote[index.storage_at(tensor, op)] = op
    for node in nodes if wrote else ():
        for row in index.saved.of(node):
            if storages[row] in wrote:
                return row, wrote[storages[row]]
    return None


class _Lowered:
    """A forward without writes in place: each tensor is a name of its own, which a write gives another value.

    Args:
        forward: Its source.
    """

    def __init__(self, forward: Definition) -> None:
        self._context = forward.args.args[0].arg if forward.args.args else ""
        self._memory = {one.arg: one.arg for one in forward.args.args}
        """The tensor that each name stands for."""
        self._count = 0
        self._done: list[ast.stmt] = []
        self._at_end: list[ast.stmt] = []
        self._saved: dict[str, ast.stmt] = {}
        self._statement: ast.stmt = forward
        self.late: list[LateWrite] = []
        stands: list[ast.stmt] = []
        ends: list[ast.stmt] = []
        for statement in forward.body:
            self._statement, self._done = statement, []
            saves = self._saves(statement)
            last = self._lower(statement) if not saves else []
            stands += [*self._done, *saves, *last]
            ends += [*self._done, *(self._at_end if isinstance(statement, ast.Return) else ()), *last]
            self._at_end += saves
        self.as_it_stands = _with_body(forward, stands)
        """The formula with what was saved as it was where it was saved."""
        self.as_it_ends = _with_body(forward, ends)
        """The formula with what was saved as it was when forward had run."""

    def _saves(self, statement: ast.stmt) -> list[ast.stmt]:
        """A statement that saves, with the tensors that it saves by their own names; empty for another one."""
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            if ast.unparse(call.func) == f"{self._context}.save_for_backward" and not call.keywords:
                names: list[ast.expr] = [self._own(self._lowered(one)) for one in call.args]
                new = ast.copy_location(ast.Call(call.func, names, []), call)
                return [ast.copy_location(ast.Expr(new), statement)]
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == self._context:
                value = self._own(self._lowered(statement.value))
                return [ast.copy_location(ast.Assign([target], value), statement)]
        return []

    def _own(self, value: ast.expr) -> ast.Name:
        """The name of a tensor that is saved: what is computed there gets one."""
        if not isinstance(value, ast.Name):
            value = self._assigned(self._new("saved"), value)
        self._saved.setdefault(value.id, self._statement)
        return value

    def _lower(self, statement: ast.stmt) -> list[ast.stmt]:
        if isinstance(statement, ast.Assign):
            value = self._lowered(statement.value)
            return [one for target in statement.targets for one in self._bound(target, value)]
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            held = self._lowered(ast.Name(statement.target.id, ast.Load()))
            value = ast.BinOp(held, statement.op, self._lowered(statement.value))
            if isinstance(held, ast.Name):
                self._write(held.id, ast.copy_location(value, statement), statement.target.id)
            return []
        if isinstance(statement, ast.Return) and statement.value is not None:
            return [ast.copy_location(ast.Return(self._lowered(statement.value)), statement)]
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return [statement]
        if isinstance(statement, ast.Expr) and self._is_of_context(statement.value):
            return []
        if isinstance(statement, ast.Expr):
            value = self._lowered(statement.value)
            # (a write by itself is all in what was done; of another call nothing is known)
            return [] if isinstance(value, ast.Name) else [ast.copy_location(ast.Expr(value), statement)]
        return [ast.copy_location(ast.Pass(), statement)]  # (which no formula has: of branches nothing is known)

    def _is_of_context(self, value: ast.expr) -> bool:
        called = value.func if isinstance(value, ast.Call) else None
        return (
            isinstance(called, ast.Attribute)
            and called.attr in _OF_CONTEXT
            and ast.unparse(called.value) == self._context
        )

    def _bound(self, target: ast.expr, value: ast.expr) -> list[ast.stmt]:
        if isinstance(target, ast.Name):
            if isinstance(value, ast.Name):
                self._memory[target.id] = value.id
                return []
            self._memory[target.id] = own = self._new(target.id)
            return [ast.copy_location(ast.Assign([ast.Name(own, ast.Store())], value), self._statement)]
        if isinstance(target, ast.Tuple):
            names = [one.id for one in target.elts if isinstance(one, ast.Name)]
            self._memory |= {name: self._new(name) for name in names}
            stored = [ast.Name(self._memory[name], ast.Store()) for name in names]
            new = ast.Tuple([*stored, *(one for one in target.elts if not isinstance(one, ast.Name))], ast.Store())
            return [ast.copy_location(ast.Assign([new], value), self._statement)]
        # (a write into a part of a tensor is none of single numbers)
        return [ast.copy_location(ast.Assign([target], value), self._statement)]

    def _lowered(self, value: ast.expr) -> ast.expr:
        """An expression whose writes in place were done before it."""
        if isinstance(value, ast.Name):
            return ast.copy_location(ast.Name(self._memory.get(value.id, value.id), ast.Load()), value)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            return self._called(value, value.func)
        if isinstance(value, ast.Attribute) and value.attr == "data":
            return self._lowered(value.value)
        if isinstance(value, ast.Tuple):
            return ast.copy_location(ast.Tuple([self._lowered(one) for one in value.elts], value.ctx), value)
        if isinstance(value, ast.BinOp):
            return ast.copy_location(ast.BinOp(self._lowered(value.left), value.op, self._lowered(value.right)), value)
        if isinstance(value, ast.UnaryOp):
            return ast.copy_location(ast.UnaryOp(value.op, self._lowered(value.operand)), value)
        return value

    def _called(self, value: ast.Call, func: ast.Attribute) -> ast.expr:
        is_library = ast.unparse(func.value) in _NAMESPACES
        owner = func.value if is_library else self._lowered(func.value)
        arguments = [self._lowered(one) for one in value.args]
        into = next((self._lowered(one.value) for one in value.keywords if one.arg == "out"), None)
        keywords = [ast.keyword(one.arg, self._lowered(one.value)) for one in value.keywords if one.arg != "out"]
        if func.attr in _SAME_MEMORY and isinstance(owner, ast.Name) and not is_library:
            return owner
        name = func.attr
        if name.endswith("_") and not name.endswith("__"):
            into, name = (arguments[0] if arguments else None) if is_library else owner, name.removesuffix("_")
        call = ast.copy_location(ast.Call(ast.Attribute(owner, name, ast.Load()), arguments, keywords), value)
        if into is None:
            return call
        if isinstance(into, ast.Name):
            self._write(into.id, call, into.id.partition("·")[0])
            return ast.Name(into.id, ast.Load())
        return call  # (into a tensor that nothing else has)

    def _write(self, tensor: str, value: ast.expr, name: str) -> None:
        if tensor in self._saved:
            self.late.append(LateWrite(self._statement, self._saved[tensor], name))
        self._assigned(tensor, value)

    def _assigned(self, tensor: str, value: ast.expr) -> ast.Name:
        self._done.append(ast.copy_location(ast.Assign([ast.Name(tensor, ast.Store())], value), self._statement))
        return ast.Name(tensor, ast.Load())

    def _new(self, name: str) -> str:
        self._count += 1
        return f"{name}·{self._count}"


def _with_body(forward: Definition, body: list[ast.stmt]) -> Definition:
    return ast.copy_location(ast.FunctionDef(forward.name, forward.args, body, [], None, None), forward)
