// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Messages through sockets, of every family (tracepoints of kernel commit 6e6eda44b939, 6.3).

#define SCOPE_REMOTE 0
#define SCOPE_LOOPBACK 1
#define SCOPE_UNIX 2
#define SCOPE_NONE 3  // talk with the kernel itself
#define FAMILY_UNIX 1
#define FAMILY_INET 2
#define FAMILY_INET6 10
#define FAMILY_NETLINK 16
#define MSG_PEEK 2

BPF_F_TABLE("array", u32, struct net_stats, net_stats, CPUS, 1024);

INLINE u32 scope_of(u64 sock) {
  u16 family = 0;
  bpf_probe_read_kernel(&family, sizeof(family), (void *)(sock + SOCK_FAMILY));
  if (family == FAMILY_UNIX)
    return SCOPE_UNIX;
  if (family == FAMILY_INET) {
    u32 peer = u32_at(sock, SOCK_DADDR);  // network byte order: the first byte of the address comes first
    return (peer & 0xff) == 127 || (peer && peer == u32_at(sock, SOCK_RCV_SADDR)) ? SCOPE_LOOPBACK : SCOPE_REMOTE;
  }
  if (family == FAMILY_INET6) {
    u64 high = u64_at(sock, SOCK_V6_DADDR), low = u64_at(sock, SOCK_V6_DADDR + 8);
    int mapped = !high && (u32)low == 0xffff0000 && ((low >> 32) & 0xff) == 127;
    int same = high == u64_at(sock, SOCK_V6_RCV_SADDR) && low == u64_at(sock, SOCK_V6_RCV_SADDR + 8) && (high | low);
    return mapped || same ? SCOPE_LOOPBACK : SCOPE_REMOTE;
  }
  return family == FAMILY_NETLINK ? SCOPE_NONE : SCOPE_REMOTE;
}

INLINE int count_message(struct bpf_raw_tracepoint_args *ctx, u32 direction) {
  u32 tid = bpf_get_current_pid_tgid();
  int bytes = ctx->args[1];
  if (bytes <= 0 || !is_member(tid))
    return 0;
  u32 cpu = bpf_get_smp_processor_id();
  struct net_stats *s = net_stats.lookup(&cpu);
  if (!s)
    return 0;
  u32 scope = scope_of(ctx->args[0]);
  if (scope == SCOPE_NONE)
    return 0;
  s->messages[direction][scope]++;
  s->bytes[direction][scope] += bytes;
  s->sizes[direction][bucket_of(bytes)]++;
  return 0;
}

int on_sent(struct bpf_raw_tracepoint_args *ctx) { return count_message(ctx, 0); }

int on_received(struct bpf_raw_tracepoint_args *ctx) {
  return ctx->args[2] & MSG_PEEK ? 0 : count_message(ctx, 1);  // what is only looked at is received later
}
