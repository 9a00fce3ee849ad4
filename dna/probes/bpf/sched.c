// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Scheduling: time on CPU, in the run queue and blocked, and who wakes whom.

#define CHANNEL_FUTEX 0
#define CHANNEL_PIPE 1
#define CHANNEL_SOCKET 2
#define CHANNEL_OTHER 3
#define CHANNEL_INTERRUPT 4

// include/linux/sched.h: values of a task's state.
#define TASK_DEAD 0x80
#define TASK_WAKING 0x200  // somebody woke it while it was still going to sleep

// Finding out what a wake-up went through costs ten times the count, so it is done for the first and then one in 64.
#define RESOLVE_EVERY 64

BPF_F_TABLE("array", u32, struct sched_stats, sched_stats, CPUS, 1024);
BPF_F_TABLE("array", u32, struct wake_stats, wake_stats, CPUS, 1024);
BPF_HASH(edges, struct edge_key, struct edge, EDGES);

// bpf_task_pt_regs (kernel commit dd6e10fbd9fb, 5.15) takes only a task pointer with type information.
static u64 (*current_task_typed)(void) = (void *)158;
static u64 (*registers_of)(u64 task) = (void *)175;

// What a thread that blocks now is doing: a read of a socket is network, whatever the call's name.
INLINE u32 class_now(struct thread *t, u64 task) {
  struct tables *tab = all_tables();
  if (!tab || !t->nr)
    return CLASS_OTHER;
  u32 nr = (t->nr - 1) & 511;
  if (tab->op_of[nr] && t->regs && kind_of(file_of(task, u32_at(t->regs, REGS_ARG0))) == KIND_SOCKET)
    return CLASS_NETWORK;
  return tab->class_of[nr] & 7;
}

// What a thread did until it came to run here.
INLINE void count_arrival(struct sched_stats *s, struct thread *t, u64 until) {
  u32 here = bpf_get_smp_processor_id() + 1;
  if (t->cpu && t->cpu != here)
    s->migrations++;
  t->cpu = here;
  if (t->ready_ts && until > t->ready_ts) {
    u64 waited = until - t->ready_ts;
    s->runq_ns += waited;
    s->runq[bucket_of(waited)]++;
  }
  u64 woken = t->ready_ts ? t->ready_ts : until;
  if (t->off_ts && woken > t->off_ts)
    s->blocked_ns[t->blocked_class & 7] += woken - t->off_ts;
}

// A slice is measured by the scheduler's own account of the thread's run time, as in /proc/PID/schedstat: time stolen by a
// hypervisor is not in it, and it holds even where the kernel switched to the thread without telling (which happens).
INLINE void count_slice(struct sched_stats *s, struct thread *t, u64 task, u64 now) {
  u64 ran = u64_at(task, TASK_RAN);
  if (t->ran_ns != UNKNOWN) {
    u64 slice = ran - t->ran_ns;
    s->oncpu_ns += slice;
    t->oncpu_ns += slice;
    s->slices[bucket_of(slice)]++;
    if (!t->on_ts)
      count_arrival(s, t, now - slice);
  }
  t->ran_ns = ran;
}

int on_switch(struct bpf_raw_tracepoint_args *ctx) {
  u64 id = bpf_get_current_pid_tgid();
  u32 prev = id;
  u64 next_task = ctx->args[2];
  u32 next = u32_at(next_task, TASK_PID);
  u32 prev_member = is_member(prev), next_member = is_member(next);
  if (!prev_member && !next_member)
    return 0;
  u32 cpu = bpf_get_smp_processor_id();
  struct sched_stats *s = sched_stats.lookup(&cpu);
  if (!s)
    return 0;
  u64 now = bpf_ktime_get_ns();
  if (prev_member) {
    u64 state = ctx->args[0] ? 0 : u32_at(ctx->args[1], TASK_STATE);
    int dead = state == TASK_DEAD, last = dead || prev_member == LEAVING;
    if (state && !dead)
      s->voluntary++;
    else if (!state)
      s->involuntary++;
    struct thread *t = thread_of(prev, id >> 32);
    if (t) {
      count_slice(s, t, ctx->args[1], now);
      t->on_ts = 0;
      t->off_ts = state ? now : 0;
      t->ready_ts = state && state != TASK_WAKING ? 0 : now;
      t->cpu = cpu + 1;
      if (last)
        t->tid = 0;
      else if (state)
        t->blocked_class = class_now(t, ctx->args[1]);
    }
    if (last)
      set_member(prev, OUTSIDE);
  }
  if (next_member) {
    struct thread *t = find_thread(next);
    if (!t)
      t = claim_thread(next, u32_at(next_task, TASK_TGID));
    if (t) {
      count_arrival(s, t, now);
      if (t->ran_ns == UNKNOWN)
        t->ran_ns = u64_at(next_task, TASK_RAN);
      t->on_ts = now;
      t->off_ts = t->ready_ts = 0;
    }
  }
  return 0;
}

