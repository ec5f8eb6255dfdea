// M: an OS thread, and the one way to ask which machine the caller runs on.
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/base/random.hpp>
#include <mpg/fiber/execution.hpp>
#include <mpg/sched/futex.hpp>
#include <mpg/sched/task.hpp>

#include <cstdint>
#include <pthread.h>

namespace mpg::sched {

struct processor;

/// Written by its own thread, but for what says otherwise.
struct machine {
    task* cur = nullptr;    // what runs; null on the scheduler's own stack
    processor* p = nullptr; // what it holds; null: it runs a blocking task, or is parked
    runtime_state* rt = nullptr; // null: a plain thread's stand-in
    fiber::thread_anchor anchor;
    fiber::execution g0;    // the scheduler, on the thread's own stack

    // Runs on arrival in the next execution: what must not happen before the previous one is saved.
    void (*finish)(void*) noexcept = nullptr;
    void* finish_arg = nullptr;

    std::uint32_t in_runtime = 0; // depth; a thread with a depth of 0 runs user code and may be frozen there
    bool searching = false;       // counted in runtime_state::searching
    bool polling = false;         // in poll(): who is readied now does not wake other machines
    bool locked = false;          // by thread_lock: runs one task only
    base::random random{0};

    // How a parked machine is given work: written by the giver before wake.set(), under machines_lock of the runtime.
    event wake;
    task* job = nullptr;
    machine* next_spare = nullptr;

    machine* next_all = nullptr; // all machines of a runtime; machines_lock
    ::pthread_t thread{};
    base::atomic<int> tid{0}; // of the kernel; 0 until it runs
    base::atomic<bool> exit{false}; // with wake: leave the thread function
};

} // namespace mpg::sched

// The current machine of this thread. initial-exec and default visibility: one variable per process, also when
// several shared objects include this; `used`: the assembly below names it. Never read it but through
// sched::this_machine(): a compiler may keep the *address* of a thread-local over a call, and a task changes threads.
extern "C" {
[[gnu::used, gnu::tls_model("initial-exec"), gnu::visibility("default")]] inline constinit thread_local
    mpg::sched::machine* mpg_current_machine = nullptr;
}

namespace mpg::sched {

/// Null on a plain thread that has not waited yet. 0.25 ns; cannot be cached over a switch, since the compiler does
/// not know what it reads.
MPG_ALWAYS_INLINE machine* this_machine() noexcept {
    machine* m;
#if defined(__x86_64__)
    asm volatile("movq mpg_current_machine@gottpoff(%%rip), %0\n\t"
                 "movq %%fs:(%0), %0"
                 : "=r"(m));
#else
    asm volatile("mrs %0, tpidr_el0\n\t"
                 "adrp x16, :gottprel:mpg_current_machine\n\t"
                 "ldr x16, [x16, #:gottprel_lo12:mpg_current_machine]\n\t"
                 "ldr %0, [%0, x16]"
                 : "=&r"(m)
                 :
                 : "x16");
#endif
    return m;
}

MPG_NOINLINE inline void set_this_machine(machine* m) noexcept {
    asm volatile("");
    mpg_current_machine = m;
}

/// A plain thread's machine and task: made when it first waits.
struct stand_in {
    machine m;
    task t;
    stand_in() noexcept {
        m.cur = &t;
        t.set_state(task_state::running);
        set_this_machine(&m);
    }
    ~stand_in() { set_this_machine(nullptr); }
};

MPG_NOINLINE inline machine* make_stand_in() noexcept {
    static thread_local stand_in s; // a plain thread does not migrate
    set_this_machine(&s.m);         // also after its destructor: late waits of other thread-locals
    return &s.m;
}

inline task* current() noexcept {
    machine* m = this_machine();
    if (!m) [[unlikely]] m = make_stand_in();
    return m->cur;
}

} // namespace mpg::sched
