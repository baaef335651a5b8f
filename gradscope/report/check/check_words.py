"""How the results of ``check`` are said, the same in every format."""

from __future__ import annotations

from gradscope.analysis.check_results import CheckReport, Expectation, TargetCheck


def counted(number: int, noun: str) -> str:
    """``1 line``, ``2 lines``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def place(target: TargetCheck, item: Expectation) -> str:
    """``train.py:14``; ``train.py, -e``."""
    return f"{target.file.partition('::')[0]}:{item.line}" if item.line else f"{target.file}, -e"


def sentence(item: Expectation) -> str:
    """How an expectation fared."""
    failure = item.first_failure
    if failure is None:
        return "holds" if item.evaluations else "never ran"
    said = f"raises {failure.error}" if failure.error else "does not hold"
    if item.evaluations == 1:
        return said
    return f"{said} (evaluation {failure.evaluation} of {item.evaluations}; {item.failures} failed)"


def target_sentence(target: TargetCheck) -> str:
    """How a target fared."""
    held = len(target.expectations) - len(target.failed)
    if target.failure:
        where = f" (line {target.failure_line})" if target.failure_line else ""
        return f"the program failed: {target.failure}{where}"
    parts = [f"{counted(held, 'expectation')} held"]
    if target.failed:
        parts = [f"{len(target.failed)} of {counted(len(target.expectations), 'expectation')} failed or never ran"]
    if target.answers:
        parts.append(_answered(len(target.answers)))
    return ", ".join(parts)


def summary(report: CheckReport) -> str:
    """One line for all."""
    parts = [f"{counted(report.count('holds'), 'expectation')} held"]
    if failed := report.count("fails", "raises"):
        parts.append(f"{failed} failed")
    if never := report.count("never ran"):
        parts.append(f"{never} never ran")
    if answers := sum(len(target.answers) for target in report.targets):
        parts.append(_answered(answers))
    if broken := sum(bool(target.failure) for target in report.targets):
        parts.append(f"{counted(broken, 'program')} failed")
    return f"{counted(len(report.targets), 'target')}: {', '.join(parts)} ({report.seconds:.1f} s)"


def _answered(number: int) -> str:
    """Of answers that ``--fail-on`` names."""
    return f"{counted(number, 'answer')} to fail for"
