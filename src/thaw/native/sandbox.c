/* A sandbox: namespaces of its own, prepared before anyone knows which function will live in it. */
#include "freestanding.h"
#include "message.h"
#include "numbers.h"
#include "roles.h"

#define SYS_READ 0
#define SYS_WRITE 1
#define SYS_OPEN 2
#define SYS_POLL 7
#define SYS_IOCTL 16
#define SYS_DUP2 33
#define SYS_CONNECT 42
#define SYS_BIND 49
#define SYS_LISTEN 50
#define SYS_SETSOCKOPT 54
#define SYS_EXECVE 59
#define SYS_FCNTL 72
#define SYS_CHDIR 80
#define SYS_SETGROUPS 116
#define SYS_SETRLIMIT 160
#define SYS_MOUNT 165
#define SYS_SETHOSTNAME 170
#define SYS_ACCEPT4 288
#define SYS_OPENAT 257
#define SYS_SIGNALFD4 289
#define SYS_PIPE2 293

#define AF_INET 2
#define AF_NETLINK 16
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOCK_CLOEXEC 02000000
#define SOCK_NONBLOCK 04000
#define SOL_SOCKET 1
#define SO_REUSEADDR 2
#define SIOCGIFFLAGS 0x8913
#define SIOCSIFFLAGS 0x8914
#define IFF_UP 1
#define F_GETFD 1
#define O_WRONLY 1
#define O_RDWR 2
#define O_PATH 010000000
#define POLLIN 1
#define WNOHANG 1
#define ECHILD 10
#define EINTR 4
#define MS_NOSUID 2
#define MS_NODEV 4
#define MS_NOEXEC 8
#define MS_RDONLY 1
#define MS_REMOUNT 32
#define MS_BIND 4096
#define MS_REC 16384
#define ENOENT 2
#define EIO 5
#define RLIMIT_MEMLOCK 8
#define PR_SET_SECUREBITS 28
#define SECBIT_NO_SETUID_FIXUP 4
#define PR_SET_NO_NEW_PRIVS 38
#define SECCOMP_SET_MODE_FILTER 1
#define CLOSE_RANGE_CLOEXEC 4
#define RUNTIME_API_PORT 9001
#define LOOPBACK 0x0100007f /* 127.0.0.1 in network order */
#define STRING_LIMIT 4096   /* arguments and variables together */
#define WATCH_LIMIT 16

static const u64 every_signal = ~0UL;
static const u64 no_signal = 0;
static const u64 no_limit[2] = {~0UL, ~0UL};
static const u64 child_signal = 1UL << (SIGCHLD - 1);

struct internet_address {
	u16 family;
	u16 port;
	u32 address;
	u8 zero[8];
};

struct poll_descriptor {
	i32 descriptor;
	u16 events;
	u16 returned;
};

struct filter_program {
	u16 count;
	u16 padding[3];
	const void *filter;
};

static i64 must(i64 result, const char *step)
{
	if (failed(result))
		fail(CONTROL_FD, 0, step, result);
	return result;
}

