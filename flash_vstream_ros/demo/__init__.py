"""The demo's simulator: a robot patrols a house, rendered with OpenCV, with ground truth, questions and answers.

May import models.minutes; simulated_run also ros, cli and client, to run the patrol through a real node.
"""

from .world import World

__all__ = ["World"]
