/* Look up records of a table of MEBIBYTES, one after the other, as a database's index or a graph's nodes are: where the next one is
   says the one before, so no access can begin before the last has ended. How many were looked up is written to FILE twenty times a second.
   Memory is what malloc gives: the system's mode of huge pages decides what backs it. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct record { uint64_t key; uint64_t value[7]; };

static uint64_t mixed(uint64_t x) /* the finaliser of splitmix64: Steele, Lea and Flood, OOPSLA 2014 */
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    size_t count = (strtoul(argv[1], 0, 10) << 20) / sizeof(struct record);
    int file = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    struct record *table = malloc(count * sizeof *table);
    if (!table || file < 0)
        return 1;
    for (size_t i = 0; i < count; i++)
        table[i] = (struct record){ .key = mixed(i + 1), .value = { i } };
    puts("ready");
    fflush(stdout);
    uint64_t at = 1, sum = 0, done = 0;
    for (double told = now();;) {
        for (int i = 0; i < 4096; i++) {
            struct record *found = &table[mixed(at) % count];
            at = found->key ^ (at + i);
            sum += found->value[0];
        }
        done += 4096;
        if (now() - told > 0.05) {
            char text[32];
            int length = snprintf(text, sizeof text, "%020lu\n", (unsigned long)done + (sum == 42));
            if (pwrite(file, text, length, 0) != length)
                return 1;
            told = now();
        }
    }
}
