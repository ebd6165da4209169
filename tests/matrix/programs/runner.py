"""Runs in the sandbox: load a program, let it set its state, wait, let it check, answer.

A program is a module with `prepare()`, which returns anything, and `check(state)`, which returns what can be JSON.
"""

import importlib
import json
import os
import socket
import sys
import traceback


def answer(connection, document):
    connection.sendall(json.dumps(document).encode() + b"\n")
    connection.recv(100)


def main():
    sys.path.insert(0, "/var/task")
    try:
        program = importlib.import_module(sys.argv[1])
        state = program.prepare()
    except BaseException:
        answer(socket.create_connection(("127.0.0.1", 9001)), {"error": traceback.format_exc()})
        os._exit(1)
    connection = socket.create_connection(("127.0.0.1", 9001))
    connection.sendall(b'{"ready": true}\n')
    connection.recv(100)
    try:
        found = {"found": program.check(state)}
    except BaseException:
        found = {"error": traceback.format_exc()}
    answer(connection, found)
    os._exit(0)


main()
