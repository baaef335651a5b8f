"""Choices of parameters by their names, as the text of a file has them."""

from __future__ import annotations

import pytest

from gradscope.frames.modules.name_filters import choice_given, filters_that_leave_out

NAMES = ["body.weight", "body.bias", "classifier.weight", "classifier.bias"]
BODY = "body = [p for n, p in net.named_parameters() if n.startswith('body')]\n"


def left_out(text: str, name: str = "classifier.weight") -> list[tuple[int, bool]]:
    return [(one.line, one.matches) for one in filters_that_leave_out(text, name, NAMES, NAMES[:2])]


@pytest.mark.parametrize(
    ("choice", "lines"),
    [
        ("head = [p for n, p in net.named_parameters() if 'head' in n]", [(2, False)]),
        ("head = [p for n, p in net.named_parameters() if 'classifier' in n]", []),
        ("head = [p for n, p in net.named_parameters() if n in names_of(net)]", []),
        (
            "KEYS = ('head', 'fc')\nhead = [p for n, p in net.named_parameters() if any(k in n for k in KEYS)]",
            [(3, False)],
        ),
        ("head = [p for n, p in net.named_parameters() if n.endswith('bias')]", [(1, True), (2, True)]),
        ("for n, p in net.named_parameters():\n    if 'bias' in n:\n        rest.append(p)", [(1, True), (3, True)]),
        ("for n, p in net.named_parameters():\n    if 'body' in n:\n        continue\n    rest.append(p)", []),
        ("for n, p in net.named_parameters():\n    if 'fc' in n:\n        p.requires_grad = False", [(1, True)]),
    ],
)
def test_the_conditions_that_leave_a_name_out(choice: str, lines: list[tuple[int, bool]]):
    assert left_out(BODY + choice) == lines


def test_names_that_may_be_those_of_another_module_are_not_judged():
    text = "head = [p for n, p in net.layer.named_parameters() if n.startswith('weight')]"
    assert filters_that_leave_out(text, "layer.weight", ["layer.weight", "layer.bias"], []) == []


def test_the_choice_that_a_call_is_given():
    choice = "head = [p for n, p in net.named_parameters() if 'x' in n]"
    text = f"{choice}\nopt = SGD(head, lr=0.1)\nother = SGD(net.parameters())"
    assert choice_given(text, 2) == (1, 1)
    assert choice_given(text, 3) is None
