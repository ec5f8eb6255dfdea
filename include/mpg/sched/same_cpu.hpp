// A P stays on its CPU when it passes from a thread that will wait at once to one that waits.
//
// The kernel wakes a thread on an idle CPU if there is one, for who wakes it still runs. Here that is wrong: the waker is about to
// wait, and its CPU to be idle. With fewer Ps than CPUs, and between two turns, each slice of a task that computes would begin on
// another CPU, which must be woken from its sleep (in a virtual machine by way of the host) and has nothing in its caches: a batch
// lost 2 to 9 % of its throughput to that. So the waker narrows the other thread's affinity to its own CPU first, and the other
// widens it again as soon as it runs; it may then be moved like any thread. The mask is the thread's own, exactly.
//
// Two Ps that have come to one CPU would stay there: while each passes from a tied thread to a tied thread, the kernel finds none to
// move. So each P notes on which CPU it was given away last, and of two on the same one the later leaves the choice to the kernel.
//
// Who has precedence over it may take that CPU for long meanwhile: a thread that has not come for a part of a slice is widened by
// the monitor. Who widens whom, and when: tie.hpp.
//
// Two system calls for who gives the P away and one for who gets it: 1 to 2 us, once a slice. Refused: the kernel chooses, as always.
#pragma once

#include <mpg/sched/runtime_state.hpp>
#include <mpg/sched/tie.hpp>

#include <ctime>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mpg::sched {

// ---- what tie.hpp calls

/// m's affinity, which is kept, becomes that CPU. False: it stays as it is.
inline bool narrow(machine& m, unsigned cpu) noexcept {
    const int tid = m.tid.load(std::memory_order_relaxed);
    if (tid == 0) return false; // it starts; and 0 would be the caller
    const long bytes = ::syscall(SYS_sched_getaffinity, tid, sizeof m.cpus, &m.cpus);
    if (bytes <= 0 || !CPU_ISSET(cpu, &m.cpus)) return false; // more CPUs than a cpu_set_t has, or not one of its own
    ::cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(cpu, &here);
    return !CPU_EQUAL(&here, &m.cpus) && ::syscall(SYS_sched_setaffinity, tid, sizeof here, &here) == 0;
}
/// itself: by m's own thread.
inline void widen(const machine& m, bool itself) noexcept {
    const int tid = itself ? 0 : m.tid.load(std::memory_order_relaxed);
    if (::syscall(SYS_sched_setaffinity, tid, sizeof m.cpus, &m.cpus) == 0) return;
    ::cpu_set_t any; // none of them is left to the process: whichever it has now
    __builtin_memset(&any, 0xff, sizeof any);
    ::syscall(SYS_sched_setaffinity, tid, sizeof any, &any);
}
/// The monitor is in the middle of one system call. Asleep, or who has precedence over it would wait for ever.
inline void await_untied(const machine&) noexcept {
    const ::timespec moment{0, 20'000};
    ::nanosleep(&moment, nullptr);
}

/// Before p is given to `to`, which waits, or is about to, and is the caller's to wake. Does not allocate; in signal handlers, too.
inline void comes_to_this_cpu(processor& p, machine& to) noexcept {
    unsigned cpu = 0;
    if (::syscall(SYS_getcpu, &cpu, nullptr, nullptr) != 0 || cpu >= CPU_SETSIZE) return;
    p.cpu.store(static_cast<int>(cpu), std::memory_order_relaxed);
    for (const auto& q : p.rt->ps)
        if (q.get() != &p && q->cpu.load(std::memory_order_relaxed) == static_cast<int>(cpu) && q->m.load(std::memory_order_relaxed)) return;
    tie_to(to, cpu);
}

} // namespace mpg::sched
