"""Commands made of configurations: one option per field, with the field's help, bounds and default."""

import dataclasses
import inspect
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Type, TypeVar

import typer
from typing_extensions import Annotated, get_type_hints

from edgeseg.app.config_file import is_config_file, read_values
from edgeseg.app.fields import Config, Field, config_with, fields_of, overridden
from edgeseg.cli.console import with_flags

__all__ = ["command", "flags_of", "given_in", "values_in"]

C = TypeVar("C", bound=Config)


def command(kind: Type[C], function: Callable[..., Any], *, file_in: str = "") -> Callable[..., Any]:
    """Return a command for typer that builds a configuration from its options and gives it to a function.

    Args:
        kind: of the configuration.
        function: takes the configuration first. Its other parameters are options of the command too, or the
            ``typer.Context``; its docstring is the help.
        file_in: name of the field in whose place a file of a configuration may stand. Options override the file.
    """
    hints = get_type_hints(function, include_extras=True)
    first, *others = inspect.signature(function).parameters.values()
    wanted = [name for name, hint in hints.items() if hint is typer.Context]
    own = [one.replace(annotation=hints[one.name]) for one in others if one.name not in wanted]

    def called(context: typer.Context, **values: Any) -> Any:
        config = config_with(kind, values_in(kind, context, file_in))
        more = {one.name: values[one.name] for one in own}
        return function(config, **more, **dict.fromkeys(wanted, context))

    parameters = [
        inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(_parameter(field, flags_of(kind)) for field in fields_of(kind)),
        *own,
    ]
    vars(called)["__signature__"] = inspect.Signature(parameters)
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    called.__name__, called.__doc__, called.__module__ = function.__name__, function.__doc__, function.__module__
    return called


def flags_of(kind: Type[Config]) -> Dict[str, str]:
    """Return the flag of each field of a configuration, without that which turns a switch off."""
    return {field.name: field.flag.split("/")[0] for field in fields_of(kind)}


def given_in(context: Any) -> Dict[str, Any]:
    """Return the options that the command line or the environment gave, by the names of their parameters."""
    sources = ("COMMANDLINE", "ENVIRONMENT")
    return {
        name: value
        for name, value in context.params.items()
        # Before click 8.2 an argument that takes several words is given, as none.
        if getattr(context.get_parameter_source(name), "name", "") in sources and value not in (None, (), [])
    }


def values_in(kind: Type[Config], context: Any, file_in: str = "") -> Dict[str, Any]:
    """Return the values that a command line and its file give, by the names of their fields.

    Args:
        kind: of the configuration.
        context: of the command that ``command`` made.
        file_in: as of ``command``. The file need not be whole. What stands behind it takes the place of its value.

    Raises:
        UsageError: a value of the file is wrong. InputError: the file cannot be read.
    """
    fields = {field.name for field in fields_of(kind)}
    values = {name: _plain(value) for name, value in given_in(context).items() if name in fields}
    stands = values.get(file_in)
    first, *rest = stands if isinstance(stands, list) else [stands]
    if first is not None and is_config_file(Path(first)):
        del values[file_in]
        return overridden(kind, read_values(kind, Path(first)), {**values, **({file_in: rest} if rest else {})})
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value


def _parameter(field: Field, flags: Mapping[str, str]) -> inspect.Parameter:
    """Return the parameter of a command that typer makes the option or argument of a field from.

    Args:
        field: of a configuration.
        flags: the flag of each of its fields, for help that names others.
    """
    about = field.about
    plain = str if field.kind is Path else field.kind  # an empty path would come as the folder "."
    is_closed = bool(about.choices) and not about.address
    hint: Any = Enum(field.name, {one: one for one in about.choices}, type=str) if is_closed else plain
    is_missing = field.default is dataclasses.MISSING
    default = None if is_missing else str(field.default) if isinstance(field.default, Path) else field.default
    if is_closed and default:
        default = hint(default)
    if field.is_many:
        hint, default = List[hint], list(default) if default else None
    if field.is_many or field.is_optional or is_missing:
        hint = Optional[hint]
    text = with_flags(f"{about.help} (required)" if is_missing else about.help, flags)
    known: Dict[str, Any] = {"help": text, "min": about.at_least, "max": about.at_most}
    metavar = about.metavar or ("PATH" if field.kind is Path and not about.is_argument else None)
    if about.address:
        metavar = "|".join((*about.choices, about.address))
    known.update({"metavar": metavar, "envvar": about.variable or None})
    known["rich_help_panel"] = about.panel or None
    if about.is_argument:
        made: Any = typer.Argument(**known)
    else:
        made = typer.Option(*filter(None, (about.short, field.flag)), **known)
    return inspect.Parameter(
        field.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=Annotated[hint, made]
    )
