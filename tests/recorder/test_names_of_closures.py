"""What functions keep that a program holds at its end: under the program's own names, or said to be another's."""

from __future__ import annotations

from tests.analysis.building import recorded


def test_names_inside_torch_are_not_given_as_the_programs() -> None:
    recording = recorded("import torch\nx = torch.ones(3)\nout, pull = torch.func.vjp(torch.sin, x)\npull(x)")
    names = {recording.text(binding.name) for binding in recording.bindings}
    assert names and all(name in ("x", "out") or name.startswith("pull.__closure__.") for name in names)


def test_a_name_of_the_programs_own_function_is_its_own() -> None:
    recording = recorded(
        "import torch\ndef make():\n    kept = torch.ones(3)\n    return lambda: kept\nf = [make()]\ny = torch.ones(1)"
    )
    assert "kept" in {recording.text(binding.name) for binding in recording.bindings}
