// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// How long one function takes, from its call to its return, in all processes that run it: counts by bucket.
//
// A call is known by its thread and by where the stack is when it returns, so that calls of the same function inside one
// another are told apart, and one that never returns (longjmp, a killed thread) spoils no other: it only ages in the LRU.
//
// Generated before this: CPUS, BUCKETS, SP_OFFSET (of the stack pointer in pt_regs), RETURN_POPS (bytes that a return takes
// off the stack), struct spread.

struct call {
  u64 tid;
  u64 stack;
};

BPF_F_TABLE("array", u32, struct spread, spread, CPUS, 1024);
BPF_TABLE("lru_hash", struct call, u64, begun, 16384);

static inline __attribute__((always_inline)) u64 stack_of(void *ctx) {
  return *(u64 *)(ctx + SP_OFFSET);
}

// Eight buckets to each power of two: 0, 1, ... 15 ns, then 16-17, 18-19, ... as in HDR histograms.
static inline __attribute__((always_inline)) u64 bucket_of(u64 ns) {
  u64 high = 0, v = ns;
  if (v >> 32) { v >>= 32; high += 32; }
  if (v >> 16) { v >>= 16; high += 16; }
  if (v >> 8) { v >>= 8; high += 8; }
  if (v >> 4) { v >>= 4; high += 4; }
  if (v >> 2) { v >>= 2; high += 2; }
  if (v >> 1) high += 1;
  u64 bucket = high < 3 ? ns : (high - 2) * 8 + ((ns >> (high - 3)) & 7);
  asm volatile("" : "+r"(bucket));
  if (bucket > BUCKETS - 1)
    bucket = BUCKETS - 1;
  asm volatile("" : "+r"(bucket));
  return bucket;
}

int on_call(void *ctx) {
  struct call key = {.tid = (u32)bpf_get_current_pid_tgid(), .stack = stack_of(ctx) + RETURN_POPS};
  u64 now = bpf_ktime_get_ns();
  begun.update(&key, &now);
  return 0;
}

int on_return(void *ctx) {
  u64 now = bpf_ktime_get_ns();
  struct call key = {.tid = (u32)bpf_get_current_pid_tgid(), .stack = stack_of(ctx)};
  u64 *since = begun.lookup(&key);
  if (!since)
    return 0;
  u64 took = now - *since;
  begun.delete(&key);
  u32 cpu = bpf_get_smp_processor_id();
  struct spread *s = spread.lookup(&cpu);
  // A thread may lose its CPU between here and there, and another add to the same counters: so the addition is atomic.
  if (s)
    __sync_fetch_and_add(&s->buckets[bucket_of(took)], 1);
  return 0;
}
