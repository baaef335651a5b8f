"""Graphs that a loop keeps, from the third pass on: the line that keeps them is the cause."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = "import torch\nw = torch.ones(100, requires_grad=True)\n"


def found(source: str) -> list[Answer]:
    codes = ("graph-carried-along", "memory-kept-by-graph", "graph-kept-after-pass")
    return [answer for answer in build(recorded(HEAD + source)).answers if answer.code in codes]


CARRIED = {
    "a sum that was there before": """
total = torch.zeros(())
for step in range(4):
    loss = (w * step).sum()
    loss.backward()
    total += loss  # keeps
""",
    "outputs in a list": """
class Monitor:
    def __init__(self):
        self.outputs = []
    def keep(self, out):
        self.outputs.append(out)  # keeps
monitor = Monitor()
for step in range(4):
    out = (w * step).exp() * 2
    monitor.keep(out)  # hands over
    (w * step).exp().sum().backward()
""",
    "fields of a step in a buffer, of which samples are drawn": """
import collections, random
Step = collections.namedtuple("Step", "hidden state")
class Buffer:
    def __init__(self):
        self.storage = collections.deque(maxlen=100)
    def add(self, *fields):
        self.storage.append(Step(*fields))  # keeps
    def sample(self, number):
        return Step(*(torch.stack(one) for one in zip(*random.sample(self.storage, number))))
buffer = Buffer()
for step in range(12):
    hidden = torch.tanh(w * step)
    buffer.add(hidden, torch.rand(3))  # hands over
    if step > 5:
        (w * buffer.sample(4).hidden.detach()).sum().backward()
""",
    "what each step gave, a dict, in a list of the epoch": """
def step_of(step):
    return {"loss": (w * step).exp().mean(), "step": step}
def train():
    outputs = []
    for step in range(6):
        output = step_of(step)
        output["loss"].backward()
        outputs.append(output)  # keeps
    return sum(one["loss"].item() for one in outputs)
train()
""",
    "losses of a validation in a list, without a backward pass": """
losses = []
for step in range(9):
    loss = (w * step).exp().mean()
    losses.append(loss)  # keeps
print(len(losses))
""",
    "a hook": """
layer = torch.nn.Linear(100, 10)
class Monitor:
    def __init__(self):
        self.outputs = []
    def __call__(self, module, args, output):
        self.outputs.append(output)  # keeps
layer.register_forward_hook(Monitor())
for step in range(8):
    layer(w.detach() * step).sum().item()
""",
    "lists of a hook's closure": """
layer = torch.nn.Linear(100, 10)
features = {}
def keep(name):
    def hook(module, args, output):
        features.setdefault(name, []).append(output)  # keeps
    return hook
layer.register_forward_hook(keep("fc"))
for step in range(8):
    layer(w.detach() * step).sum().item()
""",
    "one of the lists of a log": """
log = {"loss": [], "step": []}
for step in range(4):
    loss = (w * step).exp().sum()
    loss.backward(retain_graph=True)
    log["loss"].append(loss)  # keeps
    log["step"].append(step)
""",
    "predictions of a program without a backward pass": """
big = torch.ones(4, 20000)
def predict():
    outputs = []
    for step in range(4):
        outputs.append((w[0] * big * step).exp())  # keeps
    return torch.cat(outputs)
outputs = predict()
""",
    "gradients with a graph": """
for step in range(10):
    loss = (w * step).pow(2).sum()
    loss.backward(create_graph=True)  # keeps
    w.data -= 0.01 * w.grad.data
""",
    "losses of passes that are over, in a list of a function": """
def fit():
    curve = []
    for step in range(5):
        loss = (w * step).exp().sum()
        loss.backward()
        curve.append(loss)  # keeps
    return len(curve)
fit()
""",
    "a list that each epoch begins anew": """
def epoch():
    losses = []
    for step in range(6):
        loss = (w * step).exp().sum()
        loss.backward()
        losses.append(loss)  # keeps
    return sum(loss.item() for loss in losses)
for number in range(4):
    epoch()
