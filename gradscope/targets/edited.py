"""A program with other source than its file has: what a trial of an edit runs. Nothing is written to a file."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple

from gradscope.errors import TargetError
from gradscope.targets.program import Program, Snippet


class EditedSource(NamedTuple):
    """What is run in the place of a file's text."""

    text: str
    """What tracebacks and recordings show."""
    tree: ast.Module | None = None
    """What is compiled, where that is not the text; its positions are positions in the text."""

    def parsed(self, filename: str) -> ast.Module:
        """The tree that is compiled.

        Raises:
            SyntaxError: The text is no Python.
        """
        return ast.parse(self.text, filename) if self.tree is None else self.tree


def with_source(program: Program, edited: EditedSource) -> Program:
    """The program as it is with another source; its comments of gradscope's (``# watch:``) are left out.

    Raises:
        TargetError: It is run part by part, and the text has no longer the same lines.
    """
    snippets: Iterable[Snippet] = program.snippets
    if program.kind.snippet:
        before, lines = program.source.split("\n"), edited.text.split("\n")
        if len(lines) != len(before):
            raise TargetError(
                f"{program.name} is run {program.kind.snippet} by {program.kind.snippet}: an edit keeps its lines"
            )
        snippets = [_cut(snippet, before, lines) for snippet in program.snippets]
    return program._replace(
        source=edited.text, tree=edited.tree, is_edited=True, snippets=tuple(snippets), directives=()
    )


def _cut(snippet: Snippet, before: list[str], lines: list[str]) -> Snippet:
    """A snippet as it is in the lines of an edited text; one that is no Python stands in neither."""
    place = slice(snippet.line - 1, snippet.end_line)
    if before[place] == lines[place]:
        return snippet
    code = "\n".join(lines[place])
    return snippet._replace(source="\n" * (snippet.line - 1) + code)
