"""The demo's camera: a simulated robot on patrol through a house, drawn with OpenCV, and what is true in it."""

from .world import World

__all__ = ["World"]
