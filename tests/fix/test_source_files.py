"""An edited file keeps its line ends, encoding, mode; and what is not written, and why."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gradscope.analysis.edits.edit_model import SpanChange
from gradscope.errors import GradscopeError
from gradscope.experiments.fix.source_files import SourceFileOnDisk, unified, write_back

RUN = "x = 'ä'\nif x:\n\ty = x\nz = 1"
CHANGES = (SpanChange(RUN.index("y = x"), RUN.index("y = x"), "w = 2\n\t"), SpanChange(len(RUN) - 1, len(RUN), "2"))


def read(path: Path) -> SourceFileOnDisk:
    file = SourceFileOnDisk.read(path)
    assert file is not None
    return file


@pytest.mark.parametrize(
    ("encoding", "newline"),
    [
        ("utf-8", "\n"),
        ("utf-8", "\r\n"),
        ("utf-8", "\r"),
        ("utf-8-sig", "\r\n"),
        ("latin-1", "\n"),
        ("latin-1", "\r\n"),
    ],
)
def test_line_ends_encoding_and_mode_stay(tmp_path: Path, encoding: str, newline: str):
    head = "# -*- coding: latin-1 -*-\n" if encoding == "latin-1" else ""
    path = tmp_path / "program.py"
    path.write_bytes((head + RUN).replace("\n", newline).encode(encoding))
    path.chmod(0o750)
    file = read(path)
    moved = [SpanChange(one.start + len(head), one.end + len(head), one.text) for one in CHANGES]
    text = file.edited(head + RUN, moved)
    assert text is not None
    write_back(file, text, tmp_path)
    expected = (head + "x = 'ä'\nif x:\n\tw = 2\n\ty = x\nz = 2").replace("\n", newline)
    assert path.read_bytes() == expected.encode(encoding)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert [one.name for one in tmp_path.iterdir()] == ["program.py"]


def test_a_part_of_a_file_is_edited_where_its_lines_are_those_of_the_file(tmp_path: Path):
    path = tmp_path / "cells.py"
    path.write_text("a = 1\nb = 2\nc = 3\n")
    assert read(path).edited("\nb = 2\n\n", [SpanChange(5, 6, "5")]) == "a = 1\nb = 5\nc = 3\n"
    assert read(path).edited("\nb = 7\n\n", [SpanChange(5, 6, "5")]) is None


def test_a_file_that_was_changed_or_lies_elsewhere_is_not_written(tmp_path: Path):
    inside, outside = tmp_path / "inside", tmp_path / "outside.py"
    inside.mkdir()
    outside.write_text("a = 1\n")
    (inside / "link.py").symlink_to(outside)
    with pytest.raises(GradscopeError, match="outside of"):
        write_back(read(inside / "link.py"), "a = 2\n", inside)
    own = inside / "own.py"
    own.write_text("a = 1\n")
    file = read(own)
    own.write_text("a = 3\n")
    with pytest.raises(GradscopeError, match="was changed"):
        write_back(file, "a = 2\n", inside)
    assert (outside.read_text(), own.read_text()) == ("a = 1\n", "a = 3\n")


def test_a_link_to_a_file_of_the_folder_stays_a_link(tmp_path: Path):
    (tmp_path / "real.py").write_text("a = 1\n")
    (tmp_path / "link.py").symlink_to("real.py")
    write_back(read(tmp_path / "link.py"), "a = 2\n", tmp_path)
    assert (tmp_path / "link.py").is_symlink() and (tmp_path / "real.py").read_text() == "a = 2\n"


def test_a_diff_says_where_no_newline_ends_a_file():
    assert unified("f.py", "a\r\nb", "a\r\nc") == (
        "--- a/f.py\n+++ b/f.py\n@@ -1,2 +1,2 @@\n a\r\n-b\n\\ No newline at end of file\n"
        "+c\n\\ No newline at end of file\n"
    )
