"""The edits of each kind: for the example of its diagnosis, the lines that change; and what a text keeps."""

from __future__ import annotations

from textwrap import dedent

import pytest

from gradscope.analysis.diagnoses.catalogue import diagnosis
from gradscope.analysis.edits.edit_catalogue import KINDS, editable_codes, proposals
from gradscope.analysis.edits.edit_model import Edit, EditSources, SpanChange, applied, composed
from gradscope.analysis.report_builder import build
from gradscope.experiments.fix.source_files import unified
from tests.analysis.building import recorded

OF_EXAMPLES: dict[str, tuple[str, ...]] = {
    "target-with-gradient": (
        "-target = reward + 0.9 * values(following)",
        "+target = (reward + 0.9 * values(following)).detach()",
    ),
    "advantage-with-gradient": (
        "-actor_loss = -(choice.log_prob(choice.sample()) * advantage).mean()",
        "+actor_loss = -(choice.log_prob(choice.sample()) * advantage.detach()).mean()",
    ),
    "ratio-without-gradient": (
        "-old = chances.log_prob(actions)",
        "+old = chances.log_prob(actions).detach()",
    ),
    "data-written-again": (
        "-    x += torch.randn(3)",
        "+    x = x + torch.randn(3)",
    ),
    "gradients-left-in-weights": ("+    optimizer.zero_grad()",),
    "scaled-gradients-applied": (
        "-    optimizer.step()",
        "+    scaler.step(optimizer)",
    ),
    "sample-without-gradient": (
        "-z = posterior.sample()",
        "+z = posterior.rsample()",
    ),
    "skip-path-overwritten": (
        "-act = torch.nn.ReLU(inplace=True)",
        "+act = torch.nn.ReLU(inplace=False)",
    ),
    "argument-written": (
        "-    x += torch.randn(3)",
        "+    x = x + torch.randn(3)",
    ),
    "evaluated-with-graph": ("+@torch.no_grad()",),
    "frozen-norm-learns": ("+trunk.eval()",),
    "stale-result": (
        "-features = trunk(x)",
        "+    features = trunk(x)",
    ),
    "gradient-always-zero": (
        "-y = torch.round(w * 2)",
        "+y = w * 2 + (torch.round(w * 2) - (w * 2)).detach()",
    ),
    "backward-ignores-incoming": (
        "-        return grad_a, grad_b",
        "+        return grad * grad_a, grad_b",
    ),
    "checkpoint-updates-twice": (
        "-y = checkpoint(norm, x, use_reentrant=False)",
        "+y = norm(x)",
    ),
    "hook-keeps-its-tensor": (
        "-    h.register_hook(lambda grad: scores.append((grad * h).sum().item()))",
        "+    h_values = h.detach()",
        "+    h.register_hook(lambda grad: scores.append((grad * h_values).sum().item()))",
    ),
    "decayed-though-zeroed": (
        "-optimizer = torch.optim.AdamW([table], lr=0.1, weight_decay=0.1)",
        "+optimizer = torch.optim.AdamW([table], lr=0.1, weight_decay=0.0)",
    ),
    "straight-through-reversed": (
        "-y = hard + (w - hard).detach()",
        "+y = w + (hard - w).detach()",
    ),
    "hook-registered-again": (
        "+w.register_hook(lambda grad: grad * 0.5)",
        "-    w.register_hook(lambda grad: grad * 0.5)",
    ),
    "gradient-kept-by-reference": (
        "-    previous = w.grad",
        "+    previous = w.grad.clone()",
    ),
    "paired-by-broadcast": (
        "-values = layer(inputs)",
        "+values = layer(inputs).squeeze(-1)",
    ),
    "tie-broken": ("+model.head.weight = model.embed.weight",),
    "accumulation-cleared": (
        "-    optimizer.zero_grad()",
        "+        optimizer.zero_grad()",
    ),
    "attribute-ignored": (
        "-body.requires_grad = False",
        "+body.requires_grad_(False)",
    ),
    "backward-no-grad": (
        "-prediction = (w * 2).detach()",
        "+prediction = w * 2",
    ),
    "backward-reached-nothing": (
        "-loss = torch.tensor((w * 2).sum().item(), requires_grad=True)",
        "+loss = (w * 2).sum()",
    ),
    "backward-returns-swapped": (
        "-        return grad_b, grad_a",
        "+        return grad_a, grad_b",
    ),
    "backward-writes-incoming": ("+        grad = grad.clone()",),
    "block-kept-by-view": (
        "-    rows.append(tokens[:, 0])",
        "+    rows.append(tokens[:, 0].clone())",
    ),
    "cannot-require-grad": (
        "-start = torch.tensor([1, 2, 3], requires_grad=True)",
        "+start = torch.tensor([1, 2, 3], requires_grad=True, dtype=torch.float32)",
    ),
    "cleared-before-step": (
        "+    optimizer.step()",
        "-    optimizer.step()",
    ),
    "clipped-in-vain": (
        "+    loss.backward()",
        "-    loss.backward()",
    ),
    "deepcopy-of-result": (
        "-net.seen = net(torch.ones(2))",
        "+net.seen = net(torch.ones(2)).detach()",
    ),
    "dropout-in-evaluation": (
        "-        x = F.dropout(x, 0.5)",
        "+        x = F.dropout(x, 0.5, training=self.training)",
    ),
    "forward-called-directly": (
        "-y = Round.forward(None, w * 3)",
        "+y = Round.apply(w * 3)",
    ),
    "forward-past-hooks": (
        "-y = layer.forward(torch.ones(1, 3))",
        "+y = layer(torch.ones(1, 3))",
    ),
    "forward-writes-argument": (
        "-        x.clamp_(-1, 1)",
        "+        x = x.clamp(-1, 1)",
    ),
    "grad-none-non-leaf": ("+y.retain_grad()",),
    "grad-none-unreached": (
        "-loss = (x.detach() * w).sum()",
        "+loss = (x * w).sum()",
    ),
    "grad-none-untracked": (
        "-v = w.detach()",
        "+v = w.detach().requires_grad_()",
    ),
    "gradient-not-finite": (
        "-y = torch.where(x > 0, torch.sqrt(x), torch.zeros(2))",
        "+y = torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, torch.ones_like(x))), torch.zeros(2))",
    ),
    "gradients-applied-again": ("+    optimizer.zero_grad()",),
    "gradients-of-another-loss": ("+    of_critic.zero_grad()",),
    "graph-carried-along": (
        "-    total = total + loss",
        "+    total = total + loss.detach()",
    ),
    "graph-kept-after-pass": (
        "-    outputs.append(out)",
        "+    outputs.append(out.detach())",
    ),
    "graph-used-twice": ("+    h = h.detach()",),
    "hook-changes-gradient": (
        "-    unit = grad.div_(grad.norm())",
        "+    unit = grad.div(grad.norm())",
    ),
    "hook-raised": (
        "-    grad.mul_(0.1)",
        "+    return grad.mul(0.1)",
    ),
    "hook-writes-shared-gradient": (
        "-    grad.mul_(0.1)",
        "+    return grad.mul(0.1)",
    ),
    "imaginary-part-lost": (
        "-full = torch.zeros(5)",
        "+full = torch.zeros(5, dtype=gain.dtype)",
    ),
    "inference-tensor": (
        "-with torch.inference_mode():",
        "+with torch.no_grad():",
    ),
    "inplace-refused": (
        "-w += 1",
        "+with torch.no_grad():",
        "+    w += 1",
    ),
    "iterator-used-up": (
        "-params = layer.parameters()",
        "+params = list(layer.parameters())",
    ),
    "kept-again": (
        "-    history.append(buffer)",
        "+    history.append(buffer.clone())",
    ),
    "leaf-unreached": (
        "-loss = (x.detach() * w).sum()",
        "+loss = (x * w).sum()",
    ),
    "learning-rate-zero": (
        "-schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step // 100)",
        "+schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)",
    ),
    "left-frozen": ("+    body.requires_grad_(True)",),
    "loaded-from-itself": (
        "-target = policy",
        "+target = copy.deepcopy(policy)",
    ),
    "memory-kept-by-graph": (
        "-    total = total + (w * step).exp().sum()",
        "+    total = total + (w * step).exp().sum().detach()",
    ),
    "moved-without-gradient": (
        "-        body.weight.grad.zero_()",
        "+        body.weight.grad = None",
    ),
    "never-stepped": (
        "-optimizer = torch.optim.SGD(body.parameters(), lr=0.1)",
        "+optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)",
    ),
    "no-derivative": (
        "-bins = w // 0.1",
        "+bins = w.detach() // 0.1",
    ),
    "one-tensor-two-names": (
        "-noisy = clean",
        "+noisy = clean.clone()",
    ),
    "output-kept-by-ctx": (
        "-        ctx.y = y",
        "+        ctx.y = y.detach()",
    ),
    "parameter-replaced": (
        "-    w = w.clamp(0, 1).detach().requires_grad_()",
        "+    with torch.no_grad():",
        "+        w.copy_(w.clamp(0, 1))",
    ),
    "probabilities-as-logits": ("-scores = torch.softmax(scores, dim=1)",),
    "repeated-module": (
        "-layers = nn.Sequential(*[nn.Linear(3, 3)] * 4)",
        "+layers = nn.Sequential(*[nn.Linear(3, 3) for _ in range(4)])",
    ),
    "saved-in-vain": (
        "-validation = (w.exp() * 2).mean()",
        "+with torch.no_grad():",
        "+    validation = (w.exp() * 2).mean()",
    ),
    "scaled-gradients-clipped": ("+    scaler.unscale_(optimizer)",),
    "scheduler-before-step": (
        "-    schedule.step()",
        "+    schedule.step()",
    ),
    "snapshot-shares-memory": (
        "-before = w.detach()",
        "+before = w.detach().clone()",
    ),
    "step-without-backward": ("+    loss.backward()",),
    "term-without-gradient": (
        "-penalty = w.norm().item()",
        "+penalty = w.norm()",
    ),
    "tracked-refused": (
        "-values = (w * 2).numpy()",
        "+values = (w * 2).detach().numpy()",
    ),
    "trained-in-evaluation": ("+    model.train()",),
    "update-lost": (
        "-            w = w - 0.1 * w.grad",
        "+            w -= 0.1 * w.grad",
    ),
    "write-into-expanded": (
        "-mask = torch.zeros(1, 4).expand(3, 4)",
        "+mask = torch.zeros(1, 4).expand(3, 4).clone()",
    ),
}
"""The lines that one of the edits takes away and puts in: that which is offered for the diagnosis's example."""


