"""What can go wrong with a request to the node."""

from __future__ import annotations


class ClientError(RuntimeError):
    """A request could not be sent or got no reply; the message says what to do."""


class NoService(ClientError):
    """No node offers the service, or its middleware cannot answer this process."""


class NoReply(ClientError):
    """No reply arrived."""


class Stopped(ClientError):
    """Another thread stopped the call."""
