"""Whose a file is, told by its name: gradscope's, installed, the standard library's, or beside the user's."""

from __future__ import annotations

import json.decoder
import sysconfig
import zipimport
from pathlib import Path

import pytest
import torch

from gradscope.frames import whose_file
from gradscope.frames.tracebacks import is_own
from gradscope.frames.whose_file import is_beside, is_gradscope, is_installed, is_standard_library
from gradscope.recorder.places.code_owners import CodeOwners, Owner
from gradscope.targets.resolve import resolve

PACKAGE = str(whose_file.PACKAGE)
ROOT = "/home/u/work"


@pytest.mark.parametrize(
    ("filename", "is_ours"),
    [
        (whose_file.__file__, True),
        (PACKAGE + "\\recorder\\tape.py", True),
        (PACKAGE + "/_scenarios/detach.py", False),
        (PACKAGE + "\\_scenarios\\detach.py", False),
        (PACKAGE + "_of_somebody_else/a.py", False),
        ("<string>", False),
    ],
)
def test_gradscopes_own(filename, is_ours):
    assert is_gradscope(filename) == is_ours


@pytest.mark.parametrize(
    ("filename", "installed", "standard"),
    [
        (torch.__file__, True, False),
        (sysconfig.get_path("purelib") + "/a/b.py", True, False),
        ("C:\\Users\\u\\venv\\Lib\\site-packages\\a\\b.py", True, False),
        ("/usr/lib/python3/dist-packages/a.py", True, False),
        (sysconfig.get_path("stdlib") + "/site-packages/a.py", True, False),
        (json.decoder.__file__, False, True),
        (zipimport.__name__, False, False),
        (sysconfig.get_path("stdlib") + "-mine/a.py", False, False),
        ("/home/u/my-site-packages-notes/a.py", False, False),
    ],
)
def test_somebody_elses(filename, installed, standard):
    assert (is_installed(filename), is_standard_library(filename)) == (installed, standard)


@pytest.mark.parametrize(
    ("filename", "is_users"),
    [
        (f"{ROOT}/train.py", True),
        (f"{ROOT}/deep/er/net.py", True),
        (f"{ROOT}\\net.py", True),
        (f"{ROOT}s/net.py", False),
        (f"{ROOT}/venv/lib/python3.11/site-packages/a.py", False),
        ("<string>", False),
        (json.decoder.__file__, False),
        (whose_file.__file__, False),
    ],
)
def test_every_question_has_one_answer(filename, is_users):
    assert is_beside(filename, ROOT) == is_beside(filename, ROOT + "/") == is_users
    program = resolve("", code="x = 1")._replace(user_root=ROOT)
    assert program.is_user(filename) == (is_users or filename == program.filename)
    code = compile("0", filename, "exec")
    owner = CodeOwners(lambda name: is_beside(name, ROOT), lambda name: "").of(code)
    assert (owner is Owner.USER) == is_users
    assert (owner is Owner.GRADSCOPE) == is_own(code) == is_gradscope(filename)


def test_the_whole_disk_as_the_users_folder():
    assert is_beside("/train.py", "/")
    assert not is_beside(str(Path(torch.__file__)), "/")
