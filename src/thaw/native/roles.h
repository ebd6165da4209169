/* What one binary can be. Both roles end only by ending the process. */
#ifndef THAW_ROLES_H
#define THAW_ROLES_H

#include "message.h"

/* An empty sandbox: makes the namespaces, stays as their PID 1, starts the function's process. With `users` all of
 * them belong to a new user namespace: they are the text of its maps (/proc/PID/uid_map and gid_map), the number of the
 * user who makes it, and the number inside of its PID 1. */
enum users { USERS_MAP, USERS_CREATOR, USERS_INIT };
__attribute__((noreturn)) void sandbox(const char *const *users);
/* The first process of a new pid namespace: mounts its /proc for others, and owns a user namespace, while it lives. */
__attribute__((noreturn)) void owner(void);
/* A template: builds the function's address space once and forks clones of it into sandboxes. */
__attribute__((noreturn)) void template(const u64 *auxiliary);

/* Moves the detached mounts beside the message to their places. */
void attach(int control, const struct message *message);
/* Becomes root of the user namespace that it is in, so that giving up that number gives up all rights. */
i64 become_root(void);
/* The value of one entry of the auxiliary vector; 0 where there is none. */
u64 auxiliary_value(const u64 *auxiliary, u64 key);

#endif
