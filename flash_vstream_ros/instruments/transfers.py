"""Counts the bytes copied between host and device, by intercepting the calls to torch.

Without a GPU the device is simulated: tensors that are moved to it, and results computed from them, report that device,
but the CPU computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SIMULATED = torch.device("meta")  # a device that is not used otherwise
INDEX_BYTES = 8
READ_OUT = {"tolist", "item", "numpy", "__array__", "__float__", "__int__", "__bool__", "__index__"}
MOVED = {"to", "cpu", "cuda"}
MADE_OF_VALUES = {"tensor", "as_tensor"}


class TransferCounter(TorchFunctionMode):
    """Counts transfers in a `with` block by the sizes of the tensors that are read, copied or created from values.

    Values that a kernel itself returns to the host, such as the number of elements that `nonzero` finds, are not
    counted.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.to_device = 0
        self.to_host = 0
        self._simulates = device.type == "cpu"

    @property
    def bytes(self) -> int:
        """Bytes copied in both directions."""
        return self.to_device + self.to_host

    def put(self, tensor: Tensor) -> Tensor:
        """Move a tensor to the device without counting the copy."""
        return self._placed(tensor.detach(), True) if self._simulates else tensor

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func == Tensor.device.__get__:
            return SIMULATED if self._simulates and self._is_on_device(args[0]) else func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        sources = [(tensor, self._is_on_device(tensor)) for tensor in _tensors((args, kwargs))]
        asked = [*args, *kwargs.values()]
        if self._simulates and SIMULATED in asked:
            cpu = torch.device("cpu")
            result = func(
                *(cpu if value == SIMULATED else value for value in args),
                **{key: cpu if value == SIMULATED else value for key, value in kwargs.items()},
            )
            on_device = True
        else:
            result = func(*args, **kwargs)
            on_device = name != "cpu" and any(on for _, on in sources) and not _names_cpu(asked)
        if name in MOVED and any(result is tensor for tensor, _ in sources):
            result = result.detach()  # a new tensor, whose simulated device can differ
        if self._simulates:
            for tensor in _tensors(result):
                if not any(tensor is source for source, _ in sources):
                    self._placed(tensor, on_device)
        self._count(name, args, sources, result)
        return result

    def _count(self, name: str, args: Sequence[Any], sources: list[tuple[Tensor, bool]], result: Any) -> None:
        if name in READ_OUT:
            self.to_host += sum(tensor.nbytes for tensor, on_device in sources[:1] if on_device)
        elif name in MOVED:
            self._moved(*sources[0], self._is_on_device(result))
        elif name == "copy_" and len(sources) == 2:
            self._moved(*sources[1], sources[0][1])
        elif name in MADE_OF_VALUES and not sources:
            self.to_device += result.nbytes * self._is_on_device(result)
        elif name in ("__getitem__", "__setitem__") and sources[0][1]:
            self.to_device += sum(tensor.nbytes for tensor, on_device in sources[1:] if not on_device)
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            self.to_device += sum(INDEX_BYTES * len(place) for place in places if isinstance(place, list))

    def _moved(self, tensor: Tensor, was_on_device: bool, is_on_device: bool) -> None:
        self.to_device += tensor.nbytes * (is_on_device and not was_on_device)
        self.to_host += tensor.nbytes * (was_on_device and not is_on_device)

    def _is_on_device(self, tensor: Tensor) -> bool:
        return getattr(tensor, "simulated_on_device", False) if self._simulates else tensor.device.type != "cpu"

    @staticmethod
    def _placed(tensor: Tensor, on_device: bool) -> Tensor:
        tensor.simulated_on_device = on_device  # type: ignore[attr-defined]
        return tensor


def _names_cpu(values: Sequence[Any]) -> bool:
    return any(
        value == "cpu" or value == torch.device("cpu") for value in values if isinstance(value, (str, torch.device))
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested sequences and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