static void raise_loopback(void)
{
	struct {
		char name[16];
		u16 flags;
		u8 rest[22];
	} request = {"lo", 0, {0}};
	i64 probe = must(SYS3(SYS_SOCKET, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket for lo");

	must(SYS3(SYS_IOCTL, probe, SIOCGIFFLAGS, &request), "SIOCGIFFLAGS lo");
	request.flags |= IFF_UP;
	must(SYS3(SYS_IOCTL, probe, SIOCSIFFLAGS, &request), "SIOCSIFFLAGS lo");
	SYS1(SYS_CLOSE, probe);
}

/* The Runtime API's listener and one connection through it that is ready before anyone asks for it. */
static void open_runtime_api(i32 *listener, i32 *server_end, i32 *function_end)
{
	struct internet_address address = {AF_INET, (u16)__builtin_bswap16(RUNTIME_API_PORT), LOOPBACK, {0}};
	i32 one = 1;

	*listener = (i32)must(SYS3(SYS_SOCKET, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket of the Runtime API");
	must(SYS5(SYS_SETSOCKOPT, *listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
	must(SYS3(SYS_BIND, *listener, &address, sizeof address), "bind of the Runtime API");
	must(SYS2(SYS_LISTEN, *listener, 64), "listen of the Runtime API");
	*function_end = (i32)must(SYS3(SYS_SOCKET, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	must(SYS3(SYS_CONNECT, *function_end, &address, sizeof address), "connect to the Runtime API");
	*server_end = (i32)must(SYS4(SYS_ACCEPT4, *listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK), "accept");
}

static void announce(void)
{
	i32 descriptors[4];

	open_runtime_api(&descriptors[0], &descriptors[1], &descriptors[2]);
	descriptors[3] = (i32)must(SYS3(SYS_SOCKET, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0), "rtnetlink socket");
	must(message_send(CONTROL_FD, CONTROL_READY, 0, 0, descriptors, 4), "sending READY");
	for (u32 i = 0; i < 4; i++)
		SYS1(SYS_CLOSE, descriptors[i]);
}

/* What tells of the machine and no function needs: empty, whatever the kernel would let a stranger read there. */
static void mask(const char *path)
{
	i64 error = SYS5(SYS_MOUNT, "/dev/null", path, 0, MS_BIND, 0);

	if (failed(error) && error != -ENOENT)
		must(error, path);
}

/* Settings of the kernel: to be read only, also by whoever might gain a right to write them. */
static void protect(const char *path)
{
	i64 error = SYS5(SYS_MOUNT, path, path, 0, MS_BIND | MS_REC, 0);

	if (error == -ENOENT)
		return;
	must(error, path);
	must(SYS5(SYS_MOUNT, 0, path, 0, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0), path);
}

static void cover_process_files(void)
{
	static const char *const masked[] = {
		"/proc/cmdline", "/proc/config.gz", "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/kallsyms",
		"/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/latency_stats", "/proc/locks",
		"/proc/modules", "/proc/sched_debug", "/proc/sysrq-trigger", "/proc/timer_list",
	};
	static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"};

	for (u32 i = 0; i < sizeof masked / sizeof *masked; i++)
		mask(masked[i]);
	for (u32 i = 0; i < sizeof read_only / sizeof *read_only; i++)
		protect(read_only[i]);
}

static void furnish(void)
{
	SYS2(SYS_PRCTL, PR_SET_PDEATHSIG, SIGKILL);
	SYS0(SYS_SETSID);
	SYS2(SYS_PRCTL, PR_SET_NAME, "thaw-init");
	SYS2(SYS_CLOSE_RANGE, CONTROL_FD + 1, ~0U);
	must(SYS2(SYS_SETHOSTNAME, "thaw", 4), "sethostname");
	must(SYS5(SYS_MOUNT, "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2"), "mount of /proc");
	cover_process_files();
	raise_loopback();
}

/* ---- the function's process, up to its exec ---- */

struct start {
	const struct process *process;
	const u8 *filter;
	const struct resource_limit *limits;
	char *strings;
};

static struct start read_start(const struct message *message)
{
	struct start start;
	u8 *cursor = message->body;

	start.process = (const struct process *)cursor;
	cursor += sizeof *start.process;
	start.filter = cursor;
	cursor += start.process->filter_count * 8UL;
	start.limits = (const struct resource_limit *)cursor;
	cursor += start.process->rlimit_count * sizeof *start.limits;
	start.strings = (char *)cursor;
	return start;
}

/* Cuts count strings off the block into a NULL-terminated array; returns what follows them. */
static char *list_strings(char *block, u32 count, char **list)
{
	for (u32 i = 0; i < count; i++) {
		list[i] = block;
		block += text_length(block) + 1;
	}
	list[count] = 0;
	return block;
}

static void open_standard_descriptors(i32 log)
{
	i64 null = must(SYS3(SYS_OPEN, "/dev/null", O_RDWR, 0), "open /dev/null");

	must(SYS2(SYS_DUP2, null, 0), "dup2");
	must(SYS2(SYS_DUP2, log, 1), "dup2");
	must(SYS2(SYS_DUP2, log, 2), "dup2");
	SYS3(SYS_CLOSE_RANGE, 3, ~0U, CLOSE_RANGE_CLOEXEC);
}

static void surrender_privileges(const struct start *start)
{
	const struct process *process = start->process;
	struct filter_program program = {(u16)process->filter_count, {0}, start->filter};

	for (u32 capability = 0; !failed(SYS2(SYS_PRCTL, PR_CAPBSET_DROP, capability)); capability++)
		;
	must(SYS5(SYS_PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	if (process->uid) /* else there is no other user in this namespace, and the call is not permitted */
		must(SYS2(SYS_SETGROUPS, 0, 0), "setgroups");
	must(become_root(), "becoming root"); /* for only who leaves its number loses the rights */
	must(SYS3(SYS_SETRESGID, process->gid, process->gid, process->gid), "setresgid");
	must(SYS3(SYS_SETRESUID, process->uid, process->uid, process->uid), "setresuid");
	if (process->filter_count)
		must(SYS3(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

/* The function's own program may be missing or broken: that is the function's failure, not the sandbox's. */
__attribute__((noreturn)) static void fail_to_execute(const char *program, i64 result)
{
	static const char prefix[] = "execve ";
	char step[120];

	memcpy(step, prefix, sizeof prefix - 1);
	text_copy(step + sizeof prefix - 1, program, sizeof step - sizeof prefix + 1);
	fail(CONTROL_FD, 0, step, result);
}

__attribute__((noreturn)) static void run(const struct message *message)
{
	static char *arguments[STRING_LIMIT], *variables[STRING_LIMIT];
	struct start start = read_start(message);
	char *directory = start.strings;
	char *rest = directory + text_length(directory) + 1;

	if (start.process->argc >= STRING_LIMIT || start.process->envc >= STRING_LIMIT)
		fail(CONTROL_FD, 0, "too many arguments or variables", 0);
	if (start.process->flags & START_IS_EXTENSION)
		SYS0(SYS_SETSID); /* what the function sends to its own group is not for extensions */
	rest = list_strings(rest, start.process->argc, arguments);
	list_strings(rest, start.process->envc, variables);
	open_standard_descriptors(message->descriptors[0]);
	for (u32 i = 0; i < start.process->rlimit_count; i++)
		must(SYS2(SYS_SETRLIMIT, start.limits[i].resource, &start.limits[i].soft), "setrlimit");
	must(SYS1(SYS_CHDIR, directory), directory);
	SYS4(SYS_RT_SIGPROCMASK, 2, &no_signal, 0, 8);
	surrender_privileges(&start);
	fail_to_execute(arguments[0], SYS3(SYS_EXECVE, arguments[0], arguments, variables));
}

static i32 start_process(const struct message *message)
{
	struct clone_arguments clone = {0};
	i32 pid;

	if (message->descriptor_count != 1)
		fail(CONTROL_FD, 0, "START without a log descriptor", 0);
	clone.exit_signal = SIGCHLD;
	pid = (i32)must(SYS2(SYS_CLONE3, &clone, sizeof clone), "clone3 of the function's process");
	if (!pid)
		run(message);
	SYS1(SYS_CLOSE, message->descriptors[0]);
	must(message_send(CONTROL_FD, CONTROL_STARTED, &pid, sizeof pid, 0, 0), "sending STARTED");
	return pid;
}

/* ---- PID 1 ---- */

static i32 watched[WATCH_LIMIT];
static u32 watched_count;

static void watch(i32 pid)
{
	if (watched_count == WATCH_LIMIT)
		fail(CONTROL_FD, 0, "more processes to watch than a sandbox can", 0);
	watched[watched_count++] = pid;
}

static void tell_of(i32 pid, i32 status)
{
	i32 ended[2] = {pid, status};

	for (u32 i = 0; i < watched_count; i++)
		if (watched[i] == pid)
			message_send(CONTROL_FD, CONTROL_ENDED, ended, sizeof ended, 0, 0);
}

static void reap(i32 main_pid)
{
	i32 status;

	for (;;) {
		i32 pid = (i32)SYS4(SYS_WAIT4, -1, &status, WNOHANG, 0);

		if (pid <= 0)
			return;
		if (pid != main_pid) {
			tell_of(pid, status);
			continue;
		}
		message_send(CONTROL_FD, CONTROL_EXITED, &status, sizeof status, 0, 0);
		if (!watched_count)
			SYS1(SYS_EXIT_GROUP, 0);
	}
}

static void start(const struct message *message, i32 *main_pid)
{
	const struct process *process = (const struct process *)message->body;

	if (process->flags & START_IS_EXTENSION)
		watch(start_process(message));
	else if (!*main_pid)
		*main_pid = start_process(message);
	else
		fail(CONTROL_FD, 0, "a second START of the function", 0);
}

static void watch_all(const struct message *message)
{
	for (u32 i = 0; i < message->size / (u32)sizeof(i32); i++)
		watch(((const i32 *)message->body)[i]);
}

static void obey(i32 *main_pid)
{
	struct message message;
	i64 received = message_receive(CONTROL_FD, &message);

	if (received <= 0)
		SYS1(SYS_EXIT_GROUP, 0); /* the server is gone */
	if (message.kind == CONTROL_ATTACH) {
		attach(CONTROL_FD, &message);
		must(message_send(CONTROL_FD, CONTROL_ATTACHED, 0, 0, 0, 0), "sending ATTACHED");
	} else if (message.kind == CONTROL_START)
		start(&message, main_pid);
	else if (message.kind == CONTROL_WATCH)
		watch_all(&message);
	else
		fail(CONTROL_FD, 0, "a message that a sandbox does not take", 0);
}

__attribute__((noreturn)) static void serve(void)
{
	i32 main_pid = 0;
	struct poll_descriptor wait[2] = {{CONTROL_FD, POLLIN, 0}, {0, POLLIN, 0}};
	u8 information[128];

	SYS4(SYS_RT_SIGPROCMASK, 2, &every_signal, 0, 8);
	wait[1].descriptor = (i32)must(SYS4(SYS_SIGNALFD4, -1, &child_signal, 8, SOCK_CLOEXEC | SOCK_NONBLOCK), "signalfd");
	for (;;) {
		SYS3(SYS_POLL, wait, 2, -1);
		if (wait[1].returned) {
			SYS3(SYS_READ, wait[1].descriptor, information, sizeof information);
			reap(main_pid);
		}
		if (wait[0].returned)
			obey(&main_pid);
	}
}

/* ---- the user namespace ---- */

struct mapping {
	i64 processes; /* /proc of the machine */
	i32 told[2];   /* a pipe: how it went */
};

static u32 number_of(const char *text)
{
	u32 number = 0;

	for (; *text; text++)
		number = number * 10 + (u32)(*text - '0');
	return number;
}

/* The path below /proc of a file of a process, in a buffer of 32 bytes. */
static const char *process_file(char *buffer, i64 pid, const char *name)
{
	char *start = buffer + 12;

	*start = '/';
	text_copy(start + 1, name, 32 - 13);
	do
		*--start = (char)('0' + pid % 10);
	while (pid /= 10);
	return start;
}

/* What its processes use up counts for the creator of a user namespace, too: that had better not be the machine's root,
 * whose own inotify instances, locked memory and so on would become fewer. The rights to write the map are kept. */
static void prepare_users(struct mapping *mapping, const char *creator)
{
	/* From here on PID 1 cannot raise a limit, and functions get one of their own. */
	SYS2(SYS_SETRLIMIT, RLIMIT_MEMLOCK, no_limit);
	mapping->processes = must(SYS3(SYS_OPEN, "/proc", O_PATH | O_CLOEXEC, 0), "open /proc");
	must(SYS2(SYS_PIPE2, mapping->told, O_CLOEXEC), "pipe2");
	must(SYS2(SYS_PRCTL, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP), "PR_SET_SECUREBITS");
	must(SYS3(SYS_SETRESUID, -1, number_of(creator), -1), "setresuid to the creator of the user namespace");
}

static i64 write_map(struct mapping *mapping, i64 pid, const char *name, const char *map)
{
	char path[32];
	i64 file = SYS4(SYS_OPENAT, mapping->processes, process_file(path, pid, name), O_WRONLY | O_CLOEXEC, 0);
	i64 written;

	if (failed(file))
		return file;
	written = SYS3(SYS_WRITE, file, map, text_length(map));
	SYS1(SYS_CLOSE, file);
	return written;
}

/* The new PID 1, which the server reaps, tells of a failure; we are only its midwife. */
static void map_users(struct mapping *mapping, i64 pid, const char *map)
{
	i64 result = write_map(mapping, pid, "uid_map", map);

	if (!failed(result))
		result = write_map(mapping, pid, "gid_map", map);
	SYS3(SYS_WRITE, mapping->told[1], &result, sizeof result);
}

/* PID 1 is nobody's but its sandbox's: root's number is the same in all of them, and may signal what is root's. */
static void await_map(struct mapping *mapping, u32 self)
{
	i64 result = -EIO;

	SYS1(SYS_CLOSE, mapping->told[1]);
	SYS3(SYS_READ, mapping->told[0], &result, sizeof result);
	must(result, "the map of a user namespace");
	must(SYS2(SYS_SETGROUPS, 0, 0), "setgroups");
	must(SYS3(SYS_SETRESGID, self, self, self), "setresgid to PID 1's group");
	must(SYS3(SYS_SETRESUID, self, self, self), "setresuid to PID 1's user");
}

__attribute__((noreturn)) void sandbox(const char *const *users)
{
	struct clone_arguments clone = {0};
	struct mapping mapping;
	i64 pid;

	clone.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_PARENT;
	clone.flags |= users ? CLONE_NEWUSER : 0;
	if (!failed(SYS2(SYS_FCNTL, CGROUP_FD, F_GETFD))) {
		clone.flags |= CLONE_INTO_CGROUP;
		clone.cgroup = CGROUP_FD;
	}
	if (users)
		prepare_users(&mapping, users[USERS_CREATOR]);
	must(SYS2(SYS_SETNS, FILE_TREE_FD, CLONE_NEWNS), "setns to the file tree");
	pid = must(SYS2(SYS_CLONE3, &clone, sizeof clone), "clone3 of the namespaces");
	if (pid && users)
		map_users(&mapping, pid, users[USERS_MAP]);
	if (pid)
		SYS1(SYS_EXIT_GROUP, 0);
	if (users)
		await_map(&mapping, number_of(users[USERS_INIT]));
	furnish();
	announce();
	serve();
}