""",
    "what is put into a list of the episode, and a memory that stays": """
memory = []
for episode in range(5):
    episode_losses = []
    for step in range(3):
        loss = (w * step).exp().sum()
        episode_losses.append(loss)
        memory.append((step, loss))  # keeps
    torch.stack(episode_losses).sum().backward()
""",
    "values that are logged by keyword": """
class Log:
    def __init__(self):
        self.rows = []
    def write(self, **values):
        self.rows.append(values)  # keeps
log = Log()
for step in range(4):
    loss = (w * step).exp().sum()
    loss.backward()
    log.write(step=step, loss=loss)  # hands over
""",
    "errors, whose tracebacks keep what functions had": """
failed = []
def attempt(step):
    out = (w * step).exp()
    out.sum().backward()
    raise ValueError(step)
def run():
    for step in range(5):
        try:
            attempt(step)
        except ValueError as error:
            failed.append(error)  # keeps
run()
""",
    "what a function returns that ran its own pass": """
def train():
    loss = (w * 2).exp().sum()
    loss.backward()
    return loss
def main():
    losses = []
    for step in range(5):
        losses.append(train())  # keeps
main()
""",
    "what a generator gives": """
def steps():
    for step in range(5):
        loss = (w * step).exp().sum()
        loss.backward()
        yield loss
losses = list(steps())  # keeps
""",
    "a slice of an output in a hook": """
layer = torch.nn.Linear(100, 10)
class Tap:
    def __init__(self):
        self.rows = []
    def __call__(self, module, args, output):
        self.rows.append(output[:2])  # keeps
layer.register_forward_hook(Tap())
for step in range(4):
    layer(w.detach() * step).sum().backward()
""",
    "part of a record that a method is handed": """
class Log:
    def __init__(self):
        self.rows = []
    def add(self, reward, values):
        self.rows.append({"reward": sum(reward), "values": values})  # keeps
log = Log()
for step in range(4):
    values = torch.stack([(w * k).sum() for k in range(3)])
    values.pow(2).mean().backward()
    log.add([1, 2], values)  # hands over
""",
    "rows of outputs in a ring": """
ring = [None] * 100
for step in range(20):
    out = (w * step).exp().reshape(10, 10)
    out.sum().backward()
    for place, row in enumerate(out):
        ring[(10 * step + place) % 100] = row  # keeps
""",
    "lists by layer that a report goes through": """
layers = torch.nn.Sequential(torch.nn.Linear(100, 10), torch.nn.Tanh(), torch.nn.Linear(10, 1))
def watch():
    store = {name: [] for name in range(3)}
    def make(name):
        def hook(module, inputs, output):
            store[name].append(output)  # keeps
        return hook
    for name, layer in enumerate(layers):
        layer.register_forward_hook(make(name))
    return store
def report(seen):
    return [torch.stack([one.abs().mean() for one in several[-2:]]).mean().item() for several in seen.values()]
def main():
    store = watch()
    for step in range(6):
        layers(w.detach() * step).sum().backward()
        if step % 3 == 2:
            report(store)
main()
""",
    "one list for each layer": """
class Monitor:
    def __init__(self, layers):
        self.seen = {}
        for name, layer in enumerate(layers):
            self.seen[name] = []
            layer.register_forward_hook(self.hook(name))
    def hook(self, name):
        def record(module, args, output):
            self.seen[name].append(output)  # keeps
        return record
model = torch.nn.Sequential(torch.nn.Linear(100, 10), torch.nn.Tanh(), torch.nn.Linear(10, 1))
monitor = Monitor(model)
for step in range(4):
    model(w.detach() * step).sum().backward()
