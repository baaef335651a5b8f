"""What the source of a Function's backward shows to be wrong: gradients that it writes, forgets, or swaps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Definition, WrittenBackward
from gradscope.frames.syntax_trees import own_parts

_NO_WRITES = frozenset(("requires_grad_", "detach_", "retain_grad", "share_memory_"))
"""Methods with the underscore of a write that leave the values as they are."""

_NAMESPACES = ("torch", "F", "torch.nn.functional")
"""What is no tensor: ``torch.relu_(x)`` writes its first argument."""

_ZEROS = frozenset(("zeros", "zeros_like", "new_zeros"))

_DERIVATIVES = re.compile(
    "abs|bmm|clamp|clip|cosh?|div|double|einsum|erf|exp|expand|float|gather|half|log|log1p|masked_fill|matmul|mm|mul|neg|"
    "permute|pow|reciprocal|relu|reshape|rsqrt|sigmoid|sign|sinh?|softmax|square|sqrt|squeeze|t|tanh?|to|transpose|"
    "type_as|unsqueeze|view|where"
)
"""Functions and methods whose result is a gradient where what they are given is not zeros."""

_ONES = frozenset(("ones", "ones_like", "new_ones"))
"""A gradient too, where forward is known to depend on the argument: a rounding that is taken for the identity."""

_CONSTANTS = _ZEROS | {"full", "full_like", "new_full", "empty", "empty_like", "tensor", "as_tensor", "new_tensor"}

_OF_ARGUMENT = re.compile(
    r"^(?:grad(?:ient)?_?(?:of_|wrt_)?|dl_d|d_?|g_?)(?P<after>\w+)$|^(?P<before>\w+?)_?grad(?:ient)?$"
)
"""How a name says of which argument it is the gradient: ``grad_x``, ``x_grad``, ``dx``."""


class Forgotten(NamedTuple):
    """A gradient that is computed without the one that comes in."""

    position: int
    elements: int
    """How many gradients its ``return`` gives."""
    statements: list[ast.stmt]
    """Those that compute it, and the ``return``."""


class Swapped(NamedTuple):
    """Two gradients that a ``return`` gives each in the place of the other, as their names say."""

    statement: ast.Return
    names: tuple[str, str]
    arguments: tuple[str, str]
    """The arguments in whose places they are."""


def incoming(written: WrittenBackward) -> list[str]:
    """The arguments of a backward that are gradients."""
    arguments = written.definition.args
    return [one.arg for one in (*arguments.posonlyargs, *arguments.args)][1:]


def write_to_incoming(written: WrittenBackward) -> tuple[ast.stmt, str] | None:
    """The first statement that writes an incoming gradient in place, by its own name or another one, and the argument.

    A name that is bound to something else in between stands for that from there on.
    """
    stands_for = {name: name for name in incoming(written)}
    for statement in (part for part in own_parts(written.definition) if isinstance(part, ast.stmt)):
        for target in written_into(statement):
            base = name_written(target)
            if base in stands_for:
                return statement, stands_for[base]
        if isinstance(statement, ast.Assign):
            value = statement.value
            same = stands_for.get(value.id, "") if isinstance(value, ast.Name) else ""
            for name in (name for target in statement.targets for name in _names(target)):
                stands_for.pop(name, None)
                if same:
                    stands_for[name] = same
    return None


def written_into(statement: ast.stmt) -> Iterator[ast.expr]:
    """What a statement writes into: not the names that it binds anew."""
    if isinstance(statement, ast.Assign):
        yield from (target for target in statement.targets if isinstance(target, ast.Subscript))
    elif isinstance(statement, ast.AugAssign):
        yield statement.target
    value = statement.value if isinstance(statement, (ast.Expr, ast.Assign, ast.Return)) else None
    for call in () if value is None else ast.walk(value):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            yield from (keyword.value for keyword in call.keywords if keyword.arg == "out")
            name = call.func.attr
            if name.endswith("_") and not name.startswith("_") and name not in _NO_WRITES:
                yield call.func.value
                if ast.unparse(call.func.value) in _NAMESPACES:
                    yield from call.args[:1]


def name_written(target: ast.expr) -> str:
    """The name of the tensor that is written: of ``grad[mask]`` and ``grad.data`` it is ``grad``."""
    while isinstance(target, ast.Subscript) or (isinstance(target, ast.Attribute) and target.attr == "data"):
        target = target.value
    return target.id if isinstance(target, ast.Name) else ""


def forgotten(written: WrittenBackward) -> list[Forgotten]:
    """The gradients that a backward returns whatever gradient it is given; not those that are None or zero."""
    arguments = written.definition.args
    names = set(incoming(written)) | {one.arg for one in (arguments.vararg, arguments.kwarg) if one is not None}
    parts = list(own_parts(written.definition))
    if not names or any(isinstance(part, _HIDING) for part in parts):
        return []
    assigned = _assignments(written)
    depends = _dependents(written.definition, names)
    if any(isinstance(one, _CHOOSING) and not depends.isdisjoint(_names(one.test)) for one in parts):
        return []
    context = (*arguments.posonlyargs, *arguments.args)[0].arg
    found = []
    for statement in written.returns:
        value = statement.value
        elements = value.elts if isinstance(value, ast.Tuple) else [value]
        computed = _Computed(context, assigned, _is_known(written.forward, len(elements)))
        for position, element in enumerate(elements):
            if element is None or isinstance(element, ast.Starred) or not depends.isdisjoint(_names(element)):
                continue
            made = [one for name in _names(element) for one in assigned.get(name, ())]
            if computed.is_gradient(element) and _is_of_argument(written.forward, position, len(elements)):
                lines = [one for one in made if isinstance(one.value, ast.BinOp)]
                lines = lines if isinstance(element, ast.Name) else []
                found.append(Forgotten(position, len(elements), [*lines, statement]))
    return found


def unused(written: WrittenBackward) -> list[str]:
    """The incoming gradients that a backward never names, of several; not those whose name begins as unused ones do."""
    arguments = written.definition.args
    given = incoming(written)
    if len(given) < 2 or arguments.vararg is not None or arguments.kwarg is not None:
        return []
    parts = list(own_parts(written.definition))
    if any(isinstance(part, _HIDING) for part in parts):
        return []
    named = {name for part in parts for name in _names(part)}
    return [name for name in given if name not in named and not name.startswith(("_", "unused", "ignored"))]


def computing(written: WrittenBackward) -> list[ast.stmt]:
    """The statements of a backward with one ``return`` that compute from incoming gradients what it returns.

    The last step of each, and the ``return`` itself for what stands there whole or is passed on.
    """
    assigned, depends = _assignments(written), _dependents(written.definition, set(incoming(written)))
    statement = written.returns[-1]
    value, found = statement.value, dict[ast.stmt, None]()
    if len(written.returns) > 1:
        return [statement]
    for element in value.elts if isinstance(value, ast.Tuple) else [value]:
        names = depends.intersection(() if element is None else _names(element))
        steps = [one for name in names for one in assigned.get(name, ()) if not depends.isdisjoint(_names(one.value))]
        if names:
            found |= dict.fromkeys(steps) if steps else {statement: None}
    return sorted(found, key=lambda one: one.lineno) or [statement]


_HIDING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Match, ast.Try, ast.With)
"""What may use a gradient in a way that is not followed here."""

_CHOOSING = (ast.If, ast.IfExp, ast.While)
"""What may return something else for one gradient than for another: nothing where it is None, the derivative for 1."""


def _arguments_of(forward: Definition) -> list[str]:
    return [one.arg for one in (*forward.args.posonlyargs, *forward.args.args)]


def _is_known(forward: Definition | None, gradients: int) -> bool:
    """Whether it is known of which argument each gradient is: of those after ctx, or all where forward takes none."""
    return (
        forward is not None
        and forward.args.vararg is None
        and len(_arguments_of(forward)) in (gradients, gradients + 1)
    )


def _is_of_argument(forward: Definition | None, position: int, gradients: int) -> bool:
    """Whether what forward returns may depend on an argument; where it does not, its gradient is put in on purpose."""
    if forward is None or not _is_known(forward, gradients):
        return True
    depends = _dependents(forward, {_arguments_of(forward)[-gradients:][position]})
    returned = [part.value for part in own_parts(forward) if isinstance(part, ast.Return) and part.value is not None]
    return any(not depends.isdisjoint(_names(value)) for value in returned)


def _assignments(written: WrittenBackward) -> dict[str, list[ast.Assign]]:
    """The plain assignments of each name."""
    found: dict[str, list[ast.Assign]] = {}
    for part in own_parts(written.definition):
        if isinstance(part, ast.Assign):
            for target in part.targets:
                for name in _names(target):
                    found.setdefault(name, []).append(part)
    return found


def _dependents(definition: Definition, names: set[str]) -> set[str]:
    """All names that may hold what was computed with some others: any statement carries it to all that it names."""
    found = set(names)
    statements = [part for part in own_parts(definition) if isinstance(part, (ast.stmt, ast.NamedExpr))]
    while True:
        before = len(found)
        for statement in statements:
            if isinstance(statement, (ast.If, ast.Return)):
                continue
            parts = [statement.target, statement.iter] if isinstance(statement, ast.For) else [statement]
            held = {name for part in parts for name in _names(part)}
            if not held.isdisjoint(found):
                found |= _changed(statement, held)
        if len(found) == before:
            return found


def names_made_from(definition: Definition, name: str) -> set[str]:
    """All names of a function that may hold what was computed from one of its arguments."""
    return _dependents(definition, {name})


def _changed(statement: ast.stmt | ast.NamedExpr, held: set[str]) -> set[str]:
    """What a statement binds; all of its names where it may write in place (a call by itself)."""
    if isinstance(statement, ast.Assign):
        return {name for target in statement.targets for name in _names(target)}
    if isinstance(statement, (ast.AugAssign, ast.NamedExpr, ast.For)):
        return set(_names(statement.target))
    return held


class _Computed(NamedTuple):
    """Tells gradients from what a backward may return for an input that needs none."""

    context: str
    assigned: dict[str, list[ast.Assign]]
    is_known: bool
    """Whether it is known of which argument of forward each is."""

    def is_gradient(self, element: ast.expr, seen: frozenset[str] = frozenset()) -> bool:
        """Whether an expression is a gradient for certain: computed, kept by ctx, or a name for nothing else.

        A None before that, for where nobody asks for the gradient, says nothing of where somebody does.
        """
        if isinstance(element, ast.Name):
            values = [one.value for one in self.assigned.get(element.id, []) if not _is_none(one.value)]
            seen |= {element.id}
            return bool(values) and all(_is_arithmetic(one) or self._is_derivative(one, seen) for one in values)
        return _is_arithmetic(element) or self._is_derivative(element, seen)

    def _is_derivative(self, value: ast.expr, seen: frozenset[str]) -> bool:
        if isinstance(value, ast.Attribute):
            return self.is_known and isinstance(value.value, ast.Name) and value.value.id == self.context
        if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
            operand = value.operand
            return not (isinstance(operand, ast.Name) and operand.id in seen) and self.is_gradient(operand, seen)
        called = _called(value)
        if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute):
            return False
        is_named = self.is_known and value.func.attr in _ONES
        return (is_named or _DERIVATIVES.fullmatch(value.func.attr) is not None) and called.isdisjoint(
            _CONSTANTS if self.is_known else _CONSTANTS | _ONES
        )


def _called(value: ast.expr) -> set[str]:
    """The last names of the functions that an expression calls."""
    calls = [node.func for node in ast.walk(value) if isinstance(node, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _is_arithmetic(value: ast.expr) -> bool:
    """Arithmetic on something else than numbers, and not times zero."""
    is_one = isinstance(value, ast.BinOp) and any(isinstance(node, ast.Name) for node in ast.walk(value))
    zeros = any(isinstance(node, ast.Constant) and node.value in (0, 0.0) for node in _factors(value))
    return is_one and not zeros and _called(value).isdisjoint(_CONSTANTS)


def _factors(value: ast.expr) -> Iterator[ast.expr]:
    yield value
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult):
        yield from _factors(value.left)
        yield from _factors(value.right)


def zeroed(written: WrittenBackward) -> tuple[ast.Return, list[int], int] | None:
    """The ``return`` of a backward, which gradients it says to be zeros, and of how many; None where of none.

    None too where there are several: which of them a pass came to is not known.
    """
    if len(written.returns) != 1:
        return None
    (statement,) = written.returns
    value = statement.value
    elements = value.elts if isinstance(value, ast.Tuple) else [value]
    assigned = _assignments(written)
    zeros = [place for place, one in enumerate(elements) if one is not None and _is_zero(one, assigned)]
    return (statement, zeros, len(elements)) if zeros else None


def _is_zero(element: ast.expr, assigned: dict[str, list[ast.Assign]]) -> bool:
    """Whether an element is zeros for certain: so called, times 0, or a name to which only that is assigned."""
    if isinstance(element, ast.Name):
        values = assigned.get(element.id, [])
        return len(values) == 1 and not isinstance(values[0].value, ast.Name) and _is_zero(values[0].value, assigned)
    if isinstance(element, ast.Call):
        func = element.func
        return (func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")) in _ZEROS
    return any(
        isinstance(one, ast.Constant) and type(one.value) in (int, float) and not one.value for one in _factors(element)
    )


def swapped(written: WrittenBackward) -> Swapped | None:
    """Two gradients in each other's place, where the names of both say of which argument they are."""
    if written.forward is None or written.forward.args.vararg is not None:
        return None
    arguments = [one.arg for one in written.forward.args.args][1:]
    for statement in written.returns:
        elements = statement.value.elts if isinstance(statement.value, ast.Tuple) else []
        of = {
            position: arguments.index(named)
            for position, element in enumerate(elements)
            if isinstance(element, ast.Name) and (named := _argument_of(element.id, arguments))
        }
        for position, argument in of.items():
            if position < argument < len(elements) and of.get(argument) == position:
                first, second = elements[position], elements[argument]
                assert isinstance(first, ast.Name) and isinstance(second, ast.Name)
                return Swapped(statement, (first.id, second.id), (arguments[position], arguments[argument]))
    return None


