// A one-word spinlock for sections of a few nanoseconds.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/config.hpp>

#include <cstdint>
#include <sched.h>

namespace mpg::base {

/// BasicLockable. Never hold it across a switch (but see sched::park, which releases it after the switch), user
/// code, an allocation that may be slow, or a system call. Uncontended: one exchange to lock (4.5 ns), one
/// plain store to unlock.
class spinlock {
  public:
    spinlock() = default;
    spinlock(const spinlock&) = delete;
    spinlock& operator=(const spinlock&) = delete;

    MPG_ALWAYS_INLINE void lock() noexcept {
        if (word_.exchange(1, std::memory_order_acquire) != 0) [[unlikely]] // pairs with: unlock
            lock_slow();
    }
    bool try_lock() noexcept {
        return word_.load(std::memory_order_relaxed) == 0 &&
               word_.exchange(1, std::memory_order_acquire) == 0; // pairs with: unlock
    }
    MPG_ALWAYS_INLINE void unlock() noexcept { word_.store(0, std::memory_order_release); } // pairs with: lock, try_lock

  private:
    // The owner may have lost its CPU: after a short spin give ours away, so that it can run.
    MPG_NOINLINE void lock_slow() noexcept {
        for (unsigned spins = 0;;) {
            while (word_.load(std::memory_order_relaxed) != 0) {
                if (++spins < 64)
                    cpu_relax();
                else
                    ::sched_yield();
            }
            if (word_.exchange(1, std::memory_order_acquire) == 0) return; // pairs with: unlock
        }
    }

    atomic<std::uint32_t> word_{0};
};

} // namespace mpg::base