def changed_lines(source: str, code: str = "") -> list[tuple[str, ...]]:
    """What each edit that is proposed for a program changes; of one code, or of all."""
    recording = recorded(source)
    sources = EditSources(recording)
    found = []
    for answer in build(recording).answers:
        for proposal in proposals(answer, sources) if code in ("", answer.code) else ():
            text = recording.files[0].text
            diff = unified("x.py", text, applied(text, proposal.edit.changes))
            found.append(tuple(line for line in diff.splitlines()[2:] if line[:1] in "+-"))
    return found


def test_each_kind_names_diagnoses_that_there_are():
    assert all(diagnosis(code) is not None for kind in KINDS for code in kind.codes)
    assert OF_EXAMPLES.keys() <= editable_codes()


@pytest.mark.parametrize("code", OF_EXAMPLES)
def test_the_edit_of_an_example(code: str):
    known = diagnosis(code)
    assert known is not None
    assert OF_EXAMPLES[code] in changed_lines(known.example.shows, code)


@pytest.mark.parametrize("code", OF_EXAMPLES)
def test_nothing_is_proposed_for_the_program_that_differs_in_one_line(code: str):
    known = diagnosis(code)
    assert known is not None
    assert changed_lines(known.example.healthy, code) == []


OF_PROGRAMS = {
    "closure": (
        '''
        import torch
        w = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.LBFGS([w], lr=0.1, max_iter=3)
        def closure():
            """The loss."""
            loss = (w - 3).pow(2).sum()
            loss.backward()
            return loss
        for step in range(4):
            optimizer.step(closure)
        ''',
        "gradients-applied-again",
        ("+    optimizer.zero_grad()",),
    ),
    "new leaves": (
        """
        import torch
        from torch import nn
        made = nn.Linear(2, 3)
        flat = made(torch.ones(2))
        weight = nn.Parameter(flat[:2])
        bias = nn.Parameter(flat[2:])
        (weight.sum() + bias.sum()).backward()
        """,
        "leaf-unreached",
        (
            "-weight = nn.Parameter(flat[:2])",
            "-bias = nn.Parameter(flat[2:])",
            "+weight = flat[:2]",
            "+bias = flat[2:]",
        ),
    ),
    "another optimizer": (
        """
        import torch
        net = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        for step in range(12):
            if step == 4:
                optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
            optimizer.zero_grad()
            net(torch.ones(2, 3)).sum().backward()
            optimizer.step()
            schedule.step()
        """,
        "scheduler-in-vain",
        ("+        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)",),
    ),
    "a pole": (
        """
        import torch
        w = torch.tensor([1.0, 0.5], requires_grad=True)
        torch.acos(w * 1.0).sum().backward()
        """,
        "gradient-not-finite",
        (
            "-torch.acos(w * 1.0).sum().backward()",
            "+torch.acos((w * 1.0).clamp(-(1 - 1e-6), 1 - 1e-6)).sum().backward()",
        ),
    ),
    "one logit": (
        """
        import torch
        net = torch.nn.Linear(3, 1)
        for step in range(4):
            torch.softmax(net(torch.ones(2, 3)), dim=1).sum().backward()
        """,
        "gradient-always-zero",
        (
            "-    torch.softmax(net(torch.ones(2, 3)), dim=1).sum().backward()",
            "+    torch.sigmoid(net(torch.ones(2, 3))).sum().backward()",
        ),
    ),
    "a difference that is not detached": (
        """
        import torch
        w = torch.nn.Parameter(torch.rand(4))
        for step in range(4):
            q = torch.round(w)
            (w + (q - w)).sum().backward()
        """,
        "gradient-always-zero",
        (
            "-    (w + (q - w)).sum().backward()",
            "+    (w + (q - w).detach()).sum().backward()",
        ),
    ),
}


