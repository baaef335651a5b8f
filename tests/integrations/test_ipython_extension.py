"""``%%gradscope`` in a real kernel: cells as a notebook has them, with names and functions of earlier ones."""

from __future__ import annotations

from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = (
    "%load_ext gradscope",
    "import torch\nw = torch.ones(2, requires_grad=True)\ndef cut(t):\n    return t.detach()",
    "%%gradscope\nh = w * 2\nh.sum().backward()\nh.grad\nloss = cut(h)",
    "%%gradscope --values --as kept -o page.html -o page.svg -o page.md\ntorch.ones(2) + torch.ones(3)",
    "[kept.info.outcome.kind, kept.info.target, kept.files[0].name, len(_gradscope.backwards), page_is_there()]",
    "%%gradscope --colour\nraise SystemExit",
    "%%gradscope --summary\n'shown'",
    "%gradscope why",
    "%%gradscope\nv = w * 3\nv.sum().backward()",
    "%gradscope why v.grad",
    "n = w.norm()",
    "%gradscope why w.grad",
    "%gradscope why n",
    "w.grad = None",
    "%gradscope why w.grad",
    "%gradscope why nowhere",
    "%gradscope wy v",
    "%unload_ext gradscope",
)
HELPER = """
def page_is_there():
    import pathlib
    return pathlib.Path('page.html').read_text().startswith('<!doctype html>')
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """What each of the cells put out."""
    cells = [nbformat.v4.new_code_cell(source) for source in (HELPER, *CELLS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    folder = str(tmp_path_factory.mktemp("notebook"))
    client = nbclient.NotebookClient(notebook, timeout=600, allow_errors=True, resources={"metadata": {"path": folder}})
    client.execute()
    return [cell.outputs for cell in cells[1:]]


def shown(outputs: list[Any], kind: str = "text/plain") -> str:
    return "\n".join(output.data[kind] for output in outputs if "data" in output and kind in output.data)


def test_a_cell_is_answered_by_its_lines_and_earlier_names(outputs: list[list[Any]]):
    html, text = shown(outputs[2], "text/html"), shown(outputs[2])
    assert "h.grad is None at line 4: h is not a leaf, it was made at line 2 by Tensor.mul from w." in html
    assert "gradscope cell 4" in text and "cut: detach" in text
    assert "cell 3:4" in text  # the function of the earlier cell
    assert "ipykernel" not in html + text and "\x1b" not in text
    assert len(outputs[2]) == 2  # what the cell itself shows, and the recording


def test_an_error_is_shown_by_ipython_and_recorded(outputs: list[list[Any]]):
    assert [output.ename for output in outputs[3] if output.output_type == "error"] == ["RuntimeError"]
    assert "raised RuntimeError" in shown(outputs[3])
    assert len(outputs[3]) == 2  # the error and the recording: writing files shows nothing
    assert shown(outputs[4]) == "['exception', 'cell 5', 'cell 5', 1, True]"


def test_a_wrong_option_is_said_and_nothing_is_run(outputs: list[list[Any]]):
    (output,) = outputs[5]
    assert output.name == "stdout" and "unrecognized arguments: --colour\n  usage: %%gradscope" in output.text


def test_what_a_cell_gives_is_shown_as_ever(outputs: list[list[Any]]):
    assert outputs[6][0].data["text/plain"] == "'shown'"
    assert outputs[-1] == []


def test_a_question_about_the_last_recorded_cell(outputs: list[list[Any]]):
    said = [" ".join("".join(one.get("text", "") for one in cell).split()) for cell in outputs[7:16]]
    first, _, non_leaf, _, leaf, later, _, cleared, unknown = said
    wrong = outputs[16][0].text
    assert first.startswith("? No problem was seen in this run of 0 calls of torch")
    assert "v.grad is None now: v is not a leaf, it was made at line 2 by Tensor.mul from w" in non_leaf
    assert "What to change" in non_leaf and "not seen" not in non_leaf
    assert "7.071 now. It is from the backward pass of line 3, added to one that was there before." in leaf
    assert "a cell was run since then and not seen" in leaf
    assert "was not seen to use n" in later
    assert "w.grad was changed since the last cell under %%gradscope" in cleared
    assert not any("Warning" in one.get("text", "") for one in outputs[9])
    assert "nowhere, evaluated now, raises NameError" in unknown
    assert "%gradscope wy is nothing that is known\n  %gradscope why w.grad asks" in wrong
