"""What pycuda.driver offers: names, parameters, numbers and exceptions.

``pycuda_surface.json`` holds it, read by this script from a compiled pycuda (2026.1, over a driver library that exports
what it looks up): ``python pycuda_surface.py > pycuda_surface.json``, where pycuda can be imported.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from pathlib import Path
from typing import Any, Iterator

FIXTURE = Path(__file__).with_name("pycuda_surface.json")


def surface(driver: Any) -> dict[str, Any]:
    """Name -> kind, of a module that is or imitates ``pycuda.driver``, and of what its classes have."""
    found: dict[str, Any] = {}
    for name, value in _public(driver):
        found[name] = _kind(value, name, bound=True)
        if found[name] == "class":
            for member, inner in _public(value):
                static = isinstance(inner, (staticmethod, classmethod))
                found[f"{name}.{member}"] = _kind(getattr(value, member) if static else inner, member, bound=static)
    return {name: kind for name, kind in found.items() if kind}


def _public(owner: Any) -> Iterator[tuple[str, Any]]:
    for name in dir(owner):
        if not name.startswith("_") or name == "__init__":
            yield name, inspect.getattr_static(owner, name)


def _kind(value: Any, name: str, *, bound: bool) -> str:
    """``exception Name(Base)``, ``enum NAME=1 ...``, ``class``, ``property``, ``= 2``, or ``(parameters)``."""
    if isinstance(value, type) and issubclass(value, Exception):
        return f"exception {value.__module__}.{value.__name__}({value.__bases__[0].__name__})"
    if isinstance(value, type):
        members = getattr(value, "names", None) or getattr(value, "__members__", None)
        return "enum " + json.dumps({key: int(members[key]) for key in sorted(members)}) if members else "class"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"= {int(value)}"
    if isinstance(value, property):
        return "property"
    if isinstance(value, types.ModuleType) or not callable(value):
        return ""
    return _signature(value, name, bound=bound)


def _signature(function: Any, name: str, *, bound: bool) -> str:
    """``(a, b=)``; a parameter that cannot be given by its name is ``arg0``, ``arg1``...; overloads joined by ``|``."""
    if isinstance(function, (types.FunctionType, types.MethodType)):
        return _of_python(function, bound=bound)
    text = getattr(function, "__doc__", None) or ""
    lines = re.findall(rf"^{re.escape(name)}\( ?(.*?)\) -> .*:$", text, re.MULTILINE)
    return " | ".join(dict.fromkeys(_of_boost(line, bound=bound) for line in lines))


def _of_boost(text: str, *, bound: bool) -> str:
    parts, optional = [], False
    for bracket, parameter in re.findall(r"(\[?)[, ]*\(\w+\)(\w+)", text):
        optional = optional or bool(bracket)
        parts.append((parameter, optional))
    if not bound:
        parts = parts[1:]
    named = [(f"arg{i}" if re.fullmatch(r"arg\d+", each) else each, may) for i, (each, may) in enumerate(parts)]
    return f"({', '.join(each + ('=' if may else '') for each, may in named)})"


def _of_python(function: Any, *, bound: bool) -> str:
    parameters = list(inspect.signature(function).parameters.values())
    if not bound:
        parameters = parameters[1:]
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
        return "(...)"
    parts = []
    for index, each in enumerate(parameters):
        name = f"arg{index}" if each.kind is each.POSITIONAL_ONLY else each.name
        parts.append(name if each.default is each.empty else f"{name}=")
    return f"({', '.join(parts)})"


def known() -> dict[str, str]:
    return dict(json.loads(FIXTURE.read_text()))


if __name__ == "__main__":
    import pycuda.driver  # type: ignore[import-not-found, unused-ignore]

    print(json.dumps(surface(pycuda.driver), indent=0, sort_keys=True))