INLINE u32 channel_now(struct tables *tab) {
  u64 task = current_task_typed();
  u64 regs = registers_of(task);
  s64 nr = u64_at(regs, REGS_SYSCALL);
  // An interrupt that came in user mode leaves no system call number in the registers.
  if (nr < 0 || nr > 511)
    return CHANNEL_INTERRUPT;
  u32 class = tab->class_of[nr & 511];
  if (class == CLASS_SYNC)
    return CHANNEL_FUTEX;
  if (class == CLASS_NETWORK)
    return CHANNEL_SOCKET;
  if (!tab->op_of[nr & 511])
    return CHANNEL_OTHER;
  u32 kind = kind_of(file_of(task, u32_at(regs, REGS_ARG0)));
  return kind == KIND_SOCKET ? CHANNEL_SOCKET : kind == KIND_PIPE ? CHANNEL_PIPE : CHANNEL_OTHER;
}

// A timer's interrupt may come while any thread is in any call: who that is has nothing to do with whom it wakes. The end
// clears rather than counts down, so that nothing missed has an effect for longer than until the next tick.
int on_timer_begin(struct bpf_raw_tracepoint_args *ctx) {
  u32 cpu = bpf_get_smp_processor_id();
  struct wake_stats *s = wake_stats.lookup(&cpu);
  if (s)
    s->in_timer = 1;
  return 0;
}

int on_timer_end(struct bpf_raw_tracepoint_args *ctx) {
  u32 cpu = bpf_get_smp_processor_id();
  struct wake_stats *s = wake_stats.lookup(&cpu);
  if (s)
    s->in_timer = 0;
  return 0;
}

int on_waking(struct bpf_raw_tracepoint_args *ctx) {
  u64 id = bpf_get_current_pid_tgid();
  u32 waker = id;
  u64 task = ctx->args[0];
  u32 wakee = u32_at(task, TASK_PID);
  int wakee_member = is_member(wakee);
  int waker_member = is_member(waker);
  if (!wakee_member && !waker_member)
    return 0;
  u32 cpu = bpf_get_smp_processor_id();
  struct wake_stats *s = wake_stats.lookup(&cpu);
  struct tables *tab = all_tables();
  if (!s || !tab)
    return 0;
  if (wakee_member) {
    struct thread *t = find_thread(wakee);
    if (t)
      t->ready_ts = bpf_ktime_get_ns();
  }
  if (!waker || s->in_timer)
    return 0;  // woken by an interrupt on an idle CPU, or by a timer: by nobody
  struct edge_key key = {.waker = waker, .wakee = wakee};
  struct edge *e = edges.lookup(&key);
  if (!e) {
    // Kernel threads do housekeeping for everybody; that is no communication.
    if (!u64_at(task, TASK_MM) || !u64_at(bpf_get_current_task(), TASK_MM))
      return 0;
    struct edge fresh = {};
    fresh.waker_tgid = id >> 32;
    fresh.wakee_tgid = u32_at(task, TASK_TGID);
    fresh.inside = wakee_member && waker_member;
    bpf_get_current_comm(&fresh.waker_comm, sizeof(fresh.waker_comm));
    bpf_probe_read_kernel(&fresh.wakee_comm, sizeof(fresh.wakee_comm), (void *)(task + TASK_COMM));
    edges.update(&key, &fresh);
    e = edges.lookup(&key);
    if (!e) {
      s->lost++;
      return 0;
    }
  }
  if ((e->count & (RESOLVE_EVERY - 1)) == 0) {
    u32 channel = channel_now(tab);
    if (channel < 5)
      e->channel[channel]++;
  }
  e->count++;
  u32 last = u32_at(task, TASK_WAKE_CPU) & (MAX_CPUS - 1);
  u32 here = cpu & (MAX_CPUS - 1);
  if (tab->llc_of[last] != tab->llc_of[here])
    e->cross_llc++;
  if (tab->node_of[last] != tab->node_of[here])
    e->cross_node++;
  return 0;
}
