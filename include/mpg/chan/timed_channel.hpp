// A channel that time sends to: under after, timer and ticker. After Go's time/sleep.go and time/tick.go as
// of Go 1.23: as seen through its handles it is unbuffered, of size and capacity 0, although a value may be there.
//
// The node of the timer lives in the channel, so the channel need not be kept by its timer: when the last
// handle goes, the timer is disarmed.
//
// All is guarded by the channel's lock, under which the callback sends and arms again: so stop sees either
// nothing of a tick or all of it. Two things cannot be done under it: to wait for a callback that runs, since it
// takes the lock, and to arm from outside, which may have to wake a machine. Who finds a callback running lets
// the lock go and comes again; the callback finds that it may not send. Who arms says so (arming_) and lets the
// lock go; who wants to stop it comes again, and a callback that runs so early is welcome. A timer that is made,
// stopped and dropped takes one lock, and the wheel's twice.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/chan/channel.hpp>
#include <mpg/sched/machine.hpp>
#include <mpg/sched/recycled.hpp>
#include <mpg/sched/timer.hpp>

#include <chrono>
#include <cstddef>
#include <sched.h>
#include <utility>

namespace mpg::channels {

class timed_channel final : public channel<time_point>, public sched::recycled {
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
        bool pending = halt();
        lock.unlock();
        return pending;
    }
    /// As stop, then as made anew.
    bool reset(std::chrono::nanoseconds d, base::nanos period) {
        base::nanos due = base::deadline_after(d);
        bool pending = halt();
        // Who comes meanwhile spins on arming_: so nobody may freeze us before begun, or take the P away.
        sched::runtime_section here;
        next_ = due;
        period_ = period;
        running_ = arming_ = true;
        lock.unlock();
        try {
            sched::arm(alarm_, due);
        } catch (...) {
            begun(false);
            throw;
        }
        begun(true);
        return pending;
    }

  private:
    struct alarm : sched::timer_node {
        timed_channel* owner = nullptr;
    };

    timed_channel() noexcept
        : channel(1, place_) {
        others_know = true;
        looks_unbuffered = true;
        destroy = [](channel_core& c) noexcept { delete static_cast<timed_channel*>(&c); };
        alarm_.owner = this;
        alarm_.fire = [](sched::timer_node& node) noexcept { static_cast<alarm&>(node).owner->tick(); };
    }
    ~timed_channel() {
        if (armed_) (void)sched::disarm(alarm_);
    }

    // Before others know it. What the callback reads needs no lock until it is armed.
    void begin(std::chrono::nanoseconds d, base::nanos period) {
        next_ = base::deadline_after(d);
        period_ = period;
        running_ = armed_ = true;
        sched::arm(alarm_, next_);
    }
    void begun(bool armed) noexcept {
        lock.lock();
        arming_ = false;
        armed_ = armed;
        if (!armed) running_ = false;
        lock.unlock();
    }
    // Comes back with the lock, when no callback runs and the node is not armed: until it is unlocked nobody arms
    // it, and no value is there. A callback that has the lock before us was first; one that comes after us was
    // stopped: so running_ tells what was pending, not disarm.
    bool halt() noexcept {
        bool pending = false;
        for (;; ::sched_yield()) {
            lock.lock();
            if (!arming_) {
                if (std::exchange(running_, false)) pending = true;
                if (filled() != 0) {
                    drop_front();
                    pending = true;
                }
                if (!armed_ || sched::try_disarm(alarm_) != sched::disarmed::running) break;
            }
            lock.unlock();
        }
        armed_ = false;
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
    // Guarded by lock.
    base::nanos period_ = 0; // 0: fires once
    base::nanos next_ = 0;
    bool running_ = false; // the callback may send
    bool arming_ = false;  // somebody arms it, without the lock
    bool armed_ = false;   // a callback may run or come
};

} // namespace mpg::channels
