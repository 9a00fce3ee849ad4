// A tight loop of the cheapest system call. Prints nanoseconds a call of each round; the first argument is the number of
// calls a round, the second the number of rounds. Waits for a line on standard input before each round.
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  long calls = argc > 1 ? atol(argv[1]) : 1000000;
  char line[16];
  while (fgets(line, sizeof line, stdin)) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < calls; i++)
      syscall(SYS_getppid);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.2f\n", ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / calls);
    fflush(stdout);
  }
  return 0;
}
