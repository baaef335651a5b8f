"""The variants that a line can be tried in, which of them make sense for a statement, and what the user may write."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from gradscope.errors import UsageError
from gradscope.experiments.whatif.asked_line import spelled
from gradscope.experiments.whatif.asked_statement import AskedStatement, stored_names
from gradscope.experiments.whatif.undoing import GRAD_MODES, is_call_of

VARIANTS: Mapping[str, str] = {
    "detach": "_it_.detach()",
    "no_grad": "_torch_.no_grad()(lambda: _it_)()",
    "inference_mode": "_torch_.inference_mode()(lambda: _it_)()",
    "requires_grad_(False)": "_it_.requires_grad_(False)",
    ".data": "_it_.data",
    "clone": "_it_.clone()",
    "detach().clone()": "_it_.detach().clone()",
    "checkpoint": "",
    "retain_grad": "(lambda it: (it.retain_grad(), it)[1])(_it_)",
    "remove": "",
}
"""What each makes of an expression; empty where that is more than a template."""

REGIONS = ("no_grad", "inference_mode")
_ALIASES = {
    "detach()": "detach",
    ".detach()": "detach",
    "no_grad()": "no_grad",
    "torch.no_grad": "no_grad",
    "torch.no_grad()": "no_grad",
    "inference_mode()": "inference_mode",
    "torch.inference_mode": "inference_mode",
    "torch.inference_mode()": "inference_mode",
    "requires_grad_": "requires_grad_(False)",
    ".requires_grad_(False)": "requires_grad_(False)",
    "requires_grad": "requires_grad_(False)",
    "freeze": "requires_grad_(False)",
    "data": ".data",
    "clone()": "clone",
    ".clone()": "clone",
    "detach.clone": "detach().clone()",
    ".detach().clone()": "detach().clone()",
    "checkpoint()": "checkpoint",
    "retain_grad()": "retain_grad",
    ".retain_grad()": "retain_grad",
    "drop": "remove",
}
_OF_TRAINING = ("backward", "step", "zero_grad", "clip_grad_norm_", "clip_grad_value_", "train", "eval")
_ON_A_TENSOR = ("detach", "requires_grad_(False)", ".data", "detach().clone()")
_NO_GRADIENT = ("data", "frozen", "other")
MODULES = ("module", "frozen")
"""What a module is called that a name holds."""


def read_variants(texts: Sequence[str], tree: ast.Module) -> tuple[str, ...]:
    """What was asked for: the names of variants, and expressions as Python spells them.

    Raises:
        UsageError: One is neither; or a name that the program does not have, which may have been meant for a variant.
    """
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return tuple(dict.fromkeys(_read(text.strip(), names) for text in texts))


def _read(text: str, names: Collection[str]) -> str:
    known = _ALIASES.get(text, text)
    if known in VARIANTS:
        return known
    hint = "the variants: " + ", ".join(VARIANTS) + "; or an expression to stand there instead"
    close = get_close_matches(text, [*VARIANTS, *_ALIASES], 1)
    if text.isidentifier() and text not in names:
        raise UsageError(f"there is no variant {text!r}", f"did you mean {close[0]}?" if close else hint)
    try:
        return spelled(text)
    except UsageError as error:
        raise UsageError(f"there is no variant {text!r}, and it is no Python expression", hint) from error


def sensible(asked: AskedStatement, kinds: Mapping[str, str]) -> tuple[str, ...]:
    """The variants that make sense for a statement.

    Args:
        asked: The statement, and what of it.
        kinds: What names of it held when it ran: see :class:`LookedStatement`.
    """
    if asked.what in ("region", "decorator"):
        are_modes = all(is_call_of(one, GRAD_MODES) for one in asked.expressions)
        modes = [mode for mode in REGIONS if not any(is_call_of(one, (mode,)) for one in asked.expressions)]
        return ("remove", *(modes if are_modes else ()))
    if asked.what == "block":
        return REGIONS
    if asked.what == "whole":
        call = asked.statement.value if isinstance(asked.statement, ast.Expr) else None
        if call is None:
            return ()
        return ("remove",) if is_call_of(call, _OF_TRAINING) else ("remove", "no_grad")
    if asked.what == "undone":
        return ("remove", *_in_place_of(asked.expressions[0]))
    if asked.what == "stored":
        return _ON_A_TENSOR if all(kinds.get(name) not in _NO_GRADIENT for name in asked.names) else ()
    if asked.what == "read":
        return _of_expression(asked.expressions[0], kinds)
    return _of_value(asked, kinds)


def _in_place_of(call: ast.expr) -> tuple[str, ...]:
    """Beside dropping a call: what others have written in its place."""
    text = ast.unparse(call)
    if text.endswith((".requires_grad_(False)", ".item()", ".retain_grad()", ".requires_grad_()")):
        return ("detach",) if text.endswith(".item()") else ()
    if is_call_of(call, ("checkpoint",)):
        return ("no_grad",)
    others = ("detach", ".data", "clone", "detach().clone()")
    own = {"detach": ".detach()", ".data": ".data", "clone": ".clone()", "detach().clone()": ".detach().clone()"}
    own_name = max((name for name in others if text.endswith(own[name])), key=len, default="")
    return tuple(name for name in others if name != own_name)


def _of_expression(expression: ast.expr, kinds: Mapping[str, str]) -> tuple[str, ...]:
    kind = kinds.get(ast.unparse(expression), "")
    if kind == "module":
        return ("requires_grad_(False)",)
    if kind in _NO_GRADIENT:
        return ()
    if isinstance(expression, ast.Call):
        return ("detach", "no_grad", *_frozen(expression, kinds), ".data", *_checkpointed(expression))
    return _ON_A_TENSOR if kind == "leaf" else ("detach", ".data", "clone", "detach().clone()")


def _of_value(asked: AskedStatement, kinds: Mapping[str, str]) -> tuple[str, ...]:
    value = asked.expressions[0]
    stored = [kinds.get(name, "") for name in stored_names(asked.statement)]
    if stored and all(kind == "module" for kind in stored):
        return ("requires_grad_(False)",)
    if stored and all(kind in _NO_GRADIENT for kind in stored):
        return ()
    one = len(stored) < 2 and "tuple" not in stored
    tensor = ("detach", *REGIONS, *_frozen(value, kinds), ".data") if one else ("detach", *REGIONS)
    if stored and all(kind == "leaf" for kind in stored):
        tensor = ("detach", "requires_grad_(False)")
    return (*(tensor if one or any(kind == "tensor" for kind in stored) else REGIONS), *_checkpointed(value))


def _frozen(value: ast.expr, kinds: Mapping[str, str]) -> tuple[str, ...]:
    is_module = isinstance(value, ast.Call) and kinds.get(ast.unparse(value.func)) == "module"
    return ("requires_grad_(False)",) if is_module else ()


def _checkpointed(value: ast.expr) -> tuple[str, ...]:
    return ("checkpoint",) if isinstance(value, ast.Call) and value.args else ()
