"""The one extension module; all else is in pyproject.toml (where setuptools' own way to say this is experimental)."""

from setuptools import Extension, setup

NATIVE = "operator/perdure/component/native"

setup(
    ext_modules=[
        Extension(
            "perdure.component._crossing",
            sources=[f"{NATIVE}/{name}.c" for name in ("callbacks", "calls", "drive", "module")],
            depends=[f"{NATIVE}/crossing.h"],
            extra_compile_args=["-std=c11", "-fvisibility=hidden"],
            # Without a compiler the runtime goes through ctypes, slower: docs/adr/0011-a-boundary-in-c.md.
            optional=True,
        )
    ]
)
