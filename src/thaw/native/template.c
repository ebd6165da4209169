/* A template: one process per snapshot and worker that holds the function's whole address space, and from which every
 * clone is a fork.
 *
 * Why a fork: memory stays anonymous, as it was (MADV_DONTNEED gives zeros, heaps grow, neighbours merge), nothing is
 * mapped a second time, and clean pages are shared between all clones. Why it is not bound to one thread: the template
 * never runs the function; the clone gets its threads from the plan, after the fork. */
#include "freestanding.h"
#include "message.h"
#include "numbers.h"
#include "roles.h"
#include "template.h"

#define SYS_POLL 7
#define SYS_IOCTL 16
#define SYS_FCNTL 72
#define F_GETFD 1
#define SYS_PREAD64 17
#define SYS_USERFAULTFD 323
#define O_NONBLOCK 04000
#define UFFD_API 0xaa
#define UFFDIO_API 0xc018aa3f
#define UFFDIO_REGISTER 0xc020aa00
#define UFFDIO_REGISTER_MODE_MISSING 1
#define UFFDIO_REGISTER_MODE_WP 2
/* First writes; and events: a fork (of the function, later), and memory that it moves, gives back or unmaps. */
#define UFFD_FEATURES (1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6)

#define SYS_MADVISE 28
#define MADV_POPULATE_WRITE 23
#define EXPECTED_LIMIT 4096

#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#define SYS_LSEEK 8
#define SEEK_END 2
#define POLLIN 1
#define EINTR 4
#define EAGAIN 11
#define EINVAL 22
#define ENOEXEC 8
#define ESTALE 116
#define PF_X 1
#define PF_W 2
#define PF_R 4
#define PT_LOAD 1
#define PAGE 4096UL
#define THREAD_STACK 2048

static const u64 every_signal = ~0UL;
struct plan_header *plan;
static int control = CONTROL_FD;
static u64 missing; /* bytes of the extents that have not been filled */
static int settled;
static int is_ahead; /* the clone at hand was made before its call */
static int has_users; /* the clone at hand enters its sandbox's user namespace */
static u32 inside_uid, inside_gid; /* and is this one there */
static i32 ticket; /* of the clone at hand; 0 in the template itself */
static struct range expected[EXPECTED_LIMIT]; /* what clones write soon */
static u32 expected_count;
static u32 arrived;  /* threads of the clone that are ready */
static u32 released; /* 1 when all of them may go */
static u8 thread_stacks[THREAD_LIMIT][THREAD_STACK] __attribute__((aligned(64)));

/* In a template: it ends. In a clone: the clone does. */
__attribute__((noreturn)) void give_up(const char *step, i64 error)
{
	if (ticket)
		end_tree();
	fail(control, ticket, step, error);
}

static i64 must(i64 result, const char *step)
{
	if (failed(result))
		give_up(step, result);
	return result;
}

static int kept(enum kept_descriptor which)
{
	return (int)(plan->descriptor_base + which);
}

/* ---- our own code and the kernel's mappings ---- */

struct program_header {
	u32 type, flags;
	u64 offset, address, physical, file_size, memory_size, alignment;
};

