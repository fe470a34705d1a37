"""`python -m flash_vstream_ros.cli`."""

import sys

from flash_vstream_ros.cli import main

if __name__ == "__main__":
    sys.exit(main())
