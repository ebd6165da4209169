/* The restore plan: everything that turns an empty process into the function, compiled at publish so that restoring
 * interprets nothing. docs/formats.md describes every byte; snapshot/plan.py writes it; tests/contract/test_plan.py
 * holds the three together.
 *
 * The plan is mapped, privately and writable, at PLAN_ADDRESS. Addresses inside it are absolute. It holds programs:
 * arrays of steps, each one system call whose arguments are known, except those that an earlier step left in a
 * variable (a word of the plan) or that the template fills in (struct parameters). */
#ifndef THAW_PLAN_H
#define THAW_PLAN_H

#include "syscall.h"

#define PLAN_MAGIC 0x4e414c5057414854UL /* "THAWPLAN" */
#define PLAN_VERSION 3
/* Above the 46 bits from which V8 draws the places of its heap, and below those of programs and libraries. */
#define RESTORER_ADDRESS 0x500000000000UL
#define PLAN_ADDRESS 0x510000000000UL
#define SCRATCH_ADDRESS 0x520000000000UL /* where the special mappings wait while everything else is unmapped */
#define RESERVED_END 0x530000000000UL    /* the function may own nothing in RESTORER_ADDRESS..RESERVED_END */
#define ADDRESS_END 0x7ffffffff000UL     /* end of user addresses with four-level page tables */
#define SPECIAL_LIMIT 8
#define THREAD_LIMIT 1024
#define RELATIVE_LIMIT 1024

/* A step's flags */
#define STEP_OPTIONAL 1     /* failure is not an error */
#define STEP_RESULT_IS_ARG0 2 /* the call must return its first argument (mmap, mremap) */
#define STEP_RESULT_IS_ARG2 4 /* ... its third (pread64: all bytes) */

struct step {
	u16 number; /* of the system call */
	u8 flags;
	u8 loads;   /* bit i: args[i] is the address of an i32 whose value is the argument */
	u32 label;  /* offset in the plan of the text that names the step in an error; 0: none */
	u64 result; /* address at which to leave the result as an i32; 0: nowhere */
	u64 args[6];
};

struct program {
	u64 address; /* of the first step */
	u64 count;
};

/* One of the kernel's own mappings ([vvar], [vvar_vclock], [vdso]): it must lie where the function knew it. */
struct special {
	u64 address;
	u64 size;
};

/* A piece of the template's memory: where it belongs, and where the memory image holds it. */
struct extent {
	u64 address;
	u64 size;
	u64 offset;
};

/* Memory that a clone may be given piece by piece, when it touches it (userfaultfd(2)). */
struct range {
	u64 address;
	u64 size;
};

struct thread {
	i32 tid; /* 0: the main thread, which gets the clone's pid */
	u32 reserved;
	u64 frame; /* address of its rt_sigframe, as rt_sigreturn wants rsp */
	struct program program;
};

/* Another process of the function's tree: forked by its parent, so that it is its child, when what the tree shares is in
 * place. Its own plan takes the place of the first one's. Parents come before their children. */
struct relative {
	i32 pid;         /* in the sandbox, as when it was frozen */
	i32 parent;      /* ADOPTER: PID 1 of the sandbox */
	i32 exit_signal; /* what its parent gets when it ends */
	i32 status;      /* RELATIVE_HAS_ENDED: wait status */
	i32 group;       /* process group to join, when all processes are there; 0: the one that it is born into */
	u32 flags;
	u64 plan;        /* address, a multiple of the page size; 0: it has ended */
	u64 size;        /* bytes of its plan, a multiple of the page size */
};

#define ADOPTER 1
/* A relative's flags */
#define RELATIVE_HAS_ENDED 1     /* its parent has not waited for it yet */
#define RELATIVE_LEADS_SESSION 2
#define RELATIVE_LEADS_GROUP 4
#define RELATIVE_IS_LATE 8       /* born after its parent began a session */

/* What the template fills in for each clone. */
struct parameters {
	u32 uid;
	u32 gid;
	u32 filter_count; /* from here on it is a struct sock_fprog, with pid in its padding */
	i32 pid;
	u64 filter;
};

/* Descriptors that the template keeps, counted from descriptor_base: above every one of the function's. */
enum kept_descriptor {
	KEPT_CONTROL = 0,
	KEPT_MEMORY = 1,
	KEPT_SANDBOX = 2,    /* pidfd of the sandbox's PID 1 */
	KEPT_CONNECTION = 3, /* the runtime connection */
	KEPT_LOG = 4,
	KEPT_CGROUP = 5,
	KEPT_COUNT = 6,      /* from here on: scratch numbers of the programs */
};

struct plan_header {
	u64 magic;
	u32 version;
	u32 header_size;
	u64 size;
	u32 descriptor_base;
	u32 special_count;
	struct special special[SPECIAL_LIMIT]; /* ascending; the last one is the vDSO */
	u64 thread_address; /* struct thread[]; the first is the main thread */
	u64 thread_count;
	u64 tid_address;       /* where the C library keeps the main thread's number; 0: nowhere */
	u64 parameters_address;
	u64 extent_address; /* struct extent[] */
	u64 extent_count;
	u64 lazy_address; /* struct range[]: extents outside of these must be filled before the first clone */
	u64 lazy_count;
	struct program build;     /* in the template: the address space, writable */
	struct program settle;    /* in the template, when it is filled: protections */
	struct program enter;     /* in the clone, privileged: descriptors, late mappings, limits; a clone made ahead waits after it */
	struct program surrender; /* in the clone, last: what time counts for, privileges; ends with the system call filter */
	struct program share;     /* in a tree's first process, before the others are forked: what they share */
	u64 relative_address;     /* struct relative[]: the tree's other processes; none in a plan of one of them */
	u64 relative_count;
	i32 go_between; /* a number that no process of the tree has: for parents that end before their children begin */
	u32 reserved;
	u64 kept_address; /* struct range[], ascending: memory of the first process that a relative, born by fork, keeps */
	u64 kept_count;
};

#endif