def unpacked_wrongly(written: WrittenBackward) -> tuple[ast.Assign, list[str], list[str]] | None:
    """Where a backward unpacks the saved tensors under the names of others: the statement, its names, those saved."""
    saved = _saved_names(written)
    for part in own_parts(written.definition):
        if not isinstance(part, ast.Assign) or not isinstance(part.targets[0], ast.Tuple):
            continue
        names = [one.id for one in part.targets[0].elts if isinstance(one, ast.Name)]
        is_saved = isinstance(part.value, ast.Attribute) and part.value.attr == "saved_tensors"
        if is_saved and names != saved and sorted(names) == sorted(saved) and len(set(names)) == len(names) > 1:
            return part, names, saved
    return None


def _saved_names(written: WrittenBackward) -> list[str]:
    """The names of what ``forward`` saves, where it does so in one call; empty where it may be others."""
    calls = [
        part
        for part in (own_parts(written.forward) if written.forward is not None else ())
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "save_for_backward"
    ]
    names = [one.id for call in calls for one in call.args if isinstance(one, ast.Name)]
    return names if len(calls) == 1 and len(names) == len(calls[0].args) else []


def own_factors(written: WrittenBackward) -> tuple[ast.Return, str, str] | None:
    """Where the backward of a plain product gives a factor its own values for a derivative, not the other factor's.

    Returns:
        The ``return``, the factor, and the other one; None where forward is anything but the product of two arguments.
    """
    forward = written.forward
    arguments = [one.arg for one in forward.args.args][1:] if forward is not None else []
    product = _product_of(forward, arguments) if forward is not None else None
    saved = _saved_names(written)
    unpacked = [
        [one.id for one in part.targets[0].elts if isinstance(one, ast.Name)]
        for part in own_parts(written.definition)
        if isinstance(part, ast.Assign)
        and isinstance(part.targets[0], ast.Tuple)
        and isinstance(part.value, ast.Attribute)
        and part.value.attr == "saved_tensors"
    ]
    if product is None or len(unpacked) != 1 or len(unpacked[0]) != len(saved) or len(written.returns) != 1:
        return None
    names = dict(zip(unpacked[0], saved, strict=True))
    assigned = _assignments(written)
    (statement,) = written.returns
    elements = statement.value.elts if isinstance(statement.value, ast.Tuple) else []
    for own, other in (product, product[::-1]):
        at = arguments.index(own)
        element = elements[at] if at < len(elements) else None
        while isinstance(element, ast.Name) and len(assigned.get(element.id, ())) == 1:
            element = assigned[element.id][0].value
        factors = list(_factors(element)) if element is not None else []
        plain = [one.id for one in factors if isinstance(one, ast.Name)]
        is_plain = all(isinstance(one, ast.Name) or _is_product(one) for one in factors)
        used = {names[one] for one in plain if one in names}
        if is_plain and used == {own} and not set(plain).isdisjoint(incoming(written)):
            return statement, own, other
    return None


