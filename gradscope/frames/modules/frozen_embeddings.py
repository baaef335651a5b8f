"""Where a file's text makes an embedding of given vectors and leaves it at the default: frozen."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_CLASSES = ("Embedding", "EmbeddingBag")


class FrozenEmbedding(NamedTuple):
    """A call of ``Embedding.from_pretrained`` that says nothing of ``freeze``."""

    line: int
    end_line: int
    attributes: frozenset[str]
    """The last parts of the names that it is given to; empty where it is given to none at once."""


@lru_cache(maxsize=16)
def frozen_embeddings(text: str) -> tuple[FrozenEmbedding, ...]:
    """All of a file."""
    tree = parsed(text) if "from_pretrained" in text else None
    if tree is None:
        return ()
    named = {
        node.value: frozenset(last_name(target) for target in node.targets) - {""}
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
    }
    return tuple(
        FrozenEmbedding(node.lineno, node.end_lineno or node.lineno, named.get(node, frozenset()))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_left_frozen(node)
    )


def _is_left_frozen(call: ast.Call) -> bool:
    func = call.func
    is_it = isinstance(func, ast.Attribute) and func.attr == "from_pretrained" and last_name(func.value) in _CLASSES
    says = len(call.args) > 1 or any(keyword.arg in ("freeze", None) for keyword in call.keywords)
    return is_it and not says and not any(isinstance(one, ast.Starred) for one in call.args)


@lru_cache(maxsize=16)
def with_max_norm(text: str) -> tuple[tuple[int, int], ...]:
    """First and last line of each call of ``Embedding.from_pretrained`` that gives a ``max_norm``."""
    tree = parsed(text) if "max_norm" in text and "from_pretrained" in text else None
    return tuple(
        (node.lineno, node.end_lineno or node.lineno)
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Call)
        and last_name(node.func) == "from_pretrained"
        and any(keyword.arg == "max_norm" for keyword in node.keywords)
    )
