"""The statements of a training step put into the order that works: zero_grad, backward, unscale_, clip, step."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import Changes, before, behind, move_before, move_behind, put
from gradscope.analysis.report_model import Answer


def _calls(scope: ast.AST, *names: str) -> list[ast.Call]:
    found = [node for node in inside(scope) if isinstance(node, ast.Call) and method_call(node, *names)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _all_calls(source: SourceText, *names: str) -> list[ast.Call]:
    """Those of all functions of the file."""
    return [node for node in ast.walk(source.tree) if isinstance(node, ast.Call) and method_call(node, *names)]


def _scope(source: SourceText, statement: ast.stmt) -> ast.AST:
    return source.loop(statement) or source.function(statement)


def _owner(source: SourceText, call: ast.Call) -> str:
    return source.code(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def zero_grad_moved(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Gradients are cleared where no step waits for them any more: behind the step, or in front of backward."""
    for at in cause_nodes(answer, sources, ("cleared",)):
        source, cleared = at.source, at.statement
        if not isinstance(cleared, ast.Expr):
            continue
        scope = _scope(source, cleared)
        for step in _steps_of(source, scope, cleared.value):
            yield from _edit("clear the gradients behind the step", at.file, move_behind(source, cleared, step))
        for call in _calls(scope, "backward"):
            anchor = source.statement(call)
            if anchor.lineno < cleared.lineno:
                title = "clear the gradients in front of backward"
                yield from _edit(title, at.file, move_before(source, cleared, anchor))
                break


def _steps_of(source: SourceText, scope: ast.AST, cleared: ast.expr) -> Iterator[ast.stmt]:
    """The steps of the optimizer that clears; of any, where a module does."""
    owner = _owner(source, cleared) if isinstance(cleared, ast.Call) else ""
    steps = [call for call in _calls(scope, "step") if "sched" not in _owner(source, call).lower()]
    own = [call for call in steps if owner in (_owner(source, call), *(source.code(one) for one in call.args))]
    for call in (own or (steps if len(steps) == 1 else []))[:2]:
        yield source.statement(call)


