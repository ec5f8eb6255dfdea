// The connections of a server: who is idle, who is not, and how they are told to end.
//
// States of an entry; its connection's task writes them, except where said.
//   active  a request is being read or served. Nobody touches the connection but close_all.
//   idle    it waits for the first byte of a request. The task leaves it by compare-and-swap.
//   swept   a shutdown has found it idle (compare-and-swap by sweep) and makes its read fail; the bytes of a
//   request that
//           has come meanwhile stay where they are, so that the task can look for them and serve it.
//
// Going idle while a shutdown begins: the task stores idle, then loads draining; sweep stores draining, then
// looks at the states. All four are seq_cst, so one of the two sees the other (store buffering), and both
// may.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/intrusive_list.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/http/link.hpp>
#include <mpg/sched/wait.hpp>
#include <mpg/sync/mutex.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace mpg::http::detail {

class registry {
  public:
    enum class state : std::uint8_t { active, idle, swept };

    class entry : public base::list_hook {
      public:
        explicit entry(std::unique_ptr<link> l) noexcept
            : link_(std::move(l)) {}

      protected:
        link& below() noexcept { return *link_; }

      private:
        friend class registry;
        std::unique_ptr<link> link_;
        base::atomic<state> state_{state::active};
    };
    struct counts {
        std::size_t active = 0, idle = 0;
    };

    /// False: closed already.
    [[nodiscard]] bool add(entry& e) {
        std::lock_guard lock(mutex_);
        if (closed_) return false;
        entries_.push_back(e);
        return true;
    }
    /// For one that was added; again: no effect.
    void remove(entry& e) noexcept {
        sched::no_unwind whatever_happens;
        std::unique_lock lock(mutex_);
        if (!e.linked()) return;
        entries_.erase(e);
        tell_if_drained(lock);
    }

    /// The task waits from now on. False: a shutdown has begun, and it may not.
    [[nodiscard]] bool go_idle(entry& e) noexcept {
        e.state_.store(state::idle); // pairs with: sweep
        return !draining_.load();    // pairs with: sweep
    }
    /// The task goes on. False: it was swept; its read deadline has passed for that reason only.
    [[nodiscard]] bool go_active(entry& e) noexcept {
        state s = state::idle;
        if (e.state_.compare_exchange_strong(s, state::active)) return true; // pairs with: sweep
        sched::no_unwind whatever_happens;
        std::lock_guard sweep_is_through_with_it(mutex_);
        e.state_.store(state::active);
        return false;
    }

    /// From now on connections end instead of becoming idle; those that are, now.
    void sweep() {
        std::unique_lock lock(mutex_);
        draining_.store(true); // pairs with: go_idle
        entries_.for_each([](entry& e) {
            state s = state::idle;
            if (e.state_.compare_exchange_strong(s, state::swept)) // pairs with: go_idle, go_active
                e.link_->set_read_deadline(to_past());
        });
        tell_if_drained(lock);
    }
    /// Closes all connections, and refuses further ones.
    void close_all() noexcept {
        sched::no_unwind whatever_happens;
        std::unique_lock lock(mutex_);
        draining_.store(true);
        closed_ = true;
        entries_.for_each([](entry& e) { e.link_->close(); });
        tell_if_drained(lock);
    }
    /// Closed once a sweep was made and no connection is left.
    recv_chan<void> drained() const { return drained_; }
    const base::atomic<bool>& draining() const noexcept { return draining_; }

    counts count() const {
        std::lock_guard lock(mutex_);
        counts c;
        entries_.for_each([&](entry& e) {
            ++(e.state_.load(std::memory_order_relaxed) == state::active ? c.active : c.idle);
        });
        return c;
    }

  private:
    static time_point to_past() noexcept { return time_point(std::chrono::nanoseconds(1)); }

    /// Closing wakes who may destroy all this: the last thing, on a copy, with the lock released.
    void tell_if_drained(std::unique_lock<mutex>& lock) noexcept {
        if (told_ || !entries_.empty() || !draining_.load(std::memory_order_relaxed)) return;
        told_ = true;
        chan<void> drained = drained_;
        lock.unlock();
        drained.close();
    }

    mutable mutex mutex_;
    mutable base::intrusive_list<entry> entries_; // guarded by mutex_
    bool closed_ = false, told_ = false;          // guarded by mutex_
    base::atomic<bool> draining_{false};          // written under mutex_
    chan<void> drained_;
};

} // namespace mpg::http::detail
