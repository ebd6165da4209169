"""What of the processor and the kernel a snapshot depends on."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import struct
from functools import cache
from pathlib import Path

_DYNAMIC_FEATURES = frozenset(
    {17, 18}
)  # AMX: grows a thread's XSAVE area only on request (Documentation/arch/x86/xstate.rst)
# push rbx; mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid; mov [r8], eax; ...; pop rbx; ret
_CPUID = bytes.fromhex("53 89f8 89f1 4989d0 0fa2 418900 41895804 41894808 4189500c 5b c3")


def cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """eax, ebx, ecx, edx of the CPUID instruction (Intel SDM volume 2A)."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_CPUID)
    anchor = ctypes.c_char.from_buffer(page)
    call = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(ctypes.addressof(anchor))
    result = ctypes.create_string_buffer(16)
    call(leaf, subleaf, ctypes.addressof(result))
    del call, anchor
    page.close()
    eax, ebx, ecx, edx = struct.unpack("=4I", result.raw)
    return eax, ebx, ecx, edx


@cache
def extended_state_layout() -> tuple[int, int]:
    """Mask of the XSAVE components that every thread has, and the bytes that they need in standard form."""
    low, _, _, high = cpuid(0xD, 0)
    enabled = [bit for bit in range(64) if (low | high << 32) >> bit & 1 and bit not in _DYNAMIC_FEATURES]
    size = 576
    for bit in enabled:
        if bit >= 2:
            length, offset, _, _ = cpuid(0xD, bit)
            size = max(size, offset + length)
    return sum(1 << bit for bit in enabled), size


def cpu_flags() -> list[str]:
    """Features of the processor, as /proc/cpuinfo lists them."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return sorted(line.split(":", 1)[1].split())
    return []


def vdso_digest(data: bytes) -> str:
    """SHA-256 of the vDSO image: two kernels with the same one call into it at the same places."""
    return hashlib.sha256(data).hexdigest()
