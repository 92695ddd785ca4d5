"""Start commands for the harness and measure each: wall clock, CPU, peak memory. Speaks JSON lines on stdin and stdout.

A separate process because Linux counts the parent's memory at the fork into a child's peak: this one stays small. It
imports only what it must, and ends when stdin closes.
"""

import json
import os
import sys
import time


def launch(argv, env, folder, out):
    # The shell only changes folder and becomes the command: no process in between is measured.
    command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', folder, *argv]
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out + ".out", writing, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, out + ".err", writing, 0o600),
    ]
    begun = time.perf_counter()
    return os.posix_spawn(command[0], command, env, file_actions=files, setsid=True), begun


def measure(pid, begun):
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begun
    # ru_maxrss counts KiB on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "code": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * unit,
    }


def main():
    running = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "argv" in asked:
            pid, begun = launch(asked["argv"], asked["env"], asked["folder"], asked["out"])
            running[pid] = begun
            answer = {"pid": pid}
        else:
            answer = measure(asked["wait"], running.pop(asked["wait"]))
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
