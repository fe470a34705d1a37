"""Flash-VStream as a ROS 2 perception node: a bounded visual memory that other nodes can ask."""

from pkgutil import extend_path

# A run from the source tree must still find the Python packages `msg` and `srv`, which colcon generates elsewhere.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
