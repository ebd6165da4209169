/* What a template and the processes of a tree have in common. */
#ifndef THAW_TEMPLATE_H
#define THAW_TEMPLATE_H

#include "control.h"
#include "plan.h"

extern struct plan_header *plan;

/* Runs one of the plan's programs in a clone. */
void execute(const struct program *program);
/* Moves the kernel's mappings by the distance between two addresses of the vDSO. */
void move_special(u64 from_vdso, u64 to_vdso);
/* Reads a part of the image, which is one of this extent's, to where it belongs. */
void read_image(const struct extent *extent, const struct portion *part);
/* Ends a clone that cannot become the function, and tells the server why. */
__attribute__((noreturn)) void give_up(const char *step, i64 error);
/* A clone's last steps: descriptors, threads, rights; then it is the function. */
__attribute__((noreturn)) void live(void);

/* The clone's process: the first of its tree. Forks the others, which come to `live` by themselves. */
void begin_tree(i32 pid);
/* Where the processes of a tree wait for each other. */
enum stage { STAGE_FORKED, STAGE_ENTERED, STAGE_READY, STAGE_COUNT };
/* Waits until every process of the tree is here; nothing where there is one only. */
void gather(enum stage stage);
/* Ends the first process of the tree, and with it the clone; nothing in that process itself. */
void end_tree(void);

#endif