@pytest.mark.parametrize("name", OF_PROGRAMS)
def test_the_edit_of_a_program(name: str):
    source, code, wanted = OF_PROGRAMS[name]
    assert wanted in changed_lines(dedent(source), code)


def test_what_may_be_meant_is_left_alone():
    decayed = """
    import torch
    table, other = torch.nn.Parameter(torch.ones(4, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([table, other], lr=0.1, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        (table.sum() + other.sum()).backward()
        table.grad[1:] = 0.0
        optimizer.step()
    """
    assert all("weight_decay" not in str(lines) for lines in changed_lines(dedent(decayed), "decayed-though-zeroed"))
    hooked = """
    import torch
    w = torch.ones(3, requires_grad=True)
    for step in range(5):
        w.register_hook(lambda grad, scale=step: grad * 0.5)
        w.sum().backward()
    """
    assert changed_lines(dedent(hooked), "hook-registered-again") == []  # another hook in each run


WRITES = """
import torch

w = torch.ones(3, requires_grad=True)


def scaled(x):
    {before}
    {write}
    {after}


y = w.exp()
scaled(y)
y.sum().backward()
"""


@pytest.mark.parametrize(
    ("write", "after", "change"),
    [
        ("x *= 2", "return x", ("-    x *= 2", "+    x = x * 2")),
        ("x *= 2 + 1", "return x", ("-    x *= 2 + 1", "+    x = x * (2 + 1)")),
        ("x.mul_(2).tanh_()", "return x", ("-    x.mul_(2).tanh_()", "+    x = x.mul(2).tanh()")),
        ("z = x.mul_(2)", "return x + z", ("-    z = x.mul_(2)", "+    z = x = x.mul(2)")),
        ("x[0] = 0", "return x", ("+    x = x.clone()",)),
    ],
)
def test_a_write_in_place_is_made_out_of_place_where_the_name_is_read_again(
    write: str, after: str, change: tuple[str, ...]
):
    assert change in changed_lines(WRITES.format(before="pass", write=write, after=after))


