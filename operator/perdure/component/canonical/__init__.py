"""The canonical ABI (component-model `CanonicalABI.md`): layout, and generated code that lifts and lowers.

Docstrings name the section of `CanonicalABI.md` that a function carries out, and the functions of its text where there
are several in one section; docs/component.md has the table.
"""
