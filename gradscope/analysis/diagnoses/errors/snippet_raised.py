"""Parts of a transcript, page or notebook that raise, or print something else than the page shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.program.snippet_runs import SnippetFacts, one_line
from gradscope.analysis.report_model import Cause, Evidence

_NO_NAME = "name '"
_LONGEST = 100


def _raised(sources: Sources) -> Iterator[Finding]:
    runs = sources.snippets
    wanting: dict[int, int] = {}
    for facts in runs.all:
        before = runs.failed_before(facts) if facts.error_type == "NameError" else None
        if before is not None and _missing(facts) == before[1]:
            wanting[before[0].row] = wanting.get(before[0].row, 0) + 1
    for facts in runs.all:
        before = runs.failed_before(facts) if facts.error_type == "NameError" else None
        if not facts.raised_unannounced or (before is not None and _missing(facts) == before[1]):
            continue
        instead = f", and the page shows {facts.shown_error}" if facts.shown_error else ""
        message = f": {one_line(facts.message, _LONGEST)}" if facts.message else ""
        later = wanting.get(facts.row, 0)
        because = f", and so do {later} later for want of what it makes" if later else ""
        why, advice = _reason(sources, facts)
        yield _finding(
            sources,
            facts,
            f"Line {facts.error_line} raised {facts.error_type}{message}{instead}{because}",
            [_cause(sources, facts, facts.error_line)] if _is_in_the_text(facts) else [],
            why,
            advice,
        )


def _reason(sources: Sources, facts: SnippetFacts) -> tuple[str, str]:
    """Why a name is not there, and which one may be meant."""
    name = _missing(facts)
    runs = sources.snippets
    if not name or any(name in runs.stored(one) for one in runs.all):
        return "", ""
    why = f"nothing here defines {name}"
    position = runs.all.index(facts)
    previous = runs.all[position - 1] if position else None
    if previous is None or previous.end_line + 1 != facts.line or len(runs.statements(facts)) != 1:
        return why, ""
    unused = [one for one in runs.stored(previous) - runs.loaded(facts) if abs(len(one) - len(name)) <= 1]
    is_called = re.search(rf"\b{re.escape(name)}\(", sources.index.recording.source(facts.file, facts.error_line))
    if len(unused) != 1 or is_called:
        return why, ""
    made = unused[0]
    return f"{why}; line {previous.line}, just before, makes {made}, which it does not use", f"Is {made} meant?"


def _missing(facts: SnippetFacts) -> str:
    """The name that a NameError is about."""
    if facts.error_type != "NameError" or not facts.message.startswith(_NO_NAME):
        return ""
    return facts.message.removeprefix(_NO_NAME).partition("'")[0]


def _is_in_the_text(facts: SnippetFacts) -> bool:
    """Whether the line that raised is the one to change; what torch refuses may come from far."""
    return facts.error_type in ("NameError", "SyntaxError", "IndentationError", "ModuleNotFoundError", "ImportError")


def _differs(sources: Sources) -> Iterator[Finding]:
    for facts in sources.snippets.all:
        if facts.is_as_shown is not False:
            continue
        if facts.shown_error:
            symptom = f"Line {facts.line} raises nothing today, and the page shows {facts.shown_error}"
        else:
            today, page = one_line(facts.printed, _LONGEST), one_line(facts.shown, _LONGEST)
            symptom = f"Line {facts.line} prints {today} today, and the page shows {page}"
        before = sources.snippets.failed_before(facts)
        why, causes = "", []
        if before is not None:
            earlier, name = before
            why = f"line {earlier.error_line}, which was to make {name}, raised"
            causes = [_cause(sources, earlier, earlier.error_line)]
        yield _finding(sources, facts, symptom, causes, why, "")


def _finding(
    sources: Sources, facts: SnippetFacts, symptom: str, causes: list[Cause], why: str, advice: str
) -> Finding:
    return Finding(
        subject=f"line {facts.line}",
        symptom=symptom,
        why=why,
        causes=tuple(causes),
        evidence=(Evidence("events", facts.row),),
        place=sources.snippets.place(facts),
        tensor="",
        advice=advice,
    )


def _cause(sources: Sources, facts: SnippetFacts, line: int) -> Cause:
    place = sources.snippets.place(facts, line)
    return Cause(place.file, line, line, (), place.function, place.source, "used")


DIAGNOSES = (
    Diagnosis(
        code="snippet-raised",
        title="A part of a transcript, page or notebook raised an error that the page does not show",
        severity="problem",
        explanation=Explanation(
            meaning="What stands behind a prompt, in a block of a page or in a cell raised an error. The others were "
            "run all the same (after a cell of a notebook none is, as in Jupyter), so that what comes later may lack "
            "what this part was to make.",
            reason="A page is not run when it is written, or was run with other versions. A name that nothing defines "
            "is a slip of its writer, or is defined in a part that the page leaves out. An error of torch's has an "
            "answer of its own instead where its cause is known.",
            remedy="Mend the line; where a part of the program is not on the page, import or define what is missing "
            "before it (--import NAME). A page that shows the error below the code gets no such answer.",
        ),
        example=Example(
            shows=">>> import torch\n"
            ">>> t = torch.tensor([3.0, 4.0], requires_grad=True)\n"
            ">>> d = m.pow(2).sum()\n"
            ">>> d\n",
            instead_of=">>> d = m.pow(2).sum()",
            silent=">>> d = t.pow(2).sum()",
        ),
        find=_raised,
    ),
    Diagnosis(
        code="output-differs",
        title="A transcript shows another output than its code has today",
        severity="note",
        explanation=Explanation(
            meaning="What stands below the code in the transcript is not what the code printed in this run. Ids, "
            "addresses and blanks are not compared, nor is text that looks like no output.",
            reason="Versions of torch print tensors and name graph nodes differently, and what was an error then may "
            "be none now; random numbers differ; or a line before raised, so that a name is still what it was.",
            remedy="Believe what was measured: it is what this version of torch does. Where another line is named, "
            "mend that one first.",
        ),
        example=Example(
            shows=">>> import torch\n"
            ">>> t = torch.tensor([3.0, 4.0], requires_grad=True)\n"
            ">>> t * 2\n"
            "tensor([6., 8.], grad_fn=<MulBackward>)\n",
            instead_of="tensor([6., 8.], grad_fn=<MulBackward>)",
            silent="tensor([6., 8.], grad_fn=<MulBackward0>)",
        ),
        find=_differs,
    ),
)
