// Timers. Twin: twins/go/time.go.
#include "support.hpp"

#include <mpg/time.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace {

// One iteration: create a timer that is due in an hour, and stop it.
const bool start_stop = bench::operation("time/timer/start_stop", [](std::int64_t n, unsigned) {
    for (std::int64_t k = 0; k < n; ++k) {
        mpg::timer t{std::chrono::hours(1)};
        benchmark::DoNotOptimize(t.stop());
    }
});

// The same while other timers are armed, all of them for later than the hour.
bool start_stop_beside(std::size_t live) {
    return bench::operation(
        "time/timer/start_stop/live:" + std::to_string(live),
        [=] {
            std::vector<mpg::timer> all;
            for (std::size_t i = 0; i < live; ++i)
                all.emplace_back(std::chrono::hours(2) + i * std::chrono::milliseconds(1));
            return all;
        },
        [](std::vector<mpg::timer>&, std::int64_t n, unsigned) {
            for (std::int64_t k = 0; k < n; ++k) {
                mpg::timer t{std::chrono::hours(1)};
                benchmark::DoNotOptimize(t.stop());
            }
        });
}
const bool start_stop_1k = start_stop_beside(1'000);
const bool start_stop_100k = start_stop_beside(100'000);

} // namespace
