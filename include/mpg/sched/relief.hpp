// The promise of a P: how the monitor asks a machine that computes to give its P to another one, its relief.
//
// The monitor owns the relief: a spare machine, or a frozen one that is on no queue. It promises it the P and signals the
// machine, whose handler takes the promise, and with it the relief, and hands the P over. If the machine has left what it was
// asked for (its P's tick has moved on, or it is idle) the monitor withdraws. Whoever turns machine::relief back to null owns
// the relief from then on: it is given the P, or put back to where it came from, and not lost.
//
// A surplus machine, which has no P to give, is asked in the same way; its relief is itself.
//
// Who is frozen may hold malloc's lock. So the monitor wants to know for sure that no task is frozen, nor about to be, before it
// allocates (none_frozen): a handler counts itself in `freezing` from before it takes a promise until its machine is on the queue.
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
    return m.relief.load(std::memory_order_acquire) != nullptr; // pairs with: take_relief
}

/// By the machine's own thread, which holds a P with that tick. Null: nothing was promised for it, or it was withdrawn.
template <class Machine> Machine* take_relief(Machine& m, std::uint32_t tick) noexcept {
    Machine* relief = m.relief.load(std::memory_order_acquire); // pairs with: promise_relief
    if (!relief || tick != m.relief_tick.load(std::memory_order_relaxed) ||
        // It fails when the monitor withdrew. release: pairs with relief_promised and withdraw_relief; `freezing` was counted before.
        !m.relief.compare_exchange_strong(relief, nullptr, std::memory_order_release, std::memory_order_relaxed))
        return nullptr;
    return relief;
}

/// By the monitor: the relief is its own again. Null: the machine has taken it.
template <class Machine> Machine* withdraw_relief(Machine& m) noexcept {
    Machine* relief = m.relief.load(std::memory_order_acquire); // of this thread's own making, or pairs with: take_relief
    if (!relief || // acquire: the same; needed in failure only, which GCC 12 warns of
        !m.relief.compare_exchange_strong(relief, nullptr, std::memory_order_acquire))
        return nullptr;
    return relief;
}

/// Around what a handler does from before take_relief until its machine stands on the frozen queue, or goes on.
template <class Runtime> void begins_to_freeze(Runtime& rt) noexcept { rt.freezing.fetch_add(1, std::memory_order_relaxed); }
template <class Runtime> void ends_to_freeze(Runtime& rt) noexcept {
    rt.freezing.fetch_sub(1, std::memory_order_release); // pairs with: none_frozen, which sees it on the queue
}
/// By the monitor, when every promise has been taken or withdrawn: no task is frozen, nor will be until the next promise.
template <class Runtime> bool none_frozen(Runtime& rt) noexcept {
    return rt.freezing.load(std::memory_order_acquire) == 0 && // pairs with: ends_to_freeze
           rt.frozen_count.load(std::memory_order_relaxed) == 0;
}

} // namespace mpg::sched
