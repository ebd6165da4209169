/* The control socket: AF_UNIX, SOCK_SEQPACKET, descriptor 3 of the launcher and of PID 1 in the sandbox.
 * One message is one packet: this header, a fixed part, then arrays; descriptors travel beside it (SCM_RIGHTS).
 * The Python side of the same layout is environment/control.py; tests/contract/test_control.py holds the two together. */
#ifndef THAW_CONTROL_H
#define THAW_CONTROL_H

#include "syscall.h"

#define CONTROL_FD 3
#define FILE_TREE_FD 4       /* the mount namespace that every sandbox starts from a copy of */
#define CGROUP_FD 5          /* a cgroup v2 directory to be born in; may be closed: then the parent's */
#define TIME_FD 5            /* of a template: the time namespace that it lives in; may be closed: then the parent's */
#define CONTROL_LIMIT 65536  /* largest packet, bytes */
#define DESCRIPTOR_LIMIT 32  /* most descriptors beside one packet */

enum control_kind {
	/* to a sandbox or a template */
	CONTROL_ATTACH = 1, /* struct attachment[], one detached mount each beside it */
	/* to a sandbox */
	CONTROL_START = 2, /* struct process, filter, strings; descriptors: log; START_IS_EXTENSION: beside the function's */
	CONTROL_WATCH = 10, /* i32[]: numbers of processes beside the function's whose end is to be told */
	/* to a template (native/plan.h) */
	CONTROL_LOAD = 4,  /* descriptors: restore plan, memory image */
	CONTROL_FILL = 6,  /* struct portion: this part of the memory image has arrived */
	CONTROL_PLACED = 9, /* struct portion[]: these parts of the memory image were written to us (process_vm_writev) */
	CONTROL_EXPECT = 8, /* struct range[]: memory that clones are expected to write */
	CONTROL_SETTLE = 7, /* everything that no clone may lack has arrived */
	CONTROL_CLONE = 5, /* struct process, filter; descriptors: pidfd of the sandbox's PID 1, runtime connection, log,
	                      and, where flags has CLONE_HAS_CGROUP, a cgroup v2 folder */
	/* from a sandbox */
	CONTROL_READY = 16,   /* descriptors: Runtime API listener, the server's end of the runtime connection, the
	                         function's end of it, an rtnetlink socket of this network namespace */
	CONTROL_STARTED = 17, /* i32 pid, as the sandbox numbers it */
	CONTROL_EXITED = 18,  /* i32 wait status of the started process; the sandbox is gone after it */
	CONTROL_FAILED = 19,  /* struct failure; a sandbox is gone after it, a template only if LOAD failed */
	CONTROL_ENDED = 27, /* i32 number, i32 wait status: of a process that is watched, or was started as an extension */
	/* from a template */
	CONTROL_LOADED = 20,
	CONTROL_FILLED = 24,
	CONTROL_SETTLED = 25,
	CONTROL_LAZY = 26, /* i32 the clone's ticket; descriptor: its userfaultfd */
	CONTROL_CLONED = 21, /* i32 pid in the template's namespace; descriptor: pidfd */
	CONTROL_BROKEN = 23, /* struct failure: a clone ended before it was the function; also after its CLONED */
	/* from a sandbox */
	CONTROL_ATTACHED = 22, /* the mounts of an ATTACH are in place: a clone may enter */
	/* from an owner (roles.h) */
	CONTROL_OWNER = 28, /* it is in its user namespace; descriptor: a detached /proc */
};

struct control_header {
	u32 kind;
	u32 size; /* of the whole packet */
};

struct attachment {
	char path[124]; /* an existing folder or file of the sandbox, NUL-terminated */
	u32 flags;      /* none yet: 0 */
};

#define START_IS_EXTENSION 1

#define CLONE_HAS_CGROUP 1
#define CLONE_IS_LAZY 2 /* memory that the template lacks is served by the owner of the clone's userfaultfd */
#define CLONE_IS_WATCHED 4 /* a lazy clone whose first write to each page is told, too */
#define CLONE_HAS_USERS 16 /* its sandbox has a user namespace of its own */
#define CLONE_IS_AHEAD 8 /* of its call: waits, before it is the function, until its runtime connection can be read */

struct portion {
	u64 offset;
	u64 size;
};

/* After it: filter_count x 8 bytes (struct sock_filter), and for CONTROL_START rlimit_count x struct resource_limit,
 * then the NUL-terminated strings: working directory, argc arguments, envc variables. */
struct process {
	u32 uid;
	u32 gid;
	i32 pid; /* CLONE: the number that the clone gets in its sandbox; START: 0, the next free one */
	u32 flags;
	u32 filter_count;
	union {
		u32 rlimit_count; /* START */
		u32 host_uid;     /* CLONE_HAS_USERS: what uid is to the machine, outside of the sandbox's user namespace */
	};
	u32 argc; /* CLONE: its ticket, not 0, by which LAZY and BROKEN name it; a number may be another clone's, too */
	union {
		u32 envc;     /* START */
		u32 host_gid; /* CLONE_HAS_USERS */
	};
};

struct resource_limit {
	u32 resource;
	u32 reserved;
	u64 soft;
	u64 hard;
};

struct failure {
	i32 error;     /* errno, positive; 0 where there is none */
	i32 ticket;    /* the clone's; 0 where it is about none */
	char step[120]; /* the system call or the part of the plan, NUL-terminated */
};

#endif
