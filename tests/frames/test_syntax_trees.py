"""Trees in which an annotation makes no difference."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed

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
