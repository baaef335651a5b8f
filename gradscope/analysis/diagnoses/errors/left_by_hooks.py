"""Hooks on modules that were registered before a pass, beside which new ones were: they run with what they had then."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.frames.names.put_statements import last_part


def left_by_hook(sources: Sources, tensors: list[int], used_up: int, op: int) -> tuple[RegisteredHook, Happened] | None:
    """The hook that alone uses what leads into a graph that a pass used up, and its first registration.

    It was registered before that pass, and by the same line again after it, while the one before was still there; and
    it has the tensors from the function that made it, by a name of theirs (or of the attribute that it sets to them).

    Args:
        sources: Of the recording.
        tensors: What leads there.
        used_up: The earlier pass.
        op: The one that failed.
    """
    index, text = sources.index, sources.index.recording.text
    called = [{last_part(text(name)) for name, *_ in sources.names_held.get(one, ())} for one in tensors]
    used = [{user for user in index.users.of(one) if used_up < user < op} for one in tensors]
    for hook in sources.hooks.all:
        whole = hook.whole
        if hook.is_on_tensor or whole is None or not all(used):
            continue
        inside = set(hook.ops_at(whole.line, whole.end_line))
        if not all(users <= inside for users in used):
            continue
        if not all(any(map(hook.source.has_from_outside, names)) for names in called):
            continue
        before = [one for one in hook.registered if one.op <= used_up]
        again = [one for one in hook.registered if used_up < one.op <= op and int(one.detail.get("there", 0)) > 0]
        if before and again:
            return hook, before[0]
    return None
