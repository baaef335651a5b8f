"""Assertions about autograd, for the tests of programs that use torch: with pytest, unittest, or none.

    loss.backward()
    gradscope.testing.assert_grads(model)  # every parameter that is to learn got a gradient
    gradscope.testing.assert_frozen(model.encoder)
    with gradscope.testing.assert_no_new_graph():
        evaluate(model)

Each raises an AssertionError that says what was found, in the words of the diagnoses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradscope.recorder.api import recorded_from

if TYPE_CHECKING:
    import torch

    Tensors = torch.nn.Module | torch.Tensor | Mapping[str, torch.Tensor] | Iterable[torch.Tensor]

__all__ = ["assert_frozen", "assert_grads", "assert_no_new_graph", "assert_own_memory", "assert_shares_memory"]

_NAMED = 6
"""Names in a message; the others are counted."""


def assert_grads(tensors: Tensors) -> None:
    """Every parameter that requires grad has a gradient: call it between ``backward()`` and ``zero_grad()``.

    Args:
        tensors: A module, whose parameters are meant, or tensors: one, several, or by name.

    Raises:
        AssertionError: A tensor that requires grad has none, or no tensor requires grad.
    """
    __tracebackhide__ = True
    named = _named(tensors)
    tracked = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    if not tracked:
        raise AssertionError(f"no gradient can be there: {_list(named)} do not require grad" if named else "no tensors")
    inner = [name for name, tensor in tracked.items() if not (tensor.is_leaf or tensor.retains_grad)]
    if inner:
        raise AssertionError(f"backward fills .grad of leaves only, and these are no leaves: {_list(inner)}")
    missing = [name for name, tensor in tracked.items() if tensor.grad is None]
    if missing:
        of = f"{len(missing)} of {len(tracked)} that require grad"
        raise AssertionError(f"got no gradient ({of}): {_list(missing)}; .grad is None")


def assert_frozen(tensors: Tensors) -> None:
    """No parameter can learn: none requires grad, and none has a gradient left that an optimizer would still apply.

    Args:
        tensors: A module, whose parameters are meant, or tensors: one, several, or by name.

    Raises:
        AssertionError: One is not frozen.
    """
    __tracebackhide__ = True
    named = _named(tensors)
    tracked = [name for name, tensor in named.items() if tensor.requires_grad]
    if tracked:
        raise AssertionError(f"not frozen ({len(tracked)} of {len(named)}): {_list(tracked)} require grad")
    left = [name for name, tensor in named.items() if tensor.is_leaf and tensor.grad is not None]
    if left:
        raise AssertionError(
            f"frozen, but with a gradient left from before: {_list(left)}; an optimizer that holds them goes on "
            "changing them: set .grad to None"
        )


@contextmanager
def assert_no_new_graph() -> Iterator[None]:
    """Nothing in the block makes a tensor that autograd tracks: as evaluation is to be.

    Raises:
        AssertionError: When the block is over without an error; names the lines.
    """
    __tracebackhide__ = True
    with recorded_from(sys._getframe(2)) as recording:
        yield
    made = [row for row in recording.lines if row["grad_fn"] and row["kind"] in ("made", "changed")]
    if made:
        places = {(row["file"], row["line"]): f"  line {row['line']}: {row['source'].strip()}" for row in made}
        lines = "\n".join(f"{place} ({_result(made, *key)})" for key, place in [*places.items()][:_NAMED])
        more = f"\n  and {len(places) - _NAMED} lines more" if len(places) > _NAMED else ""
        raise AssertionError(f"autograd tracked what was to be untracked:\n{lines}{more}")


def _result(rows: list[dict[str, object]], file: str, line: int) -> str:
    row = next(row for row in rows if (row["file"], row["line"]) == (file, line))
    return f"{row['name']} has grad_fn {row['grad_fn']}"


def assert_shares_memory(one: torch.Tensor, other: torch.Tensor) -> None:
    """Both tensors lie on one block of memory: a write through one may be seen through the other.

    Raises:
        AssertionError: They do not.
    """
    __tracebackhide__ = True
    if not _share(one, other):
        raise AssertionError("the tensors do not share memory: each lies on a block of its own")


def assert_own_memory(one: torch.Tensor, other: torch.Tensor) -> None:
    """The tensors lie on different blocks of memory: no write through one is seen through the other.

    Raises:
        AssertionError: They share one.
    """
    __tracebackhide__ = True
    if _share(one, other):
        raise AssertionError(
            "the tensors share memory: they lie on one block, and a write through one may change the other"
        )


def _share(one: torch.Tensor, other: torch.Tensor) -> bool:
    first, second = one.untyped_storage(), other.untyped_storage()
    return first.nbytes() > 0 and (first.device, first.data_ptr()) == (second.device, second.data_ptr())


def _named(tensors: Tensors) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(tensors, torch.nn.Module):
        return dict(tensors.named_parameters())
    if isinstance(tensors, torch.Tensor):
        return {"the tensor": tensors}
    if isinstance(tensors, Mapping):
        return dict(tensors)
    return {f"tensor {at}": tensor for at, tensor in enumerate(tensors)}


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
