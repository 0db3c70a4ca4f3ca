"""The cffi extension module that ``_native/build.py`` builds; cffi objects carry no static types."""

from typing import Any

ffi: Any
lib: Any
