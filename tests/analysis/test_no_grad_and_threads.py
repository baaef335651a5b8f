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


@pytest.mark.parametrize(
    "gives",
    [
        "list(pool.map(embed, inputs * 2))",
        "[one.result() for one in [pool.submit(embed, x) for x in inputs * 2]]",
        "in_threads(embed) + in_threads(embed)",
    ],
)
def test_results_of_other_threads_that_are_kept_with_their_graphs(gives: str) -> None:
    source = (
        "embed(inputs[0]).sum().backward()\nnet.eval()\n"
        f"with torch.no_grad():  # region\n    scores = {gives}\n    print(torch.cat(scores).sum())\n"
    )
    answers = build(recorded(HEAD + source + "pool.shutdown()\n")).answers
    told = [one for one in answers if one.severity != "note"]
    assert [one.code for one in told] == ["no-grad-in-other-thread"]
    assert [cause.line for cause in told[0].causes] == [line_of(HEAD + source, "# region")]


@pytest.mark.parametrize(
    "source",
    [
        "with torch.no_grad():\n    scores = list(pool.map(embed_quietly, inputs * 2))\n",
        "with torch.no_grad():\n    scores = [one.sum().item() for one in pool.map(embed, inputs * 2)]\n",
        "scores = list(pool.map(embed, inputs * 2))\nwith torch.no_grad():\n    print(torch.cat(scores).sum())\n",
        "with torch.no_grad():\n    scores = list(pool.map(embed, inputs * 2))\nscores += pool.map(embed, inputs)\n",
    ],
)
def test_results_without_graphs_and_those_that_others_make_as_well(source: str) -> None:
    assert not found("embed(inputs[0]).sum().backward()\n" + source)


def test_a_thread_that_trains_while_another_evaluates_is_at_other_work() -> None:
    source = """
history = []
def train():
    for _ in range(4):
        loss = embed(inputs[0]).pow(2).sum()
        loss.backward()
        history.append(embed(inputs[1]))
thread = threading.Thread(target=train)
with torch.no_grad():
    thread.start()
    thread.join()
    print(net(inputs[1]).sum())
"""
    assert not found(source)
