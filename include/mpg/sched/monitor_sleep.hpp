// When the monitor sleeps until it is woken, and who wakes it.
//
// There is nothing for it to see while all Ps are idle and no task is frozen. Whoever ends that wakes it afterwards: either the
// monitor, which looks once more when it has said that it sleeps, sees it, or the other one sees the monitor asleep. All of
// this is sequentially consistent.
//
// Templates, so that the model (tests/model) runs the same lines as the runtime.
#pragma once

#include <mpg/base/atomic.hpp>

#include <cstdint>

namespace mpg::sched {

inline constexpr std::uint32_t monitor_awake = 0, monitor_asleep = 1, monitor_ending = 2;

template <class Runtime> void monitor_lies_down(Runtime& rt) noexcept {
    rt.monitor_word.store(monitor_asleep, std::memory_order_seq_cst); // pairs with: rouses_monitor
}
/// Between these two: may it wait until the word changes?
template <class Runtime> bool monitor_may_sleep(const Runtime& rt) noexcept {
    return !rt.monitor_ends.load(std::memory_order_seq_cst) && // pairs with: stop_monitor
           rt.idle_count.load(std::memory_order_seq_cst) == rt.ps.size() &&
           rt.frozen_count.load(std::memory_order_seq_cst) == 0 && // a surplus machine's, which had no P to give
           rt.monitor_word.load(std::memory_order_relaxed) == monitor_asleep;
}
template <class Runtime> void monitor_gets_up(Runtime& rt) noexcept {
    rt.monitor_word.store(monitor_awake, std::memory_order_seq_cst);
}

/// By who has taken a P off the idle list, or made a task frozen. True: it sleeps, and the caller must wake it.
template <class Runtime> bool rouses_monitor(Runtime& rt) noexcept {
    std::uint32_t expected = monitor_asleep;
    return rt.monitor_word.load(std::memory_order_seq_cst) == monitor_asleep && // pairs with: monitor_lies_down
           rt.monitor_word.compare_exchange_strong(expected, monitor_awake, std::memory_order_seq_cst);
}

} // namespace mpg::sched
