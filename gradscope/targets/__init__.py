"""What to run: names and paths, cells, directives, REPL transcripts. Imports no torch."""

from gradscope.targets.program import Cell, Directive, Program, TranscriptStatement
from gradscope.targets.resolve import resolve

__all__ = ["Cell", "Directive", "Program", "TranscriptStatement", "resolve"]
