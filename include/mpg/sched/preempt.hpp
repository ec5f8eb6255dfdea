// Freezing: how a task that does not come back is made to give its P to others.
//
// Saving the registers of a task that was interrupted anywhere and running it on another thread later is not safe: it
// may stand inside malloc, hold a std::mutex, or keep the address of a thread-local. *Freezing the thread* is: in the
// handler of a signal the machine gives its P to another machine and waits, on its own stack; a scheduler that later
// picks the frozen task gives its P to that machine and parks in its place ("KLT-switching": Shiina, Iwasaki, Taura,
// Balaji, "Lightweight preemptive user-level threads", PPoPP 2021). Thread, thread-locals, errno, exceptions in flight
// and held locks stay with the task.
//
// Who may be frozen. A thread that interrupts itself knows where it stands: not with in_runtime != 0 (it may be using
// its P) and not with a spinlock held (others spin for it). Else it is in user code, or in a part of the library that
// uses neither; there it may stay for as long as it takes. And only when the monitor has promised a relief (relief.hpp).
//
// The frozen queue stands in frozen.hpp. Who takes from it:
//   - a machine with nothing else to run thaws the oldest one;
//   - with other tasks waiting, the frozen ones get every other slice of a P;
//   - from frozen_most on few of those that have not begun are let in; from frozen_reserve more on few of all but those that are
//     known to compute little (may_start), and the P of a hog mostly goes to the oldest frozen one, unless somebody is awaited
//     (precedence.hpp). So the number of threads stays bounded, and nobody starves.
//
// Surplus. A machine whose task sat in a system call may have lost its P meanwhile (monitor.hpp). It learns of it when
// it comes into the runtime next: it takes an idle P if one is bare, else goes on without (its wake-ups go to the global
// queue) until it waits, and then parks. If it computes instead, it is frozen like a hog, with no P to give.
//
// What if a frozen task holds a lock of malloc that a scheduler needs? The monitor sees a machine that sleeps inside the
// runtime while tasks are frozen, and lets all of them go on, as surplus. It allocates nothing itself while a task is frozen, or
// asked to be: the spare machine that the next freeze needs is made by the machine that the last one has brought in.
#pragma once

#include <mpg/sched/frozen.hpp>
#include <mpg/sched/same_cpu.hpp>
#include <mpg/sched/switch.hpp>

#include <csignal>
#include <sys/auxv.h>
#include <sys/mman.h>

namespace mpg::sched {

int ensure_spare(runtime_state& rt) noexcept;

/// Tasks that have run before may be frozen beyond frozen_most; from so many on most turns go to frozen ones.
inline constexpr std::uint32_t frozen_reserve = 40;

/// As frozen.hpp asks for it.
inline void tells_of_handoff(processor& p, machine& to) noexcept { probe::handoff(*p.rt, p, to); }

/// A machine that was given a P out of turn starts: the next freeze will need a spare one.
inline void relief_arrives(machine* m) noexcept { ensure_spare(*m->rt); }

// ---- the machine's own thread

/// The machine comes into the runtime while the monitor asks for its P, or has taken it.
MPG_NOINLINE inline void came_back(machine& m) noexcept {
    runtime_state& rt = *m.rt;
    if (m.retaken.load(std::memory_order_relaxed) != retake::surplus) {
        if (!lost_p(m, rt.retake_lock)) return;
        m.p = nullptr;
    }
    regain(m);
}

/// Where its stack stands, for dumps; before anybody can thaw it.
inline void stand_still(machine& m, task& t, const void* context) noexcept {
    t.set_state(task_state::frozen);
    t.standing = standing::computes;
    stamp(m.p, &t);
    m.frozen_at.store(context, std::memory_order_relaxed);
}

/// In the signal handler.
inline void freeze_here(machine& m, const void* context) noexcept {
    if (*base::spinlocks_held() != 0 || m.in_runtime.load(std::memory_order_relaxed) != 0 || !m.cur) return;
    enter_runtime(m);
    task* t = m.cur;
    const bool stands = gives_way(m, [&](processor* p) {
        if (p) {
            probe::preempt(*t, *p);
            ++p->freezes;
            if (p->trusted == t) p->betrayed = p->freezes;
            if (t->standing < standing::first) p->others_turn = true; // they have just had it
            p->last_thaw.store(base::now(), std::memory_order_relaxed); // the others have a slice before the next frozen one
        }
        stand_still(m, *t, context);
    });
    if (stands) {
        m.rt->preemptions.fetch_add(1, std::memory_order_relaxed);
        m.thaw.wait();
        untie(m);
        m.frozen_at.store(nullptr, std::memory_order_relaxed);
        t->set_state(task_state::running);
        probe::task_start(*t, m.p);
    }
    leave_runtime(m);
}

// ---- the signal

inline constexpr int preempt_signal = SIGURG; // as in Go: programs expect it at any time, and mostly ignore it

class [[gnu::visibility("default")]] preempt_handler {
  public:
    /// Once per process. False: the system does not let us.
    static bool install() noexcept {
        static const bool installed = [] {
            struct sigaction ours {};
            ours.sa_sigaction = &handle;
            ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
            ::sigemptyset(&ours.sa_mask);
            return ::sigaction(preempt_signal, &ours, &before()) == 0;
        }();
        return installed;
    }

  private:
    static struct sigaction& before() noexcept {
        static struct sigaction old;
        return old;
    }
    static void handle(int signal, ::siginfo_t* info, void* context) {
        int saved = errno;
        machine* m = this_machine();
        const bool asked = (info->si_code == SI_TKILL && info->si_pid == ::getpid()) || // of monitor::signal
                           (info->si_code == SI_TIMER && info->si_value.sival_ptr == m) ||
                           (info->si_code == SI_USER && info->si_pid == 0); // the kernel had no room for who it is from
        if (asked && m && m->rt) {
            freeze_here(*m, context);
        } else if (struct sigaction& old = before(); old.sa_flags & SA_SIGINFO) {
            if (old.sa_sigaction) old.sa_sigaction(signal, info, context);
        } else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) {
            old.sa_handler(signal);
        }
        errno = saved;
    }
};

/// Signal handlers need more room than a task's stack may have left. A thread that has an alternate stack already
/// (some tools give it one) keeps that. False: none can be had.
inline bool install_signal_stack(machine& m) noexcept {
    ::stack_t there{};
    if (::sigaltstack(nullptr, &there) == 0 && !(there.ss_flags & SS_DISABLE)) return true;
    std::size_t least = std::max<std::size_t>(::getauxval(AT_MINSIGSTKSZ), 12 << 10);
    std::size_t bytes = (std::max<std::size_t>(4 * least, 64 << 10) + 4095) / 4096 * 4096;
    void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return false;
    ::stack_t s{};
    s.ss_sp = at;
    s.ss_size = bytes;
    if (::sigaltstack(&s, nullptr) != 0) {
        ::munmap(at, bytes);
        return false;
    }
    m.signal_stack = at;
    m.signal_stack_bytes = bytes;
    return true;
}
inline void remove_signal_stack(machine& m) noexcept {
    if (!m.signal_stack) return;
    ::stack_t off{};
    off.ss_flags = SS_DISABLE;
    ::sigaltstack(&off, nullptr);
    ::munmap(m.signal_stack, m.signal_stack_bytes);
    m.signal_stack = nullptr;
}

} // namespace mpg::sched
