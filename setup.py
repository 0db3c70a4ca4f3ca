"""Only what pyproject.toml cannot say: the native core is built by cffi, for the stable ABI."""

from setuptools import setup

setup(
    cffi_modules=["_native/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
