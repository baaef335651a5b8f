"""Why no optimizer holds a parameter that gets gradients: where it was left out, replaced, copied or made too late."""

from __future__ import annotations

from collections.abc import Collection

from gradscope.analysis.diagnoses.optimizers.members.chosen_by_name import left_out_by_name
from gradscope.analysis.diagnoses.optimizers.members.chosen_while_frozen import chosen_while_frozen
from gradscope.analysis.diagnoses.optimizers.members.copied_apart import optimizer_copied_apart
from gradscope.analysis.diagnoses.optimizers.members.rebuilt_models import RebuiltModel, rebuilt_later
from gradscope.analysis.diagnoses.optimizers.members.why_no_step import WhyNoStep, what_steps_did
from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making, line_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.assigned_loads import assigning_load
from gradscope.analysis.facts.modules.seen_unregistered import UnregisteredParameters
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.index import WRAPS
from gradscope.analysis.report_model import Cause
from gradscope.frames.calls.calls_of_functions import calls_of
from gradscope.frames.modules.optimizers_in_constructors import made_inside
from gradscope.frames.modules.unregistered import unregistered
from gradscope.frames.names.given_names import function_around
from gradscope.frames.names.kept_groups import kept_groups
from gradscope.frames.names.listed_by_functions import listed_by
from gradscope.frames.names.put_on_objects import called_once, placed_later
from gradscope.frames.names.used_up_iterators import taken_before
from gradscope.recording import NONE


def with_optimizer_copied(sources: Sources, tensor: int) -> WhyNoStep | None:
    """A parameter of a copied network whose optimizer was copied too, in a call of its own."""
    causes = optimizer_copied_apart(sources, tensor)
    if not causes:
        return None
    return WhyNoStep(
        f"line {causes[0].line} copies the optimizer apart from the network, so that it has copies of its own of the "
        "parameters, with which nothing computes",
        causes,
        advice="Make an optimizer for the copied network, and load the other's state_dict() into it.",
    )


def not_held(sources: Sources, optimizer: Optimizer | None, tensor: int, missed: Collection[int]) -> WhyNoStep | None:
    """A parameter that the optimizer of its model was not given, made before it or after."""
    if optimizer is None:
        return None
    index, events = sources.index, (optimizer.made.row,)
    if kept := kept_unregistered(sources, tensor) or _seen_unregistered(sources, tensor):
        return kept
    if copied := _copied(sources, optimizer, tensor):
        return copied
    if wrapped := _wrapped(sources, optimizer, tensor):
        return wrapped
    if filtered := left_out_by_name(sources, optimizer, tensor):
        why, filters = filtered
        return WhyNoStep(why, filters, events, "Choose it by another name, or let one group have all that is left.")
    if used_up := _used_up(sources, optimizer, tensor):
        return used_up
    if emptied := _emptied_groups(sources, optimizer):
        return emptied
    if assigned := _assigned_by_load(sources, optimizer, tensor):
        return assigned
    if rebuilt := rebuilt_later(sources, optimizer, tensor):
        return _rebuilt(sources, optimizer, rebuilt)
    if frozen := frozen_when_chosen(sources, [optimizer], tensor, missed):
        return frozen
    causes = tuple(sources.cause_of_event("made", optimizer.made))
    made_by = index.made_by(tensor)
    is_later = index.made_not_before(tensor) >= optimizer.made.op and bool(index.op_line(made_by))
    through = _through(sources, optimizer, made_by) if is_later else None
    in_constructor = is_later and through is None and index.op_place(made_by).function.endswith("__init__")
    if not is_later or (in_constructor and not _is_called_later(sources, optimizer, made_by)):
        if lists := _lists(sources, optimizer):
            why = f"line {lists[0].line} leaves them out of what the {optimizer.name} of line {optimizer.line} is given"
            return WhyNoStep(why, (*lists, *causes), events)
        return WhyNoStep(f"the {optimizer.name} of line {optimizer.line} does not hold them", causes, events)
    if through is None:
        later, how = _put_there(sources, made_by)
    else:
        later, how = sources.cause("made", made_by), f"they were made later, at line {index.op_line(made_by)}"
    calls = through or ()
    return WhyNoStep(
        f"{constructed_by(sources, optimizer, calls)} was made before them and does not hold them, as {how}",
        (*calls, *cause_of_making(sources, optimizer), *later),
        events,
        "Make the optimizer after that, or add what is missing with add_param_group.",
        is_order=True,
        through=calls,
    )


