/* The entry point: `thaw-sandbox sandbox` or `thaw-sandbox template`, with the descriptors that control.h names. */
#include "freestanding.h"
#include "message.h"
#include "numbers.h"
#include "roles.h"

#define STACK_SIZE 65536

/* The kernel's own stack goes when a template unmaps everything, so none of this runs on it. */
__attribute__((aligned(4096), used)) u8 launcher_stack[STACK_SIZE];

u64 auxiliary_value(const u64 *auxiliary, u64 key)
{
	for (; auxiliary[0]; auxiliary += 2)
		if (auxiliary[0] == key)
			return auxiliary[1];
	return 0;
}

i64 become_root(void)
{
	i64 result = SYS3(SYS_SETRESGID, 0, 0, 0);

	return failed(result) ? result : SYS3(SYS_SETRESUID, 0, 0, 0);
}

void attach(int control, const struct message *message)
{
	const struct attachment *attachment = (const struct attachment *)message->body;

	for (u32 i = 0; i < message->descriptor_count; i++) {
		i64 result = SYS5(SYS_MOVE_MOUNT, message->descriptors[i], "", AT_FDCWD, attachment[i].path,
				  MOVE_MOUNT_F_EMPTY_PATH);

		if (failed(result))
			fail(control, 0, attachment[i].path, result);
		SYS1(SYS_CLOSE, message->descriptors[i]);
	}
}

__attribute__((noreturn, used)) void launch(const u64 *stack)
{
	u64 argument_count = stack[0];
	const char *role = argument_count > 1 ? (const char *)stack[2] : "";
	const u64 *auxiliary = stack + 1 + argument_count + 1;

	while (*auxiliary)
		auxiliary++;
	auxiliary++;
	if (text_equal(role, "sandbox"))
		sandbox(argument_count > 4 ? (const char *const *)stack + 3 : 0);
	if (text_equal(role, "owner"))
		owner();
	if (text_equal(role, "template"))
		template(auxiliary);
	for (;;)
		SYS1(SYS_EXIT_GROUP, 2);
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mov %rsp, %rdi\n"
	"	movabs $launcher_stack + 65536, %rsp\n"
	"	xor %ebp, %ebp\n"
	"	call launch\n");
