/* Follow a random cycle through MEBIBYTES of memory, one cache line a step: every access depends on the one before.
   A value of each line is added up, as in a list of real things. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct line { struct line *next; long value; char rest[48]; };

static uint64_t state = 88172645463325252ull;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

int main(int argc, char **argv)
{
    size_t count = (argc > 1 ? strtoul(argv[1], 0, 10) : 64) * (1 << 20) / sizeof(struct line);
    struct line *lines = aligned_alloc(4096, count * sizeof *lines);
    if (!lines)
        return 1;
    for (size_t i = 0; i < count; i++)
        lines[i] = (struct line){ .next = &lines[i], .value = (long)i };
    /* Sattolo's shuffle: one cycle through all. */
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = draw() % i;
        struct line *kept = lines[i].next;
        lines[i].next = lines[j].next;
        lines[j].next = kept;
    }
    puts("ready");
    fflush(stdout);
    struct line *at = lines;
    long sum = 0;
    for (;;) {
        for (int i = 0; i < 1000000; i++) {
            sum += at->value;
            at = at->next;
        }
        if (!at || sum == 42)
            return 2;
    }
}
