"""rclpy's managed node, except that destroying it also ends its DDS participant."""

from __future__ import annotations

from rclpy import lifecycle


class LifecycleNodeMixin(lifecycle.LifecycleNodeMixin):
    def destroy_node(self) -> None:
        """Destroy the node and its state machine, which keeps the DDS participant alive.

        rclpy leaves the state machine to the garbage collector. Until then, or forever if the process ends first, the
        participant keeps its shared memory, 33 MiB of /dev/shm with the shipped profile of Fast DDS.
        """
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()
