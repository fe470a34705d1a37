"""Starts the flash_vstream node. List the arguments with: ros2 launch flash_vstream_ros vstream.launch.py -s"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from flash_vstream_ros.ros.middleware import shipped_profiles

PACKAGE = "flash_vstream_ros"
RESPAWN_DELAY_S = 2.0
DEFAULT_PARAMETERS = str(Path(get_package_share_directory(PACKAGE)) / "config" / "vstream.yaml")

ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node, its topics and services"),
    DeclareLaunchArgument("params_file", default_value=DEFAULT_PARAMETERS, description="YAML file with the parameters"),
    DeclareLaunchArgument(
        "model", default_value="", description="Hub id or folder of the model; empty: as in params_file"
    ),
    DeclareLaunchArgument(
        "device", default_value="", description="Device of the language model, such as cuda:0; empty: as in params_file"
    ),
    DeclareLaunchArgument(
        "vision_device",
        default_value="",
        description="Device of the vision tower and the memory, such as cuda:1; empty: as in params_file",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        description="raw or compressed, for a camera elsewhere; empty: as in params_file",
    ),
    DeclareLaunchArgument("image_topic", default_value="image", description="Topic of the camera: sensor_msgs/Image"),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        description="true: the node configures and activates itself; false: it waits for a lifecycle manager;"
        " empty: as in params_file",
    ),
    DeclareLaunchArgument(
        "use_respawn", default_value="false", description="Start the node again when its process has ended"
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", description="Take time from /clock (simulation, bags)"
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
]

PARAMETERS = {  # overridden by launch arguments that are not empty
    "model": "model.name",
    "device": "model.device",
    "vision_device": "model.vision_device",
    "image_transport": "image.transport",
}


def start_node(context: LaunchContext) -> list[Node]:
    def argument(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def switch(name: str) -> bool:
        value = argument(name).lower()
        if value not in ("true", "false"):
            raise RuntimeError(f"launch argument {name} is {value!r}, expected true or false")
        return value == "true"

    overrides: dict[str, bool | str] = {"use_sim_time": switch("use_sim_time")}
    overrides |= {name: argument(given) for given, name in PARAMETERS.items() if argument(given)}
    if argument("autostart"):
        overrides["autostart"] = switch("autostart")
    return [
        Node(
            package=PACKAGE,
            executable="vstream_node",
            name="flash_vstream",
            namespace=argument("namespace"),
            parameters=[argument("params_file"), overrides],
            remappings=[("image", argument("image_topic"))],
            arguments=["--ros-args", "--log-level", argument("log_level")],
            output="screen",
            respawn=switch("use_respawn"),
            respawn_delay=RESPAWN_DELAY_S,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    # These variables also reach cameras that are launched later. If only one side has the profile, images are lost.
    profiles = [SetEnvironmentVariable(name, value) for name, value in shipped_profiles().items()]
    return LaunchDescription([*ARGUMENTS, *profiles, OpaqueFunction(function=start_node)])
