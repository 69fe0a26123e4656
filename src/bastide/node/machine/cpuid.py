"""CPUID, asked by a few bytes of machine code: Python has no instruction for it, and no file tells all of it.

x86-64 Linux only. The code is written to fresh memory which is then made executable and read-only; where a kernel, a
seccomp filter or SELinux forbids that, or CPUID itself is switched off for the process, nothing is executed.

Source: Intel SDM vol. 2A, CPUID; System V ABI for AMD64, "Function Calling Sequence"; Linux man-pages, mprotect(2),
arch_prctl(2).
"""

import ctypes
import errno
import mmap
import os
import platform
import sys

from bastide.node.machine.files import Cpuid, CpuidRegisters

# void ask(uint32 leaf [edi], uint32 subleaf [esi], uint32 out[4] [rdx])
_CODE = bytes.fromhex(
    "f30f1efa"  # endbr64
    "53"  # push rbx: the caller's
    "4989d0"  # mov r8, rdx: CPUID overwrites rdx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8+4], ebx
    "41894808"  # mov [r8+8], ecx
    "4189500c"  # mov [r8+12], edx
    "5bc3"  # pop rbx; ret
)
_SYS_ARCH_PRCTL = 158
_ARCH_GET_CPUID = 0x1011
_READ_EXECUTE = mmap.PROT_READ | mmap.PROT_EXEC


def native_cpuid() -> Cpuid:
    """CPUID of this machine; where it cannot be had, a function that raises ``OSError`` with the reason."""
    if platform.machine() not in ("x86_64", "AMD64") or sys.maxsize < 1 << 32 or sys.platform != "linux":
        return _never(OSError(errno.ENOTSUP, f"no CPUID on {sys.platform} {platform.machine()}"))
    try:
        return _executable()
    except OSError as error:
        return _never(OSError(error.errno or errno.EPERM, f"CPUID is forbidden to this process: {error.strerror}"))


def _executable() -> Cpuid:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SYS_ARCH_PRCTL, _ARCH_GET_CPUID) == 0:
        raise OSError(errno.EPERM, "the instruction is switched off (arch_prctl)")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    page.write(_CODE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), _READ_EXECUTE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    ask = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))(address)

    def cpuid(leaf: int, subleaf: int) -> CpuidRegisters:
        page.tell()  # keeps the code alive as long as it can be called
        out = (ctypes.c_uint32 * 4)()
        ask(leaf, subleaf, out)
        return (out[0], out[1], out[2], out[3])

    return cpuid


def _never(error: OSError) -> Cpuid:
    def cpuid(leaf: int, subleaf: int) -> CpuidRegisters:
        del leaf, subleaf
        raise OSError(error.errno, error.strerror)

    return cpuid
