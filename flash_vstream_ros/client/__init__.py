"""A client of the node's services, for the command line and tests. One request at a time. May import ros only."""

from .ask_client import CALL_QOS, EVENTS_DEPTH, AskClient
from .errors import ClientError, NoReply, NoService, Stopped

__all__ = ["CALL_QOS", "EVENTS_DEPTH", "AskClient", "ClientError", "NoReply", "NoService", "Stopped"]
