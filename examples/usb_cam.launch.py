"""A USB camera and the flash_vstream node: ros2 launch examples/usb_cam.launch.py

Needs usb_cam: sudo apt install ros-$ROS_DISTRO-usb-cam
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
            DeclareLaunchArgument("video_device", default_value="/dev/video0", description="Device of the camera"),
            DeclareLaunchArgument("model", default_value="", description="Hub id or folder; empty: the default model"),
            # First: it sets the middleware's profile, which the camera's process needs too.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(VSTREAM),
                launch_arguments={"image_topic": "/camera/image_raw", "model": LaunchConfiguration("model")}.items(),
            ),
            Node(
                package="usb_cam",
                executable="usb_cam_node_exe",
                namespace="camera",
                parameters=[{"video_device": LaunchConfiguration("video_device")}],
            ),
        ]
    )
