"""Ask the flash_vstream node a question: python3 scene_client.py "Where is the red ball?" """

import sys

import rclpy
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from flash_vstream_ros.srv import AskScene


class SceneClient(Node):
    def __init__(self) -> None:
        super().__init__("scene_client")
        self._client = self.create_client(AskScene, "ask_scene")

    def ask(self, question: str, timeout_s: float = 60.0) -> AskScene.Response:
        """Ask and wait for the reply. Raises TimeoutError if no node answers in time."""
        if not self._client.wait_for_service(timeout_sec=timeout_s):
            raise TimeoutError("no node offers ask_scene; is flash_vstream running on the same ROS_DOMAIN_ID?")
        future = self._client.call_async(AskScene.Request(question=question))
        rclpy.spin_until_future_complete(self, future, timeout_sec=timeout_s)
        if not future.done():
            raise TimeoutError(f"no reply within {timeout_s:.0f} s")
        return future.result()


def main() -> int:
    rclpy.init()
    try:
        reply = SceneClient().ask(" ".join(remove_ros_args(sys.argv)[1:]) or "What do you see?")
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    if reply.error_code != AskScene.Response.NONE:
        print(f"error {reply.error_code}: {reply.error_msg}", file=sys.stderr)
        return 1
    print(reply.answer)
    print(f"  confidence {reply.confidence:.2f}{'' if reply.calibrated else ', uncalibrated'}")
    for entry in reply.evidence:
        print(f"  seen by {entry.camera}, {entry.since.sec} s to {entry.until.sec} s, relevance {entry.relevance:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
