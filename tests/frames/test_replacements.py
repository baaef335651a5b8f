"""What stands for something for a while is put back, and what somebody else has put in its place meanwhile stays."""

from __future__ import annotations

from types import SimpleNamespace

from gradscope.frames.replacements import Replacement


def adding(number):
    return lambda original: lambda: [*original(), number]


def first():
    return ["original"]


def test_what_was_there_is_back():
    owner = SimpleNamespace(call=first)
    with Replacement(owner, "call", adding(1)):
        assert owner.call() == ["original", 1]
    assert owner.call is first


def test_a_replacement_of_somebody_elses_stays():
    owner = SimpleNamespace(call=first)
    replaced = Replacement(owner, "call", adding(1))
    ours = owner.call
    owner.call = theirs = adding(2)(ours)
    replaced.put_back()
    assert owner.call is theirs
    owner.call = ours  # they are done
    assert owner.call() == ["original", 1]
    del owner.call  # nor does it come back where it was taken away
    replaced.put_back()
    assert not hasattr(owner, "call")


def test_what_was_inherited_is_inherited_again():
    class Base:
        def call(self):
            return ["base"]

    owner = Base()
    replaced = Replacement(owner, "call", adding(1))
    assert owner.call() == ["base", 1]
    replaced.put_back()
    assert vars(owner) == {} and owner.call() == ["base"]
