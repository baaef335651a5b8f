"""What the source of a hook says: where it returns something, and where it writes its gradient in place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradscope.frames.called_by_torch.values_not_returned import gradient_not_returned, value_not_returned
from gradscope.frames.syntax_trees import parsed

Lines = tuple[int, int]
"""First and last line."""
_VIEWS = ("view", "reshape", "flatten", "ravel", "detach", "squeeze", "unsqueeze", "t", "transpose", "view_as")
_KEEPING = ("append", "appendleft", "insert", "add", "setdefault", "setattr", "__setitem__")
"""Calls that keep their last argument."""
_COLLECTIVES = ("all_reduce", "reduce", "broadcast")
"""Calls of ``torch.distributed`` that write their first argument."""
_CHANGE = "(averag|avg|mean|scal|clip|clamp|mask|nois|normali[sz]|divid|div|reduc|sync|halv)[a-z]*"
_FOR_GRADIENTS = re.compile(f"(?i){_CHANGE}_?(the_|all_)?grad|grad(ient)?s?_?{_CHANGE}")
"""Names of functions that say that gradients are what they change."""
_GRADIENT = re.compile(r"(?i)(^|(?<!with)_)(grads?|gradients?|grad_?(in|input|out|output)|g|dw)$")
"""Names of arguments that say that they are gradients."""
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

_CHOOSING = frozenset(
    (
        "bernoulli",
        "clamp",
        "clamp_max",
        "clamp_min",
        "clip",
        "dropout",
        "hardshrink",
        "kthvalue",
        "maximum",
        "minimum",
        "nan_to_num",
        "quantile",
        "rand",
        "rand_like",
        "relu",
        "round",
        "sign",
        "softshrink",
        "threshold",
        "topk",
    )
)
"""Calls whose result is zero at places that depend on what they are given, or on chance."""


class HookSource:
    """A function or lambda at a line of a text; nothing is known of it where there are none, or two.

    Args:
        text: Source of the file.
        line: The first line of its code, decorators included.
        name: Its name; ``<lambda>``.
    """

    def __init__(self, text: str, line: int, name: str) -> None:
        tree = parsed(text)
        found = [node for node in ast.walk(tree) if isinstance(node, _CODE)] if tree is not None else []
        found = [node for node in found if _is_at(node, line, name)]
        self._node = found[0] if len(found) == 1 else None

    @property
    def whole(self) -> Lines | None:
        """First and last line of all of it; None where nothing is known."""
        return (self._node.lineno, self._node.end_lineno or self._node.lineno) if self._node is not None else None

    @property
    def returns(self) -> list[Lines]:
        """Where it returns something other than None."""
        if isinstance(self._node, ast.Lambda):
            return [(self._node.body.lineno, self._node.body.end_lineno or self._node.body.lineno)]
        return [
            (node.lineno, node.end_lineno or node.lineno)
            for node in self._own()
            if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value)
        ]

    @property
    def sets_gradient(self) -> list[Lines]:
        """Where it sets ``.grad`` of something, or copies into it."""
        found = []
        for node in self._own():
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "copy_":
                targets = [node.func.value]
            if isinstance(node, ast.stmt | ast.expr) and any(
                isinstance(part, ast.Attribute) and part.attr == "grad" for one in targets for part in ast.walk(one)
            ):
                found.append((node.lineno, node.end_lineno or node.lineno))
        return found

    @property
    def scales_gradient(self) -> list[Lines]:
        """Where it writes ``.grad`` of something in place, or clips it: ``p.grad /= n``, ``p.grad.clamp_(-1, 1)``."""
        found = []
        for node in self._own():
            written: ast.AST | None = node.target if isinstance(node, ast.AugAssign) else None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
                written = node if "clip_grad" in node.func.attr else node.func.value
            parts = ast.walk(written) if written is not None else ()
            if isinstance(node, ast.AugAssign | ast.Call) and any(
                isinstance(part, ast.Attribute) and (part.attr == "grad" or "clip_grad" in part.attr) for part in parts
            ):
                found.append((node.lineno, node.end_lineno or node.lineno))
        return found

    def keeps_first(self) -> Lines | None:
        """Where it returns what it keeps of the first thing that it was given; None where it does not.

        ``if key not in kept: kept[key] = grad`` and ``return kept[key]``; ``return kept.setdefault(key, grad)``.
        """
        given = set(self._arguments)
        kept: set[str] = set()
        for node in self._own():
            if isinstance(node, ast.If) and not node.orelse and _asks_whether_there(node.test):
                for one in (part for part in node.body if isinstance(part, ast.Assign)):
                    if given & set(_names_in(one.value)):
                        kept |= {ast.unparse(target) for target in one.targets}
        values = [self._node.body] if isinstance(self._node, ast.Lambda) else []
        values += [node.value for node in self._own() if isinstance(node, ast.Return) and node.value is not None]
        for value in values:
            parts = value.elts if isinstance(value, ast.Tuple) else [value]
            if all(ast.unparse(part) in kept or _sets_default(part, given) for part in parts):
                return value.lineno, value.end_lineno or value.lineno
        return None

    def reads(self, name: str) -> Lines | None:
        """Where it reads a name first; None where it does not."""
        for node in self._own():
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
                return node.lineno, node.end_lineno or node.lineno
        return None

    def has_from_outside(self, name: str) -> bool:
        """Whether it reads a name that it neither is given nor assigns: what that was where it was made."""
        own = {one.arg for one in self._all_arguments}
        stored = any(
            isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Store) for one in self._own()
        )
        return self.reads(name) is not None and name not in own and not stored

    def calls(self, method: str) -> Lines | None:
        """Where it calls a method of some object first; None where it does not."""
        for node in self._own():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
                return node.lineno, node.end_lineno or node.lineno
        return None

    @property
    def is_zero_on_purpose(self) -> bool:
        """Whether zeros are what it says: ``zeros_like(grad)``, ``grad * 0``, ``zero_()``."""
        for node in self._own():
            if isinstance(node, ast.Attribute) and node.attr.startswith("zero"):
                return True
            sides = (node.left, node.right) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) else ()
            if any(isinstance(one, ast.Constant) and one.value == 0 for one in sides):
                return True
        return False

    @property
    def is_mask(self) -> bool:
        """Whether it takes a part of the gradient away: ``grad * mask``, ``grad[rows] = 0``, ``masked_fill(…)``."""
        for node in self._own():
            targets = node.targets if isinstance(node, ast.Assign) and _is_zero(node.value) else []
            if any(isinstance(target, ast.Subscript) for target in targets):
                return True
            is_product = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Mult)
            if is_product and any("mask" in name.lower() for name in _names_in(node)):
                return True
            if isinstance(node, ast.Attribute) and node.attr.rstrip("_") in ("masked_fill", "index_fill"):
                return True
        return self.is_zero_on_purpose

    @property
    def chooses_by_gradient(self) -> bool:
        """Whether which elements it changes may depend on the gradient: ``g * (g > 0)``, ``g.clamp(min=0)``."""
        for node in self._own():
            takes_it = self._gradient in _names_in(node)
            if isinstance(node, ast.Compare) and takes_it:
                return True
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr.rstrip("_") in _CHOOSING:
                return True
            if isinstance(called, ast.Name) and takes_it:
                return True
        return False

    @property
    def mentions(self) -> frozenset[str]:
        """The names and attributes in it, in small letters."""
        node = self._node
        return frozenset(name.lower() for name in _names_in(node)) if node is not None else frozenset()

    @property
    def changes(self) -> bool:
        """Whether it gives another gradient, or writes into the one it is given: ``print(grad)`` does not."""
        if not isinstance(self._node, ast.Lambda):
            return bool(self.returns or self.writes)
        body = self._node.body
        if isinstance(body, ast.Call):
            root: ast.expr = body.func
            while isinstance(root, ast.Attribute | ast.Call | ast.Subscript):
                root = root.func if isinstance(root, ast.Call) else root.value
            return isinstance(root, ast.Name) and root.id in (self._gradient, "torch", "F")
        return isinstance(body, ast.BinOp | ast.UnaryOp | ast.IfExp)

    @property
    def writes(self) -> list[Lines]:
        """Where it writes the gradient that it is given in place."""
        gradient = self._gradient
        return [
            (node.lineno, node.end_lineno or node.lineno)
            for node in self._own()
            if isinstance(node, ast.Call | ast.AugAssign | ast.Assign) and _writes(node, gradient)
        ]

    @property
    def writes_data(self) -> bool:
        """Whether it writes the gradient through ``data``, whenever it runs: no version counter shows that."""
        node = self._node
        body: list[ast.AST] = [] if node is None else [node.body] if isinstance(node, ast.Lambda) else [*node.body]
        written = (one.value if isinstance(one, ast.Expr) else one for one in body)
        return any(
            _writes(one, self._gradient) and any(getattr(part, "attr", "") == "data" for part in ast.walk(one))
            for one in written
        )

    @property
    def writes_for_itself(self) -> list[Lines]:
        """Where it writes the gradient in place to have a value of its own, which it keeps, prints or goes on with.

        ``unit = grad.div_(grad.norm())`` and ``flat = grad.view(-1); flat /= flat.norm()``: the gradient is what is
        written. A bare ``grad.clamp_(-1, 1)``, or ``grad /= n`` that nothing reads afterwards, is meant for it.
        """
        nodes, found = list(self._own()), []
        names = {self._gradient} - {""}
        for node in nodes:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_part(node.value, names):
                names.add(node.targets[0].id)
        used = {id(node) for statement in nodes for node in _taken_by(statement)}
        for node in nodes:
            line = (getattr(node, "lineno", 0), getattr(node, "end_lineno", 0) or getattr(node, "lineno", 0))
            called = node.func if isinstance(node, ast.Call) else None
            is_write = (
                isinstance(called, ast.Attribute) and called.attr.endswith("_") and not called.attr.endswith("__")
            )
            if isinstance(called, ast.Attribute) and is_write and _is_part(called.value, names) and id(node) in used:
                found.append(line)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id in names:
                name = node.target.id
                later = (one for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load))
                if any(one.id == name and one.lineno > line[1] for one in later):
                    found.append(line)
        return found

    @property
    def takes_it_for_gradient(self) -> bool:
        """Whether its names say that what it is given is a gradient, and it asks for ``.grad`` of nothing.

        ``def clip(param): param.data.clamp_(0, 1)`` may mean the weights.
        """
        name = "" if self._node is None or isinstance(self._node, ast.Lambda) else self._node.name
        if not _GRADIENT.search(self._gradient) and not _FOR_GRADIENTS.search(name):
            return False
        parts = [node for node in self._own() if isinstance(node, ast.Attribute | ast.Constant)]
        return not any((node.attr if isinstance(node, ast.Attribute) else node.value) == "grad" for node in parts)

    @property
    def writes_of_argument(self) -> list[Lines]:
        """Where it writes into the memory of what it is given: ``g /= n``, ``torch.clamp_(g)``, ``all_reduce(g)``."""
        nodes, found = list(self._own()), []
        names = {self._gradient} - {""}
        for node in nodes:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_part(node.value, names):
                names.add(node.targets[0].id)
            written: list[ast.expr] = []
            if isinstance(node, ast.AugAssign):
                written = [node.target]
            elif isinstance(node, ast.Assign):
                written = [target for target in node.targets if isinstance(target, ast.Subscript)]
            elif isinstance(node, ast.Call):
                written = list(_written_by(node))
            if any(_is_part(one, names) for one in written) and isinstance(node, ast.stmt | ast.expr):
                found.append((node.lineno, node.end_lineno or node.lineno))
        return found

    @property
    def new_values(self) -> list[Lines]:
        """Where it returns what it computed of what it is given, and not that itself."""
        if isinstance(self._node, ast.Lambda):
            return self.returns if self.changes else []
        return [
            (node.lineno, node.end_lineno or node.lineno)
            for node in self._own()
            if isinstance(node, ast.Return)
            and node.value is not None
            and not isinstance(node.value, ast.Name)
            and self._gradient in _names_in(node.value)
        ]

    def rebinds_in_vain(self) -> tuple[Lines, str] | None:
        """Where a hook that returns nothing gives an argument another value and reads it no more; with its name."""
        nodes = list(self._own())
        if not isinstance(self._node, ast.FunctionDef | ast.AsyncFunctionDef) or self.returns:
            return None
        if any(isinstance(node, ast.Global | ast.Nonlocal | ast.For | ast.While | ast.Yield) for node in nodes):
            return None
        arguments = [one.arg for one in (*self._node.args.posonlyargs, *self._node.args.args)]
        for node in (one for one in nodes if isinstance(one, ast.Assign)):
            target, last = node.targets[0], node.end_lineno or node.lineno
            if len(node.targets) != 1 or not isinstance(target, ast.Name) or target.id not in arguments:
                continue
            read = [one for one in ast.walk(self._node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]
            own = [one for one in ast.walk(node.value) if isinstance(one, ast.Name) and one.id == target.id]
            if own and not any(one.id == target.id and one.lineno > last for one in read):
                return (node.lineno, last), target.id
        return None

    def computes_in_vain(self) -> tuple[Lines, str] | None:
        """Where a hook that returns nothing computes a value of its arguments that nothing reads; with its name."""
        if not isinstance(self._node, ast.FunctionDef | ast.AsyncFunctionDef) or self.returns:
            return None
        found = value_not_returned(self._node)
        return None if found is None else (found[:2], found[2])

    def changes_in_vain(self) -> tuple[Lines, str] | None:
        """Where a hook that returns nothing drops another gradient for the one it is given; with a name, if any."""
        if not isinstance(self._node, ast.FunctionDef | ast.AsyncFunctionDef) or self.returns:
            return None
        found = gradient_not_returned(self._node)
        return None if found is None else (found[:2], found[2])

    @property
    def keeps_output(self) -> Lines | None:
        """Where a forward hook keeps the output that it is given as it is; None where it does not.

        The output is the last argument that has no value of its own: ``hook(module, args, output, name=name)``.
        """
        arguments = self._node.args if self._node is not None else None
        names = [one.arg for one in arguments.args] if arguments is not None else []
        if arguments is None or arguments.vararg is not None or len(names) - len(arguments.defaults) < 3:
            return None
        output = {names[len(names) - len(arguments.defaults) - 1]}
        for node in self._own():
            kept: list[ast.expr] = []
            line = getattr(node, "lineno", 0)
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Subscript | ast.Attribute) for target in node.targets
            ):
                kept = [node.value]
            elif isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                kept = node.args[-1:] if called in _KEEPING else []
            if any(isinstance(value, ast.Name) and value.id in output for value in kept):
                return line, getattr(node, "end_lineno", None) or line
        return None

    def keeps_input(self, *, is_pre: bool) -> Lines | None:
        """Where a forward hook keeps the input that it is given as it is: ``seen.append(inputs[0])``; None for nowhere.

        Args:
            is_pre: It runs before the module, and is given no output.
        """
        name, kept = self._input(is_pre=is_pre), list[ast.expr]()
        names = self._of_input(name)
        for node in self._own() if name else ():
            kept = []
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Subscript | ast.Attribute) for target in node.targets
            ):
                kept = [node.value]
            elif isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                kept = node.args[-1:] if called in _KEEPING else []
            if any(_is_part(value, names) for value in kept) and isinstance(node, ast.stmt | ast.expr):
                return node.lineno, node.end_lineno or node.lineno
        return None

    @property
    def reads_input(self) -> list[Lines]:
        """Where a forward hook that reads no output takes its input for something."""
        name = self._input(is_pre=False)
        names = self._of_input(name)
        nodes = [node for node in self._own() if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
        output = self._all_names[len(self._all_names) - self._defaults - 1 :] if name else []
        if any(node.id in output for node in nodes):
            return []
        return [(node.lineno, node.end_lineno or node.lineno) for node in nodes if node.id in names]

    @property
    def _all_names(self) -> list[str]:
        return [one.arg for one in self._node.args.args] if self._node is not None else []

    @property
    def _defaults(self) -> int:
        return len(self._node.args.defaults) if self._node is not None else 0

    def _input(self, *, is_pre: bool) -> str:
        """What it calls the tuple of inputs: ``hook(module, inputs, output, name=name)``."""
        names, count = self._all_names, len(self._all_names) - self._defaults
        if self._node is None or self._node.args.vararg is not None or count < (2 if is_pre else 3):
            return ""
        return names[count - (1 if is_pre else 2)]

    def _of_input(self, name: str) -> set[str]:
        """The names that have the input: ``(x,) = inputs``, ``x = inputs[0]``."""
        names = {name} - {""}
        for node in self._own() if names else ():
            if isinstance(node, ast.Assign) and _is_part(node.value, names):
                names |= {one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
        return names

    @property
    def _arguments(self) -> list[str]:
        names = [one.arg for one in self._node.args.args] if self._node is not None else []
        return names[1:] if names[:1] in (["self"], ["cls"]) else names

    @property
    def _all_arguments(self) -> list[ast.arg]:
        return [one for one in ast.walk(self._node.args) if isinstance(one, ast.arg)] if self._node is not None else []

    @property
    def _gradient(self) -> str:
        if self._node is None or not self._node.args.args:
            return ""
        names = [one.arg for one in self._node.args.args]
        return names[1] if names[0] in ("self", "cls") and len(names) > 1 else names[0]

    def _own(self) -> Iterator[ast.AST]:
        """Its parts, without those of functions within it."""
        todo: list[ast.AST] = []
        if isinstance(self._node, ast.Lambda):
            todo = [self._node.body]
        elif self._node is not None:
            todo = list(self._node.body)
        while todo:
            node = todo.pop(0)
            yield node
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                todo = [*ast.iter_child_nodes(node), *todo]


def _asks_whether_there(test: ast.expr) -> bool:
    """Whether a test asks whether something is kept yet: ``key not in kept``, ``self.first is None``."""
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return False
    to = test.comparators[0]
    is_none = isinstance(test.ops[0], ast.Is) and isinstance(to, ast.Constant) and to.value is None
    return isinstance(test.ops[0], ast.NotIn) or is_none


def _sets_default(value: ast.expr, given: set[str]) -> bool:
    """Whether an expression is ``kept.setdefault(key, value of what was given)``."""
    called = value.func if isinstance(value, ast.Call) else None
    is_it = isinstance(called, ast.Attribute) and called.attr == "setdefault"
    return (
        is_it and isinstance(value, ast.Call) and len(value.args) == 2 and bool(given & set(_names_in(value.args[1])))
    )


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _is_zero(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value == 0


def _names_in(node: ast.AST) -> Iterator[str]:
    """The names and attributes in a part of a text."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute):
            yield part.id if isinstance(part, ast.Name) else part.attr


