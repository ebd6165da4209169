/* An owner: what the server needs once for all of its sandboxes, and only a process can have. */
#include "freestanding.h"
#include "message.h"
#include "numbers.h"
#include "roles.h"

#define SYS_FSOPEN 430
#define SYS_FSCONFIG 431
#define SYS_FSMOUNT 432
#define FSOPEN_CLOEXEC 1
#define FSMOUNT_CLOEXEC 1
#define FSCONFIG_CMD_CREATE 6
#define MOUNT_ATTR_NOSUID 2
#define MOUNT_ATTR_NODEV 4
#define MOUNT_ATTR_NOEXEC 8

static i64 must(i64 result, const char *step)
{
	if (failed(result))
		fail(CONTROL_FD, 0, step, result);
	return result;
}

/* In a user namespace a new /proc can be mounted only where there is one already. This one is of a pid namespace that
 * ends with us: whoever might uncover it sees no process. */
static i32 mount_process_files(void)
{
	i64 context = must(SYS2(SYS_FSOPEN, "proc", FSOPEN_CLOEXEC), "fsopen of /proc");

	must(SYS5(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, 0, 0, 0), "fsconfig of /proc");
	return (i32)must(SYS3(SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC),
			 "fsmount of /proc");
}

__attribute__((noreturn)) void owner(void)
{
	struct message message;
	i32 process_files = mount_process_files();

	must(SYS1(SYS_UNSHARE, CLONE_NEWUSER), "unshare of users");
	must(message_send(CONTROL_FD, CONTROL_OWNER, 0, 0, &process_files, 1), "sending OWNER");
	message_receive(CONTROL_FD, &message); /* until nobody needs us any more */
	for (;;)
		SYS1(SYS_EXIT_GROUP, 0);
}
