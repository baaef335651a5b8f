"""The kinds of targets, and what follows from each for how Python would run it. A new kind is added here alone."""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of target."""

    name: str
    """As a recording says it."""
    is_in_file: bool = False
    """Python would load it from ``filename``."""
    has_file_name: bool = False
    """Its module has ``__file__``."""
    differs_from_file: bool = False
    """The source that is run cannot be read from ``filename``."""
    flushes_at_end: bool = False
    """Python writes out its output before it shows what the program raised."""
    is_module: bool = False
    """Run by ``runpy``, as ``python -m`` does."""
    snippet: str = ""
    """What its parts are called that are run one by one (``prompt``); empty: it is run as a whole."""
    is_option: bool = False
    """Given as an option's value: ``python -c CODE``."""
    is_written_for_people: bool = False
    """What is obvious to a reader may be missing: its well-known imports are added."""
    has_display: bool = False
    """IPython would define ``display``."""


SCRIPT = Kind("script", is_in_file=True, has_file_name=True, flushes_at_end=True)
CELL = Kind("cell", is_in_file=True, has_file_name=True, differs_from_file=True, flushes_at_end=True)
MODULE = Kind("module", is_module=True)
CODE = Kind("code", differs_from_file=True, is_option=True)
STDIN = Kind("stdin", has_file_name=True, differs_from_file=True, flushes_at_end=True)
TRANSCRIPT = Kind(
    "transcript", differs_from_file=True, flushes_at_end=True, snippet="prompt", is_written_for_people=True
)
PAGE = Kind("page", differs_from_file=True, flushes_at_end=True, snippet="snippet", is_written_for_people=True)
NOTEBOOK = Kind("notebook", differs_from_file=True, flushes_at_end=True, snippet="cell", has_display=True)
DOCSTRINGS = Kind("docstrings", differs_from_file=True, flushes_at_end=True, snippet="example")
