// Counters that one thread writes and others read.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/config.hpp>

namespace mpg::sched {

/// By the only writer: no read-modify-write. Returns the new value.
template <class T> MPG_ALWAYS_INLINE T bump(base::atomic<T>& counter) noexcept {
    T next = counter.load(std::memory_order_relaxed) + 1;
    counter.store(next, std::memory_order_relaxed);
    return next;
}

} // namespace mpg::sched
