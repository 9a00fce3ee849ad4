/* Stream through MEBIBYTES of memory again and again. Second argument: copy (memcpy), triad (a = b + 3 c) or sum. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    size_t bytes = (argc > 1 ? strtoul(argv[1], 0, 10) : 256) << 20, count = bytes / sizeof(double);
    const char *kind = argc > 2 ? argv[2] : "copy";
    double *a = malloc(bytes), *b = malloc(bytes), *c = malloc(bytes);
    volatile double sink = 0;
    if (!a || !b || !c)
        return 1;
    for (size_t i = 0; i < count; i++)
        a[i] = b[i] = c[i] = (double)i;
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (!strcmp(kind, "copy")) {
            memcpy(a, b, bytes);
        } else if (!strcmp(kind, "triad")) {
            for (size_t i = 0; i < count; i++)
                a[i] = b[i] + 3.0 * c[i];
        } else {
            double sum = 0;
            for (size_t i = 0; i < count; i++)
                sum += b[i];
            sink = sum;
        }
        __asm__ volatile("" : : "r"(a), "r"(b), "r"(c) : "memory");
    }
    return sink > 0;
}
