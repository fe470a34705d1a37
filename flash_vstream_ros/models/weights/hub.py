"""Finds models of the Hugging Face hub in the cache, or downloads them."""

from __future__ import annotations

import errno
import shutil
from functools import partial
from pathlib import Path

from flash_vstream_ros.models.interface import ModelError

from .load_errors import first_line, quiet_transformers

MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
OLDER_FILES = ["*.bin"]  # weights of older checkpoints
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def download(name: str, tried: Path) -> Path:
    """Download a model unless it is in the cache. Returns its folder in the cache.

    Raises ModelError; its message also says that the folder `tried` does not exist.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    cache, what = constants.HF_HUB_CACHE, f"There is no folder {tried}, and the model {name!r}"
    try:
        with quiet_transformers():
            get = partial(snapshot_download, name, cache_dir=cache, endpoint=constants.ENDPOINT)
            found = Path(get(allow_patterns=MODEL_FILES))
            return found if any(found.glob("*.safetensors")) else Path(get(allow_patterns=MODEL_FILES + OLDER_FILES))
    except GatedRepoError as error:
        raise ModelError(f"{what} is gated: accept its terms on the hub and log in with `hf auth login`.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{what} is not on {constants.ENDPOINT}: check the spelling, or log in if private.") from error
    except LocalEntryNotFoundError as error:
        offline = constants.is_offline_mode()
        why = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} cannot be reached"
        raise ModelError(
            f"{what} is not complete in the cache {cache} ({first_line(error)}), and {why}. Run `hf download {name}` "
            "where there is a network, or copy the model and give its folder."
        ) from error
    except Exception as error:  # the errors depend on the hub's HTTP client, which has changed before
        number = error.errno if isinstance(error, OSError) else None
        if number in NO_ROOM:
            free = shutil.disk_usage(_existing(Path(cache))).free / 1e9
            raise ModelError(
                f"{what} does not fit into the cache {cache}, where {free:.1f} GB are free: make room, or set "
                "HF_HOME to a folder on another disk."
            ) from error
        if number in FORBIDDEN:
            raise ModelError(
                f"{what} cannot be stored in the cache {cache} ({first_line(error)}): set HF_HOME to a writable "
                "folder, or give the folder of a copy."
            ) from error
        raise ModelError(
            f"{what} could not be downloaded to the cache {cache}: {_unfinished(name, cache)} ({first_line(error)}). "
            f"Try again, or run `hf download {name}`: files in the cache are kept."
        ) from error


def _unfinished(name: str, cache: str) -> str:
    """The end of a sentence that names the files missing in the cache, if the hub still lists them."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects

    try:
        files = HfApi(endpoint=constants.ENDPOINT).list_repo_files(name)
        wanted = filter_repo_objects(files, allow_patterns=MODEL_FILES)
        missing = [file for file in wanted if not isinstance(try_to_load_from_cache(name, file, cache), str)]
    except Exception:  # the first error is reported, not this one
        missing = []
    return f"{', '.join(missing)} did not arrive completely" if missing else "the connection failed"


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next(place for place in (path, *path.parents) if place.exists())
