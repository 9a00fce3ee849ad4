// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Follow forks, new threads, exec and exit, so that the target stays whole without anybody polling.

int on_fork(struct bpf_raw_tracepoint_args *ctx) {
  u32 parent = bpf_get_current_pid_tgid();
  if (!is_member(parent))
    return 0;
  u64 child = ctx->args[1];
  u32 tid = u32_at(child, TASK_PID);
  add_member(tid);
  struct thread *t = thread_of(tid, u32_at(child, TASK_TGID));
  if (t)
    t->ready_ts = bpf_ktime_get_ns();
  struct follow_stats *s = follow_here();
  if (s)
    s->forks++;
  return 0;
}

// A thread other than the leader that calls exec takes over the leader's id, which has just left as "exited".
int on_exec(struct bpf_raw_tracepoint_args *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  u32 old = ctx->args[1];
  if (old != tid && is_member(old))
    add_member(tid);
  return 0;
}

int on_exit(struct bpf_raw_tracepoint_args *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  if (!is_member(tid))
    return 0;
  struct thread *t = find_thread(tid);
  struct follow_stats *s = follow_here();
  if (t) {
    if (s && t->on_ts)
      s->oncpu_ns += bpf_ktime_get_ns() - t->on_ts;
    t->tid = 0;
  }
  drop_member(tid);
  if (s)
    s->exits++;
  return 0;
}

// Runs a few times right after the start, on a timer of each CPU: a thread that never leaves its CPU would otherwise
// stay unseen until it does.
int on_tick(struct bpf_perf_event_data *ctx) {
  u64 id = bpf_get_current_pid_tgid();
  u32 tid = id;
  if (!is_member(tid))
    return 0;
  struct thread *t = thread_of(tid, id >> 32);
  if (t && !t->on_ts) {
    t->on_ts = bpf_ktime_get_ns();
    t->off_ts = t->ready_ts = 0;
    t->cpu = bpf_get_smp_processor_id() + 1;
  }
  return 0;
}
