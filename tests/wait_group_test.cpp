// wait_group and latch: both count down at a gate.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/sync.hpp>

#include <atomic>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

struct wait_group : mpg::test::with_procs {};
MPG_TEST_PROCS(wait_group);

TEST_P(wait_group, waits_for_all) {
    run([] {
        mpg::wait_group g;
        g.wait(); // nothing to wait for
        std::atomic<int> ended = 0;
        for (int round = 1; round <= 3; ++round) {
            for (int i = 0; i < 100; ++i)
                g.go([&, p = std::make_unique<int>(1)] {
                    mpg::yield();
                    ended += *p;
                });
            g.wait();
            EXPECT_EQ(ended, 100 * round);
        }
    });
}

TEST_P(wait_group, below_zero_throws_and_changes_nothing) {
    run([] {
        mpg::wait_group g;
        EXPECT_THROW(g.done(), std::logic_error);
        g.add(2);
        EXPECT_THROW(g.add(-3), std::logic_error);
        g.add(-2);
        g.wait();
    });
}

TEST_P(wait_group, may_be_destroyed_when_wait_returns) {
    run([] {
        mpg::wait_group all;
        for (int k = 0; k < 4; ++k)
            all.go([] {
                for (std::size_t i = 0; i < mpg::test::scaled(2000); ++i) {
                    auto g = std::make_unique<mpg::wait_group>();
                    g->add(2);
                    mpg::go([&g = *g] { g.done(); });
                    mpg::go([&g = *g] { g.done(); });
                    if (i % 2) mpg::yield(); // so that some waits find it open
                    g->wait();
                    std::memset(static_cast<void*>(g.get()), 0xff, sizeof *g); // a late touch crashes
                }
            });
        all.wait();
    });
}

TEST_P(wait_group, many_wait_also_threads) {
    run([] {
        mpg::wait_group g, waiters;
        g.add();
        std::atomic<int> woken = 0;
        for (int i = 0; i < 20; ++i)
            waiters.go([&] {
                g.wait();
                ++woken;
            });
        std::jthread t([&] {
            g.wait();
            ++woken;
        });
        mpg::yield();
        EXPECT_EQ(woken, 0);
        g.done();
        waiters.wait();
        mpg::blocking([&] { t.join(); });
        EXPECT_EQ(woken, 21);
    });
}

// Tasks that a stop destroys before they start count as ended: else the destructor would wait for ever.
TEST_P(wait_group, destroyed_tasks_count_as_ended) {
    int waited = 0;
    run([&] {
        mpg::go([&] {
            struct group {
                mpg::wait_group tasks;
                int& waited;
                ~group() {
                    tasks.wait();
                    ++waited;
                }
            } g{{}, waited};
            for (int i = 0; i < 200; ++i) g.tasks.go([] { mpg::yield(); });
            mpg::wait_group never;
            never.add();
            never.wait();
        });
        mpg::yield();
    });
    EXPECT_LE(waited, 1); // 0: the outer task was destroyed itself
}

struct latch : mpg::test::with_procs {};
MPG_TEST_PROCS(latch);

TEST_P(latch, opens_once_at_zero) {
    run([] {
        mpg::latch l(3);
        EXPECT_FALSE(l.try_wait());
        mpg::wait_group tasks;
        tasks.go([&] { l.arrive_and_wait(); });
        tasks.go([&] { l.wait(); });
        l.count_down(2);
        l.wait();
        EXPECT_TRUE(l.try_wait());
        EXPECT_THROW(l.count_down(), std::logic_error);
        EXPECT_THROW(l.count_down(-1), std::logic_error);
        EXPECT_THROW(mpg::latch(-1), std::logic_error);
        tasks.wait();
    });
}

} // namespace
