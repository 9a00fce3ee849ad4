// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Follow forks, new threads, exec and exit, so that the target stays whole without anybody polling.

int on_fork(struct bpf_raw_tracepoint_args *ctx) {
  u32 parent = bpf_get_current_pid_tgid();
  if (is_member(parent) != MEMBER)
    return 0;
  u64 child = ctx->args[1];
  u32 tid = u32_at(child, TASK_PID);
  set_member(tid, MEMBER);
  struct thread *t = thread_of(tid, u32_at(child, TASK_TGID));
  if (t) {
    t->ready_ts = bpf_ktime_get_ns();
    t->ran_ns = 0;
  }
  struct follow_stats *s = follow_here();
  if (s)
    s->forks++;
  return 0;
}

// A thread other than the leader that calls exec takes over the leader's id, and the dying leader its: the last switch of
// the leader may come before or after this.
int on_exec(struct bpf_raw_tracepoint_args *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  u32 old = ctx->args[1];
  if (old == tid || (!is_member(old) && !is_member(tid)))
    return 0;
  set_member(tid, MEMBER);
  set_member(old, OUTSIDE);
  struct thread *from = find_thread(old);
  struct thread *to = thread_of(tid, tid);
  if (!from)
    return 0;
  if (to) {
    to->on_ts = from->on_ts;
    to->oncpu_ns = from->oncpu_ns;
    to->ran_ns = from->ran_ns;
    to->cpu = from->cpu;
    to->off_ts = to->ready_ts = 0;
  }
  from->tid = 0;
  return 0;
}

int on_exit(struct bpf_raw_tracepoint_args *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  if (!is_member(tid))
    return 0;
  struct follow_stats *s = follow_here();
  if (s)
    s->exits++;
  struct tables *tab = all_tables();
  if (tab && tab->sees_switches) {
    set_member(tid, EXITING);
    return 0;
  }
  struct thread *t = find_thread(tid);
  if (t)
    t->tid = 0;
  set_member(tid, OUTSIDE);
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
    t->ran_ns = u64_at(bpf_get_current_task(), TASK_RAN);
    t->cpu = bpf_get_smp_processor_id() + 1;
  }
  return 0;
}
