"""Memory that every run of a loop leaves behind: said of what a graph keeps, not of what the program keeps itself."""

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import torch\nfrom torch import nn\n"


def told(source: str) -> list[str]:
    """What a program is said to leave behind."""
    return [answer.text for answer in build(recorded(HEAD + source)).answers if answer.code == "memory-kept-by-graph"]


def test_losses_in_a_list_keep_their_graphs() -> None:
    source = """
net = nn.Linear(4, 1)
losses = []
for step in range(12):
    losses.append(net(torch.ones(8, 4)).pow(2).mean())
"""
    (text,) = told(source)
    assert text.startswith("Line 7: every run leaves memory behind")


def test_the_parameters_of_a_module_with_many_layers_are_no_leak() -> None:
    source = """
net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(10)])
net(torch.ones(8, 4)).sum().backward()
"""
    assert told(source) == []


def test_a_list_of_batches_is_no_leak() -> None:
    source = """
data = [torch.randn(8, 4) for _ in range(12)]
net = nn.Linear(4, 1)
for x in data:
    net(x).pow(2).mean().backward()
"""
    assert told(source) == []


def test_what_a_backward_pass_freed_is_kept_by_no_graph() -> None:
    source = """
w = torch.ones(4, requires_grad=True)
kept = []
for step in range(12):
    y = (w * step).exp()
    y.sum().backward()
    kept.append(y)
"""
    assert told(source) == []


def test_what_was_computed_once_before_a_loop_is_not_carried_by_what_uses_it() -> None:
    source = """
gamma = nn.Parameter(torch.ones(1)).expand(4)
layer = nn.Linear(4, 4)
for step in range(20):
    x = torch.ones(2, 4)
    for block in range(2):
        x = x + gamma * layer(x)
    x.sum().backward()
"""
    assert "graph-carried-along" not in [answer.code for answer in build(recorded(HEAD + source)).answers]
    kept = source.replace(
        "    x.sum().backward()", "    gamma = gamma + 0 * x[0]\n    x.sum().backward(retain_graph=True)"
    )
    assert "graph-carried-along" in [answer.code for answer in build(recorded(HEAD + kept)).answers]


AVERAGED = """
net, mean = nn.Linear(4, 1), None
for step in range(12):
    total = torch.zeros(8, 1)
    for _ in range(3):
        total = total + net(torch.ones(8, 4)).sigmoid()
    total.square().mean().backward()
    spread = total.exp().amax()
    mean = spread if mean is None else 0.9 * mean + 0.1 * spread
"""


def test_memory_of_a_graph_that_is_said_to_be_carried_along_is_said_once() -> None:
    assert told(AVERAGED) == []
    answers = build(recorded(HEAD + AVERAGED)).answers
    assert [answer.code for answer in answers if answer.severity != "note"] == ["graph-carried-along"]


def test_a_name_is_not_said_to_keep_what_its_graph_did_not_save() -> None:
    kept = AVERAGED.replace("mean = spread if mean is None else 0.9 * mean + 0.1 * spread", "keep(spread.square())")
    (text,) = told("kept = {}\ndef keep(x):\n    kept[len(kept), 'x'] = x" + kept)
    assert "the graph of total" not in text
