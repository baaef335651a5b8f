"""What ``whatif`` says of a variant is what ``run`` measures on a copy that was edited by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gradscope.analysis.comparison.facts_by_name import Facts
from gradscope.analysis.report_builder import build
from gradscope.analysis.whatif.effects import costs
from gradscope.analysis.whatif.whatif_model import Trial, WhatIf
from gradscope.experiments.compare.variant_process import VariantJob
from gradscope.experiments.compare.variant_runs import Ran, run_variants
from gradscope.experiments.whatif.asked_line import read_asked
from gradscope.experiments.whatif.trying import Trying, try_variants
from gradscope.recording.rows import GradOutcome
from gradscope.targets.resolve import resolve

PROGRAMS = Path(__file__).parent.parent / "programs"
HAND_EDITED = {
    ("char_gpt", "        x = x + self.mlp(self.ln_2(x))"): {
        "no_grad": "        with torch.no_grad():\n            x = x + self.mlp(self.ln_2(x))",
        "detach": "        x = (x + self.mlp(self.ln_2(x))).detach()",
    },
    ("gan", "        output = self.netD(fake.detach())"): {
        "remove": "        output = self.netD(fake)",
        "detach().clone()": "        output = self.netD(fake.detach().clone())",
    },
    ("rnn_tbptt", "        output, hidden = self.rnn(emb, hidden)"): {
        "detach": "        output, hidden = self.rnn(emb, hidden)\n        output = output.detach()",
    },
}


def line_of(name: str, source: str) -> int:
    return (PROGRAMS / f"{name}.py").read_text().split("\n").index(source) + 1


@pytest.fixture(scope="module")
def tried() -> dict[str, WhatIf]:
    found = {}
    for (name, source), variants in HAND_EDITED.items():
        program = resolve(str(PROGRAMS / f"{name}.py"))
        asked = read_asked(str(line_of(name, source)))
        found[name] = try_variants(program, asked, tuple(variants), Trying(repeat=0))
    return found


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Ran]:
    folder = tmp_path_factory.mktemp("by_hand")
    paths = {}
    for (name, source), variants in HAND_EDITED.items():
        text = (PROGRAMS / f"{name}.py").read_text()
        assert text.count(source + "\n") == 1
        for variant, instead in variants.items():
            path = folder / f"{name}_{len(paths)}.py"
            path.write_text(text.replace(source + "\n", instead + "\n"))
            paths[name, variant] = path
    ran = run_variants([VariantJob(resolve(str(path))) for path in paths.values()])
    return dict(zip(paths, ran, strict=True))


CASES = [(name, variant) for (name, _), variants in HAND_EDITED.items() for variant in variants]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_a_variant_is_what_the_edited_copy_is(
    name: str, variant: str, tried: Mapping[str, WhatIf], by_hand: Mapping[tuple[str, str], Ran]
) -> None:
    trial = next(one for one in tried[name].trials if one.name == variant)
    recording = by_hand[name, variant].recording
    facts, report = Facts(recording).of_run(), build(recording)
    outcome = recording.info.outcome
    assert (trial.outcome, trial.message.partition(":")[0]) == (outcome.kind, outcome.error_type)
    assert (trial.saved_bytes, trial.peak_bytes) == (facts["total_saved"], facts["peak"])
    assert trial.with_gradient == report.summary.leaves_with_gradient
    assert trial.parameters == trial.with_gradient + report.summary.leaves_without_gradient
    assert set(trial.new_answers) <= {answer.code for answer in report.answers}


def test_the_unchanged_program_can_be_repeated(tried: Mapping[str, WhatIf]) -> None:
    for name, whatif in tried.items():
        assert whatif.uncertain == (), name
        assert whatif.trials[0].outcome == "ok"


def trial_of(whatif: WhatIf, name: str) -> Trial:
    return next(one for one in whatif.trials if one.name == name)


def test_what_is_lost_is_named_and_what_is_the_same_is_said_to_be(tried: Mapping[str, WhatIf]) -> None:
    cut = trial_of(tried["char_gpt"], "no_grad")
    assert cut.with_gradient == 3 and len(cut.lost) == 26
    assert {"model.tok_emb.weight", "model.blocks.1.mlp.2.bias"} <= set(cut.lost)
    assert not {"model.head.weight", "model.ln_f.bias"} & set(cut.lost)
    assert cut.losses.first_pass == cut.gradients.first_pass == 2  # the first loss comes before any update
    assert any("kept for backward" in text for text in cut.saves)
    again = trial_of(tried["gan"], "detach().clone()")
    assert (again.losses.same, again.gradients.same, again.breaks) == (True, True, ())
    raising = trial_of(tried["gan"], "remove")
    assert raising.line == line_of("gan", "        errG.backward()")
    assert "second time" in raising.breaks[0]
    assert raising.saves == raising.costs == ()


def test_a_gradient_is_off_by_what_torch_computes(tmp_path: Path) -> None:
    path = tmp_path / "scaled.py"
    path.write_text(
        "import torch\nw = torch.tensor([1.0, -2.0], requires_grad=True)\nh = w * 3\n(h * h).sum().backward()\n"
    )
    whatif = try_variants(resolve(str(path)), read_asked("3"), ["w * 4", "w * 3.0"], Trying(repeat=0))
    other, same = whatif.trials[1:]
    assert other.gradients.largest == 2 * 2 * (16 - 9)
    assert other.gradients.relative == (16 - 9) / 9
    assert (same.gradients.same, same.losses.same, same.values.same) == (True, True, True)
    assert path.read_text().count("w * 3") == 1


def test_what_two_unchanged_runs_do_not_agree_in_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "unseeded.py"
    path.write_text(
        "import torch\nw = torch.randn(2, requires_grad=True)\nh = w * 3\nloss = h.sum() + w.sum()\nloss.backward()\n"
    )
    program, asked = resolve(str(path)), read_asked("3")
    whatif = try_variants(program, asked, ["clone", "detach"], Trying(repeat=0))
    assert {"losses", "values"} <= set(whatif.uncertain)
    assert "with_gradient" not in whatif.uncertain
    assert not any("losses" in text for trial in whatif.trials for text in trial.breaks)
    assert any("--seed" in text for text in whatif.remarks)
    seeded = try_variants(program, asked, ["clone", "detach"], Trying(repeat=0, seed=0))
    assert seeded.uncertain == () and seeded.remarks == ()
    assert trial_of(seeded, "clone").breaks == ()
    assert "gradients change" in trial_of(seeded, "detach").breaks[0]


def test_an_error_that_is_gone_is_mended_and_not_broken(tmp_path: Path) -> None:
    path = tmp_path / "written.py"
    path.write_text("import torch\nw = torch.ones(3, requires_grad=True)\nh = w.exp()\nh.add_(1)\nh.sum().backward()\n")
    whatif = try_variants(resolve(str(path)), read_asked("3"), ["clone", "detach"], Trying(repeat=0))
    mended, raising = trial_of(whatif, "clone"), trial_of(whatif, "detach")
    assert (mended.outcome, mended.breaks, len(mended.mends)) == ("ok", (), 1)
    assert "inplace-error" in mended.gone_answers
    assert raising.mends == () and "does not require grad" in raising.breaks[0]
    assert "Would mend: clone" in whatif.summary


def test_times_are_of_runs_without_the_recorder_in_turns(tmp_path: Path) -> None:
    path = tmp_path / "noting.py"
    notes = tmp_path / "notes.txt"
    path.write_text(
        "import torch\nw = torch.ones(2, requires_grad=True)\nh = w * 3\n"
        f"open({str(notes)!r}, 'a').write(f'{{torch._C._len_torch_function_stack()}}{{h.requires_grad:d}} ')\n"
        "(h.sum() + w.sum()).backward()\n"
    )
    whatif = try_variants(resolve(str(path)), read_asked("3"), ["detach"], Trying(repeat=3, jobs=1))
    assert notes.read_text().split() == ["11", "11", "10", *["01", "00"] * 3]
    assert all(len(trial.wall_runs_ns) == 3 for trial in whatif.trials)


def test_a_line_of_a_module_is_tried_in_the_module(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("def scaled(w):\n    return w * 3\n")
    main = tmp_path / "main.py"
    main.write_text("import torch\nfrom parts import scaled\nw = torch.ones(2, requires_grad=True)\n")
    main.write_text(main.read_text() + "(scaled(w).sum() + w.sum()).backward()\n")
    whatif = try_variants(resolve(str(main)), read_asked("parts.py:2"), ["detach", "w * 5"], Trying(repeat=0))
    assert whatif.executions == 1
    assert [trial.gradients.largest for trial in whatif.trials[1:]] == [3.0, 2.0]


def test_a_transcript_is_tried_in_its_own_lines(tmp_path: Path) -> None:
    path = tmp_path / "session.txt"
    path.write_text(">>> import torch\n>>> w = torch.ones(2, requires_grad=True)\n>>> h = w * 3\n>>> (h + w).sum()")
    path.write_text(path.read_text() + ".backward()\n")
    whatif = try_variants(resolve(str(path)), read_asked("3"), ["detach", "no_grad"], Trying(repeat=0))
    assert [trial.gradients.largest for trial in whatif.trials[1:]] == [3.0, 3.0]


def test_gradients_were_given(by_hand: Mapping[tuple[str, str], Ran]) -> None:
    """The copies are edited where they should be: else all of the above would hold for nothing."""
    lost = by_hand["char_gpt", "detach"].recording.gradients
    assert len({row.tensor for row in lost if row.outcome == GradOutcome.CREATED}) == 3


def test_what_a_run_had_only_since_it_was_stopped_is_no_improvement(tmp_path: Path) -> None:
    source = """
