"""Steps that change what was frozen or had its gradient set to zero; and those that do not."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
body, head = nn.Linear(2, 2), nn.Linear(2, 1)
optimizer = torch.optim.{optimizer}([*body.parameters(), *head.parameters()], {settings})
for i in range(8):
    optimizer.zero_grad(set_to_none={to_none})
    if i == 3:
        {freeze}
    head(body(torch.ones(3, 2))).sum().backward()
    if i > 4:
        {clear}
    optimizer.step()
"""
FREEZE = "body.requires_grad_(False)"
CLEAR = "[p.grad.zero_() for p in body.parameters()]"


def said(
    freeze: str = "pass", clear: str = "pass", to_none: bool = False, optimizer: str = "SGD", settings: str = "lr=0.1"
) -> list[int]:
    source = PROGRAM.format(freeze=freeze, clear=clear, to_none=to_none, optimizer=optimizer, settings=settings)
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "moved-without-gradient" for cause in one.causes]


def test_what_is_frozen_while_its_gradient_is_there_goes_on_with_momentum_or_decay() -> None:
    assert said(FREEZE, optimizer="Adam") == [8, 6]
    assert said(FREEZE, settings="lr=0.1, weight_decay=0.1") == [8, 6]


def test_zeros_stop_no_momentum() -> None:
    assert said(clear=CLEAR, settings="lr=0.1, momentum=0.9") == [11, 4]


@pytest.mark.parametrize(
    "given",
    [
        {"freeze": FREEZE},
        {"freeze": FREEZE, "optimizer": "Adam", "to_none": True},
        {"clear": CLEAR},
        {"freeze": "pass", "optimizer": "Adam"},
    ],
    ids=["zeros and nothing else", "no gradient", "zeros without momentum", "nothing was to stay"],
)
def test_it_is_silent_where_nothing_moves_them_or_nothing_was_to_stay(given: dict[str, object]) -> None:
    assert said(**given) == []  # type: ignore[arg-type]


FOR_A_WHILE = """
import torch
from torch import nn
body, head = nn.Linear(2, 2), nn.Linear(2, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], 0.1, momentum=0.9)
def train(rounds):
    for _ in range(rounds):
        optimizer.zero_grad(set_to_none=False)  # zeroed
        head(body(torch.ones(3, 2))).sum().backward()
        optimizer.step()
def freeze(module, on=True):
    for p in module.parameters():
        p.requires_grad = not on  # frozen
train(3)
for _ in range(2):
    freeze(body)
    train({frozen})
    freeze(body, on=False)
    train(2)
"""


@pytest.mark.parametrize("frozen", [1, 4])
def test_what_was_frozen_for_a_while_is_told_of_though_it_is_trained_again(frozen: int) -> None:
    source = FOR_A_WHILE.replace("{frozen}", str(frozen))
    assert pruned(source) == [line_of(source, "# frozen"), line_of(source, "# zeroed")]


def test_what_moves_them_is_said_and_no_more() -> None:
    (text,) = [
        one.text
        for one in build(recorded(FOR_A_WHILE.replace("{frozen}", "4"))).answers
        if one.code == "moved-without-gradient"
    ]
    assert "sets to zero and not to None, so that the optimizer goes on with its momentum." in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("p.requires_grad = not on", "p.requires_grad, p.grad = not on, None"),
        ("set_to_none=False", ""),
        (", momentum=0.9", ""),
        ("freeze(body)", "pass"),
    ],
)
def test_what_was_frozen_for_a_while_and_stayed_is_none(old: str, new: str) -> None:
    assert old in FOR_A_WHILE
    assert pruned(FOR_A_WHILE.replace(old, new).replace("{frozen}", "4")) == []


def test_what_is_frozen_for_the_second_loss_steps_with_the_gradient_of_the_first() -> None:
    source = """
import torch
critic, actor, x = torch.nn.Linear(2, 1), torch.nn.Linear(2, 2), torch.ones(3, 2)
optimizer = torch.optim.Adam([*critic.parameters(), *actor.parameters()])
for _ in range(6):
    optimizer.zero_grad(set_to_none=False)
    critic(x).pow(2).mean().backward()
    critic.requires_grad_(False)
    (-critic(actor(x)).mean()).backward()
    optimizer.step()
    critic.requires_grad_(True)
"""
    assert pruned(source) == []


PRUNED = """
import torch
layer, x = torch.nn.Linear(4, 3), torch.rand(5, 4)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)  # made
mask = None
for step in range(6):
    if step == 3:
        with torch.no_grad():
            mask = (layer.weight.abs() > 0.2).float()
            layer.weight.mul_(mask)  # masked
    optimizer.zero_grad()
    layer(x).pow(2).sum().backward()
    if mask is not None:
        layer.weight.grad.mul_(mask)
    optimizer.step()
"""


BY_BOOLS = "mask = (layer.weight.abs() > 0.2).float()"
BY_ROWS = """keep = torch.ones(3, 1)
            keep[layer.weight.abs().sum(1).argsort()[:1]] = 0
            mask = keep.expand_as(layer.weight).clone()"""


