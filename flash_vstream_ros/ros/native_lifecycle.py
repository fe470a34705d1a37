"""rclpy's managed node, except that destroying it also ends its DDS participant."""

from __future__ import annotations

from rclpy import lifecycle


class LifecycleNodeMixin(lifecycle.LifecycleNodeMixin):
    def destroy_node(self) -> None:
        """Destroy the node, and the state machine that holds it.

        rclpy leaves that to the garbage collector. Until then, or for ever where the process ends first, the
        participant keeps its shared memory: with the shipped profile of Fast DDS 33 MiB of /dev/shm.
        """
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()
