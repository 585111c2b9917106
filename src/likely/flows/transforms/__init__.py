"""Transforms of whole examples: x ↔ z and the logarithm of the change of volume."""
