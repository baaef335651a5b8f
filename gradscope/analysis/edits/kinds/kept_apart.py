"""What a loop keeps of a result is cut off from its graph: ``total += loss.detach()``, ``h = h.detach()``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import CauseNodes, called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import Changes, add_import, append, behind, put
from gradscope.analysis.report_model import Answer

_KEEPING = ("append", "appendleft", "add", "put", "extend", "insert", "setdefault")
_DETACH = ".detach()"


def edits(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Cut off what is kept where it is stored; a state that a loop hands on, behind the pass that uses it up."""
    for at in cause_nodes(answer, sources):
        if at.cause.role not in ("made", "used", "saved", "set"):
            continue
        for title, changes in _of_statement(at, answer):
            if changes:
                yield Edit(title, at.file, changes)


def _of_statement(at: CauseNodes, answer: Answer) -> Iterator[tuple[str, Changes]]:
    source, statement = at.source, at.statement
    if isinstance(statement, ast.AugAssign):
        yield "add the value without its graph", append(source, statement.value, _DETACH)
    elif isinstance(statement, ast.Expr):
        yield from _of_call(source, statement.value, answer)
    elif isinstance(statement, ast.Assign):
        yield from _of_assignment(source, statement)


def _of_call(source: SourceText, call: ast.expr, answer: Answer) -> Iterator[tuple[str, Changes]]:
    method = method_call(call, *_KEEPING)
    if method is None or not isinstance(call, ast.Call) or not call.args:
        return
    kept = call.args[-1]
    parts = (
        list(kept.elts) if isinstance(kept, ast.Tuple) else list(kept.values) if isinstance(kept, ast.Dict) else [kept]
    )
    title = f"keep the values without their graph in {source.code(method.value)}"
    if kept in parts:
        yield title, append(source, kept, _DETACH)
        return
    known = [part for part in parts if source.code(part) in (answer.tensor, *answer.subject.split(" and "))]
    if known:
        yield title, tuple(change for part in known for change in append(source, part, _DETACH))
        return
    for part in parts:
        if isinstance(part, (ast.Name, ast.Attribute)):
            yield title, append(source, part, _DETACH)


def _of_assignment(source: SourceText, statement: ast.Assign) -> Iterator[tuple[str, Changes]]:
    targets = [part for target in statement.targets for part in _parts(target)]
    value = statement.value
    read = {source.code(node) for node in inside(value) if isinstance(node, (ast.Name, ast.Attribute))}
    carried = [target for target in targets if source.code(target) in read]
    if isinstance(value, ast.BinOp) and isinstance(value.op, (ast.Add, ast.Sub)) and carried:
        (target, *_), sides = carried, (value.left, value.right)
        others = [side for side in sides if source.code(side) != source.code(target)]
        if len(others) == 1:
            yield "add the value without its graph", append(source, others[0], _DETACH)
    if carried:
        yield from _handed_on(source, statement, carried)
    if isinstance(statement.targets[0], (ast.Attribute, ast.Subscript)) and len(targets) == 1:
        parts = value.elts if isinstance(value, ast.Tuple) else [value]
        cut = [part for part in parts if called_name(part) != "detach"]
        title = f"keep {source.code(targets[0])} without its graph"
        yield title, tuple(change for part in cut for change in append(source, part, _DETACH))


def _handed_on(source: SourceText, statement: ast.Assign, carried: list[ast.expr]) -> Iterator[tuple[str, Changes]]:
    """A state that each run of a loop hands to the next: behind the pass, so that a window keeps its graph."""
    names = [source.code(target) for target in carried]
    one_each = ", ".join(names), ", ".join(f"{name}.detach()" for name in names)
    line = f"{one_each[0]} = {one_each[1]}"
    title = f"detach {' and '.join(names)} behind the pass"
    for loop in (one for one in source.around(statement) if isinstance(one, (ast.For, ast.While))):
        passes = [node for node in inside(loop) if method_call(node, "backward")]
        if passes:
            last = source.statement(max(passes, key=lambda node: node.lineno))  # type: ignore[attr-defined]
            yield title, behind(source, last, line)
            if len(names) == 1:
                yield title, behind(source, last, f"{names[0]} = tuple(part.detach() for part in {names[0]})")
            break
    else:
        if all(isinstance(target, ast.Attribute) for target in carried):
            yield f"keep {' and '.join(names)} without the graph", behind(source, statement, line)
            if len(names) == 1:
                part = f"{names[0]} = tuple(part.detach() for part in {names[0]})"
                yield f"keep {names[0]} without the graph", behind(source, statement, part)
    reads = [
        node
        for node in inside(statement.value)
        if isinstance(node, (ast.Name, ast.Attribute))
        and source.code(node) in names
        and not isinstance(source.parents.get(node), ast.Attribute)
    ]
    changes = tuple(change for node in reads if isinstance(node, ast.expr) for change in append(source, node, _DETACH))
    yield f"take {' and '.join(names)} without the graph of the run before", changes


