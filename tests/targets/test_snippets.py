"""Pages, notebooks and docstrings: which parts of them are run, and on which lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradscope.errors import TargetError, UsageError
from gradscope.targets.program import Program
from gradscope.targets.resolve import resolve
from gradscope.targets.snippets import with_imports
from gradscope.targets.transcripts import read_transcript
from gradscope.targets.variants import cell_variants

PAGE = """\
# Title

```python
w = torch.ones(2)
```

    > prose

```bash
ls
```

~~~{code-cell} python
x = (1 +
~~~

```pycon
>>> w + 1
tensor([2., 2.])
```
"""


def written(tmp_path: Path, name: str, text: str, part: str = "") -> Program:
    (tmp_path / name).write_text(text)
    return resolve(str(tmp_path / name) + part)


def notebook(*cells: tuple[str, list[str]], **fields: object) -> str:
    code = [{"cell_type": "code", "source": [text], "metadata": {"tags": tags}} for text, tags in cells]
    return json.dumps({"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "markdown"}, *code], **fields})


def test_a_page_is_its_blocks_of_python_and_its_prompts(tmp_path: Path):
    program = written(tmp_path, "page.md", PAGE)
    assert program.kind.name == "page"
    assert [(one.line, one.code, one.echo) for one in program.snippets] == [
        (4, "w = torch.ones(2)\n", "none"),
        (14, "x = (1 +\n", "none"),
        (18, "w + 1\n", "all"),
    ]
    assert program.source.split("\n")[13] == "# x = (1 +"  # so that the rest can be parsed


def test_what_a_page_does_not_import_is_imported_and_said(tmp_path: Path):
    program = written(tmp_path, "page.md", PAGE)
    assert program.imports == ("import torch",)
    assert len(program.remarks) == 1 and "--import torch" in program.remarks[0]
    asked = with_imports(program, ["torch"])
    assert (asked.imports, asked.remarks) == (("import torch",), ())
    with pytest.raises(UsageError):
        with_imports(program, ["torch; print(1)"])


@pytest.mark.parametrize("line", ["import torch", "from torch import *", "torch = 1", "def f(torch): pass"])
def test_a_page_that_defines_torch_gets_no_import(tmp_path: Path, line: str):
    assert written(tmp_path, "post.txt", f"prose here\n>>> {line}\n>>> torch.ones(2)\n").imports == ()


def test_ipython_prompts_and_what_is_shown_below():
    text = "In [1]: x = 1\n   ...: x + 1\n\nOut[1]: 2\n\nprose\nIn [2]: x\n"
    first, second = read_transcript(text)
    assert (first.code, first.echo, first.shown) == ("x = 1\nx + 1\n", "last", "2")
    assert (second.line, second.shown) == (7, "")


def test_what_a_transcript_shows_ends_at_a_blank_line_and_at_a_fence():
    shown = [one.shown for one in read_transcript("  >>> f()\n  1\n  2\n\nprose\n>>> g()\n3\n```\nprose")]
    assert shown == ["1\n2", "3"]


def test_the_cells_of_a_notebook_have_lines_that_say_which(tmp_path: Path):
    text = notebook(("%matplotlib inline\nimport torch\nx = !ls", []), ("%%bash\nls", []), ("a = 7 % 3\n", ["setup"]))
    program = written(tmp_path, "nb.ipynb", text)
    assert [(one.line, one.end_line) for one in program.snippets] == [(101, 103), (301, 301)]
    assert program.source.split("\n")[300] == "a = 7 % 3"
    said = " ".join(program.remarks)
    assert "302 is line 2 of cell 3" in said and "%matplotlib inline, x = !ls" in said and "%%bash" in said
    long = written(tmp_path, "long.ipynb", notebook(("a = 1\n" * 100, []), ("b = 2", [])))
    assert long.snippets[1].line == 2001


@pytest.mark.parametrize(("part", "count"), [("", 3), ("::2", 2), ("::model", 2)])
def test_a_cell_is_named_by_number_or_tag_and_may_use_those_before_it(tmp_path: Path, part: str, count: int):
    text = notebook(("a = 1", []), ("b = 2", ["model"]), ("c = 3", []))
    assert len(written(tmp_path, "nb.ipynb", text, part).snippets) == count


@pytest.mark.parametrize(
    ("text", "part", "said"),
    [
        (notebook(("a = 1", ["model"])), "::modle", "no cell 'modle'"),
        (notebook(), "", "no cell of code"),
        (notebook(nbformat=3), "", "format 3"),
        (notebook(("a", []), metadata={"kernelspec": {"language": "julia"}}), "", "julia"),
        ("[]", "", "no notebook"),
        ("{", "", "no notebook"),
    ],
)
def test_what_cannot_be_run_of_a_notebook_is_said(tmp_path: Path, text: str, part: str, said: str):
    with pytest.raises(TargetError) as caught:
        written(tmp_path, "nb.ipynb", text, part)
    assert said in caught.value.message


def test_docstrings_have_examples_on_their_lines_and_names_of_their_own(tmp_path: Path):
    text = '"""\n>>> 1\n1\n"""\ndef f():\n    r"""One.\n\n    >>> f()\n    >>> 2\n    2\n    """\n'
    program = written(tmp_path, "m.py", text, "::docstrings")
    assert [(one.line, one.shown) for one in program.snippets] == [(2, "1"), (8, ""), (9, "2")]
    assert len({one.group for one in program.snippets}) == 2
    with pytest.raises(TargetError):
        written(tmp_path, "none.py", '"""No example."""\n', "::docstrings")


def test_an_empty_choice_of_cells_is_refused():
    program = resolve("", code="# %% a\n1\n# %% b\n2\n")
    with pytest.raises(UsageError) as caught:
        cell_variants(program, [""])
    assert "--only names no cell" in caught.value.message
    assert len(cell_variants(program, ["a"])) == 1
