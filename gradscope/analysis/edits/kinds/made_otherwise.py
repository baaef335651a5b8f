"""A call that is made in another way: one more argument, another method, a list in place of an iterator."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources, SpanChange
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import (
    Changes,
    add_import,
    add_keyword,
    append,
    before,
    behind,
    move_behind,
    put,
    wrap,
)
from gradscope.analysis.report_model import Answer
from gradscope.frames.calls.reached_functions import reached_functions

_FACTORIES = ("tensor", "ones", "zeros", "rand", "randn", "full", "linspace", "arange", "eye", "empty", "logspace")


def _edit(title: str, file: str, changes: Changes) -> Iterator[Edit]:
    if changes:
        yield Edit(title, file, changes)


def asks_for_gradient(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """The leaf that is to get a gradient asks for one."""
    for at in cause_nodes(answer, sources, ("made", "set")):
        source = at.source
        for node in at.nodes:
            if not isinstance(node, ast.Call):
                continue
            false = [one.value for one in node.keywords if one.arg == "requires_grad"]
            if false:
                if isinstance(false[0], ast.Constant) and false[0].value is False:
                    yield from _edit("let it require grad", at.file, put(source, false[0], "True"))
            elif called_name(node) in _FACTORIES:
                yield from _edit("let it require grad", at.file, add_keyword(source, node, "requires_grad=True"))
            elif called_name(node) == "detach":
                yield from _edit("let it require grad", at.file, append(source, node, ".requires_grad_()"))


def retained(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A tensor that was moved or converted asks for its gradient behind that; a result retains its own."""
    for at in cause_nodes(answer, sources, ("made",)):
        source, statement = at.source, at.statement
        yield from _asked_behind_the_move(at.file, source, statement)
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if len(targets) == 1 and isinstance(targets[0], (ast.Name, ast.Attribute)):
            name = source.code(targets[0])
            yield from _edit(
                f"retain the gradient of {name}", at.file, behind(source, statement, f"{name}.retain_grad()")
            )


def _asked_behind_the_move(file: str, source: SourceText, statement: ast.stmt) -> Iterator[Edit]:
    """``torch.ones(3, requires_grad=True).to(device)`` becomes ``torch.ones(3).to(device).requires_grad_()``."""
    value = getattr(statement, "value", None)
    if value is None:
        return
    for call in (node for node in inside(value) if isinstance(node, ast.Call)):
        asked = [one for one in call.keywords if one.arg == "requires_grad" and source.code(one.value) == "True"]
        if not asked or called_name(call) not in _FACTORIES:
            continue
        arguments = [*call.args, *(one.value for one in call.keywords if one is not asked[0])]
        start = max((source.span(one)[1] for one in arguments), default=source.span(call.func)[1] + 1)
        end = source.span(asked[0].value)[1]
        if end < start or value is call:
            continue
        changes = append(source, value, ".requires_grad_()")
        yield from _edit("ask for the gradient of what it has become", file, (SpanChange(start, end, ""), *changes))


def asked_before_use(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``x.requires_grad_()`` is moved in front of what computes with ``x``: behind the statement that makes it."""
    for at in cause_nodes(answer, sources, ("set",)):
        source, statement = at.source, at.statement
        call = statement.value if isinstance(statement, ast.Expr) else None
        method = method_call(call, "requires_grad_") if call is not None else None
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(target, ast.Attribute) and target.attr == "requires_grad":
            method = target
        if method is None:
            continue
        name, block = source.code(method.value), source.block(statement)
        for made in reversed(block[: block.index(statement)] if statement in block else []):
            targets = made.targets if isinstance(made, ast.Assign) else []
            if any(source.code(one) == name for one in targets):
                changes = move_behind(source, statement, made)
                yield from _edit(f"let {name} require grad before it is used", at.file, changes)
                break


def asked_with_method(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``module.requires_grad_(False)``, which torch reads, in place of an attribute that it does not."""
    for at in cause_nodes(answer, sources):
        source, statement = at.source, at.statement
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Attribute):
            continue
        target = statement.targets[0]
        owner, value = source.code(target.value), source.code(statement.value)
        if target.attr == "requires_grad":
            yield from _edit(
                "requires_grad_() of the module", at.file, put(source, statement, f"{owner}.requires_grad_({value})")
            )
        else:
            yield from _edit(
                "requires_grad, as torch has it", at.file, put(source, statement, f"{owner}.requires_grad = {value}")
            )


