// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Block requests that a thread of the target itself starts (reads, direct and synchronous writes). Write-back belongs to
// kernel threads and is not attributed.

struct request {
  u64 start;
  u64 bytes;
};

BPF_F_TABLE("array", u32, struct block_stats, block_stats, CPUS, 1024);
BPF_TABLE("lru_hash", u64, struct request, requests, 8192);

int on_block_start(struct bpf_raw_tracepoint_args *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  if (!is_member(tid))
    return 0;
  u64 key = ctx->args[0];
  struct request fresh = {.start = bpf_ktime_get_ns(), .bytes = u32_at(key, REQUEST_LENGTH)};
  requests.update(&key, &fresh);
  return 0;
}

int on_block_done(struct bpf_raw_tracepoint_args *ctx) {
  u64 key = ctx->args[0];
  struct request *r = requests.lookup(&key);
  if (!r)
    return 0;
  u32 cpu = bpf_get_smp_processor_id();
  struct block_stats *s = block_stats.lookup(&cpu);
  if (s) {
    s->requests++;
    s->bytes += r->bytes;
    s->latency[bucket_of(bpf_ktime_get_ns() - r->start)]++;
  }
  requests.delete(&key);
  return 0;
}
