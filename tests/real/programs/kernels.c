/* One kind of work for ever, named by the first argument; the second is a size in MiB. Prints "ready" once it runs. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

static volatile uint64_t sink;

static uint64_t next_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static void *map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) exit(2);
    memset(at, 1, bytes);
    return at;
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

/* Follow pointers around one random cycle through all cache lines: loads, each waiting for the one before. */
static void chase(size_t bytes) {
    size_t lines = bytes / 64;
    char *base = map(bytes);
    uint32_t *order = malloc(lines * sizeof *order);
    uint64_t state = 88172645463325252ull;
    for (size_t i = 0; i < lines; i++) order[i] = (uint32_t)i;
    for (size_t i = lines - 1; i > 0; i--) {
        size_t j = next_random(&state) % i;
        uint32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (size_t i = 0; i < lines; i++)
        *(void **)(base + 64ull * order[i]) = base + 64ull * order[(i + 1) % lines];
    free(order);
    ready();
    void **at = (void **)base;
    for (;;) {
#define STEP at = (void **)*at;
#define STEPS4 STEP STEP STEP STEP
#define STEPS16 STEPS4 STEPS4 STEPS4 STEPS4
        STEPS16 STEPS16 STEPS16 STEPS16
        sink = (uint64_t)at;
    }
}

/* Independent stores over a small block. */
static void store(size_t bytes) {
    volatile uint64_t *base = map(bytes);
    ready();
    for (;;)
        for (size_t i = 0; i + 16 <= bytes / 8; i += 16) {
            base[i] = i, base[i + 1] = i, base[i + 2] = i, base[i + 3] = i;
            base[i + 4] = i, base[i + 5] = i, base[i + 6] = i, base[i + 7] = i;
            base[i + 8] = i, base[i + 9] = i, base[i + 10] = i, base[i + 11] = i;
            base[i + 12] = i, base[i + 13] = i, base[i + 14] = i, base[i + 15] = i;
        }
}

/* Chains of jumps: nothing else to execute. */
static void branch(size_t bytes) {
    (void)bytes;
    ready();
    for (;;) {
#ifdef __x86_64__
#define JUMP "jmp 1f\n\t1:\n\t"
#else
#define JUMP "b 1f\n\t1:\n\t"
#endif
#define JUMPS4 JUMP JUMP JUMP JUMP
        __asm__ volatile(JUMPS4 JUMPS4 JUMPS4 JUMPS4 JUMPS4 JUMPS4 JUMPS4 JUMPS4);
    }
}

/* A dependent chain of integer operations on one register. */
static void integer(size_t bytes) {
    uint64_t state = 88172645463325252ull + bytes;
    ready();
    for (;;)
        for (int i = 0; i < 1000; i++) {
            next_random(&state);
            next_random(&state);
            next_random(&state);
            next_random(&state);
            __asm__ volatile("" : "+r"(state));
        }
}

/* Multiply-adds on vector registers. */
static void vector(size_t bytes) {
    (void)bytes;
    ready();
#ifdef __x86_64__
    __m128 a = _mm_set1_ps(1.0f), b = a, c = a, d = a, k = _mm_set1_ps(0.999f);
#define TURN a = _mm_add_ps(_mm_mul_ps(a, k), k), b = _mm_add_ps(_mm_mul_ps(b, k), k), \
             c = _mm_add_ps(_mm_mul_ps(c, k), k), d = _mm_add_ps(_mm_mul_ps(d, k), k);
    for (;;) {
        TURN TURN TURN TURN TURN TURN TURN TURN
        __asm__ volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d));
    }
#else
    typedef float v4 __attribute__((vector_size(16)));
    v4 a = {1, 1, 1, 1}, k = a * 0.999f;
    for (;;) {
        a = a * k + k, a = a * k + k, a = a * k + k, a = a * k + k;
        __asm__ volatile("" : "+w"(a));
    }
#endif
}

/* Multiply-adds on scalar doubles. */
static void scalar(size_t bytes) {
    double a = 1.0 + (double)bytes * 1e-12, k = 0.999;
    ready();
    for (;;) {
        a = a * k + k, a = a * k + k, a = a * k + k, a = a * k + k;
        a = a * k + k, a = a * k + k, a = a * k + k, a = a * k + k;
#ifdef __x86_64__
        __asm__ volatile("" : "+x"(a));
#else
        __asm__ volatile("" : "+w"(a));
#endif
    }
}

/* Read words at random places. */
static void random_access(size_t bytes) {
    uint64_t *base = map(bytes), words = bytes / 8, state = 88172645463325252ull, sum = 0;
    ready();
    for (;;) {
        for (int i = 0; i < 1000; i++) sum += base[next_random(&state) % words];
        sink = sum;
    }
}

/* Read all words in order, again and again. */
static void stream(size_t bytes) {
    volatile uint64_t *base = map(bytes);
    uint64_t sum = 0;
    ready();
    for (;;) {
        for (size_t i = 0; i < bytes / 8; i++) sum += base[i];
        sink = sum;
    }
}

int main(int argc, char **argv) {
    struct { const char *name; void (*run)(size_t); } kinds[] = {
        {"chase", chase}, {"store", store}, {"branch", branch}, {"integer", integer}, {"vector", vector},
        {"scalar", scalar}, {"random", random_access}, {"stream", stream},
    };
    size_t bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1) << 20;
    for (size_t i = 0; argc > 1 && i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(argv[1], kinds[i].name)) kinds[i].run(bytes);
    return 1;
}