def with_graph(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``create_graph=True`` where a gradient is part of a loss."""
    for at in cause_nodes(answer, sources):
        for node in at.nodes:
            if called_name(node) in ("grad", "backward") and isinstance(node, ast.Call):
                yield from _create_graph(at.file, at.source, node)


def _create_graph(file: str, source: SourceText, call: ast.Call) -> Iterator[Edit]:
    given = [one.value for one in call.keywords if one.arg == "create_graph"]
    changes = put(source, given[0], "True") if given else add_keyword(source, call, "create_graph=True")
    yield from _edit("keep the graph of the gradient", file, changes)


def checkpointed(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A checkpoint of the kind that is not reentrant, with its random numbers kept."""
    for at in cause_nodes(answer, sources):
        for node in at.nodes:
            if not isinstance(node, ast.Call) or called_name(node) not in ("checkpoint", "checkpoint_sequential"):
                continue
            source = at.source
            given = {one.arg: one.value for one in node.keywords}
            rng = given.get("preserve_rng_state")
            if rng is not None and source.code(rng) == "False":
                yield from _edit("keep the state of the random numbers", at.file, put(source, rng, "True"))
            reentrant = given.get("use_reentrant")
            if reentrant is None:
                yield from _edit(
                    "a checkpoint that is not reentrant", at.file, add_keyword(source, node, "use_reentrant=False")
                )
            elif source.code(reentrant) == "True":
                yield from _edit("a checkpoint that is not reentrant", at.file, put(source, reentrant, "False"))


def dropout_by_mode(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``training=self.training`` for a dropout that is a function."""
    for at in cause_nodes(answer, sources):
        source = at.source
        for node in at.nodes:
            if not isinstance(node, ast.Call) or "dropout" not in called_name(node).lower():
                continue
            owner = source.function(node)
            arguments = owner.args.args if isinstance(owner, ast.FunctionDef) else []
            if (
                arguments
                and arguments[0].arg == "self"
                and not (given := [k for k in node.keywords if k.arg == "training"])
            ):
                yield from _edit(
                    "dropout in training only", at.file, add_keyword(source, node, "training=self.training")
                )
            elif arguments and arguments[0].arg == "self" and given:
                yield from _edit("dropout in training only", at.file, put(source, given[0].value, "self.training"))


def array_of_values(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``x.detach().numpy()``: the values alone go to NumPy."""
    for at in cause_nodes(answer, sources):
        for node in at.nodes:
            method = method_call(node, "numpy", "__array__")
            if method is not None:
                yield from _edit("hand over the values alone", at.file, append(at.source, method.value, ".detach()"))
            elif (
                isinstance(node, ast.Call)
                and node.args
                and at.source.code(node.func).split(".")[0] in ("np", "numpy", "plt", "ax")
            ):
                yield from _edit("hand over the values alone", at.file, append(at.source, node.args[0], ".detach()"))


def as_list(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A list, which can be gone through any number of times, in place of an iterator."""
    for at in cause_nodes(answer, sources, ("made",)):
        source, statement = at.source, at.statement
        if not isinstance(statement, (ast.Assign, ast.Return)):
            continue
        value = statement.value
        changes: Changes = ()
        if isinstance(value, ast.GeneratorExp):
            start, end = source.span(value)
            changes = (SpanChange(start, start + 1, "["), SpanChange(end - 1, end, "]"))
        elif isinstance(value, ast.Call):
            start, end = source.span(value)
            changes = (SpanChange(start, start, "list("), SpanChange(end, end, ")"))
        yield from _edit("a list in place of the iterator", at.file, changes)


def called_itself(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``layer(x)`` in place of ``layer.forward(x)``, ``F.apply(x)`` in place of ``F.forward(ctx, x)``."""
    for at in cause_nodes(answer, sources, ("used",)):
        source = at.source
        for node in at.nodes:
            method = method_call(node, "forward")
            if method is None or not isinstance(node, ast.Call):
                continue
            if answer.code == "forward-past-hooks":
                yield from _edit("call the module itself", at.file, put(source, node.func, source.code(method.value)))
                continue
            if node.args:
                (start, end), (_, head) = source.span(node.args[0]), source.span(method)
                following = source.span(node.args[1])[0] if len(node.args) > 1 else end
                yield Edit(
                    "apply the Function",
                    at.file,
                    (SpanChange(head - len("forward"), head, "apply"), SpanChange(start, following, "")),
                )


def each_its_own(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``[Layer(3) for _ in range(4)]`` in place of ``[Layer(3)] * 4``."""
    for at in cause_nodes(answer, sources):
        source = at.source
        for node in inside(at.statement):
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)):
                continue
            parts, count = (node.left, node.right) if isinstance(node.left, ast.List) else (node.right, node.left)
            if not (isinstance(parts, ast.List) and len(parts.elts) == 1):
                continue
            made = parts.elts[0]
            if isinstance(made, ast.Call):
                text = f"[{source.code(made)} for _ in range({source.code(count)})]"
                yield from _edit("make each of them anew", at.file, put(source, node, text))
            elif isinstance(made, ast.Name):
                name = source.imported("copy.deepcopy") or "copy.deepcopy"
                imports = () if source.imported("copy.deepcopy") else add_import(source, "copy")
                text = f"[{name}({made.id}) for _ in range({source.code(count)})]"
                yield from _edit("a copy of its own for each of them", at.file, (*imports, *put(source, node, text)))


def no_grad_mode(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``torch.no_grad()`` in place of ``torch.inference_mode()``, whose tensors autograd refuses."""
    for at in cause_nodes(answer, sources):
        source = at.source
        for line in range(at.cause.line, at.cause.line + 1):
            text = source.lines[line - 1]
            found = re.search(r"inference_mode(\(\s*(True)?\s*\))?", text)
            if found is not None:
                start = source.line_start(line) + found.start()
                ends = source.line_start(line) + found.end()
                yield Edit("no_grad in place of inference_mode", at.file, (SpanChange(start, ends, "no_grad()"),))


_OF_TRAINING = ("forward", "__call__", "training_step", "train", "main", "fit", "step", "loss")


def under_no_grad(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """What is computed without a backward pass to come is computed under ``no_grad``: a function, or a statement.

    Not what other code may train with: a module's forward, a function in which a pass begins, or in one that it calls.
    """
    for at in cause_nodes(answer, sources):
        source, torch = at.source, at.source.imported("torch")
        if not torch:
            continue
        function = _function_at(source, at.cause.line, at.statement)
        if function is not None:
            if function.name not in _OF_TRAINING and not _trains(source, function):
                changes = before(source, function, f"@{torch}.no_grad()")
                yield from _edit(f"run {function.name} under no_grad", at.file, changes)
        elif isinstance(at.statement, (ast.Assign, ast.Expr, ast.AugAssign)) and not _begins_pass(at.statement):
            changes = wrap(source, [at.statement], f"with {torch}.no_grad():")
            yield from _edit("compute it under no_grad", at.file, changes)


def _begins_pass(node: ast.AST) -> bool:
    return any(called_name(one) in ("backward", "grad", "checkpoint") for one in ast.walk(node))


def _trains(source: SourceText, function: ast.FunctionDef) -> bool:
    names = reached_functions(source.text, function.body[0].lineno)
    reached = (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef) and node.name in names)
    return _begins_pass(function) or any(map(_begins_pass, reached))


def _function_at(source: SourceText, line: int, statement: ast.stmt) -> ast.FunctionDef | None:
    """The function whose head is at a line, or the one around a statement."""
    heads = (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef) and node.lineno == line)
    around = (node for node in source.around(statement) if isinstance(node, ast.FunctionDef))
    return next(heads, None) or next(around, None)


def gradient_removed(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``p.grad = None``, which a step passes over, in place of a gradient of zeros, which moves what has momentum."""
    for at in cause_nodes(answer, sources):
        call = at.statement.value if isinstance(at.statement, ast.Expr) else None
        method = method_call(call, "zero_", "fill_", "mul_") if call is not None else None
        if call is not None and method is not None and getattr(method.value, "attr", "") == "grad":
            text = f"{at.source.code(method.value)} = None"
            yield from _edit("no gradient in place of zeros", at.file, put(at.source, call, text))
        frozen = method_call(call, "requires_grad_") if call is not None else None
        if frozen is not None and call is not None and at.source.code(call).endswith("(False)"):
            name = at.source.code(frozen.value)
            is_parameter = any(
                isinstance(one, ast.For)
                and called_name(one.iter) == "parameters"
                and at.source.code(one.target) == name
                for one in at.source.around(at.statement)
            )
            inner = at.source.indent_unit
            lines = [f"{name}.grad = None"]
            if not is_parameter:
                lines = [f"for parameter in {name}.parameters():", f"{inner}parameter.grad = None"]
            yield from _edit("leave no gradient behind", at.file, behind(at.source, at.statement, *lines))


def swapped_back(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Two gradients that backward returns in each other's place are returned in their own."""
    for at in cause_nodes(answer, sources, ("returned",)):
        source, statement = at.source, at.statement
        value = statement.value if isinstance(statement, ast.Return) else None
        if isinstance(value, ast.Tuple) and len(value.elts) >= 2:
            parts = [part for part in value.elts if not (isinstance(part, ast.Constant) and part.value is None)]
            if len(parts) == 2:
                one, other = parts
                changes = (*put(source, one, source.code(other)), *put(source, other, source.code(one)))
                yield from _edit("return them in their own places", at.file, changes)


def kept_values_in_ctx(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``ctx.y = y.detach()``: the values without the node that ctx belongs to."""
    for at in cause_nodes(answer, sources):
        if isinstance(at.statement, ast.Assign):
            yield from _edit("keep the values alone", at.file, append(at.source, at.statement.value, ".detach()"))


def of_floats(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A leaf of floating point where whole numbers were to require grad."""
    for at in cause_nodes(answer, sources):
        torch = at.source.imported("torch")
        for node in at.nodes:
            is_new = isinstance(node, ast.Call) and called_name(node) in ("tensor", "arange", "full")
            if isinstance(node, ast.Call) and is_new and torch and all(one.arg != "dtype" for one in node.keywords):
                changes = add_keyword(at.source, node, f"dtype={torch}.float32")
                yield from _edit("a tensor of floats", at.file, changes)


def complex_zeros(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A tensor of the dtype of what is written into it."""
    for at in cause_nodes(answer, sources, ("made",)):
        written = [one for one in cause_nodes(answer, sources, ("write",)) if one.file == at.file]
        values = [one.statement.value for one in written if isinstance(one.statement, ast.Assign)]
        if not values or not isinstance(values[0], (ast.Name, ast.Attribute)):
            continue
        for node in at.nodes:
            if isinstance(node, ast.Call) and called_name(node) in ("zeros", "ones", "empty", "full"):
                changes = add_keyword(at.source, node, f"dtype={at.source.code(values[0])}.dtype")
                yield from _edit("make it of the dtype that is written", at.file, changes)


def true_division(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``/``, which has a derivative and does not round to zero, in place of ``//``."""
    for at in cause_nodes(answer, sources):
        source = at.source
        for node in ast.walk(at.statement):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
                first, last = source.span(node.left)[1], source.span(node.right)[0]
                between = source.text[first:last]
                if between.count("//") == 1:
                    start = first + between.index("//")
                    yield Edit("/ in place of //", at.file, (SpanChange(start, start + 2, "/"),))


def as_number(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A value that has no derivative is taken without its graph."""
    for at in cause_nodes(answer, sources, ("used",)):
        source = at.source
        for node in at.nodes:
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
                yield from _edit("take the values alone", at.file, append(source, node.left, ".detach()"))
