"""GLib's reader of key files, which nvinfer reads its configuration with."""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path
from typing import Any

import pytest

KINDS = {"integer": ctypes.c_int, "double": ctypes.c_double}


class KeyFile:
    """A file; values are read as GLib reads them, or raise ValueError."""

    def __init__(self, path: Path) -> None:
        name = ctypes.util.find_library("glib-2.0")
        if name is None:
            pytest.skip("GLib is not on this machine")
        self._glib = ctypes.CDLL(name)
        self._glib.g_key_file_new.restype = ctypes.c_void_p
        self._file = ctypes.c_void_p(self._glib.g_key_file_new())
        self._call("g_key_file_load_from_file", ctypes.c_int, str(path).encode(), 0)

    def _call(self, function: str, kind: Any, *words: Any) -> Any:
        error = ctypes.c_void_p()
        known = getattr(self._glib, function)
        known.restype = kind
        value = known(self._file, *words, ctypes.byref(error))
        if error.value:
            raise ValueError(f"{function} {words}")
        return value

    def keys(self, group: str) -> list[str]:
        length = ctypes.c_size_t()
        found = self._call("g_key_file_get_keys", ctypes.POINTER(ctypes.c_char_p), group.encode(), ctypes.byref(length))
        return [found[index].decode() for index in range(length.value)]

    def get(self, group: str, key: str, kind: str) -> Any:
        words = (group.encode(), key.encode())
        if kind == "string":
            return self._call("g_key_file_get_string", ctypes.c_char_p, *words).decode()
        if kind in KINDS:
            return self._call(f"g_key_file_get_{kind}", KINDS[kind], *words)
        length = ctypes.c_size_t()
        pointer = ctypes.POINTER(ctypes.c_int if kind == "integer_list" else ctypes.c_char_p)
        found = self._call(f"g_key_file_get_{kind}", pointer, *words, ctypes.byref(length))
        values = [found[index] for index in range(length.value)]
        return [value.decode() if isinstance(value, bytes) else value for value in values]
