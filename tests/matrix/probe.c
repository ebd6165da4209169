/* What no Python program can do: registers, the stack pointer, glibc's thread area. Compiled by the harness. */
#define _GNU_SOURCE
#include <alloca.h>
#include <immintrin.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/rseq.h>

/* Recurses with one page of stack in each frame; the sum of what the frames wrote, so that nothing is optimised away. */
long descend(long depth)
{
	volatile char *page = alloca(4096);

	memset((char *)page, (int)(depth & 127), 4096);
	return depth ? descend(depth - 1) + page[100] : 0;
}

struct registers {
	uint64_t callee_saved[5];
	uint8_t vectors[16][32];
	uint8_t wide[16][64]; /* zmm16..31 */
	uint64_t masks[7];
	uint16_t x87_control;
	uint16_t padding;
	uint32_t sse_control;
	uint64_t x87_value;
	uint64_t flags;
};

int has_wide(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

/* Sets every register from `in`, blocks in read(2) of one byte, and writes what the registers hold then to `out`. */
#define V(n) "vmovdqu %c[vectors]+32*" #n "(%[in]), %%ymm" #n "\n\t"
#define W(n) "vmovdqu %%ymm" #n ", %c[vectors]+32*" #n "(%[out])\n\t"
__attribute__((target("avx"), noinline)) static long read_with_vectors(int fd, const struct registers *in, struct registers *out)
{
	char byte;
	long result;
	double value = 0;
	/* System calls keep these two, and the code below sets every register that gcc would prefer. */
	register const struct registers *from __asm__("r8") = in;
	register struct registers *to __asm__("r9") = out;

	__asm__ volatile("fldcw %0\n\tldmxcsr %1\n\tfldl %2" : : "m"(in->x87_control), "m"(in->sse_control), "m"(in->x87_value));
	__asm__ volatile("push %%rbx\n\tpush %%rbp\n\tpush %%r12\n\tpush %%r13\n\tpush %%r14\n\tpush %%r15\n\t"
			 V(0) V(1) V(2) V(3) V(4) V(5) V(6) V(7) V(8) V(9) V(10) V(11) V(12) V(13) V(14) V(15)
			 "mov 0(%[in]), %%rbx\n\tmov 8(%[in]), %%r12\n\tmov 16(%[in]), %%r13\n\tmov 24(%[in]), %%r14\n\t"
			 "mov 32(%[in]), %%r15\n\t"
			 "std\n\t"
			 "syscall\n\t"
			 "pushfq\n\t"
			 "cld\n\t"
			 "pop %%rcx\n\t"
			 "mov %%rcx, %c[flags](%[out])\n\t"
			 "mov %%rbx, 0(%[out])\n\tmov %%r12, 8(%[out])\n\tmov %%r13, 16(%[out])\n\tmov %%r14, 24(%[out])\n\t"
			 "mov %%r15, 32(%[out])\n\t"
			 W(0) W(1) W(2) W(3) W(4) W(5) W(6) W(7) W(8) W(9) W(10) W(11) W(12) W(13) W(14) W(15)
			 "vzeroupper\n\t"
			 "pop %%r15\n\tpop %%r14\n\tpop %%r13\n\tpop %%r12\n\tpop %%rbp\n\tpop %%rbx\n\t"
			 : "=a"(result)
			 : "a"(0L), "D"((long)fd), "S"(&byte), "d"(1L), [in] "r"(from), [out] "r"(to),
			   [vectors] "i"(offsetof(struct registers, vectors)), [flags] "i"(offsetof(struct registers, flags))
			 : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
			   "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	__asm__ volatile("fstpl %0\n\tfnstcw %1\n\tstmxcsr %2" : "=m"(value), "=m"(out->x87_control), "=m"(out->sse_control));
	memcpy(&out->x87_value, &value, 8);
	return result;
}

long hold_registers(int fd, const struct registers *in, struct registers *out)
{
	uint16_t control;
	uint32_t sse;
	long result;

	__asm__ volatile("fnstcw %0\n\tstmxcsr %1" : "=m"(control), "=m"(sse));
	result = read_with_vectors(fd, in, out);
	__asm__ volatile("fldcw %0\n\tldmxcsr %1" : : "m"(control), "m"(sse));
	return result;
}

#define V5(n) "vmovdqu64 64*(" #n "-16)(%[wide]), %%zmm" #n "\n\t"
#define W5(n) "vmovdqu64 %%zmm" #n ", 64*(" #n "-16)(%[to])\n\t"
/* The same for zmm16..31 and k1..k7. */
__attribute__((target("avx512f,avx512bw"), noinline)) long hold_wide(int fd, const struct registers *in, struct registers *out)
{
	char byte;
	long result;

	__asm__ volatile(V5(16) V5(17) V5(18) V5(19) V5(20) V5(21) V5(22) V5(23) V5(24) V5(25) V5(26) V5(27) V5(28) V5(29) V5(30) V5(31)
			 "kmovq 0(%[km]), %%k1\n\tkmovq 8(%[km]), %%k2\n\tkmovq 16(%[km]), %%k3\n\tkmovq 24(%[km]), %%k4\n\t"
			 "kmovq 32(%[km]), %%k5\n\tkmovq 40(%[km]), %%k6\n\tkmovq 48(%[km]), %%k7\n\t"
			 "syscall\n\t"
			 W5(16) W5(17) W5(18) W5(19) W5(20) W5(21) W5(22) W5(23) W5(24) W5(25) W5(26) W5(27) W5(28) W5(29) W5(30) W5(31)
			 "kmovq %%k1, 0(%[kt])\n\tkmovq %%k2, 8(%[kt])\n\tkmovq %%k3, 16(%[kt])\n\tkmovq %%k4, 24(%[kt])\n\t"
			 "kmovq %%k5, 32(%[kt])\n\tkmovq %%k6, 40(%[kt])\n\tkmovq %%k7, 48(%[kt])\n\t"
			 : "=a"(result)
			 : "a"(0L), "D"((long)fd), "S"(&byte), "d"(1L), [wide] "r"(in->wide), [to] "r"(out->wide), [km] "r"(in->masks),
			   [kt] "r"(out->masks)
			 : "rcx", "r11", "memory", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
			   "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7");
	return result;
}

/* The processor that the kernel wrote into the thread's restartable-sequences area; negative: not registered. */
int rseq_processor(void)
{
	return (int)*(volatile uint32_t *)((char *)__builtin_thread_pointer() + __rseq_offset + offsetof(struct rseq, cpu_id));
}