import torch
g, d = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
optimizers = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(d.parameters(), lr=0.1)
for step in range(3):
    fake = g(torch.ones(4, 2))
    score = d(fake.detach())
    score.mean().backward()
    optimizers[1].step()
    d(fake).mean().backward()
    optimizers[0].step()
"""
    path = tmp_path / "gan.py"
    path.write_text(source.lstrip())
    trying = Trying(repeat=0, stop_after=1)
    stopped = trial_of(try_variants(resolve(str(path)), read_asked("6"), ("remove",), trying), "remove")
    assert stopped.gained and not stopped.gone_answers


CHECKPOINTED = """\
import torch
torch.manual_seed(0)
layer, deep = torch.nn.Linear(8, 8), torch.nn.Sequential(*[torch.nn.Tanh() for _ in range(3)])
x, label = torch.randn(64, 8), torch.arange(64) % 8
for step in range(3):
    y = torch.softmax(layer(x), -1)
    h = deep(layer(x))
    (torch.nn.functional.cross_entropy(y, label) + h.sum()).backward()
"""


def test_a_checkpoint_keeps_its_input_and_what_is_not_seen_behind_it_is_not_cured(tmp_path: Path) -> None:
    path = tmp_path / "checkpointed.py"
    path.write_text(CHECKPOINTED)
    program = resolve(str(path))
    softmax = try_variants(program, read_asked("6"), ["checkpoint"], Trying(repeat=3))
    base, variant = softmax.trials
    assert variant.saved_bytes == base.saved_bytes and variant.saves == ()
    assert variant.gone_answers == () and "probabilities-as-logits" in {
        answer.code for answer in build(run_variants([VariantJob(program)])[0].recording).answers
    }
    assert base.wall_ns and variant.wall_ns and variant.wall_ns < base.wall_ns + 1_500_000_000  # (torch._dynamo: 3 s)
    (variant,) = try_variants(program, read_asked("7"), ["checkpoint"], Trying(repeat=0)).trials[1:]
    block = 64 * 8 * 4  # of each tanh the result is saved; the checkpoint keeps what the first is given
    assert base.saved_bytes and variant.saved_bytes == base.saved_bytes - 3 * 2 * block


@pytest.mark.parametrize(
    ("wall_ns", "said"), [(105, "5% more time"), (190, "90% more time"), (21_000, "210 times the time")]
)
def test_what_takes_longer_is_said_in_words_that_fit_its_size(
    wall_ns: int, said: str, tried: Mapping[str, WhatIf]
) -> None:
    base = tried["gan"].trials[0]._replace(wall_ns=100, wall_runs_ns=(100, 100, 100))
    assert costs(base._replace(wall_ns=wall_ns, wall_runs_ns=(wall_ns,) * 3), base, ()) == (said,)


def test_what_hooks_for_saved_tensors_keep_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "packed.py"
    path.write_text(CHECKPOINTED)
    (packed,) = try_variants(
        resolve(str(path)),
        read_asked("7"),
        ["torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t).__enter__() or deep(layer(x))"],
        Trying(repeat=0),
    ).trials[1:]
    assert packed.saved_bytes is None and packed.saves == ()
