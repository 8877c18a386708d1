"""Which system calls a worker may make, as tables; `seccomp` turns them into a filter.

An allow-list: it was drawn from what workers were seen to do, and widened by what other versions of
Python, the C library and onnxruntime do in their place. What is in no table fails and the worker goes
on: with ENOSYS where libraries then fall back to something older, with EPERM otherwise.
Source of numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple


class Numbers(NamedTuple):
    """Of one call; None where an architecture has no such call."""

    x86_64: int | None
    aarch64: int | None


@dataclass(frozen=True, slots=True)
class Test:
    """The lower half of argument `index`, counted from 0, and `mask` is one of `values`.

    Upper halves are ignored: they are no part of the arguments tested here, but for pointers
    (`pointer`), where both halves are compared.
    """

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF
    pointer: bool = False


NEWEST: Final = 450  # the last call these tables were drawn up with; later ones get ENOSYS

# The first ones are those of a run; on kernels before 5.11 the order is the cost.
ALLOWED: Final[Mapping[str, Numbers]] = {
    "epoll_wait": Numbers(232, None),
    "epoll_pwait": Numbers(281, 22),
    "sched_yield": Numbers(24, 124),
    "read": Numbers(0, 63),
    "write": Numbers(1, 64),
    "futex": Numbers(202, 98),
    # memory
    "brk": Numbers(12, 214),
    "madvise": Numbers(28, 233),
    "mprotect": Numbers(10, 226),
    "mremap": Numbers(25, 216),
    "munmap": Numbers(11, 215),
    "membarrier": Numbers(324, 283),
    # descriptors it has
    "close": Numbers(3, 57),
    "close_range": Numbers(436, 436),
    "dup": Numbers(32, 23),
    "dup2": Numbers(33, None),
    "dup3": Numbers(292, 24),
    "epoll_create1": Numbers(291, 20),
    "epoll_ctl": Numbers(233, 21),
    "epoll_pwait2": Numbers(441, 441),
    "lseek": Numbers(8, 62),
    "poll": Numbers(7, None),
    "ppoll": Numbers(271, 73),
    "pread64": Numbers(17, 67),
    "pselect6": Numbers(270, 72),
    "readv": Numbers(19, 65),
    "select": Numbers(23, None),
    "writev": Numbers(20, 66),
    # its control socket
    "getpeername": Numbers(52, 205),
    "getsockname": Numbers(51, 204),
    "getsockopt": Numbers(55, 209),
    "recvfrom": Numbers(45, 207),
    "recvmsg": Numbers(47, 212),
    "sendmsg": Numbers(46, 211),
    "sendto": Numbers(44, 206),
    "shutdown": Numbers(48, 210),
    # looking at files
    "access": Numbers(21, None),
    "faccessat": Numbers(269, 48),
    "faccessat2": Numbers(439, 439),
    "fadvise64": Numbers(221, 223),
    "fstat": Numbers(5, 80),
    "fstatfs": Numbers(138, 44),
    "getcwd": Numbers(79, 17),
    "getdents64": Numbers(217, 61),
    "lstat": Numbers(6, None),
    "newfstatat": Numbers(262, 79),
    "readlink": Numbers(89, None),
    "readlinkat": Numbers(267, 78),
    "stat": Numbers(4, None),
    "statfs": Numbers(137, 43),
    "statx": Numbers(332, 291),
    # threads, signals, an end
    "exit": Numbers(60, 93),
    "exit_group": Numbers(231, 94),
    "futex_waitv": Numbers(449, 449),
    "get_robust_list": Numbers(274, 100),
    "pause": Numbers(34, None),
    "restart_syscall": Numbers(219, 128),
    "rseq": Numbers(334, 293),
    "rt_sigaction": Numbers(13, 134),
    "rt_sigprocmask": Numbers(14, 135),
    "rt_sigreturn": Numbers(15, 139),
    "set_robust_list": Numbers(273, 99),
    "set_tid_address": Numbers(218, 96),
    "sigaltstack": Numbers(131, 132),
    # clocks
    "clock_getres": Numbers(229, 114),
    "clock_gettime": Numbers(228, 113),
    "clock_nanosleep": Numbers(230, 115),
    "gettimeofday": Numbers(96, 169),
    "nanosleep": Numbers(35, 101),
    "time": Numbers(201, None),
    # looking at itself and the machine
    "arch_prctl": Numbers(158, None),
    "capget": Numbers(125, 90),
    "getcpu": Numbers(309, 168),
    "getegid": Numbers(108, 177),
    "geteuid": Numbers(107, 175),
    "getgid": Numbers(104, 176),
    "getpid": Numbers(39, 172),
    "getppid": Numbers(110, 173),
    "getrandom": Numbers(318, 278),
    "getrusage": Numbers(98, 165),
    "gettid": Numbers(186, 178),
    "getuid": Numbers(102, 174),
    "sched_get_priority_max": Numbers(146, 125),
    "sched_get_priority_min": Numbers(147, 126),
    "sched_getaffinity": Numbers(204, 123),
    "sched_getparam": Numbers(143, 121),
    "sched_getscheduler": Numbers(145, 120),
    "sysinfo": Numbers(99, 179),
    "times": Numbers(100, 153),
    "uname": Numbers(63, 160),
}

_MAP_SHARED: Final = 0x01
_MAP_ANONYMOUS: Final = 0x20
_MAP_GROWSDOWN: Final = 0x100
_CLONE_THREAD: Final = 0x0001_0000
_CLONE_NAMESPACES: Final = 0x7E02_0000
_O_TMPFILE: Final = 0o2000_0000  # its own bit, without the O_DIRECTORY that os.O_TMPFILE has
_WRITING: Final = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | _O_TMPFILE
# Source: Linux, asm-generic/ioctls.h: TCGETS, FIONBIO, FIONCLEX, FIOCLEX
_IOCTLS: Final = (0x5401, 0x5421, 0x5450, 0x5451)
# Source: Linux, fcntl.h: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GET_SEALS
_FCNTLS: Final = (0, 1, 2, 3, 4, 1030, 1034)
# Source: Linux, prctl.h: PR_SET_NAME, PR_GET_NAME, PR_SET_VMA; none of them undoes anything
_PRCTLS: Final = (15, 16, 0x53564D41)


def conditional(pid: int) -> Mapping[str, tuple[Numbers, tuple[Test, ...]]]:
    """Calls allowed when all their tests hold, else EPERM. `pid` is the worker's own, as it sees it."""
    return {
        # Memory that would not count as the worker's: shared with nobody, or a stack.
        "mmap": (
            Numbers(9, 222),
            (
                Test(
                    3,
                    (0, _MAP_SHARED, _MAP_ANONYMOUS),
                    _MAP_SHARED | _MAP_ANONYMOUS | _MAP_GROWSDOWN,
                ),
            ),
        ),
        "open": (Numbers(2, None), (Test(1, (0,), _WRITING),)),
        "openat": (Numbers(257, 56), (Test(2, (0,), _WRITING),)),
        # Threads, no processes, no namespaces
        "clone": (
            Numbers(56, 220),
            (Test(0, (_CLONE_THREAD,), _CLONE_THREAD | _CLONE_NAMESPACES),),
        ),
        "tgkill": (Numbers(234, 131), (Test(0, (pid,)),)),  # abort()
        "fcntl": (Numbers(72, 25), (Test(1, _FCNTLS),)),
        "ioctl": (Numbers(16, 29), (Test(1, _IOCTLS),)),
        "prctl": (Numbers(157, 167), (Test(0, _PRCTLS),)),
        # getrlimit of its own
        "prlimit64": (Numbers(302, 261), (Test(0, (0, pid)), Test(2, (0,), pointer=True))),
    }


