// The heart of a context: something that becomes done once, and tells those who subscribed.
//
// It stands in this room, above channels and sync types, so that their cancellable forms can wait for it; the public
// face is mpg::context in the cancel room.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/intrusive_list.hpp>
#include <mpg/sched/biased_lock.hpp>

#include <system_error>

#if !defined(MPG_MODEL_ATOMICS)
#include <mpg/sched/cancel_batch.hpp>
#endif

namespace mpg {
class context;
} // namespace mpg

namespace mpg::sched {

/// Lives in the frame (or object) of the one who subscribes. fire runs at most once, on the canceller's strand, under
/// the source's lock: it may claim and ready, take locks that come after it in the order (context, then child
/// context, then anything of a leaf: channel, timer wheel, ring), and must not suspend, throw or unsubscribe.
struct cancel_hook : base::list_hook {
    void (*fire)(cancel_hook&) noexcept = nullptr;
    base::atomic<bool> fired{false}; // fire has returned, and the source is through with the hook; written by the source
};

/// Done or not, for ever after. The one who derives from it sets the error before mark_done.
class cancel_source {
  public:
    cancel_source() = default;
    cancel_source(const cancel_source&) = delete;
    cancel_source& operator=(const cancel_source&) = delete;

    /// One load.
    bool is_done() const noexcept { return done_.load(std::memory_order_acquire); } // pairs with: mark_done

    /// False: it is done already; the hook is not subscribed and will not fire. Costs one lock.
    [[nodiscard]] bool subscribe(cancel_hook& hook) noexcept {
        lock_.lock();
        bool ok = !done_.load(std::memory_order_relaxed);
        hook.fired.store(false, std::memory_order_relaxed);
        if (ok) hooks_.push_back(hook);
        lock_.unlock();
        return ok;
    }
    /// When it returns, the hook is not running and will not. For a hook that was subscribed, fired or not.
    /// The lock is not needed behind a hook that is over: else all whom one source has woken would stand there until it
    /// has woken the last.
    void unsubscribe(cancel_hook& hook) noexcept {
        if (hook.fired.load(std::memory_order_acquire)) return; // pairs with: mark_done
        lock_.lock();
        if (hook.linked()) hooks_.erase(hook);
        lock_.unlock();
    }
    /// Why it is done: errc::cancelled or errc::deadline_exceeded; {} before.
    std::error_code err() const noexcept { return is_done() ? error_ : std::error_code{}; }

  protected:
    ~cancel_source() = default;

    /// Only the first call counts (true): it runs first(), under the lock and before anybody can see that it is
    /// done. Fires all hooks, in the order of subscription, before it returns; so does a call that comes second
    /// return only then.
    template <class F> bool mark_done(std::error_code why, F first) noexcept {
#if !defined(MPG_MODEL_ATOMICS) // there are no pollers in the model
        cancel_batch together; // ends behind the lock
#endif
        lock_.lock();
        bool counts = !done_.load(std::memory_order_relaxed);
        if (counts) {
            first();
            error_ = why;
            done_.store(true, std::memory_order_release); // pairs with: is_done
            while (cancel_hook* hook = hooks_.pop_front()) {
                hook->fire(*hook);
                hook->fired.store(true, std::memory_order_release); // pairs with: unsubscribe. It may be gone at once
            }
        }
        lock_.unlock();
        return counts;
    }
    bool mark_done(std::error_code why) noexcept {
        return mark_done(why, [] {});
    }

    biased_lock lock_;
    base::intrusive_list<cancel_hook> hooks_; // guarded by lock_

  private:
    base::atomic<bool> done_{false}; // written once, under lock_
    std::error_code error_;          // written once, before done_
};

/// The source of a context; null for one that is never done. Defined with mpg::context.
cancel_source* source_of(const context& ctx) noexcept;

} // namespace mpg::sched
