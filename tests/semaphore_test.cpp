// semaphore: weighted, FIFO, cancellable.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/context.hpp>
#include <mpg/sync.hpp>

#include <atomic>
#include <chrono>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct semaphore : mpg::test::with_procs {};
MPG_TEST_PROCS(semaphore);

TEST_P(semaphore, never_more_than_its_places) {
    run([] {
        mpg::semaphore s(5);
        std::atomic<int> inside = 0, most = 0;
        mpg::wait_group tasks;
        for (int i = 0; i < 12; ++i)
            tasks.go([&, i] {
                const int n = 1 + i % 4;
                const auto places = static_cast<std::size_t>(n);
                for (std::size_t k = 0; k < mpg::test::scaled(500); ++k) {
                    if (k % 3 == 0) {
                        if (!s.try_acquire_for(std::chrono::microseconds(k % 7), places)) continue;
                    } else {
                        s.acquire(places);
                    }
                    int now = inside += n;
                    for (int m = most; now > m && !most.compare_exchange_weak(m, now);) {}
                    mpg::yield();
                    inside -= n;
                    s.release(places);
                }
            });
        tasks.wait();
        EXPECT_LE(most, 5);
        EXPECT_TRUE(s.try_acquire(5));
        EXPECT_FALSE(s.try_acquire());
    });
}

TEST_P(semaphore, a_large_wish_is_not_overtaken) {
    run([] {
        mpg::semaphore s(2);
        s.acquire();
        std::vector<int> order;
        mpg::wait_group tasks;
        tasks.go([&] {
            s.acquire(2);
            order.push_back(2);
            s.release(2);
        });
        while (s.try_acquire()) { // until it waits: then one place is free, but not for others
            s.release();
            mpg::yield();
        }
        tasks.go([&] {
            s.acquire();
            order.push_back(1);
            s.release();
        });
        for (int i = 0; i < 20; ++i) mpg::yield();
        s.release();
        tasks.wait();
        EXPECT_EQ(order, (std::vector<int>{2, 1}));
    });
}

TEST_P(semaphore, cancelled_wait_takes_nothing) {
    run([] {
        mpg::semaphore s(1);
        EXPECT_FALSE(s.acquire(mpg::context::background()));
        auto ctx = mpg::with_cancel(mpg::context::background());
        mpg::wait_group tasks;
        tasks.go([&] { EXPECT_EQ(s.acquire(ctx), mpg::errc::cancelled); });
        for (int i = 0; i < 20; ++i) mpg::yield();
        ctx.cancel();
        tasks.wait();
        s.release();
        EXPECT_EQ(s.acquire(ctx), mpg::errc::cancelled); // done before: although a place is free
        auto soon = mpg::with_timeout(mpg::context::background(), 2ms);
        EXPECT_EQ(s.acquire(soon, 2), mpg::errc::deadline_exceeded);
        EXPECT_TRUE(s.try_acquire());
    });
}

TEST_P(semaphore, who_gives_up_at_the_head_lets_others_go_on) {
    run([] {
        mpg::semaphore s(1);
        mpg::wait_group tasks;
        std::atomic<bool> seen = false; // it waits again until it was seen waiting
        tasks.go([&] {
            do EXPECT_FALSE(s.try_acquire_for(5ms, 2));
            while (!seen);
        });
        while (s.try_acquire()) {
            s.release();
            mpg::yield();
        }
        seen = true;
        s.acquire(); // waits behind it
        tasks.wait();
    });
}

} // namespace
