"""Lists that each step adds tensors to and that nothing reads."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

MODULE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 16), torch.nn.Linear(16, 1)
        self.seen = []
    def forward(self, x):
        h = self.first(x).relu()
        self.seen.append(h.detach())  # put
        return self.second(h)
    EXTRA
net = Net()
for epoch in range(3):
    for step in range(4):
        net(torch.randn(32, 8)).mean().backward()
    pass
"""
HOOKS = """
import torch
features = {}
def keep(name):
    def hook(module, inputs, output):
        features.setdefault(name, []).append(output.detach().cpu())  # put
    return hook
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
for name, module in model.named_modules():
    if isinstance(module, torch.nn.Linear):
        module.register_forward_hook(keep(name))
for step in range(12):
    model(torch.randn(32, 8)).mean().backward()
pass
"""
TRAINER = """
import torch
class Trainer:
    def __init__(self, model):
        self.model, self.outputs = model, []
    def train(self):
        for step in range(3):
            self.model(torch.randn(32, 8)).pow(2).mean().backward()
    @torch.no_grad()
    def check(self, x):
        out = self.model(x)
        self.outputs.append(out)  # put
        return out.mean().item()
    def reset(self):
        self.outputs.clear()
def main():
    trainer = Trainer(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)))
    for epoch in range(4):
        trainer.train()
        for step in range(3):
            trainer.check(torch.randn(32, 8))
        pass
main()
"""


def told(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "kept-and-never-read" for cause in one.causes]


@pytest.mark.parametrize("source", [MODULE.replace("EXTRA", "pass"), HOOKS, TRAINER])
def test_the_line_that_keeps_is_told(source: str) -> None:
    assert told(source) == [line_of(source, "# put")]


def test_the_sentence_says_how_many_there_were() -> None:
    (one,) = [one for one in build(recorded(HOOKS)).answers if one.code == "kept-and-never-read"]
    assert "features gets a tensor step after step and loses none: 24 (25.5 KiB) were there at the end" in one.text
    (one,) = [one for one in build(recorded(TRAINER)).answers if one.code == "kept-and-never-read"]
    assert "self.outputs gets a tensor step after step and loses none: 9 (4.5 KiB) were there when the last" in one.text


def test_entries_of_each_evaluation_are_told_after_the_function_that_held_them_returned() -> None:
    source = TRAINER.replace("self.outputs.append(out)", "self.outputs.append({'out': out, 'mean': out.mean()})")
    source = source.replace("range(3)", "range(5)")
    assert told(source) == [line_of(source, "# put")]


def test_one_that_begins_in_a_function_and_is_handed_to_what_keeps_is_told_there() -> None:
    source = """
    import torch
    class Probe:
        def __init__(self, store):
            self.store = store
        def __call__(self, module, inputs, output):
            self.store.append(output.detach())  # put
    def main():
        kept, layer = [], torch.nn.Linear(8, 16)
        layer.register_forward_hook(Probe(kept))
        for step in range(12):
            layer(torch.randn(32, 8)).mean().backward()
    main()
    """
    assert told(source) == [line_of(source, "# put")]


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        # read, or handed to something that may
        (MODULE, "    pass\n", "    print(torch.cat(net.seen).mean())\n"),
        (MODULE, "    pass\n", "    last = net.seen[-1]\n"),
        (MODULE, "    pass\n", "    for one in net.seen: pass\n"),
        (MODULE, "    pass\n", "    getattr(net, 'seen')\n"),
        (
            MODULE,
            "return self.second(h)\n",
            "return self.second(h)\n    def __len__(self): return self.seen[0].shape[0]\n",
        ),
        (HOOKS, "pass\n", "torch.save(features, '/dev/null')\n"),
        (HOOKS, "pass\n", "means = {name: len(several) for name, several in features.items()}\n"),
        # emptied, begun anew, the last few
        (MODULE, "    pass\n", "    net.seen.clear()\n"),
        (MODULE, "    pass\n", "    net.seen = []\n"),
        (TRAINER, "        pass\n", "        trainer.reset()\n"),
        (MODULE, "self.seen = []", "self.seen = __import__('collections').deque(maxlen=9)"),
        (MODULE, "self.seen.append(h.detach())", "self.seen = [h.detach()]"),
        (HOOKS, "features.setdefault(name, []).append(output.detach().cpu())", "features[name] = output.detach()"),
        # numbers for a log
        (MODULE, "self.seen.append(h.detach())", "self.seen.append(h.detach().mean())"),
        (MODULE, "self.seen.append(h.detach())", "self.seen.append(h.mean().item())"),
        # of a memory that is there anyhow
        (MODULE, "self.seen.append(h.detach())", "self.seen.append(self.first.weight.detach())"),
    ],
)
def test_what_is_read_emptied_or_small_is_none(source: str, old: str, new: str) -> None:
    changed = source.replace("EXTRA", "pass")
    assert old in changed
    assert told(changed.replace(old, new)) == []


def test_a_memory_of_which_samples_are_taken_is_none() -> None:
    assert (
        told("""
    import random
    import torch
    class Replay:
        def __init__(self):
            self.items = []
        def push(self, state, reward):
            self.items.append((state, reward))
        def sample(self, n):
            return torch.stack([state for state, _ in random.sample(self.items, n)])
    net, replay = torch.nn.Linear(64, 1), Replay()
    for step in range(20):
        replay.push(torch.randn(64), 1.0)
        net(replay.sample(1)).mean().backward()
    """)
        == []
    )


def test_data_that_was_made_before_and_is_used_in_each_round_is_none() -> None:
    assert (
        told("""
    import torch
    net, seen = torch.nn.Linear(64, 1), []
    batches = [torch.randn(8, 64) for _ in range(12)]
    for epoch in range(2):
        for batch in batches:
            seen.append(batch)
            net(batch).mean().backward()
    """)
        == []
    )
