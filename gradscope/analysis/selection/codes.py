"""Codes of diagnoses as people write them: in options, in ``pyproject.toml``, in comments."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gradscope.analysis.diagnoses.catalogue import every_diagnosis
from gradscope.analysis.report_model import Answer
from gradscope.errors import UsageError

NEVER = "never"
"""What ``--fail-on`` takes to undo what ``pyproject.toml`` says."""

_SEVERITIES = ("problem", "warning", "note")
"""The most harmful first."""


def known_codes() -> frozenset[str]:
    """Every code; it imports every diagnosis, so that only what was written is compared with it."""
    return frozenset(known.code for known in every_diagnosis())


def codes_in(texts: Iterable[str]) -> tuple[str, ...]:
    """The codes in texts that may have several, with commas between, each with or without brackets around it."""
    parts = (part.strip().strip("[]") for text in texts for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def checked_codes(texts: Iterable[str], where: str) -> frozenset[str]:
    """The codes in texts.

    Args:
        texts: As they were written.
        where: What they were written behind: ``--select``.

    Raises:
        UsageError: One is not a diagnosis's.
    """
    codes = codes_in(texts)
    for code in codes:
        if code not in known_codes():
            raise UsageError(f"{where}: there is no diagnosis {code!r}", near_miss(code))
    return frozenset(codes)


def checked_grounds(texts: Iterable[str], where: str) -> frozenset[str]:
    """The codes and severities in texts for which a command is to fail; none for ``never``.

    Raises:
        UsageError: One is neither.
    """
    grounds = codes_in(texts)
    for ground in grounds:
        if ground not in known_codes() and ground not in (*_SEVERITIES, NEVER):
            hint = near_miss(ground, (*_SEVERITIES, NEVER))
            raise UsageError(f"{where}: {ground!r} is no severity and no diagnosis", hint)
    return frozenset(grounds) - {NEVER}


def near_miss(code: str, others: Collection[str] = ()) -> str:
    """What somebody who wrote a code that is none may have meant."""
    from difflib import get_close_matches

    close = get_close_matches(code, [*others, *(known.code for known in every_diagnosis())], n=2, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else "gradscope explain lists the codes"


def failing(answers: Iterable[Answer], grounds: Collection[str]) -> list[Answer]:
    """The answers that are a ground to fail: its code is one, or a severity that is not worse than its own."""
    wanted = {one for ground in grounds for one in (_as_bad_as(ground) if ground in _SEVERITIES else [ground])}
    return [answer for answer in answers if answer.code in wanted or answer.severity in wanted]


def _as_bad_as(severity: str) -> tuple[str, ...]:
    return _SEVERITIES[: _SEVERITIES.index(severity) + 1]
