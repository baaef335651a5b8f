"""Weights that were tied, and that a call gave each name one of its own; and those that stay one or were never tied."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy
import torch
from torch import nn
class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.mid = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
class Model(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.embed, self.decoder = nn.Embedding(7, 4), Decoder()
        if tied:
            self.tie()
    def tie(self):
        out, into = self.decoder.head, self.embed
        out.weight = into.weight
    def forward(self, ids):
        return self.decoder.head(self.decoder.mid(self.embed(ids)))
def draw(part):
    if hasattr(part, "weight"): nn.init.normal_(part.weight)
def on_meta(tied=True):
    with torch.device("meta"):
        return Model(tied)
{}
model.apply(draw)
optimizer, ids = torch.optim.Adam(model.parameters(), lr=0.01), torch.arange(7)
for step in range(4):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(ids[:-1]), ids[1:]).backward()
    optimizer.step()
"""
UNTIED = {
    "storage for a model on meta": "model = on_meta()\nmodel.to_empty(device='cpu')  # unties",
    "for each part by itself": """
model = on_meta()
for part in model.modules():
    if next(part.children(), None) is None:
        part.to_empty(device="cpu")  # unties
""",
    "a state that is assigned, to a model on meta": """
state = {name: value.clone() for name, value in Model().state_dict().items()}
model = on_meta()
model.load_state_dict(state, assign=True)  # unties
""",
    "a conversion that makes new parameters": """
torch.__future__.set_overwrite_module_params_on_conversion(True)
model = Model()
model.double()  # unties
torch.__future__.set_overwrite_module_params_on_conversion(False)
""",
    "a copy of each of the two layers in what wraps it": """
class Copied(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.first = part.requires_grad_(False)
        self.again = copy.deepcopy(part).requires_grad_(True)  # unties
    def forward(self, x):
        return self.again(x)
model = Model()
for name in ("embed", "decoder.head"):
    owner = model.get_submodule(name.rpartition(".")[0])
    setattr(owner, name.rpartition(".")[2], Copied(model.get_submodule(name)))
""",
    "a copy of one part": "model = Model()\nmodel.decoder = copy.deepcopy(model.decoder)  # unties",
}
ONE_OR_NEVER = {
    "tied again": "model = on_meta()\nmodel.to_empty(device='cpu')\nmodel.tie()",
    "never tied": "model = on_meta(tied=False)\nmodel.to_empty(device='cpu')",
    "a conversion in place": "model = Model()\nmodel.double()",
    "copies of the whole": "model = [copy.deepcopy(part) for part in [Model()] * 2][0]",
    "a copy of the whole": "model = copy.deepcopy(Model())",
    "a copy of the very layer": "model = Model()\nmodel.decoder.head = copy.deepcopy(model.decoder.head)",
    "a state that is assigned, and tied again": """
state = {name: value.clone() for name, value in Model().state_dict().items()}
model = on_meta()
model.load_state_dict(state, assign=True)
model.tie()
""",
    "one side that is not trained": """
model = on_meta()
model.to_empty(device="cpu")
model.embed.requires_grad_(False)
""",
    "a target of which the model keeps the weights": """
model = Model()
target = copy.deepcopy(model.decoder)
""",
}


def causes(made: str) -> list[list[int]]:
    answers = build(recorded(PROGRAM.replace("{}", made))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "tie-broken"]


@pytest.mark.parametrize("case", UNTIED)
def test_the_call_that_made_two_of_one(case: str) -> None:
    assert causes(UNTIED[case]) == [[line_of(PROGRAM.replace("{}", UNTIED[case]), "# unties")]]


@pytest.mark.parametrize("case", ONE_OR_NEVER)
def test_what_stays_one_or_was_never_tied_is_silent(case: str) -> None:
    assert causes(ONE_OR_NEVER[case]) == []
