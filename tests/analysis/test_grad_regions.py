"""The line to change for a cut in a region without gradients is what opened the region, not the op in its middle."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = "import torch\nfrom torch import nn\nencoder, head = nn.Linear(3, 3), nn.Linear(3, 1)\nx = torch.ones(2, 3)\n"
TAIL = "\nloss = head(h).sum()\nloss.backward()\n"

REGIONS = {
    "a with statement": "with torch.no_grad():  # here\n    h = x * 2\n    h = encoder(h)",
    "a with statement around a call": "def f(v):\n    return encoder(v)\nwith torch.no_grad():  # here\n h = f(x)",
    "a decorator": "@torch.no_grad()  # here\ndef f(v):\n    v = v * 2\n    return encoder(v)\nh = f(x)",
    "one decorator of two": (
        "import functools\n@functools.cache\n@torch.no_grad()  # here\ndef f(v):\n    return encoder(v)\nh = f(x)"
    ),
    "a decorated generator": "@torch.no_grad()  # here\ndef f(v):\n    yield encoder(v)\nh = next(f(x))",
    "a generator that is left suspended": (
        "def f():\n    with torch.no_grad():  # here\n        yield x\nfor v in f():\n    h = encoder(v)"
    ),
    "a call": "torch.set_grad_enabled(False)  # here\nh = encoder(x)\ntorch.set_grad_enabled(True)",
    "an inner region that was left": (
        "with torch.no_grad():  # here\n    with torch.no_grad():\n        h = x * 2\n    h = encoder(h)"
    ),
    "a decorated forward": (
        "class Frozen(nn.Linear):\n    @torch.no_grad()  # here\n    def forward(self, v):\n"
        "        return super().forward(v)\n"
        "encoder = Frozen(3, 3)\nh = nn.Sequential(encoder)(x)"
    ),
    "inference mode": "with torch.inference_mode():  # here\n    h = encoder(x)\nh = h.clone()",
    "inference mode, which enable_grad does not end": (
        "with torch.inference_mode():  # here\n    with torch.enable_grad():\n        h = encoder(x)\nh = h.clone()"
    ),
    "inference mode, decorator": "@torch.inference_mode()  # here\ndef f(v):\n    return encoder(v)\nh = f(x).clone()",
}


@pytest.mark.parametrize("region", REGIONS)
def test_the_line_that_opened_the_region_is_named(region: str):
    source = HEAD + REGIONS[region] + TAIL
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    here = line_of(source, "# here")
    assert f"encoder.weight and encoder.bias no gradient: cut at line {here} by" in answer.text
    assert [cause.line for cause in answer.causes] == [here]


@pytest.mark.parametrize(
    "region",
    [
        "with torch.no_grad():\n    y = x * 2\nh = encoder(x)",
        "with torch.no_grad():\n    with torch.enable_grad():\n        h = encoder(x)",
        "with torch.set_grad_enabled(True):\n    h = encoder(x)",
        "@torch.no_grad()\ndef f():\n    pass\nf()\nh = encoder(x)",
    ],
)
def test_what_runs_outside_of_a_region_is_not_cut(region: str):
    assert build(recorded(HEAD + region + TAIL)).answers == ()


def test_a_with_that_was_left_is_not_in_force_where_a_decorator_is() -> None:
    source = """
import torch
layer, x = torch.nn.Linear(2, 2), torch.ones(3, 2)
with torch.set_grad_enabled(False): z = layer(x)
forward = torch.no_grad()(layer.forward)
y = forward(x)  # here
try:
    y.sum().backward()
except RuntimeError:
    pass
"""
    (answer,) = build(recorded(source)).answers
    assert [cause.line for cause in answer.causes] == [line_of(source, "# here")]
