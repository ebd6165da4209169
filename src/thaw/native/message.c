#include "message.h"
#include "freestanding.h"

#define SYS_SENDMSG 46
#define SYS_RECVMSG 47
#define SYS_EXIT_GROUP 231
#define MSG_NOSIGNAL 0x4000
#define MSG_CMSG_CLOEXEC 0x40000000
#define MSG_TRUNCATED (0x20 | 0x08) /* MSG_TRUNC | MSG_CTRUNC */
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define EINTR 4
#define EMSGSIZE 90

struct vector {
	void *base;
	u64 length;
};

struct message_header {
	void *name;
	u32 name_length, padding;
	struct vector *vectors;
	u64 vector_count;
	void *control;
	u64 control_length;
	u32 flags, padding_end;
};

struct control_message {
	u64 length;
	i32 level;
	i32 type;
	i32 descriptors[DESCRIPTOR_LIMIT];
};

static u8 packet[CONTROL_LIMIT] __attribute__((aligned(16)));

static void take_descriptors(struct message *message, const struct control_message *rights, u64 length)
{
	message->descriptor_count = 0;
	if (length < 16 || rights->level != SOL_SOCKET || rights->type != SCM_RIGHTS)
		return;
	message->descriptor_count = (u32)((rights->length - 16) / sizeof(i32));
	memcpy(message->descriptors, rights->descriptors, message->descriptor_count * sizeof(i32));
}

i64 message_receive(int control, struct message *message)
{
	struct control_message rights = {0};
	struct vector vector = {packet, sizeof packet};
	struct message_header header = {0};
	struct control_header *front = (struct control_header *)packet;
	i64 size;

	header.vectors = &vector;
	header.vector_count = 1;
	header.control = &rights;
	header.control_length = sizeof rights;
	do
		size = SYS3(SYS_RECVMSG, control, &header, MSG_CMSG_CLOEXEC);
	while (size == -EINTR);
	if (size <= 0)
		return size;
	if (header.flags & MSG_TRUNCATED || (u64)size < sizeof *front || front->size != (u64)size)
		return -EMSGSIZE;
	message->kind = front->kind;
	message->size = (u32)(size - (i64)sizeof *front);
	message->body = packet + sizeof *front;
	take_descriptors(message, &rights, header.control_length);
	return 1;
}

i64 message_send(int control, u32 kind, const void *body, u32 size, const i32 *descriptors, u32 count)
{
	struct control_header front = {kind, (u32)sizeof front + size};
	struct vector vectors[2] = {{&front, sizeof front}, {(void *)body, size}};
	struct control_message rights = {16 + count * sizeof(i32), SOL_SOCKET, SCM_RIGHTS, {0}};
	struct message_header header = {0};

	header.vectors = vectors;
	header.vector_count = 2;
	if (count) {
		memcpy(rights.descriptors, descriptors, count * sizeof(i32));
		header.control = &rights;
		header.control_length = (rights.length + 7) & ~7UL;
	}
	return SYS3(SYS_SENDMSG, control, &header, MSG_NOSIGNAL);
}

__attribute__((noreturn)) void fail(int control, i32 ticket, const char *step, i64 error)
{
	struct failure failure = {(i32)-error, ticket, {0}};

	text_copy(failure.step, step, sizeof failure.step);
	message_send(control, ticket ? CONTROL_BROKEN : CONTROL_FAILED, &failure, sizeof failure, 0, 0);
	for (;;)
		SYS1(SYS_EXIT_GROUP, 99);
}
