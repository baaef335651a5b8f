"""What is found at a line, what a variant makes of it, and what is said where there is nothing to try."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import pytest

from gradscope.errors import UsageError
from gradscope.experiments.whatif.asked_line import read_asked
from gradscope.experiments.whatif.asked_statement import AskedStatement, find_asked
from gradscope.experiments.whatif.edited_statement import Edited, edited
from gradscope.experiments.whatif.line_variants import read_variants, sensible

TEXT = """\
import torch
def forward(self, x, hidden):
    h = self.encoder(x)
    x = x + self.attn(self.ln_1(x))
    output, hidden = self.rnn(x, hidden)
    real = self.netD(fake.detach())
    with torch.no_grad():
        y = h * 2; z = 3

    for i in range(3):
        y = y + 1
    loss = crit(
        h,
        y,
    )
    total += loss.item()
    losses.append(loss)
    return [h.detach(), y.data]
@torch.no_grad()
def evaluate(a):
    # a comment
    pass
q = torch.utils.checkpoint.checkpoint(forward, x, use_reentrant=False)
"""
KINDS = {"self.encoder": "module", "h": "tensor", "output": "tensor", "hidden": "tuple", "x": "tensor"}
TREE = ast.parse(TEXT)


def asked_at(line: str) -> AskedStatement:
    return find_asked(TREE, read_asked(line), "t.py", TEXT.split("\n"))


def tried(line: str, variant: str, kinds: Mapping[str, str] = KINDS) -> Edited:
    (name,) = read_variants([variant], TREE)
    return edited(name, asked_at(line), TREE, TEXT, kinds)


@pytest.mark.parametrize(
    ("line", "variant", "instead"),
    [
        ("3", "detach", "h = self.encoder(x).detach()"),
        ("3", "torch.no_grad()", "with torch.no_grad(): h = self.encoder(x)"),
        ("3", "requires_grad_(False)", "self.encoder.requires_grad_(False); h = self.encoder(x)"),
        ("3", "checkpoint", "h = checkpoint(self.encoder, x, use_reentrant=False)"),
        ("3", "retain_grad", "h = self.encoder(x); h.retain_grad()"),
        ("3", "self.encoder(x)  *0", "h = self.encoder(x) * 0"),
        ("3:x", ".data", "h = self.encoder(x.data)"),
        ("4:=x", "detach", "x = x.detach() + self.attn(self.ln_1(x.detach()))"),
        ("4:x=", "detach", "x = x + self.attn(self.ln_1(x)); x = x.detach()"),
        ("4:self.ln_1(x)", "no_grad", "x = x + self.attn(torch.no_grad()(lambda: self.ln_1(x))())"),
        (
            "4",
            "checkpoint",
            "x = checkpoint(lambda x, self: x + self.attn(self.ln_1(x)), x, self, use_reentrant=False)",
        ),
        ("5", "detach", "output, hidden = self.rnn(x, hidden); output = output.detach()"),
        ("6", "remove", "real = self.netD(fake)"),
        ("6:fake", "detach().clone()", "real = self.netD(fake.detach().clone())"),
        ("6", "no_grad", "with torch.no_grad(): real = self.netD(fake)"),
        ("7", "remove", "without torch.no_grad()"),
        ("7", "inference_mode", "with torch.inference_mode(): y = h * 2; z = 3"),
        ("8:y", "clone", "y = h * 2; y = y.clone()"),
        ("10", "no_grad", "with torch.no_grad(): for i in range(3): …"),
        ("13", "detach", "loss = crit(h, y).detach()"),
        ("16", "remove", "total += loss"),
        ("17", "detach", "losses.append(loss.detach())"),
        ("18:y.data", "remove", "return [h.detach(), y]"),
        ("19", "remove", "def evaluate(…)"),
        ("20", "inference_mode", "@torch.inference_mode() def evaluate(…)"),
        ("23", "remove", "q = forward(x)"),
    ],
)
def test_a_variant_of_a_line(line: str, variant: str, instead: str) -> None:
    found = tried(line, variant)
    assert found.shown == instead
    compile(found.source.parsed("t.py"), "t.py", "exec")
    assert ast.dump(TREE, include_attributes=True) == ast.dump(ast.parse(TEXT), include_attributes=True)


@pytest.mark.parametrize(
    ("line", "variant"), [("3", "no_grad"), ("7", "remove"), ("10", "no_grad"), ("13", "detach"), ("19", "remove")]
)
def test_every_other_statement_stays_on_its_line(line: str, variant: str) -> None:
    changed = asked_at(line).statement

    def lines(tree: ast.Module) -> list[tuple[int, str]]:
        others = (node for node in ast.walk(tree) if isinstance(node, ast.stmt) and not hasattr(node, "body"))
        inside = range(changed.lineno, (changed.end_lineno or 0) + 1)
        return sorted((one.lineno, ast.unparse(one)) for one in others if one.lineno not in inside or line == "7")

    found = tried(line, variant)
    assert lines(found.source.parsed("t.py")) == lines(TREE)
    assert found.source.text.count("\n") == TEXT.count("\n")


def test_what_makes_sense_follows_from_what_the_names_held() -> None:
    value = asked_at("3")
    assert "requires_grad_(False)" in sensible(value, KINDS)
    assert "requires_grad_(False)" not in sensible(value, {**KINDS, "self.encoder": "frozen"})
    assert sensible(value, {"h": "data"}) == ()
    assert "detach" not in sensible(asked_at("5"), {"output": "data", "hidden": "tuple"})
    assert sensible(asked_at("7"), {}) == ("remove", "inference_mode")
    assert "detach().clone()" in sensible(asked_at("6"), {})
    assert "detach" not in sensible(asked_at("6"), {})


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("9", "line 9 of t.py has no statement", "the nearest is at line 8: y = h * 2; z = 3"),
        ("21", "line 21 of t.py has no statement", "the nearest is at line 20: def evaluate(a):"),
        ("99", "line 99 of t.py has no statement", "it has 24 lines"),
        ("3:zz", "line 3 of t.py has no zz", "what may be asked: 3:h  3:self.encoder(x)  3:self  3:x"),
        ("8", "line 8 of t.py has 2 statements", "what may be asked: 8:y  8:h  8:z"),
        ("4:x", "line 4 of t.py reads and stores x", "4:=x is what it reads, 4:x= what it stores"),
        ("6:=real", "line 6 of t.py does not read real", ""),
        ("18", "line 18 of t.py has 2 calls that may be dropped", "which? 18:h.detach()  18:y.data"),
        ("1", "line 1 of t.py has nothing that a variant could change: import torch", ""),
        ("x", "'x' is no line", ""),
        ("0", "'0' is no line", ""),
        ("3:a b", "'a b' is no Python expression: invalid syntax", ""),
    ],
)
def test_a_line_that_cannot_be_asked_about(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        asked_at(line)
    assert raised.value.message == message
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("line", "variant", "message"),
    [
        ("3", "detatch", "there is no variant 'detatch'"),
        ("3", "f(", "there is no variant 'f(', and it is no Python expression"),
        ("3", "remove", "remove is no variant of the statement at line 3: there is no call to drop"),
        ("10", "remove", "remove is no variant of the statement at line 10: a whole block is not dropped"),
        ("7", "detach", "detach is no variant of the statement at line 7: it is no grad mode"),
        ("4:x=", "checkpoint", "checkpoint is no variant of the statement at line 4: what a name holds cannot"),
    ],
)
def test_a_variant_that_is_none(line: str, variant: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        tried(line, variant)
    assert raised.value.message.startswith(message)


def test_a_name_of_the_program_is_an_expression_and_no_misspelt_variant() -> None:
    assert read_variants(["hidden", "detach()", "detach"], TREE) == ("hidden", "detach")
