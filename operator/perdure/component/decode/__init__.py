"""The binary format of components, read into definitions in order (component-model `Binary.md`)."""

from perdure.component.decode.sections import decode_component

__all__ = ["decode_component"]
