"""How often a statement ran, whatever calls it makes: a counter in the program is the oracle."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import pickle
import torch
from torch import nn
net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
w = torch.ones(2, requires_grad=True)
def half(x):
    return x / 2  # half
"""

ONE_LAYER_FOR_TWO = """
one, two, drop = nn.LSTM(2, 2), nn.LSTM(2, 2), nn.Dropout(0.1)
def run(h):
    h, _ = one(drop(h))
    h, _ = two(drop(h))
    return h
for n in range(6):
    two.requires_grad_(n < 2 or n > 3)
    run(torch.ones(4, 2, requires_grad=True)).sum().backward()
    drop.eval()
    with torch.no_grad():
        run(torch.ones(3, 2))
    drop.train()
"""

PROGRAMS = {
    "a module made of modules": ("layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))  # here", 1),
    "a module pickled and brought back": ("copied = pickle.loads(pickle.dumps(net))  # here", 1),
    "tensors brought back in a loop": (
        "for _ in range(3):\n    kept = pickle.loads(pickle.dumps([torch.ones(2), torch.ones(3)]))  # here",
        3,
    ),
    "a function that pickles and brings back": (
        "def copied(module):\n    return pickle.loads(pickle.dumps(module))  # here\nother = copied(net)\n"
        "copied(net), copied(other)",
        3,
    ),
    "modules pickled one after the other in a loop": (
        "copies = []\nfor _ in range(3):\n    copies.append(pickle.loads(pickle.dumps(net)))  # here",
        3,
    ),
    "a comprehension": ("parts = [torch.ones(2) * 2 for _ in range(3)]  # here", 1),
    "a comprehension in a loop": ("for _ in range(2):\n    a = w * 2\n    b = [a + n for n in range(3)]  # here", 2),
    "a sum of items": ("for _ in range(2):\n    total = sum(w * n for n in range(4)).exp()  # here", 2),
    "only a sum": ("for _ in range(2):\n    a = w + 1\n    total = sum([a, a, a])  # here", 2),
    "a reentrant checkpoint that is evaluated as well": (
        "from torch.utils.checkpoint import checkpoint\ndef call(x):\n    x = net[0](x)\n"
        "    return checkpoint(net, x, use_reentrant=True)  # here\nfor _ in range(2):\n    call(w).sum().backward()\n"
        "with torch.no_grad():\n    call(w)",
        3,
    ),
    "a layer that raises in some runs": (
        "def call(x):\n    return net[0](x)  # here\nfor n in (2, 3, 2, 3, 2):\n"
        "    try:\n        call(torch.ones(4, n)).sum()\n    except RuntimeError:\n        pass",
        5,
    ),
    "a function on one line": ("def call(x): return net(x)  # here\nfor _ in range(3):\n    call(w)", 3),
    "a module called for its value": ("for _ in range(4):\n    net(w)  # here\n    a = w * 2", 4),
    "a module whose result is stored": ("for _ in range(4):\n    out = net(w)  # here", 4),
    "a clearing that finds nothing to clear": (
        "for _ in range(3):\n    optimizer.zero_grad()  # here\n    net(w).sum().backward()",
        3,
    ),
    "a clearing in place that finds nothing to clear at first": (
        "for _ in range(3):\n    out = net(w).sum()\n    optimizer.zero_grad(set_to_none=False)  # here\n"
        "    out.backward()",
        3,
    ),
    "a module beside a clearing that finds nothing to clear at first": (
        "for _ in range(3):\n    a = w * 2\n    out = net(a)  # here\n    optimizer.zero_grad(set_to_none=False)\n"
        "    out.sum().backward()",
        3,
    ),
    "a clearing by the module that finds nothing to clear": (
        "for _ in range(3):\n    net.zero_grad()  # here\n    net(w).sum().backward()",
        3,
    ),
    "a lambda that is checkpointed": (
        "from torch.utils.checkpoint import checkpoint\nfor layer in net:\n"
        "    w = checkpoint(lambda x: layer(x).tanh(), w, use_reentrant=False)  # here",
        3,
    ),
    "the body of a with statement": (
        "for _ in range(3):\n    with torch.no_grad():\n        net(w)  # here\n    w * 2",
        3,
    ),
    "a call of a function with a loop": (
        "def many():\n    for _ in range(7):\n        w.sum()\nmany()  # here\nmany()\nmany()",
        0,
    ),
    "what comes before a condition": (
        "for n in range(4):\n    if n:\n        continue\n    net(w)  # here\n    w * 2",
        1,
    ),
    "a function": ("for _ in range(5):\n    half(w)", None),
    "calls that follow each other at once": (
        "for _ in range(5):\n    nn.init.xavier_uniform_(net[0].weight)  # here",
        5,
    ),
    "a call that runs functions of the program": (
        "for _ in range(3):\n    torch.func.hessian(lambda x: half(x).pow(3).sum())(w)  # here",
        3,
    ),
    "a call that takes many gradients": (
        "for _ in range(3):\n    torch.autograd.functional.jacobian(lambda x: half(x).sin(), w)  # here",
        3,
    ),
    "a copy of a module": ("import copy\nfor _ in range(3):\n    copied = copy.deepcopy(net)  # here", 3),
    "a copy of a state in one pass of a loop": (
        "import copy\nfor n in range(4):\n    net(w).sum().backward()\n    optimizer.step()\n"
        "    if n == 1:\n        kept = copy.deepcopy({'w': w, 'grad': w.grad})  # here",
        1,
    ),
    "a copy of a state in each pass of a loop": (
        "import copy\nfor n in range(4):\n    net(w).sum().backward()\n    optimizer.step()\n"
        "    if n < 9:\n        kept = copy.deepcopy({'w': w, 'grad': w.grad})  # here",
        4,
    ),
    "a copy of a state in some passes of a loop without end": (
        "import copy, itertools\nfor n in itertools.count():\n    a = w * 2\n    if n == 9:\n        break\n"
        "    if n % 3 == 0:\n        kept = copy.deepcopy([w, a.detach()])  # here",
        3,
    ),
    "a copy of a state behind what a pass leaves out": (
        "import copy\nfor n in range(5):\n    a = w * 2\n    if n % 2:\n        continue\n"
        "    kept = copy.deepcopy([w, a.detach()])  # here",
        3,
    ),
    "a copy of a state in a loop in which nothing else is seen": (
        "import copy\nfor n in range(4):\n    if n < 9:\n        kept = copy.deepcopy([w])  # here",
        4,
    ),
    "a call of one function after the other": ("for act in (torch.relu, torch.tanh):\n    act(w)  # here", 2),
    "a function that calls what it is given": (
        "def run(f, *args):\n    return f(*args)  # here\nrun(torch.exp, w)\n"
        "for _ in range(3):\n    run(torch.mul, w, w)",
        4,
    ),
    "an item that is written": ("a = w * 2\nfor _ in range(3):\n    a[0] *= 2  # here", 3),
    "a call that copies several things": (
        "import copy\nnet.seen = net(w)\ntry:\n    copy.deepcopy(net)  # here\nexcept RuntimeError:\n    pass",
        1,
    ),
    "one of two values": ("for n in range(4):\n    a = w * 2 if n == 1 else w + 2  # here", 4),
    "one of three values": ("for n in range(6):\n    a = w * 2 if n == 1 else w + 2 if n > 3 else w / 2  # here", 6),
    "a value that is made in one run": ("for n in range(4):\n    b = w + 1\n    a = w * 2 if n == 1 else n  # here", 4),
    "a condition that is looked at in one run": (
        "for n in range(4):\n    b = w + 1\n    a = n == 1 and w.sum()  # here",
        4,
    ),
    "layers that are alike": (
        "alike = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.Tanh())\n"
        "def run(x):\n    return alike(x)  # here\nfor _ in range(5):\n    run(w).sum()",
        5,
    ),
    "one of several modules": (
        "heads = {k: nn.Linear(2, 2) for k in 'ab'}\n"
        "def run(k):\n    return heads[k](w)  # here\nfor k in 'abab':\n    run(k).sum()",
        4,
    ),
    "layers of a plain list, read by their place": (
        "alike = [nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)) for _ in range(3)]\n"
        "def run(x):\n    for i in range(3):\n        x = alike[i](x)  # here\n    return x\n"
        "for _ in range(5):\n    run(w).sum()",
        15,
    ),
    "layers of several kinds": (
        "layers = [nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.LayerNorm(2)]\n"
        "def run(x):\n    for layer in layers:\n        x = layer(x)  # here\n    return x\n"
        "for _ in range(5):\n    run(w).sum()",
        20,
    ),
    "layers of which one was called before": (
        "alike = [nn.Linear(2, 2) for _ in range(3)]\nalike[0](w)\n"
        "def run(x):\n    for n, layer in enumerate(alike):\n        x = alike[n](x)  # here\n    return x\n"
        "for _ in range(5):\n    run(w).sum()",
        15,
    ),
    "modules that one statement calls one after the other": (
        "one, other = nn.Linear(2, 2), nn.Linear(2, 2)\nother(w)\n"
        "def run(x):\n    return other(one(x))  # here\n"
        "for _ in range(5):\n    run(w).sum()",
        5,
    ),
    "a layer of a model that nobody looked at any more": (
        "class Deep(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.ModuleList(nn.Linear(2, 2) for _ in range(40))\n        self.out = nn.Linear(2, 2)\n"
        "    def forward(self, x):\n        for layer in self.body:\n            x = layer(x).tanh()\n"
        "        return self.out(x)  # here\n"
        "one, other = Deep(), Deep()\nfor net in (one, other):\n    net(w).sum().backward()",
        2,
    ),
    "batches, and the end of each epoch": (
        "data = torch.utils.data.DataLoader(torch.ones(6, 2), batch_size=2)\n"
        "for _ in range(2):\n    for batch in data:  # here\n        len(batch)",
        6,
    ),
    "a loop that an error in a function ended": (
        "class Own(torch.autograd.Function):\n    forward = staticmethod(lambda ctx, x: x.clone())\n"
        "    backward = staticmethod(lambda ctx, g: g)\ndef bad(h):\n    raise ValueError\n"
        "for _ in range(18):\n    h = Own.apply(w)  # here\n    bad(h)",
        1,
    ),
    "a loop that came to its end before an error": (
        "class Own(torch.autograd.Function):\n    forward = staticmethod(lambda ctx, x: x.clone())\n"
        "    backward = staticmethod(lambda ctx, g: g)\n"
        "for _ in range(18):\n    h = Own.apply(w)  # here\nraise ValueError",
        18,
    ),
    "an error before the call that the runs before made": (
        "import json\nfor n in range(9):\n    w.sum()\n    (w * json.loads('1' if n < 4 else '')).sum()  # here",
        5,
    ),
    "an error of a call itself, in a region that sets a mode": (
        "for n in range(9):\n    with torch.no_grad():\n        (w @ torch.ones(2 if n < 4 else 3, 2)).sum()  # here",
        5,
    ),
    "an error behind the call that the runs before made": (
        "import json\nfor n in range(9):\n    w.sum()\n    (w.exp(), json.loads('1' if n < 4 else ''))  # here",
        5,
    ),
    "a module in the handler of what each round begins with, and an error in a later round": (
        "net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 2))\n"
        "for n in range(9):\n    try:\n        w @ torch.ones(5, 5)\n"
        "    except RuntimeError:\n        net(w)  # here\n    [1, 2][n // 3]",
        7,
    ),
    "a layer that gives back what it was given while the model is evaluated": (
        "drop = nn.Dropout(0.5)\ndrop(w)\ndef run(x):\n    return drop(x)  # here\n"
        "for n in range(6):\n    run(torch.ones(2))\n    drop.train(n % 3 == 0)",
        6,
    ),
    "a layer that several statements call, beside one of this alone": (
        ONE_LAYER_FOR_TWO.replace("two(drop(h))", "two(drop(h))  # here"),
        12,
    ),
    "a function's first call of a layer that several statements call": (
        ONE_LAYER_FOR_TWO.replace("one(drop(h))", "one(drop(h))  # here"),
        12,
    ),
    "a statement that calls nothing but a layer that others call, too": (
        ONE_LAYER_FOR_TWO.replace("    return h", "    h = drop(drop(h))  # here\n    return h"),
        12,
    ),
    "one of two layers, of which one was called before": (
        "one, other = nn.Linear(2, 2), nn.Linear(2, 2)\nother(w)\n"
        "def run(x, n):\n    y = one(x) if n % 3 else other(x)  # here\n    return y.sum()\n"
        "for n in range(6):\n    run(w, n)",
        6,
    ),
    "a lambda": ("f = [(lambda x: x * 2)(w) for _ in range(3)]  # here", 1),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_statement_ran_as_often_as_a_counter_says(program: str) -> None:
    source, runs = PROGRAMS[program]
    marker, runs = ("# half", 5) if runs is None else ("# here", runs)
    rows = [row for row in build(recorded(HEAD + source)).lines if marker in row.source]
    assert {row.executions for row in rows} == ({runs} if runs else set())


def test_what_was_left_out_has_run_too() -> None:
    source = "import torch\nw = torch.ones(2, requires_grad=True)\nfor _ in range(9):\n    (w * 2).sum().backward()\n"
    report = build(recorded(source, max_ops=5))
    assert [row.executions for row in report.lines if row.line == 4] == [9]
    assert report.summary.backwards == 9


def test_the_first_run_is_not_said_of_another_element() -> None:
    of_elements = "import torch\nparts = [torch.ones(n) for n in (1, 2)]\n"
    of_runs = "import torch\nfor n in (1, 2):\n    part = torch.ones(n)\n"
    assert [row.notes for row in build(recorded(of_elements)).lines] == [()]
    assert [row.notes for row in build(recorded(of_runs)).lines] == [("part: (1,) in the first run",)]


def test_what_torch_sets_below_a_module_does_not_count_the_line() -> None:
    report = build(
        recorded("""
        import torch
        names, torchs = {"torch": torch}, "def often(*_):\\n for _ in range(5): torch._C._set_grad_enabled(True)"
        exec(compile(torchs, torch.nn.__file__, "exec"), names)
        layer = torch.nn.Linear(3, 3)
        layer.register_forward_pre_hook(names["often"])
        for _ in range(2):
            y = layer(torch.ones(1, 3)).sum()
        """)
    )
    assert {row.executions for row in report.lines if row.line == 7} == {2}


BROKEN = """
import torch
class Net(torch.nn.Module):
    def forward(self, x):
        y = x * 2
        print(y.tolist(), float(y.sum()), y.max().item())
        return y * 3
@torch.compile(backend="eager")
def f(x):
    best = x.max().item()
    print(x.tolist(), float(x.sum()) + best)
    return x * 2
net = torch.compile(Net(), backend="eager")
for n in range(1, 4):
    f(torch.ones(n, requires_grad=True))
    net(torch.ones(2, requires_grad=True))
"""


@pytest.mark.filterwarnings("ignore")
def test_a_line_with_several_graph_breaks_ran_once_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    rows = build(recorded(BROKEN)).lines
    capsys.readouterr()
    ran = {row.line: row.executions for row in rows if "print(" in row.source}
    assert ran and set(ran.values()) == {3}
    assert {row.executions for row in rows if row.line in (14, 15)} == {3}


def test_what_a_call_gave_has_a_row_beside_the_runs_in_which_it_raised() -> None:
    source = PROGRAMS["a layer that raises in some runs"][0]
    rows = [row for row in build(recorded(HEAD + source)).lines if "# here" in row.source]
    assert sorted((row.kind, row.shape) for row in rows) == [("error", ""), ("made", "(4, 2)")]


def test_a_module_that_a_pool_calls_by_itself_has_no_line() -> None:
    source = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool:
    outs = list(pool.map(net, torch.ones(8, 2).split(2)))
outs[0].sum().backward()
"""
    report = build(recorded(HEAD + source))
    assert not report.faults and report.summary.backwards == 1


def test_a_cut_is_counted_where_one_line_is_the_whole_loop() -> None:
    source = """
ps = [nn.Parameter(torch.ones(2)) for _ in range(3)]
for i in range(6): (ps[i % 3] - ps[(i + 1) % 3].detach()).sum().backward()  # here
"""
    assert [cut.executions for cut in build(recorded(HEAD + source)).cuts] == [6]
