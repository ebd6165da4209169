/* What one binary can be. Both roles end only by ending the process. */
#ifndef THAW_ROLES_H
#define THAW_ROLES_H

#include "message.h"

/* An empty sandbox: makes the namespaces, stays as their PID 1, starts the function's process. */
__attribute__((noreturn)) void sandbox(void);
/* A template: builds the function's address space once and forks clones of it into sandboxes. */
__attribute__((noreturn)) void template(const u64 *auxiliary);

/* Moves the detached mounts beside the message to their places. */
void attach(int control, const struct message *message);
/* The value of one entry of the auxiliary vector; 0 where there is none. */
u64 auxiliary_value(const u64 *auxiliary, u64 key);

#endif
