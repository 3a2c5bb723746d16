"""Run `manage.py` in a fork of a process that has the libraries loaded: most of the time of a
command that does little goes into importing them.

    python -I -S tests/forked.py SOCKET manage.py ARGUMENTS...

starts one of `ForkServer`, waits for it, passes SIGINT and SIGTERM on, and ends as it ends. When
this process is killed, the other is killed too. Imports little, because it starts for each command.
"""

import array
import os
import signal
import socket
import struct
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM)
STATUS = struct.Struct("i")  # how the command ended, as os.waitpid says it


def main(path: str, *arguments: str) -> None:
    """Have a command run by the server at this socket, and end with its exit code or signal."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    for number in PASSED_ON:
        signal.signal(number, lambda arrived, _frame: server.send(bytes([arrived])))
    environ = [f"{name}={value}" for name, value in os.environ.items()]
    parts = [os.getcwd(), str(len(arguments)), *arguments, *environ]
    message = "\0".join(parts).encode(errors="surrogateescape")
    streams = array.array("i", [0, 1, 2])
    header = STATUS.pack(len(message))
    server.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(message)
    answer = server.recv(STATUS.size, socket.MSG_WAITALL)
    if len(answer) < STATUS.size:
        sys.exit("The fork server of the tests ended.")
    [status] = STATUS.unpack(answer)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
