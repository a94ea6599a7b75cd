"""What pybind11 gives every class: enums, Dims, attributes that are fixed, buffers."""

from __future__ import annotations

import ctypes
import operator
from typing import TYPE_CHECKING, Any, Callable, Sequence

if TYPE_CHECKING:
    from tests.fake_tensorrt.state import State


class Enum:
    """A pybind11 enum: int() works, arithmetic does not, and order only where the bindings ask for it."""

    __members__: dict[str, Any]
    name: str
    value: int

    def __new__(cls, value: int) -> Any:
        if not isinstance(value, int):
            raise TypeError(f"__init__(): incompatible constructor arguments: {cls.__name__}(value: int)")
        for member in cls.__members__.values():
            if member.value == value:
                return member
        return cls._made("???", value)

    @classmethod
    def _made(cls, name: str, value: int) -> Any:
        made = object.__new__(cls)
        made.__dict__.update(name=name, value=int(value))
        return made

    def __int__(self) -> int:
        return self.value

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value  # type: ignore[attr-defined]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return self.value

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __repr__(self) -> str:
        return f"<{self}: {self.value}>"


class OrderedEnum(Enum):
    def _number(self, other: Any) -> int:
        if type(other) is not type(self):
            raise TypeError("Expected an enumeration of matching type!")
        return int(other)

    def __lt__(self, other: Any) -> bool:
        return self.value < self._number(other)

    def __le__(self, other: Any) -> bool:
        return self.value <= self._number(other)

    def __gt__(self, other: Any) -> bool:
        return self.value > self._number(other)

    def __ge__(self, other: Any) -> bool:
        return self.value >= self._number(other)


def enum_of(enum_name: str, base: type[Enum], members: dict[str, int]) -> Any:
    cls: Any = type(enum_name, (base,), {"__members__": {}, "__module__": "tensorrt.tensorrt"})
    for key, number in members.items():
        cls.__members__[key] = cls._made(key, number)
        setattr(cls, key, cls.__members__[key])
    return cls


class Dims:
    """Like a tuple, but none; it compares with lists and tuples only."""

    MAX_DIMS = property(lambda self: 8)

    def __init__(self, shape: Sequence[int] = ()) -> None:
        if isinstance(shape, str):
            raise TypeError("__init__(): incompatible constructor arguments: Dims(shape: List[int])")
        self._dims = tuple(operator.index(size) for size in shape)
        if len(self._dims) > 8:
            raise ValueError(f"Input length {len(self._dims)}. Max expected length is 8")

    def __len__(self) -> int:
        return len(self._dims)

    def __getitem__(self, index: Any, /) -> Any:
        return self._dims[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, list)):
            raise TypeError("__eq__(): incompatible function arguments: expected a list or a tuple")
        return self._dims == tuple(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return str(self._dims)

    __str__ = __repr__


class Native:
    """An object of the bindings: no constructor and no attributes but its own."""

    _s: State

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"tensorrt.tensorrt.{type(self).__name__}: No constructor defined!")

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            found = getattr(type(self), name, None)
            if not isinstance(found, property):
                raise AttributeError(f"'tensorrt.tensorrt.{type(self).__name__}' object has no attribute '{name}'")
            if found.fset is None:
                raise AttributeError(f"can't set attribute '{name}'")
        object.__setattr__(self, name, value)


class Managed(Native):
    """One that can stand in a ``with``, to no effect."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def stored_attribute(name: str, kind: Callable[[Any], Any] = lambda value: value) -> property:
    """A readable and writable attribute."""

    def get(self: Any) -> Any:
        return self._values[name]

    def put(self: Any, value: Any) -> None:
        self._values[name] = kind(value)

    return property(get, put)


class IHostMemory(ctypes.c_ubyte * 0):  # type: ignore[misc]
    """A buffer and nothing else. (Before Python 3.12 only what is made in C can be one: an array of ctypes.)"""

    _s: State

    def __init__(self, *args: Any) -> None:
        raise TypeError("tensorrt.tensorrt.IHostMemory: No constructor defined!")

    @property
    def nbytes(self) -> int:
        return ctypes.sizeof(self)

    @property
    def dtype(self) -> Any:
        return self._s.DataType.INT8

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __len__(self) -> int:
        raise TypeError("object of type 'tensorrt.tensorrt.IHostMemory' has no len()")

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("'tensorrt.tensorrt.IHostMemory' object is not subscriptable")

    def __iter__(self) -> Any:
        raise TypeError("'tensorrt.tensorrt.IHostMemory' object is not iterable")

    def __bool__(self) -> bool:
        return True