""",
}


@pytest.mark.parametrize("case", CARRIED)
def test_the_line_that_keeps_is_the_cause(case: str) -> None:
    source = HEAD + CARRIED[case]
    (answer,) = found(CARRIED[case])
    line = line_of(source, "# keeps")
    handed = [line_of(source, "# hands over")] if "# hands over" in source else []
    assert [cause.line for cause in answer.causes] == [line, *handed]
    assert answer.text.startswith(f"Line {line}: ")


def test_what_keeps_is_called_as_the_line_that_puts_things_there_calls_it() -> None:
    (answer,) = found(CARRIED["fields of a step in a buffer, of which samples are drawn"])
    assert "self.storage keeps the graphs" in answer.text


HEALTHY = {
    "numbers": "total = torch.zeros(())\nfor step in range(4):\n    loss = (w * step).sum()\n    loss.backward()\n"
    "    total += loss.item()\n",
    "detached": "total = torch.zeros(())\nfor step in range(4):\n    loss = (w * step).sum()\n    loss.backward()\n"
    "    total += loss.detach()\n",
    "a sum that a backward pass uses up": "for epoch in range(4):\n    total = torch.zeros(())\n"
    "    for step in range(5):\n        total += (w * step).exp().sum()\n    total.backward()\n",
    "a sum that is begun anew after four": "for step in range(12):\n    if step % 4 == 0:\n        total = 0\n"
    "    loss = (w * step).sum()\n    loss.backward()\n    total = total + loss\n",
    "losses in a list that one backward pass uses up": "losses = []\nfor step in range(9):\n"
    "    losses.append((w * step).exp().mean())\ntorch.stack(losses).sum().backward()\n",
    "detached results in a list": "kept = []\nfor step in range(9):\n    out = (w * step).exp()\n"
    "    kept.append(out.detach())\n    out.sum().backward()\n",
    "detached fields of a step in a buffer": "import collections\nStep = collections.namedtuple('Step', 'state')\n"
    "buffer = collections.deque(maxlen=100)\ndef add(*fields):\n    buffer.append(Step(*fields))\n"
    "for step in range(12):\n    out = torch.tanh(w * step)\n    add(out.detach())\n    out.sum().backward()\n",
    "what graphs that are gone had saved": "import collections\nStep = collections.namedtuple('Step', 'state value')\n"
    "class Agent:\n    def __init__(self):\n        self.memory = collections.deque(maxlen=500)\n"
    "    def act(self, state):\n        return (w * state).sum().detach()\nagent = Agent()\n"
    "def observe(step):\n    return torch.ones(100) * step\nfor step in range(160):\n"
    "    state = observe(step)\n    agent.memory.append(Step(state, agent.act(state)))\n    w.sum().backward()\n",
    "the last results only": "last = {}\nfor step in range(9):\n    out = (w * step).exp()\n"
    "    last['out'] = out\n    (w * step).sum().backward()\n",
    "a few results, at the end of a program": "kept = []\nfor step in range(4):\n"
    "    kept.append((w * step).exp().mean())\nprint(torch.stack(kept).sum())\n",
    "detached results of a hook": "layer, kept = torch.nn.Linear(100, 10), []\n"
    "layer.register_forward_hook(lambda module, args, output: kept.append(output.detach()))\n"
    "for step in range(9):\n    layer(w.detach() * step).sum().item()\n",
    "predictions under no_grad": "outputs = []\nwith torch.no_grad():\n    for step in range(4):\n"
    "        outputs.append((w[0] * torch.ones(4, 20000) * step).exp())\n",
    "gradients with a graph that are let go": "for step in range(10):\n    w.grad = None\n"
    "    (w * step).pow(2).sum().backward(create_graph=True)\n    w.data -= 0.01 * w.grad.data\nw.grad = None\n",
    "results of one pass in a list": "for epoch in range(4):\n    kept = []\n    for step in range(5):\n"
    "        kept.append((w * step).exp().mean())\n    torch.stack(kept).sum().backward()\n",
    "numbers in a list": "kept = []\nfor step in range(9):\n    loss = (w * step).exp().sum()\n    loss.backward()\n"
    "    kept.append(loss.item())\n",
    "the results of the last two passes": "kept = []\nfor step in range(9):\n    loss = (w * step).exp().sum()\n"
    "    loss.backward()\n    kept = [*kept[-1:], loss]\n",
    "the last results in a deque": "import collections\nkept = collections.deque(maxlen=2)\nfor step in range(9):\n"
    "    loss = (w * step).exp().sum()\n    loss.backward()\n    kept.append(loss)\n",
    "a list that is emptied": "kept = []\nfor step in range(9):\n    loss = (w * step).exp().sum()\n"
    "    loss.backward()\n    kept.append(loss)\n    if len(kept) == 2:\n        kept.clear()\n",
    "the graph of a pass that raised": "h, out = w, 0\nfor step in range(20):\n    keep = (h * step).sigmoid()\n"
    "    h = h * keep\n    keep.mul_(2)\nh.sum().backward()\n",
    "two passes": "total = 0\nfor step in range(2):\n    loss = (w * step).sum()\n    loss.backward()\n"
    "    total = total + loss\n",
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_keeps_no_graph_is_not_blamed(case: str) -> None:
    assert found(HEALTHY[case]) == []


def test_a_graph_that_is_kept_is_told_though_another_ones_pass_raised() -> None:
    kept = "kept = []\nfor step in range(20):\n    kept.append((w * step).exp().sum())\n"
    raises = "s = (w * 2).sigmoid()\nout = s.sum()\ns.mul_(2)\nout.backward()\n"
    (answer,) = found(kept + raises)
    assert [cause.line for cause in answer.causes] == [line_of(HEAD + kept, "kept.append")]


METER = """
class Meter:
    def __init__(self):
        self.total, self.count = 0.0, 0
    def update(self, value, n=1):
        self.total += value * n  # adds
        self.count += n
