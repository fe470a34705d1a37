"""A RealSense colour camera and the flash_vstream node: ros2 launch examples/realsense.launch.py

Needs realsense2_camera: sudo apt install ros-$ROS_DISTRO-realsense2-camera
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

VSTREAM = str(Path(get_package_share_directory("flash_vstream_ros")) / "launch" / "vstream.launch.py")


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("model", default_value="", description="Hub id or folder; empty: the default model"),
            # First: it sets the middleware's profile, which the camera's process needs too.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(VSTREAM),
                launch_arguments={
                    "image_topic": "/camera/camera/color/image_raw",
                    "model": LaunchConfiguration("model"),
                }.items(),
            ),
            # Only colour is needed: depth images are refused by the node.
            Node(
                package="realsense2_camera",
                executable="realsense2_camera_node",
                namespace="camera",
                name="camera",
                parameters=[{"enable_depth": False, "rgb_camera.color_profile": "640x480x15"}],
            ),
        ]
    )