/* Copies our code out of its file: /proc/PID/exe can only be changed when no mapping of the old file is left. */
static void leave_file(const u64 *auxiliary)
{
	const struct program_header *segment = (const struct program_header *)auxiliary_value(auxiliary, AT_PHDR);
	u64 count = auxiliary_value(auxiliary, AT_PHNUM);

	for (u64 i = 0; i < count; i++) {
		u64 start = segment[i].address & ~(PAGE - 1);
		u64 size = (segment[i].address + segment[i].file_size - start + PAGE - 1) & ~(PAGE - 1);
		u32 flags = segment[i].flags;
		int protection = (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) | (flags & PF_X ? PROT_EXEC : 0);
		i64 copy;

		if (segment[i].type != PT_LOAD || !segment[i].file_size)
			continue;
		copy = must(SYS6(SYS_MMAP, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "mmap of our code");
		memcpy((void *)copy, (const void *)start, size);
		must(SYS3(SYS_MPROTECT, copy, size, protection), "mprotect of our code");
		must(SYS5(SYS_MREMAP, copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, start), "mremap of our code");
	}
}

/* Moves the kernel's mappings by a distance; one call each, because older kernels move one mapping at a time. */
void move_special(u64 from_vdso, u64 to_vdso)
{
	u64 vdso = plan->special[plan->special_count - 1].address;

	for (u32 i = 0; i < plan->special_count; i++) {
		u64 size = plan->special[i].size;
		u64 distance = vdso - plan->special[i].address;

		must(SYS5(SYS_MREMAP, from_vdso - distance, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to_vdso - distance),
		     "mremap of the vDSO");
	}
}

static void empty_address_space(void)
{
	must(SYS2(SYS_MUNMAP, PAGE, RESTORER_ADDRESS - PAGE), "munmap");
	must(SYS2(SYS_MUNMAP, RESERVED_END, ADDRESS_END - RESERVED_END), "munmap");
}

/* ---- programs ---- */

static i64 argument(const struct step *step, u32 index)
{
	if (step->loads & (1U << index))
		return *(const i32 *)step->args[index];
	return (i64)step->args[index];
}

static int disappoints(const struct step *step, i64 result)
{
	if (step->flags & STEP_OPTIONAL)
		return 0;
	return failed(result) || (step->flags & STEP_RESULT_IS_ARG0 && (u64)result != step->args[0]) ||
	       (step->flags & STEP_RESULT_IS_ARG2 && (u64)result != step->args[2]);
}

void execute(const struct program *program)
{
	const struct step *step = (const struct step *)program->address;

	for (u64 i = 0; i < program->count; i++, step++) {
		i64 result = syscall6(step->number, argument(step, 0), argument(step, 1), argument(step, 2), argument(step, 3),
				      argument(step, 4), argument(step, 5));

		if (disappoints(step, result))
			give_up(step->label ? (const char *)(PLAN_ADDRESS + step->label) : "a step of the plan",
				failed(result) ? result : -EINVAL);
		if (step->result)
			*(i32 *)step->result = (i32)result;
	}
}

/* ---- loading ---- */

static void keep(i32 descriptor, enum kept_descriptor place)
{
	must(SYS3(SYS_DUP3, descriptor, kept(place), O_CLOEXEC), "dup3");
	SYS1(SYS_CLOSE, descriptor);
}

static void map_plan(i32 descriptor)
{
	i64 size = must(SYS3(SYS_LSEEK, descriptor, 0, SEEK_END), "size of the plan");

	if (size < (i64)sizeof *plan)
		fail(control, 0, "the restore plan, which is too short", -ENOEXEC);
	must(SYS6(SYS_MMAP, PLAN_ADDRESS, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, descriptor, 0), "mmap of the plan");
	plan = (struct plan_header *)PLAN_ADDRESS;
	if (plan->magic != PLAN_MAGIC || plan->version != PLAN_VERSION || plan->header_size != sizeof *plan || plan->size != (u64)size)
		fail(control, 0, "the restore plan, which has another version or length", -ENOEXEC);
	if (plan->special_count < 1 || plan->special_count > SPECIAL_LIMIT || plan->thread_count < 1 ||
	    plan->thread_count > THREAD_LIMIT || plan->relative_count > RELATIVE_LIMIT)
		fail(control, 0, "the restore plan, whose counts are out of bounds", -ENOEXEC);
}

static u64 extent_bytes(void)
{
	const struct extent *extent = (const struct extent *)plan->extent_address;
	u64 bytes = 0;

	for (u64 i = 0; i < plan->extent_count; i++)
		bytes += extent[i].size;
	return bytes;
}

static void load(const struct message *message, u64 own_vdso)
{
	u64 waiting = SCRATCH_ADDRESS + (RESERVED_END - SCRATCH_ADDRESS) / 2;
	u64 vdso;

	if (plan || message->descriptor_count != 2)
		fail(control, 0, "LOAD without plan and memory image", -EINVAL);
	map_plan(message->descriptors[0]);
	vdso = plan->special[plan->special_count - 1].address;
	keep(message->descriptors[1], KEPT_MEMORY);
	keep(control, KEPT_CONTROL);
	control = kept(KEPT_CONTROL);
	SYS2(SYS_CLOSE_RANGE, 0, plan->descriptor_base - 1);
	SYS2(SYS_CLOSE_RANGE, kept(KEPT_SANDBOX), ~0U);
	move_special(own_vdso, waiting);
	empty_address_space();
	execute(&plan->build);
	move_special(waiting, vdso);
	missing = extent_bytes();
	must(message_send(control, CONTROL_LOADED, 0, 0, 0, 0), "sending LOADED");
}

static u64 larger(u64 a, u64 b)
{
	return a > b ? a : b;
}

/* The part of one extent that lies in a portion of the image. */
static struct portion overlap(const struct extent *extent, const struct portion *portion)
{
	u64 first = larger(extent->offset, portion->offset);
	u64 extent_end = extent->offset + extent->size, portion_end = portion->offset + portion->size;
	u64 last = extent_end < portion_end ? extent_end : portion_end;

	return (struct portion){first, last > first ? last - first : 0};
}

void read_image(const struct extent *extent, const struct portion *part)
{
	u64 last = part->offset + part->size;

	for (u64 at = part->offset; at < last;) {
		i64 done = SYS4(SYS_PREAD64, kept(KEPT_MEMORY), extent->address + (at - extent->offset), last - at, at);

		if (done <= 0)
			give_up("reading the memory image", done ? done : -EINVAL);
		at += (u64)done;
	}
}

static void fill(const struct message *message)
{
	const struct extent *extent = (const struct extent *)plan->extent_address;

	for (u64 i = 0; i < plan->extent_count; i++) {
		struct portion part = overlap(extent + i, (const struct portion *)message->body);

		read_image(extent + i, &part);
		missing -= part.size;
	}
	must(message_send(control, CONTROL_FILLED, 0, 0, 0, 0), "sending FILLED");
}

/* The server has written these parts of the image to our memory; it need not be told that we know. */
static void note_placed(const struct message *message)
{
	const struct portion *portion = (const struct portion *)message->body;
	const struct extent *extent = (const struct extent *)plan->extent_address;

	for (u32 each = 0; each < message->size / (u32)sizeof *portion; each++)
		for (u64 i = 0; i < plan->extent_count; i++)
			missing -= overlap(extent + i, portion + each).size;
}

static void settle(void)
{
	execute(&plan->settle);
	settled = 1;
	must(message_send(control, CONTROL_SETTLED, 0, 0, 0, 0), "sending SETTLED");
}

/* ---- memory that clones write soon ---- */

static void expect_writes(const struct message *message)
{
	u32 count = message->size / (u32)sizeof *expected;

	expected_count = count < EXPECTED_LIMIT ? count : EXPECTED_LIMIT;
	memcpy(expected, message->body, expected_count * sizeof *expected);
}

/* Copies pages that the clone is about to write: one system call for a run of them is cheaper than a fault for each.
 * Kernels before 5.14 do not know the advice; then the faults come one by one, as they would have. */
static void copy_expected(void)
{
	for (u32 i = 0; i < expected_count; i++)
		SYS3(SYS_MADVISE, expected[i].address, expected[i].size, MADV_POPULATE_WRITE);
}

/* ---- memory that arrives when it is touched (userfaultfd(2), ioctl_userfaultfd(2)) ---- */

struct uffd_api {
	u64 api, features, ioctls;
};

struct uffd_register {
	struct range range;
	u64 mode, ioctls;
};

/* Before anything of the function runs, and before the template's descriptors go: hand out the clone's userfaultfd.
 * The message keeps it open while it is under way, so there is no moment in which nobody answers for missing pages. */
static void await_missing_pages(u32 flags)
{
	const struct range *range = (const struct range *)plan->lazy_address;
	struct uffd_api api = {UFFD_API, UFFD_FEATURES, 0};
	i32 faults = (i32)must(SYS1(SYS_USERFAULTFD, O_CLOEXEC | O_NONBLOCK), "userfaultfd");

	must(SYS3(SYS_IOCTL, faults, UFFDIO_API, &api), "UFFDIO_API");
	for (u64 i = 0; i < plan->lazy_count; i++) {
		u64 watch = flags & CLONE_IS_WATCHED ? UFFDIO_REGISTER_MODE_WP : 0;
		struct uffd_register request = {range[i], UFFDIO_REGISTER_MODE_MISSING | watch, 0};

		must(SYS3(SYS_IOCTL, faults, UFFDIO_REGISTER, &request), "UFFDIO_REGISTER");
	}
	must(message_send(control, CONTROL_LAZY, &ticket, sizeof ticket, &faults, 1), "sending LAZY");
	SYS1(SYS_CLOSE, faults);
}

/* ---- the clone ---- */

/* A clone that was made ahead of its call. Up to here it has pages, namespaces, descriptors and threads; from here on time
 * counts for it. It still has the template's name. */
static void await_call(void)
{
	struct {
		i32 descriptor;
		u16 events, happened;
	} connection = {kept(KEPT_CONNECTION), POLLIN, 0};

	while (SYS3(SYS_POLL, &connection, 1, -1) == -EINTR)
		;
}

__attribute__((noreturn)) static void sigreturn(u64 stack)
{
	__asm__ volatile("mov %0, %%rsp\n\tmov $15, %%eax\n\tsyscall" : : "r"(stack) : "memory");
	__builtin_unreachable();
}

static void await_release(void)
{
	while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
		SYS4(SYS_FUTEX, &released, FUTEX_WAIT_PRIVATE, 0, 0);
}

__attribute__((noreturn, used)) static void run_thread(const struct thread *thread)
{
	execute(&thread->program);
	__atomic_fetch_add(&arrived, 1, __ATOMIC_RELEASE);
	SYS3(SYS_FUTEX, &arrived, FUTEX_WAKE_PRIVATE, 1);
	await_release();
	sigreturn(thread->frame);
}

static void start_thread(const struct thread *thread, u64 index)
{
	i32 tid = thread->tid;
	struct clone_arguments clone = {0};
	i64 result;
	register const struct thread *subject __asm__("r12") = thread;

	clone.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	clone.stack = (u64)thread_stacks[index];
	clone.stack_size = THREAD_STACK;
	clone.set_tid = (u64)&tid;
	clone.set_tid_size = 1;
	/* The new thread comes out of the system call on an empty stack: it may use nothing of this frame. */
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r12, %%rdi\n\t"
			 "call run_thread\n"
			 "1:"
			 : "=a"(result)
			 : "a"((i64)SYS_CLONE3), "D"(&clone), "S"(sizeof clone), "r"(subject)
			 : "rcx", "r11", "memory");
	must(result, "clone3 of a thread");
}

