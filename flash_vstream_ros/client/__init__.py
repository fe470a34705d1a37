"""A client of the node's services, for the command line and tests. One request at a time. May import ros only."""

from .ask_client import CALL_QOS, EVENTS_DEPTH, AskClient
from .best_place import MOMENTS, best_place
from .errors import ClientError, NoReply, NoService, Stopped
from .limits import Limits

__all__ = [
    "CALL_QOS",
    "EVENTS_DEPTH",
    "MOMENTS",
    "AskClient",
    "ClientError",
    "Limits",
    "NoReply",
    "NoService",
    "Stopped",
    "best_place",
]
