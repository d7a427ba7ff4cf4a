"""pytest plugin for qemu-user, under which a process that posix_spawn starts shares no memory with its parent.

Through that memory glibc says that a program could not be started. Python has another way, over a pipe, and a switch:
https://docs.python.org/3/library/subprocess.html#disable-use-of-posix-spawn
"""

import subprocess

subprocess._USE_POSIX_SPAWN = False  # type: ignore[misc]
