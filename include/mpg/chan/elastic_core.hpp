// The part of an elastic channel that does not depend on its type: limits, counters, the context, the
// heartbeat.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/chan/core.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/timer.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <utility>

namespace mpg {

/// The capacity of an elastic_chan: it begins with high, doubles up to max whenever it is full, and goes back
/// to high when fewer than low values are left (none, if low is 0).
struct watermarks {
    std::size_t low = 0;
    std::size_t high = 16;
    std::size_t max = 1024;
};

/// What a send does when max values are there. block: it waits. drop_oldest: it takes the place of the oldest
/// value. reject: it answers full.
enum class overflow : std::uint8_t { block, drop_oldest, reject };

/// A snapshot of an elastic_chan.
struct elastic_stats {
    std::size_t size = 0;       // values there
    std::size_t capacity = 0;   // values it takes before it grows
    std::size_t high_water = 0; // the most values that were there at a time
    std::uint64_t accepted = 0; // values that got a number
    std::uint64_t grown = 0;    // how often it grew
    std::uint64_t shrunk = 0;   // how often it went back to its first capacity
    std::uint64_t dropped = 0;  // values that gave way to newer ones
    std::uint64_t rejected = 0; // sends that overflow::reject answered with full
};

namespace channels {

class elastic_core : public channel_core {
  public:
    elastic_core(watermarks w, overflow p)
        : channel_core(p == overflow::drop_oldest ? std::numeric_limits<std::size_t>::max() : w.max)
        , marks(w)
        , policy(p)
        , size_now_(w.high) {
        if (w.high == 0 || w.low > w.high || w.high > w.max)
            throw std::invalid_argument("mpg: elastic_chan needs low <= high <= max and high > 0");
        others_know = true;
        beat_.owner = hook_.owner = this;
        beat_.fire = [](sched::timer_node& node) noexcept { static_cast<beat&>(node).owner->pulse(); };
        hook_.fire = [](sched::cancel_hook& node) noexcept { static_cast<hook&>(node).owner->end(); };
    }

    const watermarks marks;
    const overflow policy;

    std::size_t capacity_now() const noexcept { return size_now_.load(std::memory_order_relaxed); }
    elastic_stats stats() noexcept {
        lock.lock();
        elastic_stats s = snapshot();
        lock.unlock();
        return s;
    }
    void count_rejected() noexcept {
        lock.lock();
        ++stats_.rejected;
        lock.unlock();
    }
    recv_chan<elastic_stats> heartbeat() const noexcept { return beats_; }

    /// Closes; false: it was closed. From the strand of a canceller too, under the lock of its context.
    bool end() noexcept {
        waiter_list woken;
        lock.lock();
        bool first = !is_closed();
        if (first) {
            closed.store(true, std::memory_order_release); // pairs with: peeks
            receivers.take_all(woken);
            senders.take_all(woken);
        }
        lock.unlock();
        while (chan_waiter* w = woken.pop_front()) wake_later(*w);
        if (first && beats_) beats_.close();
        return first;
    }
    /// At construction, before others know the channel: ends it when the source is done. keeps: what keeps
    /// the source.
    void end_with(sched::cancel_source* source, std::shared_ptr<const void> keeps) noexcept {
        if (!source) return;
        if (!source->subscribe(hook_)) {
            end();
            return;
        }
        source_ = source;
        keeps_ = std::move(keeps);
    }
    /// At construction. Throws std::logic_error when no runtime is alive.
    void beat_every(std::chrono::nanoseconds period) {
        if (period == std::chrono::nanoseconds::max()) return;
        if (period.count() <= 0)
            throw std::invalid_argument("mpg: heartbeat of elastic_chan is not positive");
        beats_ = chan<elastic_stats>(1);
        period_ = period;
        base::nanos first = base::deadline_after(period);
        if (first != base::never) sched::arm(beat_, first);
    }

  protected:
    /// Afterwards no callback runs or will.
    ~elastic_core() {
        end();
        sched::disarm(beat_);
        if (source_) source_->unsubscribe(hook_);
    }

    // Guarded by lock.
    base::atomic<std::size_t> size_now_; // peeked at
    elastic_stats stats_;                // but for size and capacity

  private:
    struct beat : sched::timer_node {
        elastic_core* owner = nullptr;
    };
    struct hook : sched::cancel_hook {
        elastic_core* owner = nullptr;
    };

    elastic_stats snapshot() const noexcept {
        elastic_stats s = stats_;
        s.size = filled();
        s.capacity = capacity_now();
        return s;
    }
    // A receiver that was slow finds the newest snapshot. Arms again under the lock, so that no beat follows
    // the end().
    void pulse() noexcept {
        lock.lock();
        elastic_stats now = snapshot();
        if (!is_closed())
            if (base::nanos next = base::deadline_after(period_); next != base::never)
                sched::arm(beat_, next);
        lock.unlock();

        chan_waiter* peer = nullptr;
        channel<elastic_stats>& out = *access::of(beats_);
        out.lock.lock();
        if (out.filled() != 0) out.pop();
        (void)out.offer(now, peer); // closed: by end()
        out.lock.unlock();
        if (peer) wake(*peer);
    }

    beat beat_;
    hook hook_;
    sched::cancel_source* source_ = nullptr; // constant, as the rest
    std::shared_ptr<const void> keeps_;
    chan<elastic_stats> beats_ = nullptr;
    std::chrono::nanoseconds period_{};
};

} // namespace channels
} // namespace mpg
