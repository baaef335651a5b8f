"""The changes that edits are made of: what takes a node's place, what is put before or behind a statement, what moves.

Each gives no change where it cannot be made without touching what else stands on the lines.
"""

from __future__ import annotations

import ast

from gradscope.analysis.edits.edit_model import SpanChange
from gradscope.analysis.edits.source_text import SourceText

Changes = tuple[SpanChange, ...]


def put(source: SourceText, node: ast.expr | ast.stmt, text: str) -> Changes:
    """A text in place of a node."""
    return (SpanChange(*source.span(node), text),)


def append(source: SourceText, node: ast.expr, text: str) -> Changes:
    """A text behind an expression, which becomes an operand: ``.detach()``."""
    start, end = source.span(node)
    if source.operand(node) == source.code(node):
        return (SpanChange(end, end, text),)
    is_operand = isinstance(source.parents.get(node), (ast.Attribute, ast.Subscript))
    if is_operand and source.text[start - 1 : start] == "(" and source.text[end : end + 1] == ")":
        return (SpanChange(end + 1, end + 1, text),)
    return (SpanChange(start, start, "("), SpanChange(end, end, f"){text}"))


def keep_only(source: SourceText, node: ast.expr, part: ast.expr) -> Changes:
    """A node becomes one of its parts, which stays as it is written: ``float(x)`` becomes ``x``."""
    (start, end), (first, last) = source.span(node), source.span(part)
    parent = source.parents.get(node)
    needs_brackets = isinstance(parent, (ast.BinOp, ast.UnaryOp, ast.Attribute, ast.Subscript, ast.Compare))
    if needs_brackets and source.operand(part) != source.code(part):
        return (SpanChange(start, first, "("), SpanChange(last, end, ")"))
    if isinstance(node, ast.Call) and node.func is not part and source.text[first:last].count("\n"):
        return ()
    return (SpanChange(start, first, ""), SpanChange(last, end, ""))


def add_keyword(source: SourceText, call: ast.Call, keyword: str) -> Changes:
    """One more argument at the end of a call."""
    last = source.span(call)[1] - 1
    arguments = [*call.args, *(one.value for one in call.keywords)]
    if not arguments:
        return (SpanChange(last, last, keyword),)
    end = max(source.span(one)[1] for one in arguments)
    if isinstance(arguments[0], ast.GeneratorExp) and len(arguments) == 1:
        return ()
    tail = source.text[end:last]
    if tail.strip(" \t\n,)"):
        return ()
    brackets = tail.rfind(")") + 1  # of an argument that is in brackets
    return (SpanChange(end + brackets, end + brackets, f", {keyword}"),)


def before(source: SourceText, statement: ast.stmt, *lines: str) -> Changes:
    """Lines in front of a statement, in its block."""
    if not source.has_own_lines(statement) and source.lines[statement.lineno - 1][: _column(source, statement)].strip():
        return ()
    start = source.line_start(_first_line(statement))
    indent = source.indent(statement)
    return (SpanChange(start, start, "".join(f"{indent}{line}\n" for line in lines)),)


def behind(source: SourceText, statement: ast.stmt, *lines: str) -> Changes:
    """Lines behind a statement, in its block."""
    if not source.has_own_lines(statement):
        return ()
    end = source.whole_lines(statement)[1]
    newline = "" if end == 0 or source.text[end - 1] == "\n" else "\n"
    indent = source.indent(statement)
    text = "".join(f"{indent}{line}\n" for line in lines)
    return (SpanChange(end, end, newline + (text if not newline else text.rstrip("\n"))),)


def remove(source: SourceText, statement: ast.stmt) -> Changes:
    """A statement with its lines; ``pass`` stays where it was alone in its block."""
    if not source.has_own_lines(statement):
        return ()
    start, end = source.whole_lines(statement)
    text = f"{source.indent(statement)}pass\n" if len(source.block(statement)) == 1 else ""
    return (SpanChange(start, end, text),)


def move_behind(source: SourceText, statement: ast.stmt, anchor: ast.stmt) -> Changes:
    """A statement's lines behind another statement, at that one's indentation."""
    return _moved(source, statement, anchor, behind_it=True)


def move_before(source: SourceText, statement: ast.stmt, anchor: ast.stmt) -> Changes:
    """A statement's lines in front of another statement, at that one's indentation."""
    return _moved(source, statement, anchor, behind_it=False)


def _moved(source: SourceText, statement: ast.stmt, anchor: ast.stmt, *, behind_it: bool) -> Changes:
    if not (source.has_own_lines(statement) and source.has_own_lines(anchor)):
        return ()
    start, end = source.whole_lines(statement)
    text = source.text[start:end]
    if not text.endswith("\n"):
        text += "\n"
    indent, wanted = source.indent(statement), source.indent(anchor)
    if indent != wanted:
        text = _indented(source, statement.lineno, text, indent, wanted)
    taken = remove(source, statement)
    place = source.whole_lines(anchor)[1] if behind_it else source.line_start(_first_line(anchor))
    if place == len(source.text) and not source.text.endswith("\n"):
        text = "\n" + text.rstrip("\n")
    return (*taken, SpanChange(place, place, text))


def wrap(source: SourceText, statements: list[ast.stmt], header: str) -> Changes:
    """Statements that follow one another become the block of a header: ``with torch.no_grad():``."""
    first, last = statements[0], statements[-1]
    if not (source.has_own_lines(first) and source.has_own_lines(last)):
        return ()
    start, end = source.line_start(_first_line(first)), source.whole_lines(last)[1]
    indent = source.indent(first)
    text = _indented(source, _first_line(first), source.text[start:end], "", source.indent_unit)
    return (SpanChange(start, end, f"{indent}{header}\n{text}"),)


def unwrap(source: SourceText, block: ast.With) -> Changes:
    """A block's statements in place of the block."""
    first, last = block.body[0], block.body[-1]
    if first.lineno == block.lineno or not source.has_own_lines(last):
        return ()
    start, end = source.line_start(block.lineno), source.whole_lines(last)[1]
    inner = source.line_start(_header_end(source, block) + 1)
    text = _indented(
        source, _header_end(source, block) + 1, source.text[inner:end], source.indent(first), source.indent(block)
    )
    return (SpanChange(start, end, text),)


def add_import(source: SourceText, module: str) -> Changes:
    """An import at the head of the file, where it has none of that module."""
    if source.imported(module):
        return ()
    imports = [
        node
        for node in source.tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "__future__"
    ]
    if imports:
        return before(source, imports[0], f"import {module}")
    return ()


def _indented(source: SourceText, first_line: int, text: str, old: str, new: str) -> str:
    """Lines further in or out; blank ones, and those that begin inside a string, stay."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.strip() and first_line + number not in source.lines_in_strings and line.startswith(old):
            lines[number] = new + line[len(old) :]
    return "\n".join(lines)


def _first_line(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", [])
    first: int = min([statement.lineno, *(one.lineno for one in decorators)])
    return first


def _header_end(source: SourceText, block: ast.With) -> int:
    """The last line of a block's header: comments may stand between it and the first statement."""
    last = block.items[-1]
    line: int = (last.optional_vars or last.context_expr).end_lineno or block.lineno
    while line < block.body[0].lineno - 1 and not source.lines[line - 1].split("#")[0].rstrip().endswith(":"):
        line += 1
    return line


def _column(source: SourceText, statement: ast.stmt) -> int:
    return source.span(statement)[0] - source.line_start(statement.lineno)
