"""What does harm where it stands is left out: a checkpoint, a compilation, weight decay, a hook in a loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources, SpanChange
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import add_keyword, append, before, keep_only, move_before, put
from gradscope.analysis.report_model import Answer
from gradscope.frames.modules.tied_weights import replaced, ties

_OF_CHECKPOINT = ("use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop")


def checkpoint(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``block(x)`` in place of ``checkpoint(block, x, use_reentrant=False)``."""
    for at in cause_nodes(answer, sources, ("used",)):
        source = at.source
        for node in at.nodes:
            if called_name(node) == "checkpoint" and isinstance(node, ast.Call) and node.args:
                given = [source.code(one) for one in node.args[1:]]
                given += [source.code(one) for one in node.keywords if one.arg not in _OF_CHECKPOINT]  # type: ignore[arg-type]
                text = f"{source.operand(node.args[0])}({', '.join(given)})"
                yield Edit("call it without a checkpoint", at.file, put(source, node, text))


def compilation(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A function is left as it is, not compiled."""
    for at in cause_nodes(answer, sources, ("made",)):
        source = at.source
        for node in at.nodes:
            method = method_call(node, "compile")
            if method is None or not isinstance(node, ast.Call) or not node.args:
                continue
            if source.code(method.value) == source.imported("torch"):
                yield Edit("leave it uncompiled", at.file, keep_only(source, node, node.args[0]))


def weight_decay(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``weight_decay=0.0`` for an optimizer of one parameter: of several, others may be meant to decay."""
    for at in cause_nodes(answer, sources):
        source = at.source
        for node in at.nodes:
            is_optimizer = isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.List)
            if not is_optimizer or len(node.args[0].elts) != 1 or isinstance(node.args[0].elts[0], ast.Starred):  # type: ignore[attr-defined]
                continue
            assert isinstance(node, ast.Call)
            given = [one.value for one in node.keywords if one.arg == "weight_decay"]
            changes = put(source, given[0], "0.0") if given else add_keyword(source, node, "weight_decay=0.0")
            yield Edit("no weight decay", at.file, changes)


def small_eps(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """An eps that is not zero in float16."""
    for at in cause_nodes(answer, sources, ("made",)):
        source = at.source
        for node in at.nodes:
            if "larger eps" in answer.text and isinstance(node, ast.Call) and called_name(node)[:1].isupper():
                given = [one.value for one in node.keywords if one.arg == "eps"]
                changes = put(source, given[0], "1e-4") if given else add_keyword(source, node, "eps=1e-4")
                yield Edit("an eps that is not zero in this precision", at.file, changes)


def hook_in_loop(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A hook that each run of a loop registers once more is registered in front of the loop."""
    for at in cause_nodes(answer, sources, ("made",)):
        source, statement = at.source, at.statement
        loop = source.loop(statement)
        if loop is None or not isinstance(statement, ast.Expr) or loop.lineno == statement.lineno:
            continue
        stored = {one.id for one in ast.walk(loop) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        read = {one.id for one in ast.walk(statement) if isinstance(one, ast.Name)}
        if not read & stored:
            yield Edit("register the hook once", at.file, move_before(source, statement, loop))


def tensor_in_hook(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A hook refers to the values of the tensor that it is on, not to the tensor."""
    for at in cause_nodes(answer, sources, ("made",)):
        source, statement = at.source, at.statement
        for node in at.nodes:
            method = method_call(node, "register_hook")
            if method is None or not isinstance(node, ast.Call) or len(node.args) != 1:
                continue
            hook = _function(source, statement, node.args[0])
            if hook is None:
                continue
            name = source.code(method.value)
            reads = [one for one in ast.walk(hook) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]
            own = [one for one in reads if one.id == name]
            if own:
                values = f"{name}_values"
                changes = [change for one in own for change in put(source, one, values)]
                first = hook if isinstance(hook, ast.FunctionDef) else statement
                changes += before(source, first, f"{values} = {name}.detach()")
                yield Edit(f"let the hook have the values of {name}", at.file, tuple(changes))
            yield from _captured(at.file, source, statement, name, {one.id for one in reads})


def _captured(file: str, source: SourceText, statement: ast.stmt, name: str, read: set[str]) -> Iterator[Edit]:
    """``value = h``, which a hook on ``h`` reads, becomes ``value = h.detach()``."""
    for node in inside(source.function(statement)):
        if not (isinstance(node, ast.Assign) and source.code(node.value) == name):
            continue
        if any(isinstance(target, ast.Name) and target.id in read for target in node.targets):
            yield Edit(f"let the hook have the values of {name}", file, append(source, node.value, ".detach()"))


def _function(source: SourceText, statement: ast.stmt, given: ast.expr) -> ast.Lambda | ast.FunctionDef | None:
    if isinstance(given, ast.Lambda):
        return given
    around = inside(source.function(statement))
    named = source.code(given)
    return next((one for one in around if isinstance(one, ast.FunctionDef) and one.name == named), None)


def other_shape(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A last dimension of size 1 is taken away where what it meets has none."""
    for at in cause_nodes(answer, sources, ("made",)):
        if len(at.nodes) == 1:
            yield Edit("without the dimension of size 1", at.file, append(at.source, at.nodes[0], ".squeeze(-1)"))


def tied_again(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A tie that an assignment has broken is made once more behind it."""
    for at in cause_nodes(answer, sources, ("set",)):
        source, statement = at.source, at.statement
        if not isinstance(statement, ast.Assign) or not source.has_own_lines(statement):
            continue
        target = source.code(statement.targets[0])
        for tie in ties(source.text):
            if all(one.line != statement.lineno for one in replaced(source.text, tie)):
                continue
            sides = [f"{tie.to}.{tie.part}", f"{tie.of}.{tie.part}"]
            for side, other in (sides, sides[::-1]):
                if target.endswith(f".{side}"):
                    owner = target[: -len(side)]
                    end = source.whole_lines(statement)[1]
                    text = f"{source.indent(statement)}{owner}{other} = {target}\n"
                    yield Edit(f"tie {owner}{other} to it again", at.file, (SpanChange(end, end, text),))
                    break
