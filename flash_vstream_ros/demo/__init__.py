"""The demo's simulator: renders a robot's patrol of a house, and knows the true answers to questions about it.

May import models. simulated_run, which runs a real node in a child process, may also import ros and client.
"""

from .world import World

__all__ = ["World"]
