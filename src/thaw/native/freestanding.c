#include "freestanding.h"

void *memcpy(void *to, const void *from, u64 size)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return start;
}

void *memset(void *to, int value, u64 size)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return start;
}

u64 text_length(const char *text)
{
	u64 length = 0;

	while (text[length])
		length++;
	return length;
}

void text_copy(char *to, const char *text, u64 size)
{
	u64 length = text_length(text);

	if (length >= size)
		length = size - 1;
	memcpy(to, text, length);
	to[length] = 0;
}

int text_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}