@pytest.mark.parametrize("write", ["x *= 2", "x.mul_(2)", "x.mul_(2).tanh_()", "x[0] = 0"])
def test_a_write_whose_result_only_the_caller_sees_is_left_alone(write: str):
    assert changed_lines(WRITES.format(before="pass", write=write, after="return None")) == []


def test_the_variable_of_a_loop_is_not_rebound():
    source = """
        import torch

        w = torch.ones(3, requires_grad=True)
        parts = [w.exp(), w.sigmoid()]
        for part in parts:
            part *= 2
            print(part.shape)
        sum(part.sum() for part in parts).backward()
    """
    assert changed_lines(source, "inplace-error") == []


def test_columns_behind_letters_of_several_bytes_and_comments_stay():
    source = """
        import torch

        größe = torch.ones(3, requires_grad=True)
        for schritt in range(20):
            verlust, ä = (größe * schritt).sum(), "größe"; verlust.backward()
            if schritt == 0: summe = 0
            summe = summe + verlust  # größe ä
    """
    assert changed_lines(source, "graph-carried-along")[0] == (
        "-    summe = summe + verlust  # größe ä",
        "+    summe = summe + verlust.detach()  # größe ä",
    )


def test_a_block_is_moved_in_with_its_tabs_and_without_touching_a_string():
    source = (
        "import torch\n\nw = torch.ones(1000, 1000, requires_grad=True)\nw.sum().backward()\nif True:\n"
        '\tvalue = torch.stack([(w.exp() * 2).mean(),\n\t\tw.mean()]).add(len("""a\nb"""))\n'
    )
    assert changed_lines(source, "saved-in-vain")[0] == (
        "-\tvalue = torch.stack([(w.exp() * 2).mean(),",
        '-\t\tw.mean()]).add(len("""a',
        "+\twith torch.no_grad():",
        "+\t\tvalue = torch.stack([(w.exp() * 2).mean(),",
        '+\t\t\tw.mean()]).add(len("""a',
    )


