// ticker: a value again and again.
#pragma once

#include <mpg/chan/chan.hpp>
#include <mpg/chan/timed_channel.hpp>

#include <stdexcept>

namespace mpg {

/// Sends the time on its channel every period. A slow receiver misses ticks; at most one waits for it. As
/// Go's time.Ticker since 1.23: after stop or reset no tick of before can be received; stop does not close
/// the channel. A handle: copies are the same ticker, which goes on while one of them or of its channel is
/// left. Any strand may use it at any time; nothing here suspends.
class ticker {
  public:
    /// Throws std::invalid_argument when the period is not positive. nanoseconds::max(): never.
    explicit ticker(base::any_duration period)
        : c_(channels::access::adopt<recv_chan<time_point>>(
              channels::timed_channel::make(checked(period), period.value.count()))) {}

    const recv_chan<time_point>& c() const& noexcept { return c_; }
    recv_chan<time_point> c() && noexcept { return std::move(c_); }

    void stop() const { state().stop(); }
    /// The next tick comes one period from now on. Throws as the constructor, and then changes nothing.
    void reset(base::any_duration period) const { state().reset(checked(period), period.value.count()); }

  private:
    static duration checked(duration period) {
        if (period.count() <= 0) throw std::invalid_argument("mpg: period of ticker is not positive");
        return period;
    }
    channels::timed_channel& state() const noexcept {
        return static_cast<channels::timed_channel&>(*channels::access::identity(c_));
    }
    recv_chan<time_point> c_;
};

} // namespace mpg
