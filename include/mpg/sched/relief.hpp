// The promise of a P: how the monitor asks a machine that computes to give its P to another one, its relief.
//
// The monitor owns the relief: a spare machine, or a frozen one that is on no queue. It promises it the P and signals the
// machine, whose handler takes the promise, and with it the relief, and hands the P over. If the machine has left what it was
// asked for (its P's tick has moved on, or it is idle) the monitor withdraws. Whoever turns machine::relief back to null owns
// the relief from then on: it is given the P, or put back to where it came from, and not lost.
//
// Templates, so that the model (tests/model) runs the same lines as the runtime.
#pragma once

#include <mpg/base/atomic.hpp>

#include <cstdint>

namespace mpg::sched {

/// By the monitor, when nothing is promised. tick: of m's P, for which alone it holds.
template <class Machine> void promise_relief(Machine& m, Machine* relief, std::uint32_t tick) noexcept {
    m.relief_tick.store(tick, std::memory_order_relaxed);
    m.relief.store(relief, std::memory_order_release); // pairs with: take_relief
}

/// Is something promised? By the monitor.
template <class Machine> bool relief_promised(const Machine& m) noexcept {
    return m.relief.load(std::memory_order_relaxed) != nullptr;
}

/// By the machine's own thread, which holds a P with that tick. Null: nothing was promised for it, or it was withdrawn.
template <class Machine> Machine* take_relief(Machine& m, std::uint32_t tick) noexcept {
    Machine* relief = m.relief.load(std::memory_order_acquire); // pairs with: promise_relief
    if (!relief || tick != m.relief_tick.load(std::memory_order_relaxed) ||
        !m.relief.compare_exchange_strong(relief, nullptr, std::memory_order_relaxed)) // it fails when the monitor withdrew
        return nullptr;
    return relief;
}

/// By the monitor: the relief is its own again. Null: the machine has taken it.
template <class Machine> Machine* withdraw_relief(Machine& m) noexcept {
    Machine* relief = m.relief.load(std::memory_order_relaxed); // of this thread's own making
    if (!relief || !m.relief.compare_exchange_strong(relief, nullptr, std::memory_order_relaxed)) return nullptr;
    return relief;
}

} // namespace mpg::sched
