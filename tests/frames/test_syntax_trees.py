"""Trees in which an annotation makes no difference, nor whether a method is called as one or as a function."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import as_written, bases_of, parsed

_TEXT = """\
class Net:
    size: int
    rate: float = 0.1

    def step(self, x):
        try:
            y: object = x
        except ValueError:
            self.kept: dict[str, int] = {}
        match x:
            case 1:
                z: int = 2
"""


def test_an_annotated_assignment_is_an_assignment() -> None:
    tree = parsed(_TEXT)
    assert tree is not None
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    assert sorted(map(ast.unparse, assigned)) == ["rate = 0.1", "self.kept = {}", "y = x", "z = 2"]
    assert [(node.lineno, node.col_offset) for node in assigned if ast.unparse(node) == "y = x"] == [(7, 12)]
    assert [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)] == ["size: int"]


_CALLS = """\
import torch
import torch as th
import other

a = torch.detach(x)
b = th.Tensor.add_(x + 1, y, alpha=2)
c = torch.clone(input=x)
d = other.detach(x)
e = torch.Tensor._make_subclass(cls, x)
f = torch.exp(x)
g = torch.add(x, torch.mul(y, 2))
h = torch.add(x, y, alpha=2)
"""


def test_a_method_called_as_a_function_is_called_as_a_method() -> None:
    tree = parsed(_CALLS)
    assert tree is not None
    values = [ast.unparse(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert values[:2] == ["x.detach()", "(x + 1).add_(y, alpha=2)"]
    written = [line.partition(" = ")[2] for line in _CALLS.splitlines()[3:]]
    assert values[2:6] == written[3:7]
    assert values[6:] == ["x + y * 2", written[-1]]


def test_a_function_that_is_imported_by_name_is_torchs() -> None:
    tree = parsed(
        "from torch import detach, sigmoid as act, exp, no_grad\nexp = 1\na = act(detach(x))\nb = exp(x)\nc = no_grad()"
    )
    assert tree is not None
    values = [ast.unparse(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert values == ["1", "torch.sigmoid(x.detach())", "exp(x)", "no_grad()"]


def test_who_changes_a_text_sees_calls_as_they_are_written() -> None:
    tree = as_written(_CALLS)
    assert tree is not None
    assert ast.unparse(tree).splitlines()[3:] == _CALLS.splitlines()[4:]


def test_the_bases_of_a_class_are_those_that_its_file_does_not_have() -> None:
    tree = parsed("""\
from torch.autograd import Function as Op
class Base(Op): pass
class Mixed(Base, nn.Module): pass
class Own: pass
""")
    assert tree is not None
    bases = [bases_of(tree, node) for node in tree.body if isinstance(node, ast.ClassDef)]
    assert bases == [["Function"], ["nn.Module", "Function"], []]
