/* Ask a server RATE times a second, evenly, whether it has answered or not, and take each answer's time from when its question was due: what
   waits in a queue counts (no "coordinated omission"). Arguments: PORT RATE CONNECTIONS QUESTION BYTES HISTOGRAM P99, of which BYTES is the
   length of one answer, HISTOGRAM a file that is mapped (4096 counters of 64 bit: answers by microseconds, 16 steps an octave), and P99 a
   file that is written anew twice a second with the 99th percentile of the last two seconds in microseconds. It stands for other
   machines, so it asks to run before everything else here (SCHED_FIFO). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { BUCKETS = 4096, WAITING = 1 << 16, MOST = 256, KEPT = 4 };
struct peer { int fd; long got; uint32_t first, last; double due[WAITING]; };

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static int bucket(double seconds)
{
    double us = seconds * 1e6;
    int found = us <= 1 ? 0 : (int)(log2(us) * 16);
    return found < BUCKETS ? found : BUCKETS - 1;
}

static double percentile(const uint64_t *after, const uint64_t *before, double share)
{
    uint64_t all = 0, so_far = 0;
    for (int i = 0; i < BUCKETS; i++)
        all += after[i] - before[i];
    for (int i = 0; i < BUCKETS; i++)
        if ((so_far += after[i] - before[i]) >= all * share && all)
            return exp2((i + 0.5) / 16);
    return 0;
}

static void tell(const char *path, double value)
{
    char other[4096];
    snprintf(other, sizeof other, "%s.new", path);
    FILE *file = fopen(other, "w");
    if (!file)
        exit(1);
    fprintf(file, "%.3f\n", value);
    fclose(file);
    rename(other, path);
}

int main(int argc, char **argv)
{
    if (argc < 8)
        return 2;
    double gap = 1 / atof(argv[2]);
    int count = atoi(argv[3]);
    char question[256];
    int length = snprintf(question, sizeof question, "%s\r\n", argv[4]);
    long bytes = atol(argv[5]);
    int file = open(argv[6], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (count < 1 || count > MOST || bytes < 1 || file < 0 || ftruncate(file, BUCKETS * 8))
        return 2;
    uint64_t *counts = mmap(0, BUCKETS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), *before[KEPT];
    for (int i = 0; i < KEPT; i++)
        before[i] = calloc(BUCKETS, 8);
    struct peer *peers = calloc(count, sizeof *peers);
    int poll = epoll_create1(0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    for (int i = 0; i < count; i++) {
        int one = 1;
        peers[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(peers[i].fd, (struct sockaddr *)&to, sizeof to))
            return 1;
        setsockopt(peers[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(peers[i].fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(poll, EPOLL_CTL_ADD, peers[i].fd, &(struct epoll_event){ EPOLLIN, { .u32 = i } });
    }
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ 10 });
    puts("ready");
    fflush(stdout);
    double due = now() + gap, told = now();
    for (int turn = 0, number = 0;;) {
        struct epoll_event found[64];
        double left = due - now();
        struct timespec wait = { 0, left > 0 ? (long)(left * 1e9) : 0 };
        int ready = epoll_pwait2(poll, found, 64, &wait, 0);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = &peers[found[i].data.u32];
            char answer[65536];
            long got = read(peer->fd, answer, sizeof answer);
            if (got == 0 || (got < 0 && errno != EAGAIN))
                return 0;
            for (peer->got += got > 0 ? got : 0; peer->got >= bytes && peer->first != peer->last; peer->got -= bytes)
                counts[bucket(now() - peer->due[peer->first++ % WAITING])]++;
        }
        for (; due <= now(); due += gap, turn++) {
            struct peer *peer = &peers[turn % count];
            if (peer->last - peer->first < WAITING && write(peer->fd, question, length) == length)
                peer->due[peer->last++ % WAITING] = due;
        }
        if (now() - told >= 0.5) {
            told = now();
            tell(argv[7], percentile(counts, before[number % KEPT], 0.99));
            memcpy(before[number++ % KEPT], counts, BUCKETS * 8);
        }
    }
}