def _is_product(value: ast.expr) -> bool:
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult)


def _product_of(forward: Definition, arguments: list[str]) -> tuple[str, str] | None:
    """The two arguments whose product a forward returns, where its text has no more than that and what it saves."""
    statements = [one for one in forward.body if not isinstance(one, ast.Expr)]
    last = statements[-1] if statements else None
    value = last.value if isinstance(last, ast.Return) else None
    if isinstance(value, ast.Name) and len(statements) == 2 and isinstance(statements[0], ast.Assign):
        value = statements[0].value if _names(statements[0].targets[0]) == [value.id] else None
    elif len(statements) != 1:
        return None
    if not isinstance(value, ast.BinOp) or not _is_product(value):
        return None
    left, right = value.left, value.right
    if isinstance(left, ast.Name) and isinstance(right, ast.Name) and left.id != right.id:
        return (left.id, right.id) if {left.id, right.id} <= set(arguments) else None
    return None


def write_to_argument(written: WrittenBackward) -> tuple[ast.stmt, str] | None:
    """Where a forward writes one of its arguments in place and does not tell ctx so; the statement and the argument."""
    if written.forward is None or len(written.forward.args.args) < 2:
        return None
    names = {one.arg for one in written.forward.args.args[1:]}
    parts = list(own_parts(written.forward))
    if any(isinstance(part, ast.Attribute) and part.attr == "mark_dirty" for part in parts):
        return None
    for statement in (part for part in parts if isinstance(part, ast.stmt)):
        for target in written_into(statement):
            base = name_written(target)
            if base in names:
                return statement, base
        if isinstance(statement, ast.Assign):
            names -= {name for target in statement.targets for name in _names(target) if isinstance(target, ast.Name)}
    return None


def _argument_of(name: str, arguments: list[str]) -> str:
    """The argument of which a name says that it is the gradient; empty where it says so of none or of several."""
    found = _OF_ARGUMENT.match(name.lower())
    if found is None or name in arguments:
        return ""
    wanted = found["after"] or found["before"]
    named = [one for one in arguments if one.lower() == wanted]
    return named[0] if len(named) == 1 else ""


def _names(node: ast.AST) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
