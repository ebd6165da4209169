"""Runs in the sandbox: load a program, let it set its state, wait, let it check, answer.

A program is a module with `prepare()`, which returns anything, and `check(state)`, which returns what can be JSON.
"""

import importlib
import json
import socket
import sys
import traceback


def main():
    sys.path.insert(0, "/var/task")
    program = importlib.import_module(sys.argv[1])
    state = program.prepare()
    connection = socket.create_connection(("127.0.0.1", 9001))
    connection.sendall(b'{"ready": true}\n')
    connection.recv(100)
    try:
        answer = {"found": program.check(state)}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    connection.sendall(json.dumps(answer).encode() + b"\n")
    connection.recv(100)


main()
