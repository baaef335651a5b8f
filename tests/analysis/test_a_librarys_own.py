"""What a library does with tensors of its own is not told; what it does to the program's is."""

from __future__ import annotations

import sys
import types

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

LIBRARY = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3))
        self.weight.data.uniform_(-1, 1)
    def forward(self, x):
        return x * self.weight

def halved(tensor):
    hidden = torch.ones(3).requires_grad_()
    loss = (tensor * hidden.detach()).sum()
    loss.backward()
    return hidden

def clip(tensor):
    tensor.data.clamp_(0.0, 0.5)

_caches = {}
def cached(tensor):
    _caches[len(_caches)] = (tensor * 2).exp().tanh()
    return tensor.sum()

def cached_once(tensor):
    if not _caches:
        for _ in range(20):
            cached(tensor)
    return tensor.sum()

class Inference:
    def __init__(self, model, registered):
        self.model, self.registered = model, registered
    def step(self, x):
        loss = self.model(x)
        loss.backward()
        for one in self.registered:
            torch.optim.Adam([one], lr=0.1).step()
            one.grad = None
"""


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_library")
    exec(compile(LIBRARY, "/nowhere/library.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "a_library", module)


def codes(source: str) -> list[str]:
    return [answer.code for answer in build(recorded(source)).answers]


def test_its_initialisation_through_data_is_not_told() -> None:
    layer = "layer = a_library.Layer()\nprint(layer.weight.sum())\n"
    assert codes(f"import a_library\n{layer}") == []


def test_the_same_in_the_programs_own_code_is() -> None:
    source = (
        "import torch\nweight = torch.nn.Parameter(torch.empty(3))\nweight.data.uniform_(-1, 1)\nprint(weight.sum())\n"
    )
    assert codes(source) == ["write-through-alias"]


def test_a_leaf_that_only_the_library_holds_is_not_told() -> None:
    source = "import torch, a_library\nw = torch.ones(3, requires_grad=True)\na_library.halved(w)\n"
    assert codes(source) == []


def test_one_that_the_program_holds_is() -> None:
    source = (
        "import torch, a_library\nw = torch.ones(3, requires_grad=True)\nfor step in range(2):\n"
        "    kept = a_library.halved(w)\n    print(kept.shape, kept * 1)\n"
    )
    assert codes(source) == ["leaf-unreached"]


def test_what_a_cache_of_its_keeps_with_a_graph_is_no_warning() -> None:
    loop = "for step in range(40):\n    {}.backward()\n"
    head = "import torch, a_library\nw = torch.ones(3, requires_grad=True)\ncaches = {}\n"
    own = "def cached(tensor):\n    caches[len(caches)] = (tensor * 2).exp().tanh()\n    return tensor.sum()\n"
    severities = {
        call: [one.severity for one in build(recorded(head + own + loop.format(call))).answers if "memory" in one.code]
        for call in ("a_library.cached_once(w)", "a_library.cached(w)", "cached(w)")
    }
    assert severities == {"a_library.cached_once(w)": [], "a_library.cached(w)": ["note"], "cached(w)": ["warning"]}


@pytest.mark.parametrize("looks", ["", "start = [p.detach().clone() for p in vae.decoder.parameters()]\n"])
def test_what_it_was_not_told_of_is_named_where_the_program_calls_it(looks: str) -> None:
    source = (
        "import a_library, torch\nfrom torch import nn\n"
        "class Vae(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.encoder, self.decoder = nn.Linear(3, 2), nn.Linear(2, 3)\n"
        "    def model(self, x):\n        h = self.encoder(x)\n"
        "        return (self.decoder(h) - x).pow(2).mean()  # calls\n"
        f"vae = Vae()\n{looks}"
        "svi = a_library.Inference(vae.model, list(vae.encoder.parameters()))\n"
        "for _ in range(4):\n    svi.step(torch.randn(5, 3))\n"
    )
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "never-stepped")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# calls")]
    assert "a library chose what is stepped" in answer.text
    registered = source.replace("vae.encoder.parameters()", "vae.parameters()")
    assert "never-stepped" not in codes(registered)
