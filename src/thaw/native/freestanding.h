/* The few functions of a C library that this code, and gcc on its own account, call. */
#ifndef THAW_FREESTANDING_H
#define THAW_FREESTANDING_H

#include "syscall.h"

void *memcpy(void *to, const void *from, u64 size);
void *memset(void *to, int value, u64 size);
u64 text_length(const char *text);
/* Copies as much of text as fits, always NUL-terminated. */
void text_copy(char *to, const char *text, u64 size);
int text_equal(const char *a, const char *b);

#endif
