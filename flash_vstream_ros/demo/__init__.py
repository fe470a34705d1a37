"""The demo's simulator: a robot patrols a house, rendered with OpenCV, with ground truth, questions and answers.

May import models; simulated_run also ros and client: it runs the patrol through a real node in a child process.
"""

from .world import World

__all__ = ["World"]
