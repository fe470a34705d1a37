"""Part of the parameter table: watches."""

from __future__ import annotations

from flash_vstream_ros.engine.watches.watch import WATCH_PROMPT

from .parameter_spec import ParameterSpec

WATCH_PARAMETERS = (
    ParameterSpec(
        "watch.path",
        "",
        "File that the watches are kept in over restarts, created if missing; no two nodes may use the same one; "
        "empty: nothing is written, and the watches end with the node",
    ),
    ParameterSpec("watch.max_watches", 16, "Most watches at a time [watches]", (0, 256), live=True),
    ParameterSpec("watch.max_chars", 256, "Longest text of a watch [characters]", (1, 4096), live=True),
    ParameterSpec(
        "watch.device_share",
        0.2,
        "Largest share of device time for the checks of all watches together; 0: none is checked",
        (0.0, 1.0),
        live=True,
    ),
    ParameterSpec(
        "watch.slots",
        1,
        "Newest slots of a camera that a check sees, as far as they are stored individually, see "
        "memory.recent_slots [slots]",
        (1, 16),
        live=True,
    ),
    ParameterSpec(
        "watch.prompt",
        WATCH_PROMPT,
        "The question that the model is asked for a watch whose text is a statement, where {} is the text",
        live=True,
    ),
)
