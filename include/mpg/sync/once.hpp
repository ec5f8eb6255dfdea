// once: a call that happens one time.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/sync/mutex_core.hpp>

#include <functional>
#include <utility>

namespace mpg {

/// Runs one function one time, whoever asks first. Any strand may use it at any time. After Go's sync.Once
/// and std::call_once.
///
///   state word  done, and a mutex for those who come before.
///   fast path   one load.
///   slow path   lock, look again, run. An exception, unwound too, leaves it undone: the next in the mutex's
///               queue runs.
///   cost        32 bytes; 1 ns once it is done.
class once {
  public:
    once() = default;
    once(const once&) = delete;
    once& operator=(const once&) = delete;

    /// When it returns, one call of some f has returned. Throws what f throws; then it was not done. May
    /// suspend. f must not call the same once.
    template <class F, class... Args> void call(F&& f, Args&&... args) {
        if (done_.load(std::memory_order_acquire)) return; // pairs with: the store below
        (void)mutex_.lock<sched::wait_reason::once>();
        struct unlock {
            sync::mutex_core& m;
            ~unlock() { m.unlock(); }
        } guard{mutex_};
        if (done_.load(std::memory_order_relaxed)) return; // the mutex orders it
        std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
        done_.store(true, std::memory_order_release); // pairs with: the first load
    }

  private:
    base::atomic<bool> done_{false}; // written under mutex_
    sync::mutex_core mutex_;
};

} // namespace mpg
