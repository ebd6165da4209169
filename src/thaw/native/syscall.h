/* System calls without a C library, and the few memory functions that gcc may call on its own.
 *
 * Everything under native/ is freestanding: no libc, no thread-local storage, no global constructor, so that the
 * same code runs in the launcher, as PID 1 of a sandbox, and inside a process whose own memory was just unmapped. */
#ifndef THAW_SYSCALL_H
#define THAW_SYSCALL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef int i32;
typedef long i64;

/* Returns the kernel's value: a negative errno in -4095..-1 on failure. */
static inline i64 syscall6(i64 number, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f)
{
	i64 result;
	register i64 r10 __asm__("r10") = d;
	register i64 r8 __asm__("r8") = e;
	register i64 r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#define SYS0(n) syscall6((n), 0, 0, 0, 0, 0, 0)
#define SYS1(n, a) syscall6((n), (i64)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b) syscall6((n), (i64)(a), (i64)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c) syscall6((n), (i64)(a), (i64)(b), (i64)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d) syscall6((n), (i64)(a), (i64)(b), (i64)(c), (i64)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) syscall6((n), (i64)(a), (i64)(b), (i64)(c), (i64)(d), (i64)(e), 0)
#define SYS6(n, a, b, c, d, e, f) syscall6((n), (i64)(a), (i64)(b), (i64)(c), (i64)(d), (i64)(e), (i64)(f))

static inline int failed(i64 result)
{
	return result < 0 && result >= -4095;
}

#endif
