"""What answers are for beside reading: a baseline that accepts them, and an exit code."""

from __future__ import annotations

from gradscope.cli.options.answer_options import AnswersAsked
from gradscope.cli.output.failures import note
from gradscope.errors import ExitCode
from gradscope.report.run.run_result import RunResult


def judge(result: RunResult, asked: AnswersAsked) -> ExitCode:
    """Accept the answers of a run where that was asked, else say whether the command is to fail.

    Raises:
        GradscopeError: The baseline cannot be written.
    """
    if asked.new_baseline is not None:
        from gradscope.report.output_files import open_output

        report = result.report
        known = [one.answer for one in report.suppressed if one.by == "baseline"]
        baseline = asked.new_baseline.with_all([*report.answers, *known])
        with open_output(baseline.path) as stream:
            stream.write(baseline.as_text())
        count = len(report.answers)
        note(f"{count} {'answer' if count == 1 else 'answers'} accepted in {baseline.path}")
        return ExitCode.OK
    if asked.fail_on:
        from gradscope.analysis.selection.codes import failing

        if failing(result.report.answers, asked.fail_on):
            return ExitCode.DIFFERENT
    return _judge_lines(result)


def _judge_lines(result: RunResult) -> ExitCode:
    """Wrong use where ``--line`` asks for what no file has; which files there are is known once the program ran."""
    lines, files = result.view.lines, [file for file in result.recording.files if file.is_user]
    if lines is None or not files or any(not file.text or file.text.count("\n") + 1 >= lines[0] for file in files):
        return ExitCode.OK
    note(f"--line {lines[0]}: no file in which torch was called has as many lines")
    return ExitCode.USAGE
