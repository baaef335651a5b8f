"""What a comparison says of a name is what torch says of its tensor when the run is over."""

from pathlib import Path

from gradscope.analysis.comparison.comparison_model import Value
from gradscope.experiments.compare.comparing import compare

SETUP = """import torch
from torch import nn
w = torch.tensor([1.0, 2.0], requires_grad=True)
y = w * 2
layer = nn.Linear(2, 1)
"""


def facts(folder: Path, cell: str) -> dict[tuple[str, str], Value]:
    """Of the cell's names, by name and fact; None where nothing is said."""
    file = folder / "cells.py"
    file.write_text(f"{SETUP}# %% measured\n{cell}\n# %% beside it\nd = v = g = torch.zeros(1)\n")
    comparison = compare(str(file), all_rows=True)
    return {(row.name, row.fact): row.cells[0].value for group in comparison.groups for row in group.rows}


def test_a_write_through_another_tensor(tmp_path: Path) -> None:
    told = facts(tmp_path, "d = y.detach()\nd.add_(1)")
    assert (told["y", "version"], told["d", "version"]) == (1, 1)
    assert told["d", "version_counter"] == "y's"


def test_a_gradient_that_autograd_grad_leaves(tmp_path: Path) -> None:
    told = facts(tmp_path, "y.retain_grad()\n(g,) = torch.autograd.grad(y.sum(), w)")
    assert (told["y", "grad"], told["w", "grad"], told["g", "grad"]) == ("[1.0, 1.0]", "None", "None")


def test_a_gradient_that_was_printed_before_it_grew(tmp_path: Path) -> None:
    told = facts(tmp_path, "y.sum().backward(retain_graph=True)\nprint(w.grad)\ny.sum().backward()")
    assert told["w", "grad"] == "[4.0, 4.0]"


def test_a_value_that_was_printed_before_the_gradient_grew_is_not_its_value(tmp_path: Path) -> None:
    told = facts(tmp_path, "layer(y).backward(retain_graph=True)\nprint(layer.weight.grad)")
    assert told["layer.weight", "grad"] == "[[2.0, 4.0]]"
    told = facts(tmp_path, "g = layer(y)\ng.backward(retain_graph=True)\nprint(layer.weight.grad)\ng.backward()")
    assert told["layer.weight", "grad"] == "received"


def test_a_gradient_that_was_cleared_before_the_pass_is_there(tmp_path: Path) -> None:
    told = facts(tmp_path, "y.sum().backward(retain_graph=True)\nw.grad = None\ny.sum().backward()")
    assert told["w", "grad"] == "[2.0, 2.0]"


def test_a_further_way_to_a_tensor_is_no_row_of_its_own(tmp_path: Path) -> None:
    told = facts(tmp_path, "kept = {'y': y, 'z': y * 2}\nd = kept['y'] + kept['z']")
    assert ("kept['z']", "present") in told
    assert ("kept['y']", "present") not in told


def test_a_further_way_is_compared_where_another_run_has_a_tensor_of_its_own_there(tmp_path: Path) -> None:
    file = tmp_path / "cells.py"
    use = "b(torch.ones(1, 2)).sum().backward()"
    made = ("b = a", "b = nn.Linear(2, 2)", "pass")
    cells = "".join(f"# %% {at}\n{one}\n{use if at < 2 else ''}\n" for at, one in enumerate(made))
    file.write_text(f"import torch\nfrom torch import nn\na = nn.Linear(2, 2)\n{cells}")
    rows = {
        (row.name, row.fact): [cell.value for cell in row.cells]
        for group in compare(str(file), all_rows=True).groups
        for row in group.rows
    }
    assert rows["b.weight", "present"] == [True, True, False]
    assert rows["b.weight", "memory"] == ["is a.weight", "own", None]
    assert rows["b.bias", "grad"] == ["received", "received", None]


def test_a_watched_name_that_a_whole_run_never_had_is_an_error(tmp_path: Path) -> None:
    told = facts(tmp_path, "d = 1\n# watch: nowhere")
    assert told["nowhere", "watch"] == "NameError: name 'nowhere' is not defined"


def test_what_the_last_statement_made_unseen(tmp_path: Path) -> None:
    told = facts(tmp_path, "d = torch.zeros(2)\nv = nn.Parameter(d)")
    assert (told["v", "present"], told["v", "requires_grad"], told["v", "memory"]) == (True, True, "d's")


def test_the_offset_is_where_the_tensor_is_now(tmp_path: Path) -> None:
    told = facts(tmp_path, "d = torch.zeros(6)\nv = torch.ones(2)\nv.set_(d.untyped_storage(), 1, (2,))")
    assert (told["v", "offset"], told["v", "memory"], told["v", "version_counter"]) == (1, "d's", "own")
    told = facts(tmp_path, "d = torch.zeros(6)\nv = d[:2]\nv.data = d[3:5]")
    assert told["v", "offset"] == 3


def test_what_the_graph_of_a_loss_keeps_for_backward(tmp_path: Path) -> None:
    told = facts(tmp_path, "d = w.exp().exp()\nv = d.detach() * w\ng = v.sum()\ng.backward()")
    assert told["g", "kept"] == 8  # the factor that is no variable; not what the exps keep
    assert (told["d", "kept"], told["v", "kept"]) == (None, None)


def test_a_counter_is_compared_with_a_tensor_that_lives(tmp_path: Path) -> None:
    told = facts(tmp_path, "d = nn.Linear(2, 2).weight\nv = nn.Parameter(d[:1].detach())")
    assert told["v", "version_counter"] == "d's"


def test_a_counter_that_could_not_be_compared_is_not_told(tmp_path: Path) -> None:
    cell = "class Own(torch.Tensor): pass\nd = torch.zeros(2)\nv = d.as_subclass(Own)\nv + 1"
    told = facts(tmp_path, cell)
    assert (told["v", "memory"], told["v", "version_counter"]) == ("d's", None)
