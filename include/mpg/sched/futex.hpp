// The kernel's wait-on-address.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>

#include <climits>
#include <cstdint>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace mpg::sched {

/// Returns when woken, when word is not expected, at the steady time until, or spuriously.
inline void futex_wait(const base::atomic<std::uint32_t>& word, std::uint32_t expected,
                       base::nanos until = base::never) noexcept {
    ::timespec ts{static_cast<time_t>(until / 1'000'000'000), static_cast<long>(until % 1'000'000'000)};
    // WAIT_BITSET takes an absolute time of the monotonic clock.
    ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
              until == base::never ? nullptr : &ts, nullptr, FUTEX_BITSET_MATCH_ANY);
}
inline void futex_wake(const base::atomic<std::uint32_t>& word, int n = 1) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, nullptr, nullptr, 0);
}

/// A one-shot signal that can be used again after wait: one thread waits, any thread sets it.
class event {
  public:
    void set() noexcept {
        word_.store(1, std::memory_order_release); // pairs with: wait
        futex_wake(word_, INT_MAX);
    }
    void wait() noexcept {
        while (word_.exchange(0, std::memory_order_acquire) == 0) futex_wait(word_, 0); // pairs with: set
    }

  private:
    base::atomic<std::uint32_t> word_{0};
};

} // namespace mpg::sched
