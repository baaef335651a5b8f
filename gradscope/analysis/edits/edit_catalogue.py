"""Which edits may mend which diagnosis: the only list of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import Literal, NamedTuple

from gradscope.analysis.edits.edit_model import Edit, EditSources, Proposes, SpanChange, applied
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.report_model import Answer

Keeps = Literal["seen", "gradients", "loss", "remade", "flow", ""]
"""What an edit must not change in the first pass: losses and gradients (``seen``: of which there must have been some),
losses (``remade``: where what was a leaf may be none any more), or only which leaves get a gradient."""


class EditKind(NamedTuple):
    """One kind of edit."""

    proposes: str
    """``module:function``, of :data:`Proposes`; imported when it is asked."""
    keeps: Keeps
    codes: tuple[str, ...]
    """The diagnoses that it may mend."""
    at_once: bool = False
    """Several lines may have to be edited together."""

    def edits(self, answer: Answer, sources: EditSources) -> Iterable[Edit]:
        """Edits for an answer, best first."""
        module, _, function = self.proposes.partition(":")
        found: Proposes = getattr(import_module(f"gradscope.analysis.edits.kinds.{module}"), function)
        return found(answer, sources)


KINDS: tuple[EditKind, ...] = (
    EditKind(
        "made_otherwise:with_graph",
        "loss",
        ("term-without-gradient", "asked-for-gradient", "leaf-unreached", "backward-no-grad", "grad-none-unreached"),
    ),
    EditKind(
        "made_otherwise:checkpointed",
        "loss",
        ("grad-none-unreached", "leaf-unreached", "backward-no-grad", "checkpoint-draws-anew", "refused-by-autograd"),
    ),
    EditKind(
        "dropped_cuts:edits",
        "loss",
        (
            "backward-no-grad",
            "grad-none-unreached",
            "leaf-unreached",
            "term-without-gradient",
            "backward-reached-nothing",
            "gradient-always-zero",
        ),
        True,
    ),
    EditKind(
        "made_otherwise:asks_for_gradient",
        "loss",
        ("grad-none-untracked", "backward-no-grad", "function-without-node", "asked-for-gradient"),
    ),
    EditKind("written_out_of_place:put_back", "loss", ("update-lost", "backward-no-grad"), True),
    EditKind(
        "kept_apart:edits",
        "seen",
        (
            "graph-carried-along",
            "graph-kept-after-pass",
            "memory-kept-by-graph",
            "graph-used-twice",
            "inplace-error",
            "deepcopy-of-result",
        ),
    ),
    EditKind("used_again:handed_on_detached", "remade", ("graph-used-twice",)),
    EditKind("used_again:edits", "gradients", ("graph-used-twice", "stale-result")),
    EditKind(
        "written_out_of_place:edits",
        "loss",
        (
            "inplace-error",
            "inplace-refused",
            "gradient-silently-wrong",
            "hook-changes-gradient",
            "forward-writes-argument",
            "backward-writes-incoming",
            "default-argument-written",
        ),
        True,
    ),
    EditKind(
        "written_out_of_place:edits", "flow", ("skip-path-overwritten", "argument-written", "data-written-again"), True
    ),
    EditKind("written_out_of_place:copied_when_made", "loss", ("inplace-error",)),
    EditKind("written_out_of_place:without_grad", "loss", ("inplace-refused",)),
    EditKind(
        "written_out_of_place:returned", "loss", ("hook-raised", "hook-writes-shared-gradient", "hook-changes-gradient")
    ),
    EditKind(
        "kept_apart:copied", "gradients", ("snapshot-shares-memory", "block-kept-by-view", "gradient-kept-by-reference")
    ),
    EditKind("kept_apart:copied", "flow", ("one-tensor-two-names", "kept-again", "write-into-expanded")),
    EditKind("optimizer_parameters:copied_module", "gradients", ("loaded-from-itself",)),
    EditKind(
        "optimizer_order:zero_grad_moved", "gradients", ("cleared-before-step", "accumulation-cleared", "never-stepped")
    ),
    EditKind("optimizer_order:zero_grad_added", "gradients", ("gradients-applied-again",)),
    EditKind(
        "optimizer_order:zero_grad_of_other",
        "gradients",
        ("gradients-of-another-loss", "gradients-applied-again", "gradients-left-in-weights"),
    ),
    EditKind("optimizer_order:zero_grad_in_closure", "gradients", ("gradients-applied-again",)),
    EditKind("optimizer_order:scheduler_made_anew", "gradients", ("scheduler-in-vain",)),
    EditKind("optimizer_order:evaluated", "flow", ("frozen-norm-learns",)),
    EditKind("optimizer_order:clip_moved", "loss", ("clipped-in-vain",)),
    EditKind("optimizer_order:unscaled", "loss", ("scaled-gradients-clipped",)),
    EditKind("optimizer_order:stepped_by_scaler", "gradients", ("scaled-gradients-applied",)),
    EditKind("optimizer_order:scheduler_moved", "loss", ("scheduler-before-step",)),
    EditKind("optimizer_order:backward_added", "", ("step-without-backward",)),
    EditKind("optimizer_order:trained", "flow", ("trained-in-evaluation",)),
    EditKind("optimizer_order:set_back", "gradients", ("left-frozen", "backward-no-grad")),
    EditKind("written_out_of_place:replaced_in_place", "gradients", ("parameter-replaced",)),
    EditKind("optimizer_parameters:made_behind", "gradients", ("parameter-replaced", "never-stepped")),
    EditKind("optimizer_parameters:registered", "loss", ("never-stepped", "leaf-unreached")),
    EditKind("optimizer_parameters:added_later", "gradients", ("never-stepped",)),
    EditKind("optimizer_parameters:extended", "gradients", ("never-stepped",)),
    EditKind("kept_apart:stored_alone", "seen", ("deepcopy-of-result", "graph-kept-after-pass")),
    EditKind("made_otherwise:retained", "loss", ("grad-none-non-leaf",)),
    EditKind(
        "made_otherwise:asked_before_use", "loss", ("asked-for-gradient", "backward-no-grad", "grad-none-unreached")
    ),
    EditKind("made_otherwise:asked_with_method", "", ("attribute-ignored",)),
    EditKind("made_otherwise:dropout_by_mode", "loss", ("dropout-in-evaluation",)),
    EditKind("made_otherwise:array_of_values", "loss", ("tracked-refused",)),
    EditKind("made_otherwise:as_list", "gradients", ("iterator-used-up",)),
    EditKind("made_otherwise:called_itself", "flow", ("forward-called-directly", "forward-past-hooks")),
    EditKind("made_otherwise:each_its_own", "flow", ("repeated-module",)),
    EditKind("logits_for_loss:edits", "flow", ("probabilities-as-logits",)),
    EditKind("made_otherwise:no_grad_mode", "loss", ("inference-tensor",)),
    EditKind("made_otherwise:under_no_grad", "gradients", ("saved-in-vain", "evaluated-with-graph")),
    EditKind("kept_apart:edits", "seen", ("evaluated-with-graph",), True),
    EditKind("made_otherwise:gradient_removed", "loss", ("moved-without-gradient", "decayed-though-zeroed")),
    EditKind("made_otherwise:swapped_back", "loss", ("backward-returns-swapped",)),
    EditKind("made_otherwise:kept_values_in_ctx", "gradients", ("output-kept-by-ctx",)),
    EditKind("made_otherwise:of_floats", "", ("cannot-require-grad",)),
    EditKind("made_otherwise:complex_zeros", "flow", ("imaginary-part-lost",)),
    EditKind("made_otherwise:true_division", "flow", ("learning-rate-zero",)),
    EditKind("made_otherwise:as_number", "loss", ("no-derivative",)),
    EditKind("left_out:small_eps", "gradients", ("gradient-not-finite",)),
    EditKind("safe_numbers:edits", "loss", ("gradient-not-finite",)),
    EditKind("let_through:sampled", "loss", ("sample-without-gradient",)),
    EditKind("let_through:straight_through", "loss", ("gradient-always-zero",)),
    EditKind("let_through:detached_difference", "loss", ("gradient-always-zero",)),
    EditKind("held_constant:edits", "loss", ("target-with-gradient", "ratio-without-gradient")),
    EditKind("held_constant:factors", "loss", ("advantage-with-gradient",)),
    EditKind("let_through:sigmoid_of_one", "flow", ("gradient-always-zero",)),
    EditKind("let_through:turned_round", "flow", ("straight-through-reversed",)),
    EditKind("let_through:multiplied", "loss", ("backward-ignores-incoming",)),
    EditKind("let_through:unwrapped", "remade", ("leaf-unreached", "grad-none-unreached")),
    EditKind("left_out:checkpoint", "gradients", ("checkpoint-updates-twice",)),
    EditKind("left_out:compilation", "loss", ("compiled-backward",)),
    EditKind("left_out:weight_decay", "gradients", ("decayed-though-zeroed",)),
    EditKind("left_out:hook_in_loop", "gradients", ("hook-registered-again",)),
    EditKind("left_out:tensor_in_hook", "gradients", ("hook-keeps-its-tensor",)),
    EditKind("left_out:other_shape", "flow", ("paired-by-broadcast",)),
    EditKind("left_out:tied_again", "flow", ("tie-broken",)),
)


class Proposal(NamedTuple):
    """An edit that may mend what an answer is about."""

    answer: Answer
    edit: Edit
    keeps: Keeps


@cache
def editable_codes() -> frozenset[str]:
    """The diagnoses that have an edit."""
    return frozenset(code for kind in KINDS for code in kind.codes)


def proposals(answer: Answer, sources: EditSources) -> Iterator[Proposal]:
    """Edits that may mend what an answer is about, each once, the best first; nothing has been run."""
    seen: set[tuple[object, ...]] = set()
    for kind in KINDS:
        if answer.code not in kind.codes:
            continue
        found = [edit for edit in kind.edits(answer, sources) if _is_python(edit, sources)]
        for edit in [*found, *(_all_at_once(found) if kind.at_once else ())]:
            known = (edit.file, edit.sorted_changes)
            if known not in seen and _is_python(edit, sources):
                seen.add(known)
                yield Proposal(answer, edit, kind.keeps)


def _all_at_once(found: list[Edit]) -> Iterator[Edit]:
    """What is proposed for one file as one edit, of edits of the same place the first."""
    for file in dict.fromkeys(edit.file for edit in found):
        changes: list[SpanChange] = []
        titles: list[str] = []
        for edit in found:
            if edit.file == file and all(
                new.end < old.start or old.end < new.start for new in edit.changes for old in changes
            ):
                changes += edit.changes
                titles.append(edit.title)
        if len(titles) > 1:
            yield Edit(" and ".join(dict.fromkeys(titles)), file, tuple(changes))


def _is_python(edit: Edit, sources: EditSources) -> bool:
    """Whether a file that is edited so is another one, and Python takes it."""
    source = sources.text(edit.file)
    if source is None or not edit.changes:
        return False
    try:
        text = applied(source.text, edit.changes)
    except ValueError:
        return False
    return text != source.text and SourceText.read(text) is not None