def zero_grad_added(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Gradients are cleared once the step has used them."""
    for file, source, statement in _statements(answer, sources):
        scope = _scope(source, statement)
        for call in _calls(scope, "step"):
            name = _stepped(source, call)
            if name:
                line = f"{name}.zero_grad()"
                yield from _edit(
                    f"clear the gradients behind {name}.step", file, behind(source, source.statement(call), line)
                )
                return


def zero_grad_in_closure(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """The first thing in a closure is ``zero_grad()`` of the optimizer that calls it."""
    for file, source, statement in _statements(answer, sources):
        function = source.function(statement)
        if not isinstance(function, ast.FunctionDef) or not _calls(function, "backward"):
            continue
        for call in _all_calls(source, "step"):
            if [source.code(one) for one in call.args] == [function.name]:
                owner = _owner(source, call)
                line = before(source, _first_of(function), f"{owner}.zero_grad()")
                yield from _edit("clear the gradients first in the closure", file, line)
                return


def _first_of(function: ast.FunctionDef) -> ast.stmt:
    """The first statement behind a docstring."""
    first = function.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return function.body[1] if is_text and len(function.body) > 1 else first


def scheduler_made_anew(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A new optimizer gets a scheduler of its own, made as that of the one before it."""
    made = [one for one in _statements(answer, sources) if isinstance(one[2], ast.Assign)]
    for file, source, optimizer in made:
        name = source.code(optimizer.targets[0]) if isinstance(optimizer, ast.Assign) else ""
        for other_file, _, schedule in made:
            value = schedule.value if isinstance(schedule, ast.Assign) else None
            if other_file != file or schedule is optimizer or not isinstance(value, ast.Call) or not value.args:
                continue
            if source.code(value.args[0]) == name:
                text = source.code(schedule)
                yield from _edit("a scheduler of its own", file, behind(source, optimizer, *text.split("\n")))


def evaluated(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A frozen part is put back into evaluation mode behind the ``train()`` of what holds it."""
    for file, source, statement in _statements(answer, sources):
        trains = [node for node in inside(statement) if method_call(node, "train")]
        if not trains or not isinstance(trains[0], ast.Call):
            continue
        owner = _owner(source, trains[0])
        for part in dict.fromkeys(_owner(source, one) for one in _all_calls(source, "eval")):
            name = f"{owner}{part[4:]}" if part.startswith("self.") and owner != "self" else part
            if name != owner:
                yield from _edit(f"leave {name} in evaluation mode", file, behind(source, statement, f"{name}.eval()"))


def _stepped(source: SourceText, call: ast.Call) -> str:
    """The optimizer that a call steps, also through a GradScaler; empty for a scheduler."""
    owner = _owner(source, call)
    if "sched" in owner.lower():
        return ""
    if "scaler" in owner.lower():
        return source.code(call.args[0]) if call.args else ""
    return "" if call.args and not isinstance(call.args[0], ast.Name) else owner


def _statements(answer: Answer, sources: EditSources) -> Iterator[tuple[str, SourceText, ast.stmt]]:
    for at in cause_nodes(answer, sources):
        yield at.file, at.source, at.statement
    place = answer.place
    source = sources.text(place.file) if place is not None else None
    if place is not None and source is not None:
        for statement in source.statements(place.line)[:1]:
            yield place.file, source, statement


def zero_grad_of_other(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A network's gradients are cleared right before its own backward, whatever other losses left there."""
    for file, source, statement in _statements(answer, sources):
        scope = _scope(source, statement)
        for call in _calls(scope, "step"):
            name, loop = _stepped(source, call), source.loop(call)
            lines = [f"{name}.zero_grad()"]
            if isinstance(loop, ast.For) and source.code(loop.target) == name:
                scope = _scope(source, loop)
                lines = [f"for {name} in {source.code(loop.iter)}:", f"{source.indent_unit}{name}.zero_grad()"]
            earlier = [one for one in _calls(scope, "backward") if one.lineno < call.lineno]
            if name and earlier:
                anchor = source.statement(earlier[-1])
                title = f"clear the gradients of {name} in front of its own backward"
                yield from _edit(title, file, before(source, anchor, *lines))


def clip_moved(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Gradients are clipped between backward and the step."""
    for at in cause_nodes(answer, sources):
        source, statement = at.source, at.statement
        if "clip" not in source.code(statement) or isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        scope = _scope(source, statement)
        later = [call for call in _calls(scope, "backward") if call.lineno > statement.lineno]
        if later:
            changes = move_behind(source, statement, source.statement(later[0]))
            yield from _edit("clip the gradients behind backward", at.file, changes)
        steps = [call for call in _calls(scope, "step") if _stepped(source, call)]
        if steps and steps[0].lineno < statement.lineno:
            changes = move_before(source, statement, source.statement(steps[0]))
            yield from _edit("clip the gradients in front of the step", at.file, changes)


def unscaled(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """The loss scale is taken out of the gradients before they are clipped."""
    for at in cause_nodes(answer, sources):
        source, statement = at.source, at.statement
        for scope in (_scope(source, statement), source.function(statement)):
            steps = [call for call in _calls(scope, "step") if call.args and call.lineno > statement.lineno]
            if steps:
                scaler, optimizer = _owner(source, steps[0]), source.code(steps[0].args[0])
                changes = before(source, statement, f"{scaler}.unscale_({optimizer})")
                yield from _edit("take the loss scale out of the gradients first", at.file, changes)
                break


def scheduler_moved(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """The scheduler steps behind its optimizer."""
    for at in cause_nodes(answer, sources):
        source, statement = at.source, at.statement
        if called_name(getattr(statement, "value", statement)) != "step":
            continue
        for call in _calls(_scope(source, statement), "step"):
            if call.lineno > statement.lineno and _stepped(source, call):
                changes = move_behind(source, statement, source.statement(call))
                yield from _edit("step the scheduler behind the optimizer", at.file, changes)
                break


def backward_added(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``loss.backward()`` before the step, of the loss that the answer names."""
    for at in cause_nodes(answer, sources, ("made",)):
        source, statement = at.source, at.statement
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            yield from _edit(f"run backward of {name}", at.file, behind(source, statement, f"{name}.backward()"))


def trained(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``model.train()`` at the head of a loop that trains: of the outermost first, which is enough for most."""
    place = answer.place
    step_source = sources.text(place.file) if place is not None else None
    for at in cause_nodes(answer, sources):
        call = getattr(at.statement, "value", None)
        if not isinstance(call, ast.Call) or called_name(call) not in ("eval", "train"):
            continue
        name = _owner(at.source, call)
        if place is None or step_source is None:
            continue
        for statement in step_source.statements(place.line)[:1]:
            loops = [one for one in step_source.around(statement) if isinstance(one, (ast.For, ast.While))]
            for loop in reversed(loops):
                changes = before(step_source, loop.body[0], f"{name}.train()")
                yield from _edit(f"train {name} in training mode", place.file, changes)


def set_back(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """What was frozen, or the grad mode that was set, for a computation is set back at its end."""
    for at in cause_nodes(answer, sources, ("set", "cut")):
        source, statement = at.source, at.statement
        call = getattr(statement, "value", None)
        if call is None or called_name(call) not in ("requires_grad_", "set_grad_enabled"):
            continue
        function = source.code(call.func)
        if source.code(call) != f"{function}(False)":
            continue
        last = source.block(statement)[-1]
        line = f"{function}(True)"
        changes = before(source, last, line) if isinstance(last, ast.Return) else behind(source, last, line)
        yield from _edit(f"{line} at the end", at.file, changes)


def _edit(title: str, file: str, changes: Changes) -> Iterator[Edit]:
    if changes:
        yield Edit(title, file, changes)


def stepped_by_scaler(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``scaler.step(optimizer)`` and ``scaler.update()`` in place of ``optimizer.step()``: it takes the scale out."""
    for at in cause_nodes(answer, sources):
        source = at.source
        step = method_call(at.statement.value, "step") if isinstance(at.statement, ast.Expr) else None
        scaled = [
            method
            for node in ast.walk(source.tree)
            if (method := method_call(node, "scale")) is not None and "scaler" in source.code(method.value).lower()
        ]
        if step is None or not scaled or "scaler" in source.code(step.value).lower():
            continue
        scaler = source.code(scaled[0].value)
        made = put(source, at.statement.value, f"{scaler}.step({source.code(step.value)})")  # type: ignore[attr-defined]
        calls = [method for node in ast.walk(source.tree) if (method := method_call(node, "update")) is not None]
        is_updated = any(source.code(method.value) == scaler for method in calls)
        changes = made if is_updated else (*made, *behind(source, at.statement, f"{scaler}.update()"))
        yield Edit(f"let {scaler} make the step", at.file, changes)
