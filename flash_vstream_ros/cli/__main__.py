import sys

from flash_vstream_ros.cli import main

sys.exit(main())