static void start_threads(const struct thread *threads)
{
	u32 others = (u32)plan->thread_count - 1;

	for (u64 i = 1; i <= others; i++)
		start_thread(threads + i, i);
	for (;;) {
		u32 ready = __atomic_load_n(&arrived, __ATOMIC_ACQUIRE);

		if (ready == others)
			return;
		SYS4(SYS_FUTEX, &arrived, FUTEX_WAIT_PRIVATE, ready, 0);
	}
}

/* Everything that takes the machine's root is done. What may have threads can enter no user namespace, so this comes
 * before them; their numbers can be chosen nevertheless, for the sandbox's process numbers belong to the same namespace. */
static void enter_users(void)
{
	struct parameters *parameters = (struct parameters *)plan->parameters_address;

	if (!has_users)
		return;
	must(SYS2(SYS_SETNS, kept(KEPT_SANDBOX), CLONE_NEWUSER), "setns to the sandbox's users");
	must(become_root(), "becoming root of the sandbox's users");
	for (u32 capability = 0; !failed(SYS2(SYS_PRCTL, PR_CAPBSET_DROP, capability)); capability++)
		;
	parameters->uid = inside_uid;
	parameters->gid = inside_gid;
}

__attribute__((noreturn)) void live(void)
{
	const struct thread *threads = (const struct thread *)plan->thread_address;

	execute(&plan->enter);
	enter_users();
	gather(STAGE_ENTERED); /* from here on each may kill each (end_tree) */
	if (plan->tid_address)
		*(i32 *)plan->tid_address = ((const struct parameters *)plan->parameters_address)->pid;
	start_threads(threads);
	if (is_ahead)
		await_call();
	execute(&threads[0].program);
	execute(&plan->surrender);
	gather(STAGE_READY);
	__atomic_store_n(&released, 1, __ATOMIC_RELEASE);
	if (plan->thread_count > 1)
		SYS3(SYS_FUTEX, &released, FUTEX_WAKE_PRIVATE, THREAD_LIMIT);
	sigreturn(threads[0].frame);
}

