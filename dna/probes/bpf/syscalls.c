// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// System calls: all are counted; windows of consecutive calls of a thread, one call in
// tables.sample_every on average, are timed
// and, where they move data, classified by what kind of file they move it through.

#define OP_READ 1
#define OP_WRITE 2
#define OP_POSITIONED 4

struct position {
  u64 next;
  u64 window;
};

BPF_F_TABLE("array", u32, struct syscall_stats, syscall_stats, CPUS, 1024);
BPF_TABLE("lru_hash", u64, struct position, positions, 4096);

INLINE struct syscall_stats *syscalls_here(void) {
  u32 cpu = bpf_get_smp_processor_id();
  return syscall_stats.lookup(&cpu);
}

INLINE u32 draw(struct thread *t, u32 most) {
  t->seed = t->seed * 1664525 + 1013904223;
  return (t->seed >> 8) % (most + 1);
}

// Gaps between windows are drawn at random (uniform, so that their mean is known): a fixed one would beat against the
// fixed cycle of calls that most servers make.
INLINE int is_sampled(struct thread *t) {
  if (t->window) {
    t->window--;
    return 1;
  }
  if (t->gap && t->gap != UNDRAWN) {
    t->gap--;
    return 0;
  }
  struct tables *tab = all_tables();
  u32 every = tab ? tab->sample_every : 1;
  u32 most = 2 * WINDOW * (every - 1);
  if (t->gap) {
    // What is left of a uniform gap at a random moment is distributed as the lesser of two draws: so the first calls of
    // many short processes are sampled as often as others.
    u32 one = draw(t, most), other = draw(t, most);
    t->gap = one < other ? one : other;
    if (t->gap) {
      t->gap--;
      return 0;
    }
  }
  t->gap = draw(t, most);
  t->window = WINDOW - 1;
  t->windows++;
  return 1;
}

int on_syscall_enter(struct bpf_raw_tracepoint_args *ctx) {
  u64 id = bpf_get_current_pid_tgid();
  u32 tid = id;
  if (!is_member(tid))
    return 0;
  struct syscall_stats *s = syscalls_here();
  if (!s)
    return 0;
  u32 nr = ctx->args[1] & 511;
  s->calls[nr]++;
  struct thread *t = thread_of(tid, id >> 32);
  if (!t)
    return 0;
  t->nr = nr + 1;
  t->regs = ctx->args[0];
  if (is_sampled(t)) {
    t->fd = u32_at(t->regs, REGS_ARG0);
    t->position = u64_at(t->regs, REGS_ARG3);
    t->enter_ts = bpf_ktime_get_ns();
  }
  return 0;
}

INLINE void count_position(struct syscall_stats *s, struct thread *t, u64 file, u32 op, u64 moved) {
  u64 start = op & OP_POSITIONED ? t->position : u64_at(file, FILE_POS) - moved;
  u64 window = ((u64)t->tid << 32) | t->windows;
  struct position *last = positions.lookup(&file);
  if (last && last->window == window) {
    s->positioned++;
    if (last->next == start)
      s->sequential++;
  }
  struct position next = {.next = start + moved, .window = window};
  positions.update(&file, &next);
}

// Returns the kind of file that the call was about.
INLINE u32 count_io(struct syscall_stats *s, struct thread *t, u32 op, s64 ret) {
  u32 direction = op & OP_WRITE ? 1 : 0;
  u64 file = file_of(bpf_get_current_task(), t->fd);
  u32 kind = kind_of(file);
  s->io_sampled[direction][kind]++;
  if (ret <= 0)
    return kind;
  s->io_calls[direction][kind]++;
  s->io_bytes[direction][kind] += ret;
  s->io_sizes[direction][kind][bucket_of(ret)]++;
  if (kind == KIND_FILE)
    count_position(s, t, file, op, ret);
  return kind;
}

int on_syscall_exit(struct bpf_raw_tracepoint_args *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  if (!is_member(tid))
    return 0;
  struct syscall_stats *s = syscalls_here();
  if (!s)
    return 0;
  s64 ret = ctx->args[1];
  if (ret < 0 && ret > -4096)
    s->errors++;
  struct thread *t = find_thread(tid);
  if (!t)
    return 0;
  u32 nr = (t->nr - 1) & 511;
  if (t->enter_ts && t->nr) {
    struct tables *tab = all_tables();
    if (tab) {
      u64 took = bpf_ktime_get_ns() - t->enter_ts;
      u32 class = tab->class_of[nr] & 7;
      if (tab->op_of[nr] && count_io(s, t, tab->op_of[nr], ret) == KIND_SOCKET)
        class = CLASS_NETWORK;
      s->sampled++;
      s->latency[class][bucket_of(took)]++;
    }
    t->enter_ts = 0;
  }
  t->nr = 0;
  return 0;
}
