// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Shared by all programs of a profile: who belongs to the target, and the state of each of its threads.
//
// Structures (members, tables, thread, *_stats) are generated from dna/probes/bpf/layouts.py, offsets of kernel
// structures (TASK_PID, ...) from the running kernel's BTF. Counters are indexed by CPU, so each is written by one CPU
// at a time; programs that run in interrupts (waking) have counters of their own.

#define CLASS_NETWORK 1
#define CLASS_SYNC 4
#define CLASS_OTHER 7
#define UNKNOWN (~0ull)
#define INLINE static inline __attribute__((always_inline))

// Four places to look for a thread; distances are odd so that neighbours do not collide again.
#define PLACES 4
#define STEP 4099

BPF_F_TABLE("array", u32, struct members, members, 1, 1024);
BPF_F_TABLE("array", u32, struct tables, tables, 1, 1024);
BPF_F_TABLE("array", u32, struct thread, threads, THREADS, 1024);
BPF_F_TABLE("array", u32, struct follow_stats, follow_stats, CPUS, 1024);

INLINE struct members *all_members(void) {
  u32 zero = 0;
  return members.lookup(&zero);
}

INLINE struct tables *all_tables(void) {
  u32 zero = 0;
  return tables.lookup(&zero);
}

INLINE u32 is_member(u32 tid) {
#ifdef WHOLE_HOST
  return tid != 0;
#else
  struct members *m = all_members();
  return m ? m->of[tid & (PIDS - 1)] : 0;
#endif
}

INLINE struct follow_stats *follow_here(void) {
  u32 cpu = bpf_get_smp_processor_id();
  return follow_stats.lookup(&cpu);
}

INLINE u32 u32_at(u64 base, u32 offset) {
  u32 value = 0;
  bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
  return value;
}

INLINE u64 u64_at(u64 base, u32 offset) {
  u64 value = 0;
  bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
  return value;
}

// Index of the highest set bit, at most BUCKETS - 1.
INLINE u64 bucket_of(u64 value) {
  u64 bucket = 0;
  if (value >> 32) { value >>= 32; bucket += 32; }
  if (value >> 16) { value >>= 16; bucket += 16; }
  if (value >> 8) { value >>= 8; bucket += 8; }
  if (value >> 4) { value >>= 4; bucket += 4; }
  if (value >> 2) { value >>= 2; bucket += 2; }
  if (value >> 1) bucket += 1;
  // The barriers keep the compiler from dropping the check (it may know the bound already) and from checking a copy; the
  // verifier follows the one register that indexes.
  asm volatile("" : "+r"(bucket));
  if (bucket > BUCKETS - 1)
    bucket = BUCKETS - 1;
  asm volatile("" : "+r"(bucket));
  return bucket;
}

INLINE struct thread *find_thread(u32 tid) {
#pragma unroll
  for (u32 place = 0; place < PLACES; place++) {
    u32 index = (tid + place * STEP) & (THREADS - 1);
    struct thread *t = threads.lookup(&index);
    if (t && t->tid == tid)
      return t;
  }
  return 0;
}

// State is an open-addressed table rather than a hash: a look-up of an array is inlined, and user space reads it through
// shared memory. Two CPUs may take one free place at the same time; the loser does not find itself and takes another.
INLINE struct thread *claim_thread(u32 tid, u32 tgid) {
#pragma unroll
  for (u32 place = 0; place < PLACES; place++) {
    u32 index = (tid + place * STEP) & (THREADS - 1);
    struct thread *t = threads.lookup(&index);
    if (t && t->tid == 0) {
      t->tid = tid;
      t->tgid = tgid;
      t->on_ts = t->off_ts = t->ready_ts = t->oncpu_ns = t->enter_ts = 0;
      t->fault_page = 0;
      t->ran_ns = UNKNOWN;
      t->nr = t->cpu = t->window = t->blocked_class = 0;
      t->regs = 0;
      t->gap = UNDRAWN;
      t->seed = tid * 2654435761u + 12345;
      return t;
    }
  }
  struct follow_stats *s = follow_here();
  if (s)
    s->unplaced++;
  return 0;
}

INLINE struct thread *thread_of(u32 tid, u32 tgid) {
  struct thread *t = find_thread(tid);
  return t ? t : claim_thread(tid, tgid);
}

// Values of members.of. A thread that exits goes on running (it gives back its memory) until it is switched away from for
// the last time; one that user space takes out of the target is counted until the end of its slice. Both are gone for user
// space at once.
#define OUTSIDE 0
#define MEMBER 1
#define EXITING 2
#define LEAVING 3

INLINE void set_member(u32 tid, u8 value) {
#ifndef WHOLE_HOST
  struct members *m = all_members();
  if (m)
    m->of[tid & (PIDS - 1)] = value;
#endif
}

// What an open file is: the type bits of its inode's mode (S_IFMT), 0 when it cannot be found.
#define MODE_TYPE 0170000
#define MODE_SOCKET 0140000
#define MODE_REGULAR 0100000
#define MODE_BLOCK 0060000
#define MODE_FIFO 0010000

INLINE u64 file_of(u64 task, u32 fd) {
  u64 files = u64_at(task, TASK_FILES);
  u64 table = files ? u64_at(files, FILES_FDT) : 0;
  if (!table || fd >= u32_at(table, FDT_MAX_FDS))
    return 0;
  return u64_at(u64_at(table, FDT_FD), fd * 8);
}

INLINE u32 file_type(u64 file) {
  u16 mode = 0;
  if (!file)
    return 0;
  bpf_probe_read_kernel(&mode, sizeof(mode), (void *)(u64_at(file, FILE_INODE) + INODE_MODE));
  return mode & MODE_TYPE;
}

#define KIND_FILE 0
#define KIND_SOCKET 1
#define KIND_PIPE 2
#define KIND_OTHER 3

INLINE u32 kind_of(u64 file) {
  u32 type = file_type(file);
  if (type == MODE_REGULAR || type == MODE_BLOCK)
    return KIND_FILE;
  return type == MODE_SOCKET ? KIND_SOCKET : type == MODE_FIFO ? KIND_PIPE : KIND_OTHER;
}