def test_only_the_loss_reads_the_logits_where_the_probabilities_are_judged_as_well():
    source = """
        import torch
        import torch.nn.functional as F

        layer, y = torch.nn.Linear(3, 1), torch.ones(2, 1)
        logits = layer(torch.ones(2, 3))
        chance = logits.sigmoid()
        F.binary_cross_entropy_with_logits(chance, y).backward()
        print((chance > 0.5).float().mean())
    """
    assert changed_lines(source, "probabilities-as-logits") == [
        (
            "-F.binary_cross_entropy_with_logits(chance, y).backward()",
            "+F.binary_cross_entropy_with_logits(logits, y).backward()",
        )
    ]


@pytest.mark.parametrize(
    "loss",
    ["torch.nn.functional.mse_loss(h.sum(), w.exp().sum().detach())", "(h + (w.exp() - h).detach()).sum() * v.sum()"],
)
def test_a_detach_that_people_mean_is_not_dropped(loss: str):
    source = f"""
        import torch

        w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
        h = v * 2
        ({loss}).backward()
        print(w.grad)
    """
    assert changed_lines(source) == []


def test_what_hands_over_under_no_grad_does_so_behind_it():
    source = """
        import torch

        w = torch.ones(3, requires_grad=True)


        def batches():
            with torch.no_grad():
                x = torch.ones(3)
                yield x


        for x in batches():
            (w * x).sum().backward()
    """
    assert changed_lines(source, "backward-no-grad")[0] == ("-        yield x", "+    yield x")


