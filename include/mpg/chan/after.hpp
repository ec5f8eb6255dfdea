// after: a channel on which one value comes, later.
#pragma once

#include <mpg/chan/chan.hpp>
#include <mpg/chan/timed_channel.hpp>

namespace mpg {

/// A channel that receives the current time once d has passed; nanoseconds::max(): never. When its last
/// handle goes the timer goes with it, so it costs nothing to leave one behind in a select. Does not suspend;
/// one allocation. On a plain thread the current or default runtime serves it; with none alive:
/// std::logic_error. After Go's time.After.
inline recv_chan<time_point> after(base::any_duration d) {
    return channels::access::adopt<recv_chan<time_point>>(channels::timed_channel::make(d, 0));
}

} // namespace mpg
