/* The other processes of a function's tree.
 *
 * Each is a real child of its parent: forked while the parent still runs this code, under its old number, with the
 * descriptors that the tree shares. It then exchanges the address space that it was born with for that of its own
 * plan, read from the memory image, and meets the others again before any of them runs the function. */
#include "freestanding.h"
#include "numbers.h"
#include "template.h"

#define PAGE 4096UL
#define GATHERING_ADDRESS SCRATCH_ADDRESS
#define STAGING_ADDRESS (SCRATCH_ADDRESS + 0x100000UL)
#define WAITING_ADDRESS (SCRATCH_ADDRESS + (RESERVED_END - SCRATCH_ADDRESS) / 2)
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define EVERY_WAITER 0x7fffffff
#define SIG_UNBLOCK 1
#define SIGNAL_SET_SIZE 8
#define P_PID 1
#define WEXITED 4
#define WNOWAIT 0x1000000
#define WALL 0x40000000
#define EINVAL 22

/* On a page that all processes of the tree share. */
struct gathering {
	u32 processes;
	u32 arrived[STAGE_COUNT];
};

static struct gathering *gathering;
static i32 first; /* the tree's first process; 0 in itself */

static i64 need(i64 result, const char *step)
{
	if (failed(result))
		give_up(step, result);
	return result;
}

