"""Values of options converted without pydantic, whose import costs more than all else that ``gradscope list`` does.

Typer converts by pydantic (in its later versions), and imports it when the first value is converted. The options of
gradscope have simple types; a value that is not of its type still goes to Typer, which says what is wrong with it.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, get_args


def convert_quickly(command: Any) -> None:
    """Let a command convert simple values by itself, where this Typer would use pydantic."""
    for parameter in command.params:
        _convert_parameter(parameter)
    make_help_option = command.get_help_option  # made when the command is called, and no parameter before

    def get_help_option(context: Any) -> Any:
        option = make_help_option(context)
        _convert_parameter(option)
        return option

    command.get_help_option = get_help_option


def _convert_parameter(parameter: Any) -> None:
    if hasattr(parameter, "type_descriptor") and getattr(parameter, "_runtime_param", parameter) is None:
        parameter._runtime_param = _QuickConversion()


class _QuickConversion:
    """Stands in for Typer's conversion of one parameter."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Convert a value, or leave it to Typer."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        annotation, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
        try:
            if many:
                (item_type,) = get_args(annotation)
                return [_converted(item, item_type, info) for item in value]
            return _converted(value, annotation, info)
        except (TypeError, ValueError):
            param._runtime_param = None
            return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _converted(value: Any, annotation: Any, info: Any) -> Any:
    if annotation is str and isinstance(value, str):
        return value
    if annotation is Path or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return annotation(value)
    if annotation in (int, float):
        number = annotation(value)
        if (info.min is None or number >= info.min) and (info.max is None or number <= info.max):
            return number
    raise TypeError(f"left to Typer: {value!r} as {annotation}")
