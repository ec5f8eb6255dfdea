// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// (The kernel lends its functions for stacks and user memory to GPL-compatible programs only.)
//
// The half of mpg-trace that runs in the kernel: a program for each probe, and one for the kernel's own switches, which
// write events to a ring buffer. What does not fit is counted.
//
// No vmlinux.h: of the kernel's types only two fields are used, and CO-RE finds them where this kernel has them.
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/ptrace.h>

#include <bpf/bpf_helpers.h>
// A program with many templates has many places of a probe, each with arguments of its own.
#define BPF_USDT_MAX_SPEC_CNT 4096
#define BPF_USDT_MAX_IP_CNT 1 // for kernels before 5.15
#include <bpf/usdt.bpf.h>

#include "event.h"

struct task_struct {
    int pid;
    int tgid;
} __attribute__((preserve_access_index));

const char license_text[] SEC("license") = "GPL";

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 24); // the user's side says how much
} events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_STACK_TRACE);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, MPG_TRACE_FRAMES * sizeof(__u64));
    __uint(max_entries, 16384);
} stacks SEC(".maps");

__u64 lost = 0; // events for which there was no room
int process = 0; // as the first pid namespace numbers it; the first event of a probe tells

// Nobody is woken for an event: that would cost more than the event. The other side comes by.
static __always_inline struct mpg_trace_event* reserve(__u32 what, __u64 task, __u64 about, __u32 thread)
{
    struct mpg_trace_event* e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
    if (!e) {
        __sync_fetch_and_add(&lost, 1);
        return 0;
    }
    e->time = bpf_ktime_get_ns();
    e->task = task;
    e->about = about;
    e->thread = thread;
    e->what = what;
    e->stack = -1;
    e->unused = 0;
    return e;
}

static __always_inline struct mpg_trace_event* reserve_here(__u32 what, __u64 task, __u64 about)
{
    __u64 id = bpf_get_current_pid_tgid();
    if (!process) process = id >> 32;
    return reserve(what, task, about, (__u32)id);
}

static __always_inline int submit(struct mpg_trace_event* e)
{
    if (e) bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    return 0;
}

SEC("usdt")
int BPF_USDT(task_create, __u64 id, __u64 fn, __u64 site)
{
    long stack = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
    struct mpg_trace_event* e = reserve_here(MPG_TRACE_CREATE, id, site ? site : fn);
    if (e) e->stack = stack < 0 ? -1 : (__s32)stack;
    return submit(e);
}

SEC("usdt")
int BPF_USDT(task_start, __u64 id, __u32 p, __u64 site)
{
    struct mpg_trace_event* e = reserve_here(MPG_TRACE_START, id, site);
    if (e) e->p = p;
    return submit(e);
}

SEC("usdt")
int BPF_USDT(task_block, __u64 id, __u32 reason)
{
    return submit(reserve_here(MPG_TRACE_BLOCK, id, reason));
}

SEC("usdt")
int BPF_USDT(task_ready, __u64 id)
{
    return submit(reserve_here(MPG_TRACE_READY, id, 0));
}

SEC("usdt")
int BPF_USDT(task_end, __u64 id)
{
    return submit(reserve_here(MPG_TRACE_END, id, 0));
}

SEC("usdt")
int BPF_USDT(task_preempt, __u64 id, __u32 p)
{
    return submit(reserve_here(MPG_TRACE_PREEMPT, id, p));
}

SEC("tp_btf/sched_switch")
int BPF_PROG(kernel_switch, bool preempted, struct task_struct* prev, struct task_struct* next)
{
    int of = process;
    if (!of) return 0;
    if (prev->tgid == of) submit(reserve(MPG_TRACE_OFF, 0, 0, prev->pid));
    if (next->tgid == of) submit(reserve(MPG_TRACE_ON, 0, 0, next->pid));
    return 0;
}
