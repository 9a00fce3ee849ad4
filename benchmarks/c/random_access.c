/* Follow a random cycle through MEBIBYTES of memory, one cache line a step: each access depends on the one before. For every line
   read it takes STEPS steps and prints nanoseconds of CPU time a step. Memory is in small pages at first, whatever the system's mode is. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

struct line { struct line *next; char rest[56]; };

static uint64_t state = 88172645463325252ull;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at); /* what others take of the CPU is not the memory's doing */
    return at.tv_sec * 1e9 + at.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    size_t size = strtoul(argv[1], 0, 10) << 20, count = size / sizeof(struct line);
    long steps = strtol(argv[2], 0, 10);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    struct line *lines = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (lines == MAP_FAILED)
        return 1;
    for (size_t i = 0; i < count; i++)
        lines[i].next = &lines[i];
    /* Sattolo's shuffle: one cycle through all. */
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = draw() % i;
        struct line *kept = lines[i].next;
        lines[i].next = lines[j].next;
        lines[j].next = kept;
    }
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    puts("ready");
    fflush(stdout);
    struct line *at = lines;
    while (getchar() != EOF) {
        double began = now();
        for (long i = 0; i < steps; i++)
            at = at->next;
        printf("%.3f\n", (now() - began) / steps + (at == 0));
        fflush(stdout);
    }
}
