"""Flows: invertible transforms between data and a base density, with the change of volume counted."""

from likely.discovery import models_in
from likely.flows.elementwise import Elementwise
from likely.flows.flow import Flow
from likely.flows.map import Affine, Map, Shift
from likely.flows.transform import Composition, Inverse, Surjection, Transform

globals().update(models_in(__name__))

__all__ = [
    "Affine",
    "Composition",
    "Elementwise",
    "Flow",
    "Inverse",
    "Map",
    "Shift",
    "Surjection",
    "Transform",
]
