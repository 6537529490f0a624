"""The canonical ABI (component-model `CanonicalABI.md`): layout, and generated code that lifts and lowers."""
