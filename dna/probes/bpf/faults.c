// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Page faults in user mode: how far each is from the thread's previous one.

#define SEQUENTIAL_PAGES 16  // the kernel's fault-around window, 64 KiB
#define NEAR_PAGES 512       // 2 MiB

BPF_F_TABLE("array", u32, struct fault_stats, fault_stats, CPUS, 1024);

int on_fault(struct bpf_raw_tracepoint_args *ctx) {
  u64 id = bpf_get_current_pid_tgid();
  u32 tid = id;
  if (!is_member(tid))
    return 0;
  u32 cpu = bpf_get_smp_processor_id();
  struct fault_stats *s = fault_stats.lookup(&cpu);
  struct thread *t = thread_of(tid, id >> 32);
  if (!s || !t)
    return 0;
  s->faults++;
  u64 page = ctx->args[0] >> 12;
  u64 last = t->fault_page;
  t->fault_page = page;
  if (!last)
    return 0;
  u64 distance = page > last ? page - last : last - page;
  if (distance <= SEQUENTIAL_PAGES)
    s->sequential++;
  else if (distance <= NEAR_PAGES)
    s->near++;
  else
    s->random++;
  return 0;
}