def _is_part(value: ast.expr, names: set[str]) -> bool:
    """Whether a value is on the memory of one of some names: the same, or a view of it."""
    while True:
        if isinstance(value, ast.Name):
            return value.id in names
        if (isinstance(value, ast.Attribute) and value.attr in ("data", "T", "mT")) or isinstance(value, ast.Subscript):
            value = value.value
        elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _VIEWS:
            value = value.func.value
        else:
            return False


def _written_by(call: ast.Call) -> Iterator[ast.expr]:
    """What a call writes by its name: its object or, of a function, its first argument; its ``out``."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    yield from (one.value for one in call.keywords if one.arg == "out")
    if (name.endswith("_") and not name.endswith("__")) or name in _COLLECTIVES:
        yield from call.args[:1]
        if isinstance(call.func, ast.Attribute):
            yield call.func.value


def _taken_by(statement: ast.AST) -> Iterator[ast.AST]:
    """What a statement takes the value of, all of its parts: not the call that is all of a statement."""
    if isinstance(statement, ast.Expr):
        whole = statement.value
        yield from (node for node in ast.walk(whole) if node is not whole)
    elif isinstance(statement, ast.Assign | ast.AugAssign | ast.Return) and statement.value is not None:
        yield from ast.walk(statement.value)


def _is_at(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, line: int, name: str) -> bool:
    if isinstance(node, ast.Lambda):
        return name == "<lambda>" and node.lineno == line
    return node.name == name and min([node.lineno, *(one.lineno for one in node.decorator_list)]) == line


def _writes(node: ast.AST, gradient: str) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        attr = node.func.attr
        return attr.endswith("_") and not attr.endswith("__") and _is_of(node.func.value, gradient)
    if isinstance(node, ast.AugAssign):
        return _is_of(node.target, gradient)
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Subscript) and _is_of(target, gradient) for target in node.targets
    )


def _is_of(node: ast.expr, gradient: str) -> bool:
    """Whether an expression is a name, or a part or a result in place of it."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id == gradient


def meets_parameters_again(text: str, line: int) -> bool:
    """Whether a line is in a loop over the parameters of each of ``modules()``: one is met by all modules around it."""
    tree = parsed(text)
    loops = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.For) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    modules: set[str] = set()
    for loop in sorted(loops, key=lambda node: node.lineno):
        called = loop.iter.func if isinstance(loop.iter, ast.Call) else None
        if not isinstance(called, ast.Attribute) or not isinstance(loop.iter, ast.Call):
            continue
        if called.attr in ("modules", "named_modules"):
            modules |= {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
        is_of_one = isinstance(called.value, ast.Name) and called.value.id in modules
        if is_of_one and called.attr in ("parameters", "named_parameters") and not _is_own_only(loop.iter):
            return True
    return False


def _is_own_only(call: ast.Call) -> bool:
    return bool(call.args) or any(keyword.arg == "recurse" for keyword in call.keywords)
