// The flight recorder as a benchmark runs with it.
#pragma once

#include <cstdlib>

namespace bench {

/// $MPG_BENCH_RECORD: the flight recorder is on, and keeps so many events of each P. An older library has none that is on from the
/// start (scripts/bench --against).
template <class Options> void record_if_asked(Options& o) {
    if constexpr (requires { o.record_events; })
        if (const char* events = std::getenv("MPG_BENCH_RECORD")) o.record_events = std::strtoul(events, nullptr, 10);
}

} // namespace bench