# Calls whose callers know an older way
UNKNOWN: Final[Mapping[str, Numbers]] = {
    "clone3": Numbers(435, 435),  # its flags lie in memory, where no filter can look
    "openat2": Numbers(437, 437),  # as above
}

# Nothing that a worker runs makes these by mistake: the process is killed.
HOSTILE: Final[Mapping[str, Numbers]] = {
    "add_key": Numbers(248, 217),
    "bpf": Numbers(321, 280),
    "chroot": Numbers(161, 51),
    "delete_module": Numbers(176, 106),
    "execve": Numbers(59, 221),
    "execveat": Numbers(322, 281),
    "finit_module": Numbers(313, 273),
    "fsconfig": Numbers(431, 431),
    "fsmount": Numbers(432, 432),
    "fsopen": Numbers(430, 430),
    "init_module": Numbers(175, 105),
    "io_uring_setup": Numbers(425, 425),
    "kexec_file_load": Numbers(320, 294),
    "kexec_load": Numbers(246, 104),
    "keyctl": Numbers(250, 219),
    "mount": Numbers(165, 40),
    "mount_setattr": Numbers(442, 442),
    "move_mount": Numbers(429, 429),
    "open_by_handle_at": Numbers(304, 265),
    "open_tree": Numbers(428, 428),
    "perf_event_open": Numbers(298, 241),
    "pidfd_getfd": Numbers(438, 438),
    "pivot_root": Numbers(155, 41),
    "process_vm_readv": Numbers(310, 270),
    "process_vm_writev": Numbers(311, 271),
    "ptrace": Numbers(101, 117),
    "reboot": Numbers(169, 142),
    "request_key": Numbers(249, 218),
    "setns": Numbers(308, 268),
    "swapoff": Numbers(168, 225),
    "swapon": Numbers(167, 224),
    "umount2": Numbers(166, 39),
    "unshare": Numbers(272, 97),
    "userfaultfd": Numbers(323, 282),
}
