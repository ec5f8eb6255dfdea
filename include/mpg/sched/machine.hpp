// M: an OS thread, and the one way to ask which machine the caller runs on.
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/base/random.hpp>
#include <mpg/fiber/execution.hpp>
#include <mpg/sched/cpu_alarm.hpp>
#include <mpg/sched/futex.hpp>
#include <mpg/sched/retake.hpp>
#include <mpg/sched/task.hpp>
#include <mpg/sched/tie.hpp>
#include <mpg/sched/timer.hpp>

#include <cstdint>
#include <pthread.h>
#include <sched.h>

namespace mpg::sched {

struct processor;
class cancel_batch;

/// Written by its own thread, but for what says otherwise.
struct machine {
    task* cur = nullptr;    // what runs; null on the scheduler's own stack
    processor* p = nullptr; // what it holds; null: it runs a blocking or surplus task, is frozen, or is parked
    runtime_state* rt = nullptr; // null: a plain thread's stand-in

    // 0: the thread is in user code, keeps no pointer to its P anywhere, and may lose the P or be frozen. Raised by
    // runtime_section and by the switch. The monitor and the thread's own signal handler read it.
    base::atomic<std::uint32_t> in_runtime{0};
    base::atomic<retake> retaken{retake::no}; // writers: see retake
    fiber::thread_anchor anchor;
    fiber::execution g0;    // the scheduler, on the thread's own stack
    fiber::execution ended; // of a task that has ended, while it is left

    // Runs on arrival in the next execution: what must not happen before the previous one is saved.
    void (*finish)(void*) noexcept = nullptr;
    void* finish_arg = nullptr;

    std::uint32_t passed = 0;     // see passes_by
    bool searching = false;       // counted in runtime_state::searching
    bool polling = false;         // in poll(): who is readied now does not wake other machines
    bool stamped = false;         // in this poll a wake-up has been recorded: the others have its stamp
    bool locked = false;          // by thread_lock: runs one task only
    bool relieves = false;        // written by the giver of a P: it was taken from a running task
    base::random random{0};

    // How a parked machine is given work: written by the giver before wake.set(), under machines_lock of the runtime.
    event wake;
    task* job = nullptr;
    machine* next_spare = nullptr;
    bool spare_to_be = false; // made to be spare, and has not come so far; machines_lock

    // Freezing; see frozen.hpp.
    base::atomic<machine*> relief{nullptr};        // set by the monitor, taken by this thread's handler or back
    base::atomic<std::uint32_t> relief_tick{0};    // the tick of the P for which it is meant
    machine* next_frozen = nullptr;                // frozen_lock
    bool frozen = false;                           // on the queue, or unlinked from it: its unlinker's
    bool reserved = false;                         // unlinked by reserve_frozen
    base::atomic<const void*> frozen_at{nullptr};  // the ucontext_t of its task's stack, while the thread waits
    event thaw;                                    // set by who has given p, or lets it go on without
    base::atomic<processor*> thawed_on{nullptr};   // its last P out of the frozen queue, and the tick of that P then:
    base::atomic<std::uint32_t> thawed_tick{0};    // while both still hold its task has not left that P
    base::atomic<tie> tied{tie::none};             // to the CPU of who has given p; see tie.hpp
    ::cpu_set_t cpus{};                            // where it may run otherwise, while it is tied
    base::nanos stint_cpu = -1;                    // the thread's clock when its task was first seen to compute; the monitor's
    bool stalled = false;                          // that is known to be a stall already; the monitor's
    cpu_alarm alarm_clock;                         // asks the thread to freeze; the monitor's

    machine* next_all = nullptr; // all machines of a runtime; machines_lock
    ::pthread_t thread{};
    const std::uint32_t* spinlocks = nullptr; // its thread's count, while that runs
    base::atomic<int> tid{0}; // of the kernel; 0 until it runs
    base::atomic<bool> exit{false}; // with wake: leave the thread function
    cancel_batch* cancels = nullptr; // that collects what this thread cancels just now; its own
    timer_node* alarm = nullptr;    // a plain thread's: ends its wait; its own
    base::nanos wait_gap = 100'000; // a plain thread's: how long its waits lately were (moving average)
    bool may_spin = false;          // a plain thread's: it has more than one CPU
    std::uint32_t looks_after = 0, in_vain = 0; // a plain thread's: see park_thread
    void* signal_stack = nullptr;   // sigaltstack
    std::size_t signal_stack_bytes = 0;
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

void came_back(machine& m) noexcept; // what enter_runtime calls

/// By others, while m's thread cannot end.
inline bool holds_spinlocks(const machine& m) noexcept {
    return __atomic_load_n(m.spinlocks, __ATOMIC_ACQUIRE) != 0; // pairs with: holds_one_less
}

/// In its extent this thread's machine may use its P: m->p is what it says. No switch in its extent. m: null on a
/// plain thread. About 1 ns.
class runtime_section {
  public:
    MPG_ALWAYS_INLINE runtime_section() noexcept : m(this_machine()) {
        if (m) [[likely]] enter_runtime(*m);
    }
    MPG_ALWAYS_INLINE ~runtime_section() {
        if (m) [[likely]] leave_runtime(*m);
    }
    runtime_section(const runtime_section&) = delete;
    runtime_section& operator=(const runtime_section&) = delete;

    /// The P, when the machine holds one and belongs to rt.
    processor* of(const runtime_state& rt) const noexcept { return m && m->rt == &rt ? m->p : nullptr; }

    machine* const m;
};

/// A plain thread's machine and task: made when it first waits.
struct stand_in {
    machine m;
    task t;
    stand_in() noexcept {
        m.cur = &t;
        m.random = base::random(reinterpret_cast<std::uintptr_t>(this) ^ static_cast<std::uint64_t>(base::now()));
        t.set_state(task_state::running);
        ::cpu_set_t cpus;
        m.may_spin = ::sched_getaffinity(0, sizeof cpus, &cpus) != 0 || CPU_COUNT(&cpus) > 1; // refused: more than fit
        set_this_machine(&m);
    }
    ~stand_in() { set_this_machine(nullptr); }
};

MPG_NOINLINE inline machine* make_stand_in() noexcept {
    static thread_local stand_in s; // a plain thread does not migrate
    set_this_machine(&s.m);         // also after its destructor: late waits of other thread-locals
    return &s.m;
}

inline std::uint64_t random_bits() noexcept {
    if (machine* m = this_machine()) [[likely]] return m->random.next(); // no switch in between
    return base::random(static_cast<std::uint64_t>(base::now())).next();
}

inline task* current() noexcept {
    machine* m = this_machine();
    if (!m) [[unlikely]] m = make_stand_in();
    return m->cur;
}

} // namespace mpg::sched
