"""What the records of the logging module hold that its handlers keep: arguments are formatted late, or never.

A handler keeps the records in a list or deque of its own (``MemoryHandler.buffer``); no name of the program's leads
there where it was added to a logger by its name.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

from gradscope.recorder.naming.instance_attributes import attributes_of

RECORDS = 256
"""Records of one list that are looked at."""


def held_in_logs() -> Iterator[tuple[str, Any]]:
    """Paths and values: ``MemoryHandler.buffer[3].args[1]``. No code of the program's runs; nothing is imported."""
    logging = sys.modules.get("logging")
    if logging is None:
        return
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    handlers = {id(one): one for logger in loggers for one in attributes_of(logger).get("handlers", ())}
    for handler in handlers.values():
        for name, kept in list(attributes_of(handler).items()):
            if type(kept) in (list, deque):
                for position, record in enumerate(list(kept)[:RECORDS]):
                    if isinstance(record, logging.LogRecord):
                        yield from _in_record(f"{type(handler).__name__}.{name}[{position}]", attributes_of(record))


def _in_record(path: str, record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    args = record.get("args")
    if type(args) is tuple:
        yield from ((f"{path}.args[{number}]", value) for number, value in enumerate(args))
    elif type(args) is dict:
        yield from ((f"{path}.args[{key!r}]", value) for key, value in list(args.items()) if type(key) is str)
    yield f"{path}.msg", record.get("msg")
