// How a thread that waits for a P is tied to one CPU until it runs, and by whom it is untied (same_cpu.hpp: what for).
//
// Who gives the P away narrows the thread's affinity, and says so in machine::tied before it wakes it. The thread widens itself as
// soon as it runs. If it does not come, the monitor does so in its stead. Whoever turns `narrow` into something else widens, and nobody
// else does: the mask is never set after the thread's task could have changed it. So a thread that comes while the monitor is at it waits.
//
// machine::cpus, the mask that it gets back, is written by who gives the P away while `tied` says none, and read while it does not.
//
// Templates, so that the model (tests/model) runs the same lines as the runtime.
#pragma once

#include <mpg/base/atomic.hpp>

#include <cstdint>

namespace mpg::sched {

/// Is the affinity of a thread narrowed to one CPU? Who gives it a P: none -> narrow; the thread: narrow -> none; the monitor:
/// narrow -> widening -> none.
enum class tie : std::uint8_t { none, narrow, widening };

/// By who gives a P to m, which waits, or is about to.
template <class Machine> void tie_to(Machine& m, unsigned cpu) noexcept {
    if (m.tied.load(std::memory_order_acquire) != tie::none) return; // pairs with: untie_for
    if (narrow(m, cpu)) m.tied.store(tie::narrow, std::memory_order_release); // pairs with: untie_for
}

/// By m's own thread, when it has been woken.
template <class Machine> void untie(Machine& m) noexcept {
    tie seen = m.tied.load(std::memory_order_relaxed);
    if (seen == tie::none) [[likely]] return;
    if (seen == tie::narrow && m.tied.compare_exchange_strong(seen, tie::none, std::memory_order_relaxed)) return widen(m, true);
    while (m.tied.load(std::memory_order_relaxed) == tie::widening) await_untied(m);
}

/// By the monitor, for a thread that may not have come.
template <class Machine> void untie_for(Machine& m) noexcept {
    tie seen = tie::narrow;
    if (!m.tied.compare_exchange_strong(seen, tie::widening, std::memory_order_acquire)) return; // pairs with: tie_to
    widen(m, false);
    m.tied.store(tie::none, std::memory_order_release); // pairs with: tie_to
}

} // namespace mpg::sched
