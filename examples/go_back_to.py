#!/usr/bin/env python3
"""Drive a robot back to where a thing was seen best: `python3 examples/go_back_to.py "red ball"`.

Searches the memory of a running node, and sends the pose of the best moment that has one in the present map to Nav2's
action navigate_to_pose. Needs ROS 2 with nav2_msgs, a running Nav2, and a node whose poses are those of base_link:
pose.source topic, or tf with pose.robot_frame base_link. A search finds a best moment even for what was never seen, so
the question comes first, and the robot drives only if the answer is yes.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from flash_vstream_ros.client import MOMENTS, AskClient, ClientError, place_in

WAIT_S = 30.0


def is_yes(answer: str) -> bool:
    """Returns True if the first word is yes, in "Yes, I have" and, from the demo's model, in "[demo model] yes"."""
    return re.match(r"\s*(\[[^\]]*\])?\W*yes\b", answer, re.IGNORECASE) is not None


def best_moment(client: AskClient, thing: str) -> Any:
    """The moment that shows `thing` best, with a pose in the present map. Raises ClientError if there is none.

    So it does if the answer to whether `thing` was seen is anything but yes.
    """
    asked = client.ask_when_ready(client.request(f"Have you seen a {thing}?"), WAIT_S)
    if asked.error_code:
        raise ClientError(asked.error_msg)
    print(f"Have you seen a {thing}? {asked.answer} (confidence {asked.confidence:.2f})")
    if not is_yes(asked.answer):
        raise ClientError("the answer is not yes, so the robot does not drive; try another name of the thing")
    found = client.search_when_ready(thing, WAIT_S, max_moments=MOMENTS)
    if found.error_code:
        raise ClientError(found.error_msg)
    place = place_in(client.present_map(WAIT_S), found.moments)
    if place.why_unknown:
        raise ClientError(place.why_unknown)
    if not place.is_best:
        print("the best moment has no pose in the present map; this is the next best one")
    return place.moment


def drive_to(node: Any, moment: Any, action: str) -> bool:
    """Send the pose to Nav2 and wait until the robot is there. Returns False if Nav2 refuses or fails."""
    import rclpy
    from action_msgs.msg import GoalStatus
    from geometry_msgs.msg import PoseStamped
    from nav2_msgs.action import NavigateToPose
    from rclpy.action import ActionClient

    navigate = ActionClient(node, NavigateToPose, action)
    if not navigate.wait_for_server(timeout_sec=WAIT_S):
        print(f"no node offers the action {action}; start Nav2", file=sys.stderr)
        return False
    goal = PoseStamped()
    goal.header.frame_id = moment.pose.header.frame_id  # a stamp of zero: the newest transform
    goal.pose = moment.pose.pose.pose
    sending = navigate.send_goal_async(NavigateToPose.Goal(pose=goal))
    rclpy.spin_until_future_complete(node, sending)
    if not sending.result().accepted:
        print("Nav2 refused the goal", file=sys.stderr)
        return False
    driving = sending.result().get_result_async()
    rclpy.spin_until_future_complete(node, driving)
    return bool(driving.result().status == GoalStatus.STATUS_SUCCEEDED)


def drive(moment: Any, action: str) -> bool:
    """Drive to the pose of a moment, with a node of its own. Returns False if Nav2 refuses or fails."""
    import rclpy

    rclpy.init()
    try:
        return drive_to(rclpy.create_node("go_back_to"), moment, action)
    finally:
        rclpy.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("thing", help='what to drive back to, such as "red ball"')
    parser.add_argument("--action", default="navigate_to_pose", help="Nav2's action (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="print the pose and do not drive")
    args = parser.parse_args()
    try:
        with AskClient("ask_scene") as client:
            moment = best_moment(client, args.thing)
    except ClientError as error:
        print(error, file=sys.stderr)
        return 1
    position = moment.pose.pose.pose.position
    print(f"seen best from x {position.x:.2f} m, y {position.y:.2f} m in {moment.pose.header.frame_id}")
    return 0 if args.dry_run or drive(moment, args.action) else 1


if __name__ == "__main__":
    sys.exit(main())