__attribute__((noreturn)) static void become_function(i32 pid, u32 flags)
{
	must(SYS2(SYS_SETNS, kept(KEPT_SANDBOX), CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET), "setns to the sandbox");
	if (plan->relative_count) /* before anybody watches this memory, which the others do not keep */
		begin_tree(pid);
	if (flags & CLONE_IS_LAZY)
		await_missing_pages(flags);
	copy_expected();
	is_ahead = !!(flags & CLONE_IS_AHEAD);
	live();
}

static void take_parameters(const struct process *process)
{
	struct parameters *parameters = (struct parameters *)plan->parameters_address;

	has_users = !!(process->flags & CLONE_HAS_USERS);
	inside_uid = process->uid;
	inside_gid = process->gid;
	parameters->uid = has_users ? process->host_uid : process->uid; /* until it is in there */
	parameters->gid = has_users ? process->host_gid : process->gid;
	parameters->pid = process->pid;
	parameters->filter_count = process->filter_count;
	parameters->filter = (u64)(process + 1);
	ticket = (i32)process->argc;
}

static void drop_request(const struct process *process)
{
	u32 last = process->flags & CLONE_HAS_CGROUP ? KEPT_CGROUP : KEPT_LOG;

	SYS2(SYS_CLOSE_RANGE, kept(KEPT_SANDBOX), kept(last));
}

