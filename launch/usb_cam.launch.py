"""Starts a USB camera and the flash_vstream node: ros2 launch flash_vstream_ros usb_cam.launch.py

Needs usb_cam, and for image_transport:=compressed also the JPEG plugin of image_transport:
sudo apt install ros-$ROS_DISTRO-usb-cam ros-$ROS_DISTRO-compressed-image-transport
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

VSTREAM = str(Path(get_package_share_directory("flash_vstream_ros")) / "launch" / "vstream.launch.py")
IMAGE_TOPIC = "/camera/image_raw"  # with the compressed transport, driver and node append /compressed

ARGUMENTS = [
    DeclareLaunchArgument("video_device", default_value="/dev/video0", description="Device of the camera"),
    # usb_cam's default is yuyv, which many versions of image_transport's JPEG plugin compress as grey.
    DeclareLaunchArgument(
        "pixel_format", default_value="yuyv2rgb", description="usb_cam's pixel_format, such as yuyv2rgb or mjpeg2rgb"
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
            Node(
                package="usb_cam",
                executable="usb_cam_node_exe",
                namespace="camera",
                parameters=[
                    {
                        "video_device": LaunchConfiguration("video_device"),
                        "pixel_format": LaunchConfiguration("pixel_format"),
                    }
                ],
            ),
        ]
    )