def frozen_when_chosen(
    sources: Sources, optimizers: list[Optimizer], tensor: int, missed: Collection[int]
) -> WhyNoStep | None:
    """A parameter that did not require grad when an optimizer was made of those that did."""
    found = chosen_while_frozen(sources, optimizers, tensor, missed)
    if found is None:
        return None
    why, causes, event = found
    return WhyNoStep(why, causes, (event,), "Choose the parameters that it is for themselves, or make it when they do.")


def _is_called_later(sources: Sources, optimizer: Optimizer, made_by: int) -> bool:
    """Whether the one call of the constructor that made a layer stands behind the optimizer's, in the same function."""
    index, span = sources.index, sources.index.recording.spans[optimizer.made.span]
    text = index.recording.files[span.file].text if span.file >= 0 else ""
    called = called_once(text, index.op_line(made_by))
    around = [function_around(text, line) for line in (span.line, called[0])] if called is not None else []
    return called is not None and called[0] > span.end_line and around[0] == around[1]


def _through(sources: Sources, optimizer: Optimizer, made_by: int) -> tuple[Cause, ...] | None:
    """The calls by which the constructor that made a layer had made the optimizer before; None where it did not."""
    index = sources.index
    file = index.recording.spans[optimizer.made.span].file
    if file < 0 or file != index.statements[index.op_statement[made_by]].file:
        return None
    found = made_inside(index.recording.files[file].text, int(optimizer.line), int(index.op_line(made_by)))
    if found is None:
        return None
    return tuple(sources.cause_of_line("set", file, first, last, "") for first, last in found.calls)


def constructed_by(sources: Sources, optimizer: Optimizer, through: tuple[Cause, ...]) -> str:
    """The optimizer, and how its constructor came to make it."""
    name = f"the {optimizer.name} of line {line_of_making(sources, optimizer)}"
    if not through:
        return name
    first, *others = [str(cause.line) for cause in through]
    return f"{name}, which line {first} has made{f' (from line {others[0]})' if others else ''},"


def _lists(sources: Sources, optimizer: Optimizer) -> tuple[Cause, ...]:
    """What the one function of the program's returns that is called for the parameters: ``net.body_parameters()``."""
    recording, made_at = sources.index.recording, optimizer.made.span
    if made_at < 0:
        return ()
    row = recording.spans[made_at]
    lines = listed_by(recording.files[row.file].text, row.line, row.end_line)
    return tuple(sources.cause_of_line("set", row.file, first, last, "") for first, last in lines)


def _rebuilt(sources: Sources, optimizer: Optimizer, later: RebuiltModel) -> WhyNoStep:
    """A parameter of a model that took the name of the one whose parameters the optimizer holds."""
    line = sources.index.line(later.file, later.statement.line)
    cause = sources.cause_of_line("made", later.file, later.statement.line, later.statement.end_line, later.function)
    called = called_once(sources.index.recording.files[later.file].text, later.statement.line)
    by = [] if called is None else [sources.cause_of_line("used", later.file, *called, "")]
    how = f", called at line {by[0].line}," if by else ""
    return WhyNoStep(
        f"line {line}{how} makes {later.statement.name} anew after the {optimizer.name} of line "
        f"{line_of_making(sources, optimizer)} was made, which holds the parameters of the one before",
        (cause, *cause_of_making(sources, optimizer), *by),
        (optimizer.made.row,),
        "Make the optimizer after that.",
        is_order=True,
    )


def _copied(sources: Sources, optimizer: Optimizer, tensor: int) -> WhyNoStep | None:
    """A parameter of which the optimizer holds what a line made from it: a copy, or what ``detach`` gave."""
    index = sources.index
    ops = [op for op in index.users.of(tensor) if op < optimizer.made.op]
    for op in ops:
        made = index.tensors_made(op)
        ops += [after for one in made for after in index.users.of(one) if op < after < optimizer.made.op]
        if not optimizer.tensors.isdisjoint(made) and index.op_line(op):
            return WhyNoStep(
                f"the {optimizer.name} of line {optimizer.line} holds what line {index.op_line(op)} "
                f"({index.call_name(op)}) made from them",
                (*sources.cause("made", op), *sources.cause_of_event("made", optimizer.made)),
                (optimizer.made.row,),
                "Give the optimizer the parameters themselves.",
            )
    return None


def _wrapped(sources: Sources, optimizer: Optimizer, tensor: int) -> WhyNoStep | None:
    """A parameter on whose memory the optimizer holds another one: ``nn.Parameter(p.data)``."""
    index = sources.index
    storage = index.storage_at(tensor, optimizer.made.op)
    others = [one for one in optimizer.tensors if one != tensor and index.storage_at(one, optimizer.made.op) == storage]
    if storage < 0 or not others or any(sources.lives.passes.get(one) for one in others):
        return None
    taken = [
        op
        for op in index.users.of(tensor)
        if op < optimizer.made.op and WRAPS.search(index.op_place(op).source) and index.tensors_made(op)
    ]
    if not taken:
        return None
    return WhyNoStep(
        f"line {index.op_line(taken[-1])} makes other parameters on the same memory, which get no gradient, and the "
        f"{optimizer.name} of line {optimizer.line} holds those",
        (*sources.cause("made", taken[-1]), *sources.cause_of_event("made", optimizer.made)),
        (optimizer.made.row,),
        "Give the optimizer the parameters themselves.",
    )


