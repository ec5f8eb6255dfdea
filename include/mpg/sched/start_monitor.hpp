// What of the monitor's work this process lets it do, and its thread from start to end.
#pragma once

#include <mpg/base/valgrind.hpp>
#include <mpg/sched/monitor.hpp>
#include <mpg/sched/overflow.hpp>
#include <mpg/sched/preempt.hpp>
#include <mpg/sched/stall.hpp>

#include <csignal>
#include <memory>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace mpg::sched {

/// What this process lets us do; sets slice, retaking and the reasons.
inline void find_out_preemption(runtime_state& rt) {
    rt.membarrier = ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
                    ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
    if (rt.membarrier)
        for (auto& p : rt.ps) {
            p->locks = home_store::take();
            p->wheel->settle(p->locks);
        }
    const bool clocks = cpu_time(::gettid()) >= 0; // a system call, for other threads' clocks
    rt.retaking = rt.membarrier || clocks;
    if (!rt.retaking) rt.retake_reason = "off: membarrier and the CPU clocks of threads are refused";
    rt.frozen_most = static_cast<std::uint32_t>(rt.ps.size()) * 7; // and those that run
    if (rt.opts.preempt_after.count() <= 0)
        rt.preemption_reason = "off: options::preempt_after";
    else if (base::asan || base::tsan)
        rt.preemption_reason = "off: sanitizer";
    else if (base::under_valgrind()) // it serialises threads and signals: freezing would starve everybody
        rt.preemption_reason = "off: valgrind";
    else if (::syscall(SYS_tgkill, ::getpid(), ::gettid(), 0) != 0)
        rt.preemption_reason = "off: tgkill is refused";
    else if (!clocks)
        rt.preemption_reason = "off: the CPU clocks of threads are refused";
    else if (!preempt_handler::install())
        rt.preemption_reason = "off: sigaction is refused";
    else if (::stack_t there; ::sigaltstack(nullptr, &there) != 0)
        rt.preemption_reason = "off: sigaltstack is refused";
    else
        rt.slice = rt.opts.preempt_after.count();
}

inline void start_monitor(runtime_state& rt) {
    overflow_handler::install();
    find_out_preemption(rt);
    ::pthread_attr_t attr;
    ::pthread_attr_init(&attr);
    ::pthread_attr_setstacksize(&attr, base::asan || base::tsan ? 2 << 20 : 128 << 10);
    auto made = std::make_unique<monitor>(rt);
    if (rt.opts.on_stall && rt.opts.stall_after.count() > 0) {
        rt.reporter = new stall_reporter;
        rt.reporter->start(rt);
    }
    rt.has_monitor = ::pthread_create(
                         &rt.monitor_thread, &attr,
                         [](void* arg) -> void* {
                             std::unique_ptr<monitor>(static_cast<monitor*>(arg))->run();
                             return nullptr;
                         },
                         made.get()) == 0;
    ::pthread_attr_destroy(&attr);
    if (rt.has_monitor) {
        static_cast<void>(made.release()); // the thread's
    } else {
        rt.slice = 0;
        rt.retaking = false;
        rt.preemption_reason = rt.retake_reason = "off: no thread could be had for the monitor";
    }
}
inline void stop_monitor(runtime_state& rt) noexcept {
    if (!rt.has_monitor) return;
    rt.monitor_ends.store(true, std::memory_order_seq_cst); // pairs with: monitor_may_sleep
    rt.monitor_word.store(monitor_ending, std::memory_order_seq_cst);
    futex_wake(rt.monitor_word);
    ::pthread_join(rt.monitor_thread, nullptr);
    rt.has_monitor = false;
}
/// After the monitor.
inline void stop_reporter(runtime_state& rt) noexcept {
    if (!rt.reporter) return;
    rt.reporter->stop();
    delete std::exchange(rt.reporter, nullptr);
}

} // namespace mpg::sched
