"""Where a text makes an embedding of given vectors that is to be trained: ``from_pretrained(v, freeze=False)``."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed


class PretrainedEmbedding(NamedTuple):
    """A statement that does so."""

    line: int
    end_line: int
    attributes: frozenset[str]
    """The last parts of the names that it is given to; empty where it is given to none at once."""


def pretrained_embeddings(text: str) -> list[PretrainedEmbedding]:
    """All of a file."""
    tree = parsed(text) if "from_pretrained" in text else None
    return [
        PretrainedEmbedding(node.lineno, node.end_lineno or node.lineno, frozenset(_named(node)) - {""})
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Assign | ast.Return | ast.Expr)
        and any(_is_trained(one) for one in ast.walk(node) if isinstance(one, ast.Call))
    ]


def _named(statement: ast.stmt) -> list[str]:
    return [last_name(target) for target in statement.targets] if isinstance(statement, ast.Assign) else []


def _is_trained(call: ast.Call) -> bool:
    freeze = [one.value for one in call.keywords if one.arg == "freeze"] or call.args[1:2]
    is_off = any(isinstance(one, ast.Constant) and one.value is False for one in freeze)
    return is_off and isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
