"""Only what pyproject.toml cannot say: the native core is built by cffi, and the hot path in C where that is possible."""

from setuptools import Extension, setup

setup(
    cffi_modules=["_native/build.py:ffibuilder"],
    ext_modules=[
        Extension(
            "aionvme._flight",
            ["_native/module.c", "_native/flight.c", "_native/mover.c", "_native/core.c"],
            depends=["_native/core.h", "_native/flight.h"],
            libraries=["uring"],
            extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers"],
            py_limited_api=True,
            optional=True,  # aionvme works without, slower
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
