// Sync types. Twin: twins/go/sync.go.
#include "support.hpp"

#include <mpg/sync.hpp>
#include <mpg/task.hpp>

#include <mutex>
#include <shared_mutex>

namespace {

// One iteration: lock, count, unlock, by one task alone.
const bool mutex_uncontended = bench::operation("sync/mutex/uncontended", [](std::int64_t n, unsigned) {
    mpg::mutex m;
    std::int64_t count = 0;
    for (std::int64_t k = 0; k < n; ++k) {
        std::lock_guard guard(m);
        benchmark::DoNotOptimize(++count);
    }
});

// One iteration: lock, count, unlock, of one mutex by 8 tasks.
const bool mutex_contended = bench::operation("sync/mutex/contended", [](std::int64_t n, unsigned) {
    mpg::mutex m;
    std::int64_t count = 0;
    mpg::wait_group ended;
    ended.add(8);
    for (unsigned i = 0; i < 8; ++i) {
        mpg::go([&, rounds = bench::share(n, i, 8)] {
            for (std::int64_t k = 0; k < rounds; ++k) {
                std::lock_guard guard(m);
                benchmark::DoNotOptimize(++count);
            }
            ended.done();
        });
    }
    ended.wait();
});

// One iteration: lock shared, unlock shared; one task a P, all on one shared_mutex.
const bool shared_mutex_read = bench::operation("sync/shared_mutex/read", [](std::int64_t n, unsigned procs) {
    mpg::shared_mutex m;
    mpg::wait_group ended;
    ended.add(procs);
    for (unsigned p = 0; p < procs; ++p) {
        mpg::go([&, rounds = bench::share(n, p, procs)] {
            for (std::int64_t k = 0; k < rounds; ++k) std::shared_lock guard(m);
            ended.done();
        });
    }
    ended.wait();
});

// One iteration: lock, count, unlock, of one shared_mutex by one task alone.
const bool shared_mutex_write = bench::operation("sync/shared_mutex/write", [](std::int64_t n, unsigned) {
    mpg::shared_mutex m;
    std::int64_t count = 0;
    for (std::int64_t k = 0; k < n; ++k) {
        std::lock_guard guard(m);
        benchmark::DoNotOptimize(++count);
    }
});

// One iteration: lock and unlock of one shared_mutex by 8 tasks, every tenth time to write, else to read.
const bool shared_mutex_contended =
    bench::operation("sync/shared_mutex/contended", [](std::int64_t n, unsigned) {
        mpg::shared_mutex m;
        std::int64_t count = 0;
        mpg::wait_group ended;
        ended.add(8);
        for (unsigned i = 0; i < 8; ++i) {
            mpg::go([&, rounds = bench::share(n, i, 8)] {
                for (std::int64_t k = 0; k < rounds; ++k) {
                    if (k % 10 == 0) {
                        std::lock_guard guard(m);
                        benchmark::DoNotOptimize(++count);
                    } else {
                        std::shared_lock guard(m);
                        benchmark::DoNotOptimize(count);
                    }
                }
                ended.done();
            });
        }
        ended.wait();
    });

// One iteration: the turn goes to another task and back, each waiting on one condition variable for its own.
const bool condition_variable =
    bench::operation("sync/condition_variable/ping_pong", [](std::int64_t n, unsigned) {
        mpg::mutex m;
        mpg::condition_variable changed;
        int turn = 0;
        auto play = [&, n](int mine) {
            for (std::int64_t k = 0; k < n; ++k) {
                std::unique_lock lock(m);
                changed.wait(lock, [&] { return turn == mine; });
                turn = 1 - mine;
                changed.notify_one();
            }
        };
        auto other = mpg::spawn(play, 1);
        play(0);
        other.join();
    });

} // namespace
