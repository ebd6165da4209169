/* Sending and receiving on the control socket. */
#ifndef THAW_MESSAGE_H
#define THAW_MESSAGE_H

#include "control.h"

struct message {
	u32 kind;
	u32 size; /* of the body */
	u8 *body;
	u32 descriptor_count;
	i32 descriptors[DESCRIPTOR_LIMIT];
};

/* 1: a message; 0: the other side is gone; negative: errno. The body lies in static memory until the next call. */
i64 message_receive(int control, struct message *message);
i64 message_send(int control, u32 kind, const void *body, u32 size, const i32 *descriptors, u32 count);
/* Tells the other side what failed, and ends the process; ticket is a clone's, else 0. */
__attribute__((noreturn)) void fail(int control, i32 ticket, const char *step, i64 error);

#endif
