/* Two processes that hand a message of 64 bytes to and fro through a pair of pipes, as a client and a server do that have nothing else to
   do. How often is written to FILE twenty times a second. The second process is a child of the first. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static void answer(int in, int out)
{
    char message[64];
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (read(in, message, sizeof message) == sizeof message)
        if (write(out, message, sizeof message) != sizeof message)
            break;
    _exit(0);
}

int main(int argc, char **argv)
{
    int there[2], back[2];
    char message[64] = "ping";
    if (argc < 2 || pipe(there) || pipe(back))
        return 2;
    int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0)
        return 1;
    if (!fork())
        answer(there[0], back[1]);
    puts("ready");
    fflush(stdout);
    unsigned long done = 0;
    for (double told = now();;) {
        for (int i = 0; i < 100; i++, done++)
            if (write(there[1], message, sizeof message) < 0 || read(back[0], message, sizeof message) <= 0)
                return 0;
        if (now() - told > 0.05) {
            char text[32];
            int length = snprintf(text, sizeof text, "%020lu\n", done);
            if (pwrite(file, text, length, 0) != length)
                return 1;
            told = now();
        }
    }
}
