#!/bin/bash
set -e
source /ws/install/setup.bash
exec ros2 launch flash_vstream_ros vstream.launch.py "$@"
