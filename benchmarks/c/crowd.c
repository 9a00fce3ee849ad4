/* PROCESSES processes of THREADS threads each, all asleep: what reading a machine's configuration has to go through. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

static void *rest(void *unused)
{
    for (;;)
        pause();
    return unused;
}

int main(int argc, char **argv)
{
    int processes = argc > 2 ? atoi(argv[1]) : 10, threads = argc > 2 ? atoi(argv[2]) : 10;
    int ready[2];
    char byte = 0;
    pthread_attr_t small;

    if (pipe(ready))
        return 1;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    for (int i = 0; i < processes; i++) {
        if (fork())
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int j = 1; j < threads; j++) {
            pthread_t one;
            if (pthread_create(&one, &small, rest, NULL))
                _exit(1);
        }
        if (write(ready[1], &byte, 1) != 1)
            _exit(1);
        rest(NULL);
    }
    close(ready[1]);
    for (int i = 0; i < processes; i++)
        if (read(ready[0], &byte, 1) != 1)
            return 1;
    puts("ready");
    fflush(stdout);
    rest(NULL);
}
