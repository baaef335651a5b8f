"""An optimizer is given the parameters that it is to step, or is made behind what replaces them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import Changes, add_import, behind, move_behind, put
from gradscope.analysis.report_model import Answer

_OWN_OF_LAYERS = ("weight", "bias", "*")
_OPTIMIZERS = re.compile(r"(Adam|SGD|RMSprop|LBFGS|Adagrad|Adadelta|Rprop|ASGD|Adamax|Lion|Muon|optim)", re.IGNORECASE)


def extended(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """The parameters that nothing steps are given to the optimizer, too."""
    for at in cause_nodes(answer, sources, ("made",)):
        source = at.source
        for node in at.nodes:
            if not isinstance(node, ast.Call) or not node.args or not _OPTIMIZERS.search(source.code(node.func)):
                continue
            given = node.args[0]
            for missing in _missing(answer.subject, source, at.statement):
                for parts in missing:
                    title = f"let the optimizer step {', '.join(part.strip('*') for part in parts)}"
                    for text in _with_parts(source, given, parts):
                        yield Edit(title, at.file, put(source, given, text))


def _with_parts(source: SourceText, given: ast.expr, parts: list[str]) -> Iterator[str]:
    """What an optimizer is given, with more: parameters, or groups of them where it has groups."""
    groups = [f'{{"params": {_group(part)}}}' for part in parts]
    if not isinstance(given, ast.List):
        yield f"[*{source.operand(given)}, {', '.join(parts)}]"
        if isinstance(given, (ast.Name, ast.Attribute)):
            yield f"[*{source.code(given)}, {', '.join(groups)}]"
        return
    added = groups if any(isinstance(one, ast.Dict) for one in given.elts) else parts
    inner = source.code(given)[1:-1].rstrip().rstrip(",")
    yield f"[{', '.join([inner, *added] if inner else added)}]"


def _group(part: str) -> str:
    return part[1:] if part[0] == "*" else f"[{part}]"


def added_later(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Parameters that a call makes after the optimizer was made are given to it behind that call."""
    places = list(cause_nodes(answer, sources, ("made",)))
    optimizers = [at for at in places if any(_is_optimizer(at.source, node) for node in at.nodes)]
    for at in optimizers:
        source, statement = at.source, at.statement
        block = source.block(statement)
        if not isinstance(statement, ast.Assign) or statement not in block:
            continue
        name = source.code(statement.targets[0])
        for later in (one for one in places if one not in optimizers):
            function = later.cause.function.rpartition(".")[2]
            for call in block[block.index(statement) + 1 :]:
                if not any(called_name(node) == function for node in ast.walk(call)):
                    continue
                for parts, *_ in _missing(answer.subject, source, call):
                    given = [_group(part) for part in parts]
                    lines = [f'{name}.add_param_group({{"params": {one}}})' for one in given]
                    changes = behind(source, call, *lines)
                    yield from _edit(
                        f"give {', '.join(part.strip('*') for part in parts)} to the optimizer", at.file, changes
                    )
                break


def _is_optimizer(source: SourceText, node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _OPTIMIZERS.search(source.code(node.func)) is not None


def _missing(subject: str, source: SourceText, statement: ast.stmt) -> Iterator[list[list[str]]]:
    """What is to be added: parameters of modules, most special first, or single tensors."""
    names = [re.sub(r"( \(\d+\)| of line \d+)$", "", name) for name in re.split(r", | and ", subject)]
    if not all(re.fullmatch(r"[A-Za-z_]\w*(\.\w+|\.\*|\[\d+\])*", name) for name in names):
        return
    owners: dict[str, None] = {}
    for name in names:
        owner, _, last = name.rpartition(".")
        if not owner:
            owners[name] = None
        elif last in _OWN_OF_LAYERS or last.isdigit():
            owners[f"*{_expression(owner)}.parameters()"] = None
        else:
            owners[name] = None
    roots = {re.split(r"[.\[]", owner.lstrip("*"))[0] for owner in owners}
    if all(_is_known(source, root, statement) for root in roots):
        yield [list(owners)]


def _expression(name: str) -> str:
    """``net.0.proj`` as Python has it: ``net[0].proj``."""
    return re.sub(r"\.(\d+)", r"[\1]", name)


def _is_known(source: SourceText, root: str, statement: ast.stmt) -> bool:
    """Whether a name is bound before a statement, in its function or at the top level."""
    function = source.function(statement)
    arguments = function.args if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) else None
    if arguments is not None and any(one.arg == root for one in (*arguments.args, *arguments.kwonlyargs)):
        return True
    return any(
        isinstance(node, ast.Name)
        and node.id == root
        and isinstance(node.ctx, ast.Store)
        and node.lineno < statement.lineno
        for scope in (function, source.tree)
        for node in inside(scope)
    )


