"""The names that an expectation has beside the program's own; ``gradscope check --help`` shows what is said here.

torch is asked for each fact when the expectation is evaluated; nothing is written to, and no hook is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from gradscope.expressions.raised_errors import RaisedErrors

NAMES = (
    "shares_storage",
    "shares_version",
    "reaches",
    "saved_bytes",
    "version",
    "grad_fn",
    "raised",
)


class ExpectationNames:
    """The functions that an expectation can call, bound to one run."""

    def __init__(self, errors: RaisedErrors) -> None:
        self._errors = errors

    def namespace(self) -> dict[str, Any]:
        """The functions by name."""
        return {name: getattr(self, name) for name in NAMES}

    def shares_storage(self, a: Any, b: Any) -> bool:
        """Whether two tensors are on one block of memory, so that a write to one may show in the other."""
        return bool(_tensor(a).untyped_storage()._cdata == _tensor(b).untyped_storage()._cdata)

    def shares_version(self, a: Any, b: Any) -> bool:
        """Whether a write to one tensor is counted for the other as well, so that autograd notices it."""
        from gradscope.recorder.state.version_counters import shares_version

        shares = shares_version(_tensor(a), _tensor(b))
        if shares < 0:
            raise TypeError("inference tensors and tensor subclasses have no version counter to compare")
        return bool(shares)

    def reaches(self, loss: Any, w: Any) -> bool:
        """Whether there is a gradient path from loss back to w."""
        loss, w = _tensor(loss), _tensor(w)
        if loss is w:
            return bool(w.requires_grad)
        if not loss.requires_grad or not w.requires_grad:
            return False
        if w.is_leaf:
            return any(getattr(node, "variable", None) is w for node in _nodes(loss))
        made = (w.grad_fn, w.output_nr)  # a node may have made several tensors
        return (loss.grad_fn, loss.output_nr) == made or any(made in node.next_functions for node in _nodes(loss))

    def saved_bytes(self, y: Any) -> int:
        """Bytes of memory that the graph behind y keeps for backward, each block once; 0 once backward has freed it.

        What saved-tensor hooks have packed (checkpointing, save_on_cpu) is not counted.
        """
        from gradscope.recorder.torch_internals.saved_now import saved_storages

        return sum(saved_storages(node for node in _nodes(_tensor(y))).values())

    def version(self, t: Any) -> int:
        """How often the memory of t was written to, as autograd counts."""
        return int(_tensor(t)._version)

    def grad_fn(self, t: Any) -> str | None:
        """Name of the graph node that made t, such as "MulBackward0"; None for a leaf and for what is not tracked."""
        tensor = _tensor(t)
        node = tensor.grad_fn if tensor.requires_grad else None
        return None if node is None else str(node.name()).rpartition("::")[2]

    def raised(self, error: Any = Exception) -> bool:
        """Whether the statement (or something that it called) raised this error and caught it: an ``except`` block was
        entered with it, or a torch function raised it. What ``contextlib.suppress`` caught of the program's own errors
        is not seen. With ``-e``: whether that happened anywhere in the run.
        """
        return self._errors.raised(error)


def tensor_functions() -> dict[str, Any]:
    """The functions that ask tensors alone, for expressions outside ``check`` and ``eval``: all but ``raised``."""
    functions = ExpectationNames(RaisedErrors()).namespace()
    del functions["raised"]
    return functions


def documented_names() -> list[tuple[str, str]]:
    """Each function's call and what it gives, for people."""
    found = []
    for name in NAMES:
        function = getattr(ExpectationNames, name)
        parameters = [item for item in inspect.signature(function).parameters if item != "self"]
        text = " ".join((inspect.getdoc(function) or "").replace("``", "").split())
        found.append((f"{name}({', '.join(parameters)})", text))
    return found


def _tensor(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        raise TypeError(f"a tensor is wanted, not {type(value).__name__}")
    return value


def _nodes(tensor: Any) -> Iterator[Any]:
    """Every graph node behind a tensor, once; without recursion, as a graph may be deep."""
    root = tensor.grad_fn if tensor.requires_grad else None
    if root is None:
        return
    seen, todo = {root}, [root]
    while todo:
        node = todo.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
