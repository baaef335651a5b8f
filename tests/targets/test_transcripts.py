"""REPL transcripts: which lines are statements, and which files are transcripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradscope.errors import TargetError
from gradscope.targets.resolve import resolve
from gradscope.targets.snippets import as_source
from gradscope.targets.transcripts import has_prompts, read_transcript

TEXT = """\
# A post

Some *prose* >>> not a prompt

```python
>>> import torch
>>> for i in range(2):
...     print(i)
...
0
1
>>>
>>> x = (1 +
... 2)
```

    >>> indented()
    'output'
> >>> quoted()
"""


def test_statements_keep_their_lines():
    statements = read_transcript(TEXT)
    assert [(item.line, item.source.strip("\n")) for item in statements] == [
        (6, "import torch"),
        (7, "for i in range(2):\n    print(i)"),
        (13, "x = (1 +\n2)"),
        (17, "indented()"),
        (19, "quoted()"),
    ]
    for item in statements:
        assert item.source.split("\n")[item.line - 1].strip()


def test_the_source_has_each_statement_on_its_line_and_nothing_else():
    lines = as_source(TEXT.count("\n") + 1, read_transcript(TEXT)).split("\n")
    assert len(lines) == len(TEXT.split("\n"))
    code = {number: line for number, line in enumerate(lines, 1) if line}
    assert code == {
        6: "import torch",
        7: "for i in range(2):",
        8: "    print(i)",
        13: "x = (1 +",
        14: "2)",
        17: "indented()",
        19: "quoted()",
    }


@pytest.mark.parametrize("text", ["a >> b", ">>>", ">>>x", "text\n... more", ""])
def test_texts_without_prompts(text: str):
    assert not has_prompts(text)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("post.md", "prose\n>>> x = 1\n", "transcript"),
        ("post.txt", ">>> x = 1\n1\n", "transcript"),
        ("pasted.py", ">>> x = 1\n1\n", "transcript"),
        ("doctest.py", '"""\n>>> x = 1\n"""\n', "script"),
        ("no_suffix", "x = 1\n", "script"),
    ],
)
def test_a_transcript_is_known_by_its_content(tmp_path: Path, name: str, content: str, kind: str):
    (tmp_path / name).write_text(content)
    assert resolve(str(tmp_path / name)).kind.name == kind


def test_a_python_file_with_an_error_and_a_doctest_is_no_transcript(tmp_path: Path):
    (tmp_path / "broken.py").write_text('"""\n>>> x = 1\n"""\ndef f(:\n')
    with pytest.raises(TargetError) as caught:
        resolve(str(tmp_path / "broken.py"))
    assert "line 4" in caught.value.message
