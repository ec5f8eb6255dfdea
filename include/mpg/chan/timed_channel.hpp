// A channel that time sends to: under after, timer and ticker. After Go's time/sleep.go and time/tick.go as
// of Go 1.23.
//
// The node of the timer lives in the channel, so the channel need not be kept by its timer: when the last
// handle goes, the timer is disarmed. Two locks: the channel's, under which the callback sends and arms
// again, so that stop sees either nothing of a tick or all of it; and `control_`, which serialises stop and
// reset and is held while a running callback ends (it does not take it). A timer that is made, stopped and
// dropped takes three locks, and the wheel's for arming.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/chan/channel.hpp>
#include <mpg/sched/timer.hpp>

#include <chrono>
#include <cstddef>
#include <mutex>
#include <utility>

namespace mpg::channels {

class timed_channel final : public channel<time_point> {
  public:
    /// Fires once after d; with a period then every period. Throws std::logic_error when no runtime is alive.
    static timed_channel* make(std::chrono::nanoseconds d, base::nanos period) {
        auto* made = new timed_channel;
        try {
            made->begin(d, period);
        } catch (...) {
            delete made;
            throw;
        }
        return made;
    }

    /// True: it had not fired, or its value had not been received. Afterwards no value comes and none is
    /// there.
    bool stop() noexcept {
        std::lock_guard control(control_);
        return halt();
    }
    /// As stop, then as made anew.
    bool reset(std::chrono::nanoseconds d, base::nanos period) {
        std::lock_guard control(control_);
        bool pending = halt();
        begin(d, period);
        return pending;
    }

  private:
    struct alarm : sched::timer_node {
        timed_channel* owner = nullptr;
    };

    timed_channel() noexcept
        : channel(1, place_) {
        others_know = true;
        destroy = [](channel_core& c) noexcept { delete static_cast<timed_channel*>(&c); };
        alarm_.owner = this;
        alarm_.fire = [](sched::timer_node& node) noexcept { static_cast<alarm&>(node).owner->tick(); };
    }
    ~timed_channel() {
        if (armed_) (void)sched::disarm(alarm_);
    }

    // Precondition: halted, so that no callback runs or will: what the callback reads needs no lock until it
    // is armed. Under control_, or before others know it.
    void begin(std::chrono::nanoseconds d, base::nanos period) {
        next_ = base::deadline_after(d);
        period_ = period;
        running_ = true;
        try {
            sched::arm(alarm_, next_);
        } catch (...) {
            running_ = false;
            throw;
        }
        armed_ = true;
    }
    // Under control_. First forbids further ticks, under the lock of the callback, and takes back what was
    // sent; from then on nobody else arms the node. A callback that comes to the lock after that was stopped
    // too: so running_ tells what was pending, not disarm.
    bool halt() noexcept {
        lock.lock();
        bool pending = std::exchange(running_, false);
        if (filled() != 0) {
            drop_front();
            pending = true;
        }
        lock.unlock();
        if (std::exchange(armed_, false)) (void)sched::disarm(alarm_);
        return pending;
    }
    void tick() noexcept {
        base::nanos now = base::now();
        chan_waiter* peer = nullptr;
        lock.lock();
        if (running_) {
            (void)offer(base::to_time_point(now), peer); // blocked: a slow receiver misses this tick
            if (period_ > 0) {
                // The next one on the grid: ticks that nobody could have received in time are skipped.
                next_ += period_ * (1 + (now > next_ ? (now - next_) / period_ : 0));
                sched::arm(alarm_, next_); // on a machine: it does not throw
            } else {
                running_ = false;
            }
        }
        lock.unlock();
        if (peer) wake(*peer);
    }

    alignas(time_point) std::byte place_[sizeof(time_point)]; // the ring
    alarm alarm_;
    base::spinlock control_;
    base::nanos period_ = 0; // guarded by lock; 0: fires once
    base::nanos next_ = 0;   // guarded by lock
    bool running_ = false;   // guarded by lock: the callback may send
    bool armed_ = false;     // guarded by control_: a callback may run or come
};

} // namespace mpg::channels
