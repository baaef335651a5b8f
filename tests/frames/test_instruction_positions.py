"""Where instructions stand, under a Python whose code knows lines only; later ones say so themselves."""

from __future__ import annotations

import ast
import dis
import sys
import warnings
from types import CodeType

import pytest

from gradscope.frames.instruction_positions import RecompiledText
from gradscope.frames.tracebacks import PROBE_NAME

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 11), reason="code objects know columns")

TEXT = """\
def step(model, x, scale=lambda n: n * 2):
    total = model(x).mul(x + 1) @ (
        x
        .relu()
    )
    total += x
    for part in total, x:
        if part.any() and x.all():
            total[0] = part.é + [y - 1 for y in part]
    with scale(x) as y:
        y.grad = -x
    return f"{x.item()}"
"""
OPERATIONS = ("CALL", "BINARY", "INPLACE", "UNARY", "STORE_ATTR", "STORE_SUBSCR")


def all_codes(code: CodeType) -> list[CodeType]:
    return [code, *(one for part in code.co_consts if isinstance(part, CodeType) for one in all_codes(part))]


def texts(text: str, code: CodeType) -> list[str | None]:
    """The source of each operation of a code object and of those in it, up to its line's end; None where not known."""
    positions, lines = RecompiledText(text), text.split("\n")
    found: list[str | None] = []
    for one in all_codes(code):
        for step in dis.get_instructions(one):
            if step.opname.startswith(OPERATIONS):
                at = positions.at(one, step.offset)
                source = "\n".join(lines[at.line - 1 : at.end_line]) if at else ""
                part = source.encode()[at.col :].decode().split("\n")[0] if at else None
                found.append(part)
    return found


def compiled(text: str) -> CodeType:
    return compile(text, "program.py", "exec")


def test_every_operation_has_its_place() -> None:
    found = texts(TEXT, compiled(TEXT))
    assert None not in found
    heads = [one and one[:12] for one in found]
    in_order = ["model(x).mul", "x + 1) @ (", "model(x).mul", "relu()", "model(x).mul", "total += x", "part.any() a"]
    assert [one for one in heads if one in in_order] == in_order
    assert {"x.all():", "total[0] = p", "y - 1 for y ", "-x", "y.grad = -x", "n * 2):", "scale(x) as "} <= set(heads)


def test_a_call_ends_where_it_ends() -> None:
    text = "x = first(\n    1,\n)(2).third\n"
    code = compiled(text)
    calls = [step.offset for step in dis.get_instructions(code) if step.opname.startswith("CALL")]
    positions = RecompiledText(text)
    assert [positions.at(code, offset) for offset in calls] == [(1, 3, 4, 1), (1, 3, 4, 4)]
    assert positions.at(code, -1) is None


def test_only_the_lines_that_are_still_the_same_are_known() -> None:
    ran = compiled("a(1); b(2)\nc(3); d(4)\n")
    assert texts("a(1); b(2)\nc(3); e(4)\n", ran) == ["a(1); b(2)", "b(2)", None, None]
    assert texts("a(1); b(2)\nno Python\n", ran) == [None] * 4
    assert texts("\na(1); b(2)\nc(3); d(4)\n", ran) == [None] * 4, "all have moved"


def test_which_of_two_functions_on_a_line_it_is() -> None:
    text = "f(lambda n: n + 1, lambda n: n + 2)\n"
    assert texts(text, compiled(text))[-2:] == ["n + 1, lambda n: n + 2)", "n + 2)"]
    twins = "f(lambda n: n + 1, lambda n: n + 1)\n"
    assert texts(twins, compiled(twins)) == [twins.strip(), None], "Python has one code object for both"


def test_a_probe_takes_nothing_away() -> None:
    text = "a(1); b(2)\nc(3)\n"
    tree = ast.parse(text)
    call = ast.Call(ast.Name(f"{PROBE_NAME} 1__", ast.Load()), [ast.Constant(0)], [])
    for node in ast.walk(call):
        ast.copy_location(node, tree.body[1])
    tree.body.insert(1, ast.copy_location(ast.Expr(call), tree.body[1]))
    of_probe = None
    assert texts(text, compile(tree, "program.py", "exec")) == ["a(1); b(2)", of_probe, "b(2)", "c(3)"]


@pytest.mark.parametrize("mode", ["exec", "single"])
def test_statements_that_are_run_one_by_one(mode: str) -> None:
    text = "a(1)\n\nb(2)\n"
    statement = ast.parse(text).body[1]
    whole = ast.Interactive([statement]) if mode == "single" else ast.Module([statement], [])
    assert texts(text, compile(whole, "cell", mode)) == ["b(2)"]


def test_what_python_has_warned_of_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    text = "print(x is 1)\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = compiled(text)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        show = warnings._showwarnmsg  # type: ignore[attr-defined]
        assert texts(text, code) == ["print(x is 1)"]
        assert warnings._showwarnmsg is show and not shown  # type: ignore[attr-defined]
        warnings.warn("another", stacklevel=1)
        assert len(shown) == 1
    assert "SyntaxWarning" not in capsys.readouterr().err
