/* What the programs in the kernel tell mpg-trace, through a ring buffer. In C: Clang compiles it for BPF, and C++ includes
 * it; both assert the same layout here, and tasks.hpp asserts that it is what the library's own types mean. */
#ifndef MPG_TRACE_EVENT_H
#define MPG_TRACE_EVENT_H

#ifdef __cplusplus
#include <linux/types.h>
#define MPG_TRACE_ASSERT static_assert
#else
#define MPG_TRACE_ASSERT _Static_assert
#endif

enum mpg_trace_what { /* the first ones are mpg::sched::trace_event */
    MPG_TRACE_CREATE = 0,  /* about: the address of who starts it, or of its function; stack */
    MPG_TRACE_START = 2,   /* about: the same address, 0: not known; p */
    MPG_TRACE_BLOCK = 3,   /* about: a mpg::sched::wait_reason */
    MPG_TRACE_READY = 4,
    MPG_TRACE_END = 5,
    MPG_TRACE_PREEMPT = 8, /* about: the P that it has lost */
    MPG_TRACE_OFF = 32,    /* the kernel takes the thread off its CPU; no task */
    MPG_TRACE_ON = 33      /* and puts it back */
};

struct mpg_trace_event {
    __u64 time;   /* of CLOCK_MONOTONIC, ns */
    __u64 task;   /* its id */
    __u64 about;
    __u32 thread; /* as the kernel's first pid namespace numbers it */
    __u32 what;   /* an mpg_trace_what */
    union {
        __s32 stack; /* key of the map of stacks; negative: none */
        __u32 p;     /* ~0: none */
    };
    __u32 unused;
};

MPG_TRACE_ASSERT(sizeof(struct mpg_trace_event) == 40, "");
MPG_TRACE_ASSERT(__builtin_offsetof(struct mpg_trace_event, task) == 8, "");
MPG_TRACE_ASSERT(__builtin_offsetof(struct mpg_trace_event, about) == 16, "");
MPG_TRACE_ASSERT(__builtin_offsetof(struct mpg_trace_event, thread) == 24, "");
MPG_TRACE_ASSERT(__builtin_offsetof(struct mpg_trace_event, what) == 28, "");
MPG_TRACE_ASSERT(__builtin_offsetof(struct mpg_trace_event, stack) == 32, "");
MPG_TRACE_ASSERT(__builtin_offsetof(struct mpg_trace_event, p) == 32, "");

#define MPG_TRACE_FRAMES 32 /* of a stack */

#endif
