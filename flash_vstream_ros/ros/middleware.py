"""The DDS middleware in use: selects the shipped profile for camera images, and advises if images are lost.

The middleware reads its profile when it is initialised, so call `use_shipped_profile` before `init`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from . import RUNTIME
from .share import share_directory

EMBEDDED = "embedded"  # this package's runtime, over Cyclone DDS
COMPRESSED = "or receive compressed images (image.transport: compressed)"


@dataclass(frozen=True)
class Middleware:
    """Configuration files and environment variables of a family of middlewares."""

    name: str
    file: str
    variables: tuple[str, ...]  # the first is the one to set
    prefix: str = ""
    default_files: tuple[str, ...] = ()  # files that it reads from the working directory
    other_variables: tuple[str, ...] = ()  # variables that configure the middleware without a file
    counts_loss: bool = False  # True: its message_lost event counts lost best-effort messages

    @property
    def setting(self) -> str:
        """The environment variable and value that select the shipped profile."""
        return f"{self.variables[0]}={self.shipped}"

    @property
    def shipped(self) -> str:
        return f"{self.prefix}{share_directory() / 'config' / self.file}"

    def configuration_source(self, environment: Mapping[str, str]) -> str:
        """The variable or file that configures the middleware; "" for its defaults."""
        by_variable = next((f"{name}={environment[name]}" for name in self.variables if environment.get(name)), "")
        return by_variable or next((file for file in self.default_files if Path(file).exists()), "")

    def is_configured(self, environment: Mapping[str, str]) -> bool:
        """Returns True if the user has configured the middleware, by a file or by other variables."""
        return bool(self.configuration_source(environment)) or any(
            environment.get(name) for name in self.other_variables
        )


def fast_dds(environment: Mapping[str, str] = os.environ) -> Middleware:
    """Fast DDS. Version 3 (Kilted) renamed its variable and warns about the old name."""
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    prefixes = filter(None, environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    version_3 = any((Path(prefix) / "share" / "fastdds").is_dir() for prefix in prefixes)  # older: share/fastrtps
    return Middleware(
        name="Fast DDS",
        file="fastdds.xml",
        variables=names if version_3 else names[::-1],
        default_files=("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml"),
        other_variables=("FASTDDS_BUILTIN_TRANSPORTS",),
        counts_loss=True,
    )


CYCLONE_DDS = Middleware("Cyclone DDS", "cyclonedds.xml", ("CYCLONEDDS_URI",), prefix="file://")


def use_shipped_profile(environment: MutableMapping[str, str] = os.environ) -> None:
    """Select the shipped profiles for this process and its children, unless the user has configured the middleware."""
    environment.update(shipped_profiles(environment))


def shipped_profiles(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables that select the shipped profiles of middlewares that the user has not configured.

    Empty for the embedded runtime, which needs none.
    """
    if RUNTIME == EMBEDDED:
        return {}
    families = (fast_dds(environment), CYCLONE_DDS)
    return {family.variables[0]: family.shipped for family in families if not family.is_configured(environment)}


def identifier() -> str:
    """The rmw implementation of this process, such as "rmw_fastrtps_cpp"; "embedded" without one."""
    if RUNTIME == EMBEDDED:
        return EMBEDDED
    from rclpy.utilities import get_rmw_implementation_identifier

    return str(get_rmw_implementation_identifier())


def family_of(rmw: str, environment: Mapping[str, str] = os.environ) -> Middleware | None:
    """The family of an rmw implementation; None if no profile is shipped for it."""
    if "fastrtps" in rmw:
        return fast_dds(environment)
    return CYCLONE_DDS if rmw == EMBEDDED or "cyclone" in rmw else None


def counts_loss(rmw: str) -> bool:
    """Returns True if `rmw` reports best-effort messages that did not arrive."""
    family = family_of(rmw)
    return family is not None and family.counts_loss


def remedy(rmw: str, environment: Mapping[str, str] = os.environ) -> str:
    """Advice to a user whose images are lost between two processes with the middleware `rmw`."""
    family = family_of(rmw, environment)
    if family is None:
        return f"raise the buffers of {rmw} in the camera's process and in this one, publish reliable, {COMPRESSED}"
    configured = rmw == EMBEDDED or family.configuration_source(environment)
    who = "the camera's process" if configured else "both processes, the camera's and this one,"
    kernel = "set net.core.rmem_max to 8388608 with sysctl, " if family is CYCLONE_DDS else ""
    return f"{kernel}start {who} with {family.setting}, publish reliable, {COMPRESSED}"
