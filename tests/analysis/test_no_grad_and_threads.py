"""no_grad in one thread and gradients in another: what is said where the results go into a graph, and where not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import queue, threading, torch
from concurrent.futures import ThreadPoolExecutor
from torch import nn
net = nn.Linear(3, 2)
pool = ThreadPoolExecutor(2)
inputs = [torch.ones(2, 3), torch.zeros(2, 3)]
def embed(x):
    return net(x)
@torch.no_grad()
def embed_quietly(x):
    return net(x)
def in_threads(function):
    results = {}
    def work(k):
        results[k] = function(inputs[k])
    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[k] for k in range(2)]
"""
LOSS = "    (net(inputs[1]) - sum(one.sum() for one in targets)).pow(2).sum().backward()\n"


def found(source: str) -> list[list[int]]:
    answers = build(recorded(HEAD + source + "pool.shutdown()\n")).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "no-grad-in-other-thread"]


@pytest.mark.parametrize(
    "gives",
    [
        "list(pool.map(embed, inputs))",
        "[one.result() for one in [pool.submit(embed, x) for x in inputs]]",
        "in_threads(embed)",
    ],
)
@pytest.mark.parametrize("region", ["with torch.no_grad():  # region", "with torch.inference_mode():  # region"])
def test_work_of_other_threads_that_a_pass_walks(region: str, gives: str) -> None:
    source = f"for step in range(2):\n    {region}\n        targets = {gives}\n" + LOSS
    assert found(source) == [[line_of(HEAD + source, "# region")]]


def test_a_decorated_function() -> None:
    source = "@torch.no_grad()\ndef refresh():\n    return list(pool.map(embed, inputs))\nfor step in range(2):\n"
    source += "    targets = refresh()\n" + LOSS
    assert len(found(source)) == 1


@pytest.mark.parametrize(
    "gives",
    [
        "with torch.no_grad():\n        targets = list(pool.map(embed_quietly, inputs))",
        "with torch.no_grad():\n        targets = [one.detach() for one in pool.map(embed, inputs)]",
        "with torch.no_grad():\n        targets = [one * 1 for one in pool.map(embed, inputs)]",
        "targets = list(pool.map(embed, inputs))",
        "with torch.no_grad():\n        targets = [embed(x) for x in inputs]",
        "with torch.no_grad():\n        print([one.sum() for one in pool.map(embed, inputs)])\n    targets = inputs",
    ],
)
def test_what_has_no_graph_or_is_meant_to_have_one(gives: str) -> None:
    assert not found(f"for step in range(2):\n    {gives}\n" + LOSS)


def test_a_thread_that_works_all_the_time() -> None:
    source = """
wanted, done = queue.Queue(), queue.Queue()
def produce():
    while (x := wanted.get()) is not None:
        done.put(embed(x))
thread = threading.Thread(target=produce)
thread.start()
for step in range(3):
    wanted.put(inputs[0])
    if step == 1:
        with torch.no_grad():
            print(net(inputs[1]).sum())
            ready = done.get()
    else:
        ready = done.get()
    ready.sum().backward()
wanted.put(None)
thread.join()
"""
    assert not found(source)
