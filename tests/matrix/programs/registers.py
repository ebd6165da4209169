"""Registers of threads blocked in a call: callee-saved, flags, x87 and SSE control, AVX, AVX-512 where there is one."""

import ctypes
import os
import random
import threading
import time

probe = ctypes.CDLL("/opt/libprobe.so")


class Registers(ctypes.Structure):
    _fields_ = (
        ("callee_saved", ctypes.c_uint64 * 5), ("vectors", ctypes.c_uint8 * 512), ("wide", ctypes.c_uint8 * 1024),
        ("masks", ctypes.c_uint64 * 7), ("x87_control", ctypes.c_uint16), ("padding", ctypes.c_uint16),
        ("sse_control", ctypes.c_uint32), ("x87_value", ctypes.c_double), ("flags", ctypes.c_uint64),
    )  # fmt: skip


def pattern(seed):
    wanted = Registers.from_buffer_copy(random.Random(seed).randbytes(ctypes.sizeof(Registers)))
    wanted.x87_control = 0x0A7F  # round up, 53 bits
    wanted.sse_control = 0x7F80  # round toward zero, all exceptions masked
    wanted.x87_value = 1.25
    return wanted


def prepare():
    reader, writer = os.pipe()
    wanted, found = pattern(1), Registers()
    calls = [probe.hold_registers, probe.hold_wide if probe.has_wide() else None]
    threads = [
        threading.Thread(target=call, args=(reader, ctypes.byref(wanted), ctypes.byref(found)))
        for call in calls
        if call
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    return writer, threads, wanted, found


def check(state):
    writer, threads, wanted, found = state
    os.write(writer, b"xx")
    for thread in threads:
        thread.join(5)
    names = ["callee_saved", "vectors"] + (["wide", "masks"] if probe.has_wide() else [])
    same = all(bytes(getattr(wanted, name)) == bytes(getattr(found, name)) for name in names)
    return [same, hex(found.x87_control), hex(found.sse_control), found.x87_value, bool(found.flags & 0x400)]