def pruned(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "moved-without-gradient" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("SGD(layer.parameters(), lr=0.1, momentum=0.9)", "Adam(layer.parameters())"),
        ("layer.weight.mul_(mask)", "layer.weight.data *= mask"),
        (".float()", ""),
        (BY_BOOLS, BY_ROWS),
        (BY_BOOLS, BY_ROWS.replace("ones(3, 1)", "zeros(3, 1)").replace("] = 0", "] = 1")),
    ],
)
def test_what_a_mask_set_to_zero_once_is_moved_by_momentum(old: str, new: str) -> None:
    source = PRUNED.replace(old, new)
    assert pruned(source) == [line_of(source, "# masked"), line_of(source, "# made")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (", momentum=0.9", ""),
        ("step == 3", "step == 0"),  # no momentum is there yet
        ("    optimizer.step()", "    optimizer.step()\n    if mask is not None: layer.weight.data.mul_(mask)"),
        ("mul_(mask)  # masked", "mul_(mask); optimizer.state.clear()"),
        (
            "mul_(mask)  # masked",
            "mul_(mask); next(iter(vars(optimizer)['sta' 'te'].values()))['m' 'omentum_buffer'].mul_(mask)",
        ),
        ("layer(x)", "(x @ (layer.weight * (1 if mask is None else mask)).T)"),
        ("(layer.weight.abs() > 0.2).float()", "layer.weight.abs().clone()"),
        # (factors of a scale, of which none need be zero)
        (BY_BOOLS, BY_ROWS.replace("] = 0", "] = 0.5")),
        (BY_BOOLS, BY_ROWS.replace("] = 0", "] = layer.weight.abs().max()")),
        (BY_BOOLS, "mask = torch.ones(3, 4)"),
        ("optimizer.zero_grad()", "optimizer.zero_grad()\n    if step == 4: layer.weight.data.mul_(mask)"),
    ],
)
def test_a_mask_that_is_put_on_again_or_has_no_momentum_beside_it_is_none(old: str, new: str) -> None:
    assert old in PRUNED
    assert pruned(PRUNED.replace(old, new)) == []


ONCE = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.{optimizer}(net.parameters(), lr=0.01)
own = {{}}

def train(rounds, masks=()):
    for _ in range(rounds):
        optimizer.zero_grad()
        net(torch.randn(5, 6)).pow(2).mean().backward()
        {before}
        optimizer.step()  # steps
        {after}

@torch.no_grad()
def prune(masks):
    for layer, mask in zip(net[::2], masks):
        {apply}

def saliency(p):
    return {of}

train({first})
masks = [{mask} for w in (net[0].weight, net[2].weight)]
prune(masks)  # prunes
print([float(mask.float().mean()) for mask in masks])
{hooks}
train(4, masks)
"""
FORGOTTEN = {
    "optimizer": "Adam",
    "before": "pass",
    "after": "pass",
    "apply": "layer.weight.mul_(mask)",
    "of": "p.abs()",
    "first": "2",
    "mask": "(saliency(w) > saliency(w).median())",
    "hooks": "",
}


def once(**changed: str) -> list[int]:
    return pruned(ONCE.format(**{**FORGOTTEN, **changed}))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"optimizer": "SGD"},
        {"apply": "layer.weight.data *= mask"},
        {"mask": "torch.ge(saliency(w), 0.1).float()"},
        {"of": "(p * p.grad).abs()"},
    ],
)
def test_what_a_mask_set_to_zero_once_comes_back_where_nothing_takes_the_mask(changed: dict[str, str]) -> None:
    source = ONCE.format(**{**FORGOTTEN, **changed})
    assert once(**changed) == [line_of(source, "# prunes"), line_of(source, "# steps")]


@pytest.mark.parametrize(
    "changed",
    [
        {"after": "prune(masks)"},
        {"after": "for p, mask in zip(net[::2], masks): p.weight.data[~mask] = 0"},
        {"before": "for p, mask in zip(net[::2], masks): p.weight.grad *= mask", "optimizer": "SGD"},
        {
            "hooks": "for p, mask in zip(net[::2], masks): p.weight.register_hook(lambda grad, mask=mask: grad * mask)",
            "optimizer": "SGD",  # (without momentum: see test_masked_by_hooks.py)
        },
        {"mask": "(torch.rand_like(w) > 0.5)"},
        {"first": "0", "of": "p.abs()"},
        {"mask": "(0.5 + saliency(w))"},
        {
            "hooks": "net.requires_grad_(False); net.append(nn.Linear(2, 2)); optimizer.param_groups.clear(); "
            "optimizer.add_param_group({'params': net[3].parameters()})"
        },
    ],
)
def test_a_mask_that_is_used_again_or_is_not_of_the_weights_is_none(changed: dict[str, str]) -> None:
    assert once(**changed) == []


SEARCHED = """
import torch
from torch import nn
torch.manual_seed(0)
body, head = nn.Linear(2, 2), nn.Linear(2, 1)
search = torch.optim.LBFGS([*body.parameters(), *head.parameters()], lr=0.1, max_iter=4)
def closure():
    search.zero_grad()
    loss = head(body(torch.randn(3, 2)).tanh()).pow(2).sum()
    loss.backward()
    return loss
for i in range(6):
    if i == 3:
        body.requires_grad_(False)
        {}
    search.step(closure)
"""


def test_directions_that_lbfgs_kept_from_before_and_none_of_a_new_one() -> None:
    (answer,) = [
        one for one in build(recorded(SEARCHED.format("pass"))).answers if one.code == "moved-without-gradient"
    ]
    assert [cause.line for cause in answer.causes] == [13, 5]
    assert "keeps from the steps before" in answer.text
    anew = SEARCHED.format("search = torch.optim.LBFGS([*body.parameters(), *head.parameters()], lr=0.1)")
    assert "moved-without-gradient" not in [one.code for one in build(recorded(anew)).answers]