/* A request that fails ends with a sentence to the server; the template goes on. */
static void refuse(const char *step, i64 error)
{
	struct failure failure = {(i32)-error, ticket, {0}};

	text_copy(failure.step, step, sizeof failure.step);
	message_send(control, CONTROL_FAILED, &failure, sizeof failure, 0, 0);
}

static void fork_clone(const struct process *process)
{
	struct clone_arguments clone = {0};
	i32 pidfd = -1, number = process->pid, pid;
	i64 result = SYS2(SYS_SETNS, kept(KEPT_SANDBOX), CLONE_NEWPID);

	if (failed(result)) {
		refuse("setns to the sandbox's process numbers", result);
		return;
	}
	clone.flags = CLONE_PARENT | CLONE_PIDFD;
	clone.pidfd = (u64)&pidfd;
	clone.set_tid = (u64)&number;
	clone.set_tid_size = 1;
	if (process->flags & CLONE_HAS_CGROUP) {
		clone.flags |= CLONE_INTO_CGROUP;
		clone.cgroup = (u64)kept(KEPT_CGROUP);
	}
	result = SYS2(SYS_CLONE3, &clone, sizeof clone);
	if (!result)
		become_function(number, process->flags);
	if (failed(result)) {
		refuse("clone3 of the clone", result);
		return;
	}
	pid = (i32)result;
	message_send(control, CONTROL_CLONED, &pid, sizeof pid, &pidfd, 1);
	SYS1(SYS_CLOSE, pidfd);
}

static void clone_function(const struct message *message)
{
	const struct process *process = (const struct process *)message->body;
	u32 expected = process->flags & CLONE_HAS_CGROUP ? 4 : 3;

	if (!plan || message->descriptor_count != expected)
		fail(control, 0, "CLONE before LOAD, or without its descriptors", -EINVAL);
	for (u32 i = 0; i < expected; i++)
		keep(message->descriptors[i], KEPT_SANDBOX + i);
	take_parameters(process);
	if (!settled || (missing && (!(process->flags & CLONE_IS_LAZY) || plan->relative_count)))
		refuse("a clone of a template that is not filled", -EAGAIN);
	else
		fork_clone(process);
	drop_request(process);
	ticket = 0;
}

__attribute__((noreturn)) static void serve(u64 own_vdso)
{
	struct message message;

	while (message_receive(control, &message) > 0) {
		if (message.kind == CONTROL_ATTACH)
			attach(control, &message);
		else if (message.kind == CONTROL_LOAD)
			load(&message, own_vdso);
		else if (plan && message.kind == CONTROL_FILL)
			fill(&message);
		else if (plan && message.kind == CONTROL_PLACED)
			note_placed(&message);
		else if (plan && message.kind == CONTROL_EXPECT)
			expect_writes(&message);
		else if (plan && message.kind == CONTROL_SETTLE)
			settle();
		else if (message.kind == CONTROL_CLONE)
			clone_function(&message);
		else
			fail(control, 0, "a message that a template does not take", -EINVAL);
	}
	for (;;)
		SYS1(SYS_EXIT_GROUP, 0); /* the server is gone */
}

__attribute__((noreturn)) void template(const u64 *auxiliary)
{
	u64 own_vdso = auxiliary_value(auxiliary, AT_SYSINFO_EHDR);

	SYS4(SYS_RT_SIGPROCMASK, 2, &every_signal, 0, 8);
	SYS2(SYS_PRCTL, PR_SET_PDEATHSIG, SIGKILL);
	SYS0(SYS_SETSID);
	if (!failed(SYS2(SYS_FCNTL, TIME_FD, F_GETFD)))
		must(SYS2(SYS_SETNS, TIME_FD, CLONE_NEWTIME), "setns to the time namespace");
	must(SYS2(SYS_SETNS, FILE_TREE_FD, CLONE_NEWNS), "setns to the file tree");
	must(SYS1(SYS_UNSHARE, CLONE_NEWNS), "unshare of mounts");
	SYS2(SYS_PRCTL, PR_SET_NAME, "thaw-template");
	leave_file(auxiliary);
	serve(own_vdso);
}