def _used_up(sources: Sources, optimizer: Optimizer, tensor: int) -> WhyNoStep | None:
    """An optimizer that was given an iterator out of which a statement before it had taken all, or the first."""
    span = sources.index.recording.spans[optimizer.made.span]
    text = sources.index.recording.files[span.file].text if span.file >= 0 else ""
    found = taken_before(text, span.line)
    if found is None or not (found.is_all or tensor < min(optimizer.tensors, default=NONE)):
        return None
    function = sources.index.recording.text(span.function)
    made = sources.cause_of_line("made", span.file, *found.made, function)
    taken = sources.cause_of_line("used", span.file, *found.taken, function)
    how = (
        f"got nothing from {found.name}, which line {made.line} makes an iterator and line {taken.line} has used up"
        if found.is_all
        else f"got the rest of {found.name}, an iterator (line {made.line}) of which line {taken.line} took the first"
    )
    return WhyNoStep(
        f"the {optimizer.name} of line {optimizer.line} {how}",
        (made, taken),
        (optimizer.made.row,),
        f"Make {found.name} a list.",
    )


def _emptied_groups(sources: Sources, optimizer: Optimizer) -> WhyNoStep | None:
    """An optimizer with groups in which there is nothing, in a file that keeps the groups of ``itertools.groupby``."""
    recording = sources.index.recording
    row = recording.spans[optimizer.made.span]
    kept = kept_groups(recording.files[row.file].text) if row.file >= 0 else []
    if len(kept) != 1 or all(group.tensors for group in optimizer.groups):
        return None
    cause = sources.cause_of_line("made", row.file, *kept[0], "")
    return WhyNoStep(
        f"line {cause.line} keeps the groups of itertools.groupby, each of which is empty once the next is asked for, "
        f"and the {optimizer.name} of line {optimizer.line} got nothing from them",
        (cause,),
        (optimizer.made.row,),
        "Keep a list of each group there.",
    )


def _assigned_by_load(sources: Sources, optimizer: Optimizer, tensor: int) -> WhyNoStep | None:
    """A parameter that ``load_state_dict(assign=True)`` put into its module after the optimizer was made."""
    index, load = sources.index, assigning_load(sources.index, tensor, optimizer.made.op)
    if load < 0:
        return None
    return WhyNoStep(
        f"line {index.op_line(load)} (load_state_dict with assign=True) put new parameters into the model, and the "
        f"{optimizer.name} of line {line_of_making(sources, optimizer)} holds the old ones",
        (*sources.cause("set", load), *cause_of_making(sources, optimizer)),
        (optimizer.made.row,),
        "Leave assign out, or make the optimizer after that.",
    )


def _put_there(sources: Sources, made_by: int) -> tuple[list[Cause], str]:
    """The line that put new parameters into their model, and the call that did, as far as the text shows them."""
    index, line = sources.index, sources.index.op_line(made_by)
    file = index.statements[index.op_statement[made_by]].file
    text, function = index.recording.files[file].text, index.op_place(made_by).function
    placed, called = placed_later(text, line), called_once(text, line)
    by = f", called at line {index.line(file, called[0])}," if called is not None else ""
    causes = sources.cause("made", made_by)
    how = f"they were made later, at line {line}{by.removesuffix(',')}"
    if placed is not None:
        causes = [sources.cause_of_line("set", file, placed.line, placed.end_line, function)]
        how = f"line {index.line(file, placed.line)}{by} put them there ({placed.attribute}) later"
    if called is not None:
        causes.append(sources.cause_of_line("used", file, *called, ""))
    return causes, how


def held_twice(sources: Sources, optimizers: list[Optimizer], steps: list[int]) -> WhyNoStep | None:
    """Two optimizers that were given the same parameters, one of them meant for others; None where there are not two.

    Not where a line makes both: a function that makes one for each of its calls is given what it is to hold. Nor where
    one takes over from the other: training goes on with it.
    """
    if len(optimizers) != 2 or optimizers[0].tensors != optimizers[1].tensors:
        return None
    first, second = optimizers
    steps_of_first = (op for op in steps if sources.index.func(op) == f"{first.name}.step")
    if first.line == second.line or all(op < second.made.op for op in steps_of_first):
        return None
    return WhyNoStep(
        f"line {second.line} gives {second.name} the parameters that the {first.name} of line {first.line} holds too",
        tuple(sources.cause_of_event("made", second.made)),
        (second.made.row, first.made.row),
        "Give one of them these.",
    )


