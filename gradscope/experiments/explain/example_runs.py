"""Running the example of a diagnosis and its healthy twin, so that what is shown of them was measured."""

from __future__ import annotations

from gradscope.analysis.diagnoses.diagnosis import Diagnosis
from gradscope.analysis.report_builder import build
from gradscope.experiments.compare.variant_process import VariantJob
from gradscope.experiments.compare.variant_runs import run_variants
from gradscope.experiments.explain.measured import Measured
from gradscope.targets.resolve import resolve


def run_example(known: Diagnosis) -> Measured:
    """Run the example of a diagnosis and its twin, each in a process of its own."""
    sources = (known.example.shows, known.example.healthy)
    jobs = [VariantJob(resolve(known.code, code=source), threads=1) for source in sources]
    shown, healthy = (ran.recording for ran in run_variants(jobs))
    outcome = shown.info.outcome
    error = f"{outcome.error_type}: {outcome.message.splitlines()[0]}" if outcome.kind == "exception" else ""
    sentences, healthy_sentences = (
        tuple(answer.text for answer in build(recording).answers if answer.code == known.code)
        for recording in (shown, healthy)
    )
    return Measured(sentences, error, healthy_sentences)
