// Tasks: yield, create, join. Twin: twins/go/task.go.
#include "support.hpp"

#include <mpg/sync.hpp>
#include <mpg/task.hpp>

namespace {

// One iteration: one yield; two tasks yield in turn, each half of them.
const bool yield = bench::operation("task/yield", [](std::int64_t n, unsigned) {
    mpg::wait_group ended;
    ended.add(2);
    for (unsigned i = 0; i < 2; ++i) {
        mpg::go([&ended, count = bench::share(n, i, 2)] {
            for (std::int64_t k = 0; k < count; ++k) mpg::yield();
            ended.done();
        });
    }
    ended.wait();
});

// One iteration: one empty task of a batch of 1000, waited for by a wait group.
const bool spawn_wait = bench::operation("task/spawn_wait", [](std::int64_t n, unsigned) {
    for (std::int64_t left = n; left > 0;) {
        std::int64_t batch = left < 1000 ? left : 1000;
        mpg::wait_group ended;
        ended.add(batch);
        for (std::int64_t k = 0; k < batch; ++k) mpg::go([&ended] { ended.done(); });
        ended.wait();
        left -= batch;
    }
});

// One iteration: start one task that returns a number, and join it.
const bool spawn_join = bench::operation("task/spawn_join", [](std::int64_t n, unsigned) {
    std::int64_t sum = 0;
    for (std::int64_t k = 0; k < n; ++k) sum += mpg::spawn([k] { return k; }).join();
    benchmark::DoNotOptimize(sum);
});

} // namespace
