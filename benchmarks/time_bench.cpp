// Timers. Twin: twins/go/time.go.
#include "support.hpp"

#include <mpg/time.hpp>

#include <chrono>

namespace {

// One iteration: create a timer that is due in an hour, and stop it.
const bool start_stop = bench::operation("time/timer/start_stop", [](std::int64_t n, unsigned) {
    for (std::int64_t k = 0; k < n; ++k) {
        mpg::timer t{std::chrono::hours(1)};
        benchmark::DoNotOptimize(t.stop());
    }
});

} // namespace
