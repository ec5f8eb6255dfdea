// timer: a value, later, that can be stopped and put off.
#pragma once

#include <mpg/chan/chan.hpp>
#include <mpg/chan/timed_channel.hpp>

namespace mpg {

/// Sends the time on its channel once, d after its creation or last reset. As Go's time.Timer since 1.23:
/// after stop or reset no value of before can be received, so nothing has to be drained. A handle: copies are
/// the same timer, which goes on while one of them or of its channel is left. Any strand may use it at any
/// time. The functions do not suspend; about 60 ns to make and stop one.
class timer {
  public:
    /// nanoseconds::max(): never. Throws std::logic_error on a plain thread when no runtime is alive.
    explicit timer(base::any_duration d)
        : c_(channels::access::adopt<recv_chan<time_point>>(channels::timed_channel::make(d, 0))) {}

    const recv_chan<time_point>& c() const& noexcept { return c_; }
    recv_chan<time_point> c() && noexcept { return std::move(c_); }

    /// True: it was pending, that is, it had not fired or its value had not been received (the value is
    /// gone).
    bool stop() const { return state().stop(); }
    /// Fires d from now on, whether it was pending, stopped or had fired. The result is stop's.
    bool reset(base::any_duration d) const { return state().reset(d, 0); }

  private:
    channels::timed_channel& state() const noexcept {
        return static_cast<channels::timed_channel&>(*channels::access::identity(c_));
    }
    recv_chan<time_point> c_;
};

} // namespace mpg