void gather(enum stage stage)
{
	u32 *word, count;

	if (!gathering)
		return;
	word = &gathering->arrived[stage];
	count = __atomic_add_fetch(word, 1, __ATOMIC_ACQ_REL);
	if (count == gathering->processes) {
		SYS3(SYS_FUTEX, word, FUTEX_WAKE, EVERY_WAITER);
		return;
	}
	while ((count = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != gathering->processes)
		SYS4(SYS_FUTEX, word, FUTEX_WAIT, count, 0);
}

void end_tree(void)
{
	if (first)
		SYS2(SYS_KILL, first, SIGKILL);
}

static i64 fork_as(i32 number, i32 exit_signal)
{
	struct clone_arguments clone = {0};

	clone.exit_signal = (u64)exit_signal;
	clone.set_tid = (u64)&number;
	clone.set_tid_size = 1;
	return need(SYS2(SYS_CLONE3, &clone, sizeof clone), "clone3 of a process of the tree");
}

/* ---- a process that has ended ---- */

static void default_action(i32 signal)
{
	static const u64 action[4]; /* SIG_DFL, no flags, no mask */

	SYS4(SYS_RT_SIGACTION, signal, action, 0, SIGNAL_SET_SIZE);
}

/* Ends as the process once did, for its parent to find. */
__attribute__((noreturn)) static void end_again(i32 pid, i32 status)
{
	i32 signal = status & 0x7f;
	u64 mask = 1UL << (signal - 1);

	if (!signal)
		SYS1(SYS_EXIT_GROUP, status >> 8 & 0xff);
	default_action(signal);
	SYS4(SYS_RT_SIGPROCMASK, SIG_UNBLOCK, &mask, 0, SIGNAL_SET_SIZE);
	SYS2(SYS_KILL, pid, signal);
	for (;;)
		SYS1(SYS_EXIT_GROUP, signal);
}

/* Its parent was told of its end long ago: the signal that says so again is taken away. */
static void forget_its_signal(const struct relative *relative)
{
	static const u64 now[2];
	u64 mask = 1UL << (relative->exit_signal - 1);

	need(SYS5(SYS_WAITID, P_PID, relative->pid, 0, WEXITED | WNOWAIT | WALL, 0), "waitid");
	if (relative->exit_signal)
		SYS4(SYS_RT_SIGTIMEDWAIT, &mask, 0, now, SIGNAL_SET_SIZE);
}

/* ---- a process that lives ---- */

static void unmap(u64 start, u64 end)
{
	if (start < end)
		need(SYS2(SYS_MUNMAP, start, end - start), "munmap");
}

static u64 lesser(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* Everything but our own and what is kept. */
static void unmap_others(void)
{
	const struct range *range = (const struct range *)plan->kept_address;
	u64 start = PAGE;

	for (u64 i = 0; i <= plan->kept_count; i++) {
		u64 end = i < plan->kept_count ? range[i].address : ADDRESS_END;

		unmap(start, lesser(end, RESTORER_ADDRESS));
		unmap(start > RESERVED_END ? start : RESERVED_END, end);
		if (i < plan->kept_count)
			start = range[i].address + range[i].size;
	}
}

/* From the address space that it was born with, which is the first process's, to its own plan. */
static void take_plan(struct relative own)
{
	struct parameters given = *(struct parameters *)plan->parameters_address;
	u64 old_size = (plan->size + PAGE - 1) & ~(PAGE - 1);
	const struct extent *extent;

	move_special(plan->special[plan->special_count - 1].address, WAITING_ADDRESS);
	need(SYS5(SYS_MREMAP, own.plan, own.size, own.size, MREMAP_MAYMOVE | MREMAP_FIXED, STAGING_ADDRESS), "mremap of a plan");
	SYS2(SYS_MUNMAP, PLAN_ADDRESS, old_size);
	need(SYS5(SYS_MREMAP, STAGING_ADDRESS, own.size, own.size, MREMAP_MAYMOVE | MREMAP_FIXED, PLAN_ADDRESS),
	     "mremap of a plan");
	if (plan->magic != PLAN_MAGIC || plan->version != PLAN_VERSION || plan->header_size != sizeof *plan || plan->size > own.size)
		give_up("the plan of a child process, which is damaged", -EINVAL);
	unmap_others();
	given.pid = own.pid;
	*(struct parameters *)plan->parameters_address = given;
	execute(&plan->build);
	move_special(WAITING_ADDRESS, plan->special[plan->special_count - 1].address);
	extent = (const struct extent *)plan->extent_address;
	for (u64 i = 0; i < plan->extent_count; i++) {
		struct portion whole = {extent[i].offset, extent[i].size};

		read_image(extent + i, &whole);
	}
	execute(&plan->settle);
}

static void fork_relatives(i32 parent, u32 late);

__attribute__((noreturn)) static void become(const struct relative *relative)
{
	struct relative own = *relative;

	if (own.flags & RELATIVE_LEADS_GROUP)
		SYS2(SYS_SETPGID, 0, 0);
	if (own.flags & RELATIVE_HAS_ENDED) {
		if (own.flags & RELATIVE_LEADS_SESSION)
			SYS0(SYS_SETSID);
		end_again(own.pid, own.status);
	}
	default_action(SIGCHLD); /* what is inherited could reap children that have ended at once */
	fork_relatives(own.pid, 0);
	if (own.flags & RELATIVE_LEADS_SESSION) {
		need(SYS0(SYS_SETSID), "setsid");
		fork_relatives(own.pid, RELATIVE_IS_LATE);
	}
	gather(STAGE_FORKED);
	if (own.group)
		need(SYS2(SYS_SETPGID, 0, own.group), "setpgid");
	take_plan(own);
	live();
}

/* Its parent has ended: one takes its place for a moment, and PID 1 of the sandbox adopts the child. */
static void fork_adopted(const struct relative *relative)
{
	if (!fork_as(plan->go_between, 0)) {
		if (!fork_as(relative->pid, relative->exit_signal))
			become(relative);
		SYS1(SYS_EXIT, 0);
	}
	need(SYS4(SYS_WAIT4, plan->go_between, 0, WALL, 0), "wait4");
}

/* The children of a process, of which some are born after it began a session. */
static void fork_relatives(i32 parent, u32 late)
{
	const struct relative *relative = (const struct relative *)plan->relative_address;

	for (u64 i = 0; i < plan->relative_count; i++, relative++) {
		if (relative->parent != parent || (relative->flags & RELATIVE_IS_LATE) != late)
			continue;
		if (parent == ADOPTER)
			fork_adopted(relative);
		else if (!fork_as(relative->pid, relative->exit_signal))
			become(relative);
		else if (relative->flags & RELATIVE_HAS_ENDED)
			forget_its_signal(relative);
	}
}

static u32 living(void)
{
	const struct relative *relative = (const struct relative *)plan->relative_address;
	u32 count = 1;

	for (u64 i = 0; i < plan->relative_count; i++)
		count += !(relative[i].flags & RELATIVE_HAS_ENDED);
	return count;
}

void begin_tree(i32 pid)
{
	struct gathering *page;

	need(SYS6(SYS_MMAP, GATHERING_ADDRESS, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, -1, 0),
	     "mmap for the tree");
	page = (struct gathering *)GATHERING_ADDRESS;
	page->processes = living();
	gathering = page;
	execute(&plan->share);
	first = pid;
	fork_relatives(pid, 0);
	fork_relatives(ADOPTER, 0);
	first = 0;
	gather(STAGE_FORKED);
}