def not_given_to_library(sources: Sources, tensor: int, steps: list[int]) -> WhyNoStep | None:
    """A parameter that a library does not know of, which makes the optimizers itself: pyro's ``SVI.step``."""
    index, makes = sources.index, sources.libraries.makes
    made, node_of = index.op_line(index.made_by(tensor)), index.recording.tensors.column("node")
    users = [
        op
        for op in index.users.of(tensor)
        if not makes[op] and index.op_line(op) not in (0, made)
        if any(node_of[one] >= 0 for one in index.tensors_made(op))
    ]
    if not users or not all(makes[op] for op in steps):
        return None
    causes = _sole_call_of_owner(sources, tensor) or sources.cause("used", users[0])
    return WhyNoStep(
        f"{what_steps_did(index, steps)}; a library chose what is stepped, and not these, which line {causes[0].line} "
        "uses",
        tuple(causes),
        advice="Register it with the library (pyro: pyro.module, pyro.param).",
    )


def _sole_call_of_owner(sources: Sources, tensor: int) -> list[Cause]:
    """The one call in the user's text of the outermost module in a parameter's name that is called by its name."""
    for owner in sources.names.of(tensor).split(".")[:-1]:
        calls = [
            (number, call)
            for number, file in enumerate(sources.index.recording.files)
            if file.is_user
            for call in calls_of(file.text, owner)
        ]
        if calls:
            file, call = calls[0]
            return [sources.cause_of_line("used", file, call.line, call.end_line, "")] if len(calls) == 1 else []
    return []


_HELD_AS = {
    "list": "in a plain list, where a module does not see them",
    "dict": "in a plain dict, where a module does not see them",
    "container": "in a list or dict of Python's own, where a module does not see them",
    "tensor": "as a plain tensor, which is no parameter of the module",
    "result": "as the result of a call on a parameter, which is no parameter itself",
    "buffer": "as a buffer, which is no parameter of the module",
    "class": "as an attribute of the class, one for all of its objects, where modules do not see them",
    "cached": "in a cache of functools, into which modules do not look",
}
_INSTEAD = {
    "list": "Use nn.ModuleList (nn.ParameterList) there.",
    "dict": "Use nn.ModuleDict (nn.ParameterDict) there.",
    "container": "Use nn.ModuleList or nn.ModuleDict there.",
    "tensor": "Make it an nn.Parameter.",
    "buffer": "Make it an nn.Parameter in place of the buffer.",
    "result": "Make the call first, and an nn.Parameter of its result.",
    "class": "Make it in __init__, on self.",
    "cached": "Make it in __init__, on self.",
}


def kept_unregistered(sources: Sources, tensor: int) -> WhyNoStep | None:
    """A parameter that its module does not know, so that ``parameters()`` leaves it out."""
    index, made_by = sources.index, sources.index.made_by(tensor)
    file = index.statements[index.op_statement[made_by]].file if 0 <= made_by < index.op_count else NONE
    kept = unregistered(index.recording.files[file].text, index.op_line(made_by)) if file >= 0 else None
    if kept is None:
        return None
    cause = sources.cause_of_line("saved", file, kept.line, kept.end_line, index.op_place(made_by).function)
    return WhyNoStep(
        f"line {index.line(file, kept.line)} keeps {kept.attribute} {_HELD_AS[kept.held_as]}, so that "
        "parameters() leaves them out",
        (cause,),
        advice=_INSTEAD[kept.held_as],
        name=kept.attribute if kept.held_as == "class" else "",
    )


def _seen_unregistered(sources: Sources, tensor: int) -> WhyNoStep | None:
    """The same, where the names under which it was seen tell how it is kept."""
    index = sources.index
    kept = UnregisteredParameters(index, sources.names_held).of(tensor)
    if kept is None:
        return None
    file, store = kept.file, kept.store
    stored = sources.cause_of_line("saved", file, store.line, store.end_line, "")
    made = [] if kept.made == NONE else sources.cause("made", kept.made)
    return WhyNoStep(
        f"line {stored.line} keeps {kept.attribute} {_HELD_AS[kept.held_as]}, so that parameters() leaves them out",
        tuple(dict.fromkeys((stored, *(one for one in made if one.line != stored.line)))),
        advice=_INSTEAD[kept.held_as],
        name=f"what {kept.attribute} was made of" if kept.made != NONE else "",
    )
