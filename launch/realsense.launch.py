"""Starts a RealSense colour camera and the flash_vstream node: ros2 launch flash_vstream_ros realsense.launch.py

Needs realsense2_camera, and for image_transport:=compressed also the JPEG plugin of image_transport:
sudo apt install ros-$ROS_DISTRO-realsense2-camera ros-$ROS_DISTRO-compressed-image-transport
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

VSTREAM = str(Path(get_package_share_directory("flash_vstream_ros")) / "launch" / "vstream.launch.py")
IMAGE_TOPIC = "/camera/camera/color/image_raw"  # with the compressed transport, driver and node append /compressed

ARGUMENTS = [
    DeclareLaunchArgument(
        "color_profile", default_value="640x480x15", description="Width, height and frames per second of the camera"
    ),
    DeclareLaunchArgument(
        "image_transport", default_value="", description="raw or compressed (JPEG); empty: as in params_file"
    ),
    DeclareLaunchArgument("model", default_value="", description="Hub id or folder; empty: as in params_file"),
]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *ARGUMENTS,
            # First: it sets the middleware's profile, which the camera's process needs too.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(VSTREAM),
                launch_arguments={
                    "image_topic": IMAGE_TOPIC,
                    "image_transport": LaunchConfiguration("image_transport"),
                    "model": LaunchConfiguration("model"),
                }.items(),
            ),
            # Only colour is needed: depth images are refused by the node.
            Node(
                package="realsense2_camera",
                executable="realsense2_camera_node",
                namespace="camera",
                name="camera",
                parameters=[{"enable_depth": False, "rgb_camera.color_profile": LaunchConfiguration("color_profile")}],
            ),
        ]
    )