def measure(meter):
    with torch.no_grad():
        for step in range(3):
            loss = (w * step).sum()
            meter.update(loss, 2)
def fit(meter, unused):
    for step in range(12):
        loss = (w * step).exp().sum()
        loss.backward()
        meter.update(loss, 2)  # hands over
        measure(Meter())
fit(Meter(), Meter())
"""


def test_the_call_that_hands_a_meter_what_it_adds_up_comes_first() -> None:
    (answer,) = found(METER)
    lines = [line_of(HEAD + METER, marker) for marker in ("# hands over", "# adds")]
    assert [cause.line for cause in answer.causes] == lines
    inside = METER.replace("value * n", "self.weigh(value)").replace(
        "def update", "def weigh(self, value):\n        return value * 2\n    def update"
    )
    assert [cause.line for one in found(inside) for cause in one.causes][-1:] == [line_of(HEAD + inside, "# adds")]
    assert found(METER.replace("meter.update(loss, 2)  #", "meter.update(loss.item(), 2)  #")) == []
    assert found(METER.replace("value * n", "value.detach() * n")) == []


NORMS = """
layer = torch.nn.Linear(100, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
def norm():
    return torch.stack([p.grad.pow(2).sum() for p in layer.parameters()]).sum().sqrt()
def fit():
    log = []
    for step in range(10):
        loss = layer(torch.ones(4, 100)).tanh().sum()
        optimizer.zero_grad()
        loss.backward(create_graph=True)  # gives graphs
        log.append(norm())  # keeps
        optimizer.step()
fit()
"""


def test_norms_of_gradients_that_have_a_graph() -> None:
    (answer,) = found(NORMS)
    assert [cause.line for cause in answer.causes] == [
        line_of(HEAD + NORMS, marker) for marker in ("# gives graphs", "# keeps")
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("create_graph=True", ""),
        ("log.append(norm())", "log.append(norm().item())"),
        ("log.append(norm())", "penalty = norm(); log.append(penalty.detach()); penalty.backward()"),
        ("log.append(norm())", "log = [*log[-1:], norm()]"),
    ],
)
def test_gradients_with_a_graph_that_is_meant_or_let_go(old: str, new: str) -> None:
    assert old in NORMS
    assert found(NORMS.replace(old, new)) == []


@pytest.mark.parametrize("chosen", [0, 2])
def test_what_only_the_loops_name_holds_at_the_end_is_not_counted(chosen: int) -> None:
    source = f"""
import torch
w = torch.ones(5, requires_grad=True)
history = []
for step in range(30):
    loss = (w * step).exp().sum()
    loss.backward()
    if step % 3 == {chosen}:
        history.append(loss)
"""
    (answer,) = found(source)
    assert "history keeps 10 results" in answer.text and "10 backward passes" in answer.text


CALLBACKS = """
    import torch

    class Meter:
        def __init__(self):
            self.values = []

        def update(self, value):
            self.values.append(value)

    class History:
        def __init__(self):
            self.meter = Meter()

        def on_batch_end(self, loss):
            self.meter.update(loss{kept})

    class Trainer:
        def __init__(self, callbacks):
            self.w, self.callbacks = torch.ones(3, requires_grad=True), callbacks

        def step(self, x):
            loss = (self.w * x).pow(2).sum()
            loss.backward()
            for callback in self.callbacks:
                callback.on_batch_end(loss)

    def main():
        trainer = Trainer([History()])
        for step in range(20):
            trainer.step(torch.ones(3))

    main()
"""


def test_what_a_callback_hands_to_a_meter_is_kept_there():
    [told] = [one for one in build(recorded(CALLBACKS.format(kept=""))).answers if one.code == "graph-kept-after-pass"]
    assert "self.values keeps 20 results" in told.text
    healthy = build(recorded(CALLBACKS.format(kept=".item()"))).answers
    assert not [one for one in healthy if one.code == "graph-kept-after-pass"]


def test_all_results_in_the_tuples_of_a_list_are_counted() -> None:
    (answer,) = found("""
class Buffer:
    def __init__(self):
        self.items = []
    def push(self, *fields):
        self.items.append(fields)  # keeps
    def sample(self):
        return [torch.stack(z) for z in zip(*self.items[-4:])]
buffer = Buffer()
for step in range(60):
    score = (w * step).exp().sum()
    buffer.push(torch.ones(()), score)
    if step > 4:
        _, scores = buffer.sample()
        (w * scores.mean().detach()).sum().backward()
""")
    assert "buffer.items keeps the graphs of 60 results" in answer.text


ITEMS = """
import torch
from torch import nn

net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

def predict(x):
    x = x.detach().requires_grad_()
    energy = net(x).sum()
    (slope,) = torch.autograd.grad(energy, x)
    return GIVEN

def search(count):
    found = []
    for number in range(count):
        at = torch.randn(4, 3)
        for _ in range(3):
            result = predict(at)
            at = at - 0.1 * SLOPE
        PUT  # put
    return found

best = min(search(8), key=lambda one: float(ENERGY))
"""
DICT = {"GIVEN": '{"energy": energy, "slope": slope}', "SLOPE": 'result["slope"]', "ENERGY": 'one["energy"]'}
TUPLE = {"GIVEN": "energy, slope", "SLOPE": "result[1]", "ENERGY": "one[1]"}


def items(changes: dict[str, str], put: str, *others: tuple[str, str]) -> tuple[str, list[int]]:
    source = ITEMS.replace("PUT", put)
    for old, new in (*changes.items(), *others):
        assert old in source
        source = source.replace(old, new)
    answers = [one for one in build(recorded(source)).answers if one.code == "graph-kept-after-pass"]
    return source, [cause.line for one in answers for cause in one.causes]


@pytest.mark.parametrize(
    ("changes", "put"),
    [
        (DICT, 'found.append({"number": number, "energy": result["energy"]})'),
        (TUPLE, "found.append((number, result[0]))"),
    ],
)
def test_an_item_of_a_result_that_goes_into_a_list_by_its_key_is_kept_there(changes: dict[str, str], put: str) -> None:
    source, causes = items(changes, put)
    assert causes == [line_of(source, "# put")]


def test_an_item_that_was_cut_off_is_not() -> None:
    put = 'found.append({"number": number, "energy": result["energy"].detach()})'
    assert items(DICT, put)[1] == []
    assert items(DICT, put.replace(".detach()", ""), ('"energy": energy,', '"energy": energy.detach(),'))[1] == []
