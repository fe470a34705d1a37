"""A client of the node's services, for the command line and tests. One request at a time. May import ros only."""

from .ask_client import CALL_QOS, EVENTS_DEPTH, AskClient
from .best_place import MOMENTS, MapName, Place, best_place, place_in
from .errors import ClientError, NoReply, NoService, Stopped
from .limits import Limits

__all__ = [
    "CALL_QOS",
    "EVENTS_DEPTH",
    "MOMENTS",
    "AskClient",
    "ClientError",
    "Limits",
    "MapName",
    "NoReply",
    "NoService",
    "Place",
    "Stopped",
    "best_place",
    "place_in",
]