def test_lists_of_tensors_are_stacked_row_by_row():
    source = """
        import torch

        a = torch.tensor(0.5, requires_grad=True)
        c, s = a.cos(), a.sin()
        turn = torch.tensor([[c, -s], [s.item(), 1.0]], dtype=torch.float64)
        turn.sum().backward()
    """
    assert (
        "-turn = torch.tensor([[c, -s], [s.item(), 1.0]], dtype=torch.float64)",
        "+turn = torch.stack([torch.stack([c, -s]), torch.stack([s, torch.tensor(1.0)])]).to(dtype=torch.float64)",
    ) in changed_lines(source)


def test_two_edits_become_one_of_the_text_that_neither_has_seen():
    text = "a = 1\nb = 2\nc = 3\n"
    first = Edit("first", "f", (SpanChange(4, 5, "1000"),))
    middle = applied(text, first.changes)
    start = middle.index("3")
    both = composed(first, Edit("second", "f", (SpanChange(start, start + 1, "x"),)))
    assert both is not None
    assert applied(text, both.changes) == "a = 1000\nb = 2\nc = x\n"
    assert composed(first, Edit("second", "f", (SpanChange(5, 6, "x"),))) is None


def test_what_asks_for_gradients_is_not_put_under_no_grad():
    source = """
        import torch
        net = torch.nn.Linear(3, 1)
        net(torch.ones(2, 3)).sum().backward()
        def forces(x):
            return torch.autograd.grad(net(x).exp().sum(), x, create_graph=True)[0]
        def evaluate():
            total = 0
            for n in range(4):
                total = total + forces(torch.ones(2, 3, requires_grad=True)).exp().sin().tanh().mean()
            return total
        evaluate()
    """
    edits = changed_lines(source, "evaluated-with-graph")
    assert edits
    assert not any("no_grad" in line for edit in edits for line in edit)


WRITTEN_BY_VIEW = """
import torch

w = torch.ones(3, 3, requires_grad=True)
h = torch.sigmoid(w)
row = h[0]
row.mul_(2)
h.sum().backward()
"""


def test_what_a_call_saved_of_its_result_is_copied_where_a_view_is_written():
    assert changed_lines(WRITTEN_BY_VIEW, "inplace-error") == [
        ("-h = torch.sigmoid(w)", "+h = torch.sigmoid(w).clone()")
    ]
    assert changed_lines(WRITTEN_BY_VIEW.replace("torch.sigmoid(w)", "w * w * w"), "inplace-error") == []


GAN = """
import torch
from torch import nn

torch.manual_seed(0)
gen, disc = nn.Linear(4, 2), nn.Linear(2, 1)
opt_g, opt_d = (torch.optim.SGD(one.parameters(), lr=0.1) for one in (gen, disc))
for real in torch.randn(2, 8, 2):
    fake = gen(torch.randn(8, 4))
    opt_d.zero_grad()
    loss = disc(real).mean() - disc(fake).mean()
    loss.backward()
    opt_d.step()
    opt_g.zero_grad()
    disc(fake).mean().backward()
    opt_g.step()
"""


def test_what_a_generator_made_is_handed_to_the_step_of_the_discriminator_without_its_graph():
    first, *_ = changed_lines(GAN, "graph-used-twice")
    assert first[1] == "+    loss = disc(real).mean() - disc(fake.detach()).mean()"
    both = GAN.replace("torch.optim.SGD(one.parameters()", "torch.optim.SGD([*gen.parameters(), *disc.parameters()]")
    assert not any("fake.detach()" in "".join(lines) for lines in changed_lines(both, "graph-used-twice"))
