"""A result as one JSON object: what it is, how it came out, the fields of a class; and the JSON Schema of it."""

from __future__ import annotations

from io import StringIO
from typing import Any, Generic, NamedTuple, TypeVar

from gradscope.report.json_values import write_object

Result = TypeVar("Result", bound=NamedTuple)


class JsonDocument(Generic[Result]):
    """The JSON of one kind of result.

    Args:
        format: What a reader knows it by.
        version: Raised with every change that could break a reader; keys are only ever added, which breaks none.
        model: The class of the result, all fields of which are written.
        outcomes: What it may come out as.
        meaning: What the outcome says, where the words do not.
    """

    def __init__(
        self, format: str, version: int, model: type[Result], outcomes: tuple[str, ...], meaning: str = ""
    ) -> None:
        self._format = format
        self._version = version
        self._model = model
        self._outcomes = outcomes
        self._meaning = meaning

    def text(self, result: Result, outcome: str) -> str:
        """Everything as one object."""
        stream = StringIO()
        head = {"format": self._format, "version": self._version, "outcome": outcome}
        write_object(head | result._asdict(), stream)
        return stream.getvalue()

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema, made from the class."""
        from gradscope.report.json_schema import document_schema

        outcome = {"enum": list(self._outcomes)} | ({"description": self._meaning} if self._meaning else {})
        head = {"format": {"const": self._format}, "version": {"const": self._version}, "outcome": outcome}
        return document_schema(self._format, self._model, head)
