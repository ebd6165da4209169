/* Numbers of the kernel's interface on x86-64 that more than one file needs (arch/x86/entry/syscalls/syscall_64.tbl,
 * include/uapi/linux/{sched,prctl,capability,futex}.h). */
#ifndef THAW_NUMBERS_H
#define THAW_NUMBERS_H

#define SYS_CLOSE 3
#define SYS_MMAP 9
#define SYS_MPROTECT 10
#define SYS_MUNMAP 11
#define SYS_RT_SIGACTION 13
#define SYS_RT_SIGPROCMASK 14
#define SYS_MREMAP 25
#define SYS_SOCKET 41
#define SYS_EXIT 60
#define SYS_WAIT4 61
#define SYS_KILL 62
#define SYS_SETPGID 109
#define SYS_SETRESUID 117
#define SYS_SETRESGID 119
#define SYS_EXIT_GROUP 231
#define SYS_SETSID 112
#define SYS_RT_SIGTIMEDWAIT 128
#define SYS_PRCTL 157
#define SYS_FUTEX 202
#define SYS_UNSHARE 272
#define SYS_DUP3 292
#define SYS_WAITID 247
#define SYS_SETNS 308
#define SYS_SECCOMP 317
#define SYS_MOVE_MOUNT 429
#define SYS_CLONE3 435
#define SYS_CLOSE_RANGE 436

#define O_CLOEXEC 02000000
#define MOVE_MOUNT_F_EMPTY_PATH 4
#define AT_FDCWD (-100)

#define PR_SET_PDEATHSIG 1
#define PR_SET_NAME 15
#define PR_CAPBSET_DROP 24
#define SIGKILL 9
#define SIGCHLD 17

#define CLONE_VM 0x100
#define CLONE_FS 0x200
#define CLONE_FILES 0x400
#define CLONE_SIGHAND 0x800
#define CLONE_PIDFD 0x1000
#define CLONE_PARENT 0x8000
#define CLONE_THREAD 0x10000
#define CLONE_NEWTIME 0x80
#define CLONE_NEWNS 0x20000
#define CLONE_SYSVSEM 0x40000
#define CLONE_NEWUTS 0x4000000
#define CLONE_NEWIPC 0x8000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000
#define CLONE_INTO_CGROUP 0x200000000UL

#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED 2

struct clone_arguments {
	u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* The auxiliary vector's entries that we read (include/uapi/linux/auxvec.h). */
#define AT_PHDR 3
#define AT_PHNUM 5
#define AT_SYSINFO_EHDR 33

#endif
