"""What ``whatif`` measured: a line as it is and in variants. Plain named tuples of JSON types, like the report's."""

from __future__ import annotations

from typing import NamedTuple


class Likeness(NamedTuple):
    """How values of a variant's run compare with those of the unchanged run."""

    same: bool | None
    """All that were compared are the same, to the bit; None where there was nothing to compare."""
    relative: float | None
    """How far off, at the first backward pass that differs: the largest difference over the largest absolute value of
    the unchanged run's. None where nothing differs, or it is not known."""
    largest: float | None
    """That difference."""
    name: str
    """Of which tensor."""
    first_pass: int
    """The backward pass, counted from 1, at which the first one differs; 0: none, or the end of the run is compared."""
    compared: int
    """How many were compared, of all passes."""


class Trial(NamedTuple):
    """One variant, and what came of it."""

    name: str
    """Of the variant, or the expression that stood there instead; ``as it is``: the unchanged program."""
    code: str
    """What stood in the statement's place, on one line."""
    outcome: str
    """``ok``, or how it ended otherwise, as ``compare`` says it: ``exception``, ``exit``, ``timeout`` …"""
    exit_code: int | None
    message: str
    """How it ended, in words; empty where it ended well."""
    line: int
    """Where it raised, in the user's lines; 0 where it did not."""
    passes: int
    """Backward passes."""
    parameters: int
    """Leaves that required grad when a backward pass began."""
    with_gradient: int
    """Of these, those that a backward pass gave a gradient."""
    lost: tuple[str, ...]
    """Leaves that got a gradient in the unchanged run, and none in this one."""
    gained: tuple[str, ...]
    """The other way round."""
    losses: Likeness
    """What the backward passes started from."""
    gradients: Likeness
    """``.grad`` after the first backward passes, of leaves that have one in both runs."""
    values: Likeness
    """The leaves when the run was over."""
    saved_bytes: int | None
    """Kept for backward, each memory block where it was first saved, in the whole run; None where nothing is known."""
    peak_bytes: int | None
    """The most tensor memory in use at a time."""
    recomputes: bool
    """A part of it is computed anew in backward passes (a checkpoint), or kept by saved-tensor hooks: what is in use
    meanwhile is in no number."""
    wall_ns: int | None
    """From the first statement to the end, without the recorder: the median; None where it was not timed."""
    wall_spread_ns: int | None
    """Between the quartiles; None of a single run."""
    wall_runs_ns: tuple[int, ...]
    """Of each timed run."""
    backward_ns: int | None
    """Of the median's time in backward passes: their median."""
    new_answers: tuple[str, ...]
    """Codes of the problems and warnings that ``run`` has for this program, and not for the unchanged one."""
    gone_answers: tuple[str, ...]
    """The other way round."""
    mends: tuple[str, ...]
    """Where the unchanged program does not end well, and this does: what is over with that, in words."""
    saves: tuple[str, ...]
    """What it saves, in words."""
    costs: tuple[str, ...]
    """What it takes more of, in words."""
    breaks: tuple[str, ...]
    """What is no longer as it was, in words."""


class WhatIf(NamedTuple):
    """A line as it is and in variants."""

    target: str
    file: str
    """The line's, for people."""
    file_is_module: bool
    """It is another file than the target's own."""
    line: int
    name: str
    """What of the line was asked about; empty: what its statement is about."""
    source: str
    """The statement, as it is written."""
    executions: int
    """How often it ran in the unchanged program."""
    trials: tuple[Trial, ...]
    """The first is the unchanged program."""
    uncertain: tuple[str, ...]
    """Facts in which two runs of the unchanged program differ from one another: a difference in these says nothing."""
    noise: tuple[str, ...]
    """How they differ, in words."""
    seed: int | None
    """What random numbers started from; None: whatever the program does."""
    stop_after: int
    """Backward passes after which each run was ended; 0: each came to its own end."""
    repeat: int
    """Timed runs of each; 0: none was timed."""
    remarks: tuple[str, ...]
    summary: str
    """What the variants would save and what they would break, in a sentence."""
    torch: str
    python: str