def _parts(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            yield from _parts(part)
    elif not isinstance(target, ast.Starred):
        yield target


def copied(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """What is kept is made a copy, with memory of its own."""
    for at in cause_nodes(answer, sources):
        for title, changes in _copies(at, answer):
            if changes:
                yield Edit(title, at.file, changes)


def _copies(at: CauseNodes, answer: Answer) -> Iterator[tuple[str, Changes]]:
    source, statement = at.source, at.statement
    value: ast.expr | None = None
    if isinstance(statement, (ast.Assign, ast.Return)):
        value = statement.value
    elif (
        isinstance(statement, ast.Expr)
        and method_call(statement.value, *_KEEPING)
        and isinstance(statement.value, ast.Call)
    ):
        value = statement.value.args[-1] if statement.value.args else None
    if value is None:
        return
    states = [node for node in at.nodes if called_name(node) == "state_dict"] if len(at.nodes) == 1 else []
    if states and states[0] is not value:
        yield "copy what is kept", _deep_copy(source, states[0])
    yield from _copy_of(source, value, answer)


def _copy_of(source: SourceText, value: ast.expr, answer: Answer) -> Iterator[tuple[str, Changes]]:
    code = source.code(value)
    if called_name(value) == "state_dict":
        yield (
            "copy the tensors of the state_dict",
            _in_place_of(source, value, f"{{name: value.clone() for name, value in {code}.items()}}"),
        )
        yield "copy the state_dict", _deep_copy(source, value)
        return
    if called_name(value) in ("numpy",):
        yield "copy the array", append(source, value, ".copy()")
        return
    if isinstance(value, (ast.ListComp, ast.GeneratorExp)):
        yield "copy each of them", append(source, value.elt, _clone(source, value.elt))
        return
    if isinstance(value, ast.DictComp):
        yield "copy each of them", append(source, value.value, _clone(source, value.value))
        return
    if called_name(value) in ("dict", "list", "tuple", "copy") and isinstance(value, ast.Call) and value.args:
        inner = value.args[0]
        if called_name(inner) in ("parameters", "buffers"):
            yield (
                "copy each of them",
                _in_place_of(source, value, f"[value.detach().clone() for value in {source.code(inner)}]"),
            )
        elif called_name(inner) in ("named_parameters", "named_buffers") or called_name(value) == "dict":
            items = source.code(inner) if called_name(inner).startswith("named_") else f"{source.code(inner)}.items()"
            yield (
                "copy each of them",
                _in_place_of(source, value, f"{{name: value.detach().clone() for name, value in {items}}}"),
            )
        yield "copy all of it", _deep_copy(source, inner if called_name(value) == "copy" else value)
        return
    if isinstance(value, ast.Dict):
        parts = [part for part in value.values if isinstance(part, (ast.Attribute, ast.Name, ast.Call, ast.Subscript))]
        named = [part for part in parts if called_name(part) != "state_dict"]
        states = [part for part in parts if called_name(part) == "state_dict"]
        changes = [change for part in states for change in _deep_copy(source, part)]
        if not states:
            changes += [change for part in named for change in append(source, part, _clone(source, part))]
        yield "copy what is kept", tuple(dict.fromkeys(changes))
        return
    if isinstance(value, (ast.Tuple, ast.List)):
        names = [part for part in value.elts if isinstance(part, (ast.Name, ast.Attribute))]
        said = [part for part in names if re.search(rf"(?<![\w.]){re.escape(source.code(part))}(?![\w.])", answer.text)]
        for chosen in (said, names, *([part] for part in names)):
            yield "copy what is kept", tuple(c for part in chosen for c in append(source, part, _clone(source, part)))
        return
    if method_call(value, "expand", "expand_as", "broadcast_to"):
        yield "copy what is expanded, so that each row has memory of its own", append(source, value, ".clone()")
        return
    yield (
        f"copy {code}" if len(code) < 40 and "\n" not in code else "copy it",
        append(source, value, _clone(source, value)),
    )
    if isinstance(value, (ast.Name, ast.Attribute)):
        yield f"copy {code}", _deep_copy(source, value)


def _clone(source: SourceText, value: ast.expr) -> str:
    """A copy for keeping, not for the graph, of what is not yet without one."""
    code = source.code(value)
    return (
        ".clone()"
        if code.endswith((".detach()", ".data")) or not code.endswith((".weight", ".bias"))
        else ".detach().clone()"
    )


def _in_place_of(source: SourceText, value: ast.expr, text: str) -> Changes:
    return put(source, value, text)


def _deep_copy(source: SourceText, value: ast.expr) -> Changes:
    """``copy.deepcopy`` around a value, imported where the file has not."""
    name = source.imported("copy.deepcopy") or f"{source.imported('copy') or 'copy'}.deepcopy"
    imports = () if source.imported("copy.deepcopy") else add_import(source, "copy")
    return (*imports, *put(source, value, f"{name}({source.code(value)})"))


def stored_alone(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """An attribute keeps the values alone, and what follows in the function goes on with the result itself."""
    for at in cause_nodes(answer, sources, ("made",)):
        source, statement = at.source, at.statement
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1):
            continue
        target = statement.targets[0]
        if not isinstance(target, ast.Attribute):
            continue
        function, attribute, name = source.function(statement), source.code(target), target.attr.strip("_")
        taken = {node.id for node in inside(function) if isinstance(node, ast.Name)}
        taken |= {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
        reads = [
            node
            for node in inside(function)
            if isinstance(node, ast.Attribute)
            and source.code(node) == attribute
            and isinstance(node.ctx, ast.Load)
            and node.lineno > (statement.end_lineno or 0)
        ]
        if name in taken or not name.isidentifier() or not reads:
            continue
        changes = (
            *put(source, target, name),
            *behind(source, statement, f"{attribute} = {name}.detach()"),
            *(change for node in reads for change in put(source, node, name)),
        )
        yield Edit(f"keep {attribute} without its graph, and go on with {name}", at.file, changes)