def made_behind(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """The optimizer is made behind the statement that replaces its parameters."""
    for at in cause_nodes(answer, sources):
        source, replacing = at.source, at.statement
        block = source.block(replacing)
        if source.loop(replacing) is not None:
            continue
        for statement in block[: block.index(replacing)] if replacing in block else []:
            value = getattr(statement, "value", None)
            if not (isinstance(statement, ast.Assign) and isinstance(value, ast.Call)) or not _OPTIMIZERS.search(
                source.code(value.func)
            ):
                continue
            name = source.code(statement.targets[0])
            between = block[block.index(statement) + 1 : block.index(replacing) + 1]
            if any(
                name == source.code(node)
                for one in between
                for node in ast.walk(one)
                if isinstance(node, (ast.Name, ast.Attribute))
            ):
                continue
            changes = move_behind(source, statement, replacing)
            if changes:
                yield Edit("make the optimizer behind what replaces its parameters", at.file, changes)


def registered(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Layers in a plain list or dict of a module's are registered: ``nn.ModuleList``, ``nn.ModuleDict``."""
    named = [(at.file, at.source, at.statement) for at in cause_nodes(answer, sources)]
    for file, source, statement in (*named, *_filled(answer, sources)):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Attribute):
            continue
        value, nn = statement.value, source.imported("torch.nn")
        if not nn:
            continue
        made = [node for node in inside(value) if isinstance(node, ast.Call)]
        of_parameters = any(called_name(node) == "Parameter" for node in made)
        if isinstance(value, (ast.List, ast.ListComp, ast.Tuple)):
            kind = "ParameterList" if of_parameters else "ModuleList"
            yield from _edit(
                f"register them with {kind}", file, put(source, value, f"{nn}.{kind}({source.code(value)})")
            )
        elif isinstance(value, (ast.Dict, ast.DictComp)):
            kind = "ParameterDict" if of_parameters else "ModuleDict"
            yield from _edit(
                f"register them with {kind}", file, put(source, value, f"{nn}.{kind}({source.code(value)})")
            )
        elif isinstance(value, ast.Call):
            yield from _parameter_outermost(file, source, value, nn)


def _filled(answer: Answer, sources: EditSources) -> Iterator[tuple[str, SourceText, ast.stmt]]:
    """The only statement that fills the container of ``model.experts[*]``."""
    found = re.search(r"\.(\w+)\[", answer.subject)
    if found is None:
        return
    places = [
        (file, source, node)
        for file in sources.files
        if (source := sources.text(file)) is not None
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign) and source.code(node.targets[0]) == f"self.{found[1]}"
    ]
    if len(places) == 1:
        yield from places


def _parameter_outermost(file: str, source: SourceText, value: ast.Call, nn: str) -> Iterator[Edit]:
    """``nn.Parameter(x).double()`` becomes ``nn.Parameter(x.double())``."""
    method = method_call(value)
    inner = method.value if method is not None else None
    if isinstance(inner, ast.Call) and called_name(inner) == "Parameter" and len(inner.args) == 1:
        tail = source.text[source.span(inner)[1] : source.span(value)[1]]
        text = f"{source.code(inner.func)}({source.operand(inner.args[0])}{tail})"
        if called_name(value) in ("expand", "expand_as", "broadcast_to", "view", "t"):
            text = f"{text[:-1]}.clone())"
        yield from _edit("make the parameter of what it is converted to", file, put(source, value, text))
    elif called_name(value) in ("tensor", "ones", "zeros", "rand", "randn", "full"):
        asked = [one for one in value.keywords if one.arg == "requires_grad"]
        if asked:
            yield from _edit(
                "register it as a parameter", file, put(source, value, f"{nn}.Parameter({source.code(value)})")
            )


def copied_module(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Two names for one module: the second becomes a copy of its own."""
    for at in cause_nodes(answer, sources, ("made",)):
        source, statement = at.source, at.statement
        value = getattr(statement, "value", None)
        if isinstance(statement, ast.Assign) and isinstance(value, (ast.Name, ast.Attribute, ast.Subscript)):
            name = source.imported("copy.deepcopy") or f"{source.imported('copy') or 'copy'}.deepcopy"
            imports = () if source.imported("copy.deepcopy") else add_import(source, "copy")
            changes = (*imports, *put(source, value, f"{name}({source.code(value)})"))
            yield Edit("a copy of its own", at.file, changes)


def _edit(title: str, file: str, changes: Changes) -> Iterator[Edit]:
    if changes:
        yield Edit(title, file, changes)
