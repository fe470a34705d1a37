"""Discovery settings: converts ROS 2's environment variables to a configuration of Cyclone DDS."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass

RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
MAX_DOMAIN_ID = 232
# Constants of Linux's ioctl for network interfaces.
SIOCGIFFLAGS, SIOCGIFADDR = 0x8913, 0x8915
IFF_UP, IFF_LOOPBACK = 0x1, 0x8

# Without a large receive buffer most HD images are lost. With "min" instead of "max", DDS would not start if the kernel
# allows less.
RECEIVE_BUFFER = '<Internal><SocketReceiveBufferSize max="8MB"/></Internal>'

# Peers announce themselves to 127.0.0.1, and Cyclone DDS 11 (unlike the 0.10 of ROS 2 Jazzy) only receives
# announcements on interfaces that it is configured to use.
LOCALHOST_INTERFACES = (
    '<Interfaces><NetworkInterface autodetermine="true"/><NetworkInterface address="127.0.0.1"/></Interfaces>'
)


@dataclass(frozen=True)
class Discovery:
    """Discovery range and peers from ROS 2's environment variables."""

    range: str = "SUBNET"
    static_peers: tuple[str, ...] = ()
    cyclonedds_uri: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Discovery:
        """Read ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS, ROS_LOCALHOST_ONLY and CYCLONEDDS_URI."""
        chosen = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
        if environment.get("ROS_LOCALHOST_ONLY", "") == "1":
            chosen = "LOCALHOST"
        if chosen not in RANGES:
            raise ValueError(f"ROS_AUTOMATIC_DISCOVERY_RANGE is {chosen!r}, expected one of {', '.join(RANGES)}")
        peers = tuple(peer for peer in environment.get("ROS_STATIC_PEERS", "").split(";") if peer)
        return cls(chosen, peers, environment.get("CYCLONEDDS_URI", ""))

    def configuration(self) -> str:
        """The configuration that rmw_cyclonedds uses, so that both discover each other."""
        if self.range == "SYSTEM_DEFAULT":
            general, discovery = "", ""
        else:
            unicast = "<AllowMulticast>false</AllowMulticast>"
            adds_localhost = self.range == "LOCALHOST" and "NetworkInterface" not in self.cyclonedds_uri
            interfaces = LOCALHOST_INTERFACES if adds_localhost and has_network() else ""
            general = "" if self.range == "SUBNET" else f"<General>{interfaces}{unicast}</General>"
            discovery = f"<Discovery>{self._participants()}</Discovery>"
        fragments = [f"<CycloneDDS><Domain>{general}{discovery}{RECEIVE_BUFFER}</Domain></CycloneDDS>"]
        if self.cyclonedds_uri:
            fragments.append(self.cyclonedds_uri)
        return ",".join(fragments)

    def _participants(self) -> str:
        if self.range == "OFF":
            return f"<ParticipantIndex>none</ParticipantIndex><Tag>ros_discovery_off_{os.getpid()}</Tag>"
        listed = '<Peer address="localhost"/>' if self.range == "LOCALHOST" else ""
        # Cyclone DDS 11 (unlike 0.10) otherwise forgets a peer that has not started within half a minute.
        listed += "".join(f'<Peer address="{peer}" PruneDelay="inf"/>' for peer in self.static_peers)
        return "<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>" + (
            f"<Peers>{listed}</Peers>" if listed else ""
        )


def has_network() -> bool:
    """Returns True if an interface besides the loopback is up. If not, DDS itself chooses the loopback."""
    if not sys.platform.startswith("linux"):
        return True
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):  # the interface has no IPv4 address
                fcntl.ioctl(probe, SIOCGIFADDR, request)
                (flags,) = struct.unpack_from("H", fcntl.ioctl(probe, SIOCGIFFLAGS, request), 16)
                if flags & IFF_UP and not flags & IFF_LOOPBACK:
                    return True
    return False


def domain_id_from_environment(environment: Mapping[str, str] = os.environ) -> int:
    text = environment.get("ROS_DOMAIN_ID", "") or "0"
    if not text.isascii() or not text.isdigit() or int(text) > MAX_DOMAIN_ID:
        raise ValueError(f"ROS_DOMAIN_ID is {text!r}, expected a whole number from 0 to {MAX_DOMAIN_ID}")
    return int(text)
