// shared_mutex: readers together, writers alone, nobody starved.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/sync.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct shared_mutex : mpg::test::with_procs {};
MPG_TEST_PROCS(shared_mutex);

TEST_P(shared_mutex, writers_are_alone) {
    run([] {
        mpg::shared_mutex m;
        int a = 0, b = 0;
        const std::size_t rounds = mpg::test::scaled(1000);
        std::atomic<int> torn = 0;
        auto work = [&](int i) {
            for (std::size_t k = 0; k < rounds; ++k) {
                if (i % 3 == 0) {
                    std::lock_guard guard(m);
                    ++a;
                    if (k % 16 == 0) mpg::yield();
                    ++b;
                } else if (i % 3 == 1) {
                    std::shared_lock guard(m);
                    if (k % 16 == 0) mpg::yield();
                    if (a != b) ++torn;
                } else if (m.try_lock_shared_for(std::chrono::microseconds(k % 5))) {
                    if (a != b) ++torn;
                    m.unlock_shared();
                } else if (m.try_lock_for(std::chrono::microseconds(k % 3))) {
                    ++a, ++b;
                    m.unlock();
                }
            }
        };
        mpg::wait_group tasks;
        for (int i = 0; i < 9; ++i) tasks.go([&, i] { work(i); });
        std::vector<std::jthread> threads;
        for (int i = 0; i < 2; ++i) threads.emplace_back([&, i] { work(i); });
        tasks.wait();
        mpg::blocking([&] { threads.clear(); });
        EXPECT_EQ(torn, 0);
        EXPECT_EQ(a, b);
        EXPECT_TRUE(m.try_lock());
    });
}

TEST_P(shared_mutex, readers_share) {
    run([] {
        mpg::shared_mutex m;
        mpg::latch all_in(4);
        mpg::wait_group tasks;
        for (int i = 0; i < 4; ++i)
            tasks.go([&] {
                std::shared_lock guard(m);
                all_in.arrive_and_wait(); // ends only if all four are inside
            });
        tasks.wait();
        EXPECT_TRUE(m.try_lock());
        EXPECT_FALSE(m.try_lock_shared());
        EXPECT_FALSE(m.try_lock_shared_until(mpg::clock::now()));
    });
}

// A waiting writer keeps new readers out; when it gives up they come in.
TEST_P(shared_mutex, waiting_writer_comes_before_new_readers) {
    run([] {
        mpg::shared_mutex m;
        m.lock_shared();
        mpg::wait_group tasks;
        std::atomic<bool> wrote = false;
        tasks.go([&] {
            m.lock();
            wrote = true;
            m.unlock();
        });
        while (m.try_lock_shared()) { // until the writer waits
            m.unlock_shared();
            mpg::yield();
        }
        tasks.go([&] {
            std::shared_lock guard(m);
            EXPECT_TRUE(wrote);
        });
        mpg::yield();
        m.unlock_shared();
        tasks.wait();
    });
}

TEST_P(shared_mutex, writer_that_gives_up_lets_readers_in) {
    run([] {
        mpg::shared_mutex m;
        m.lock_shared();
        mpg::wait_group tasks;
        std::atomic<bool> seen = false; // it waits again until it was seen waiting
        tasks.go([&] {
            do EXPECT_FALSE(m.try_lock_for(5ms));
            while (!seen);
        });
        while (m.try_lock_shared()) {
            m.unlock_shared();
            mpg::yield();
        }
        seen = true;
        tasks.go([&] { std::shared_lock guard(m); });
        tasks.wait(); // although the first reader is still there
        m.unlock_shared();
        EXPECT_TRUE(m.try_lock());
    });
}

// The last reader leaves, and is about to hand over, while the writer gives up, readers come in and the next writer
// stands in the queue.
TEST_P(shared_mutex, writers_that_give_up_leave_the_others_alone) {
    run([] {
        mpg::shared_mutex m;
        std::atomic<int> readers = 0, writers = 0, met = 0;
        const std::size_t rounds = mpg::test::scaled(2000);
        auto work = [&](int i) {
            for (std::size_t k = 0; k < rounds; ++k) {
                if (i % 2 == 0) {
                    std::shared_lock guard(m);
                    ++readers;
                    if (writers != 0) ++met;
                    if (k % 4 == 0) mpg::yield();
                    --readers;
                } else if (m.try_lock_for(std::chrono::microseconds(k % 20))) {
                    if (++writers != 1 || readers != 0) ++met;
                    if (k % 4 == 0) mpg::yield();
                    --writers;
                    m.unlock();
                }
            }
        };
        mpg::wait_group tasks;
        for (int i = 0; i < 6; ++i) tasks.go([&, i] { work(i); });
        std::vector<std::jthread> threads;
        for (int i = 0; i < 3; ++i) threads.emplace_back([&, i] { work(i); });
        tasks.wait();
        mpg::blocking([&] { threads.clear(); });
        EXPECT_EQ(met, 0);
        EXPECT_TRUE(m.try_lock());
    });
}

TEST_P(shared_mutex, readers_do_not_starve_a_writer) {
    run([] {
        mpg::shared_mutex m;
        std::atomic<bool> wrote = false;
        mpg::wait_group tasks;
        for (int i = 0; i < 4; ++i)
            tasks.go([&] {
                while (!wrote) {
                    std::shared_lock guard(m);
                    mpg::yield();
                }
            });
        tasks.go([&] {
            std::lock_guard guard(m);
            wrote = true;
        });
        tasks.wait();
    });
}

// Readers that meet are counted once a P, until a writer comes: so a writer that comes seldom meets them in their slots,
// and tasks leave by another one than they came in.
TEST_P(shared_mutex, seldom_written) {
    run([] {
        mpg::shared_mutex m;
        int a = 0, b = 0;
        std::atomic<int> torn = 0;
        std::atomic<bool> end = false;
        auto read = [&] {
            for (std::size_t k = 0; !end; ++k) {
                std::shared_lock guard(m);
                if (k % 64 == 0) mpg::yield();
                if (a != b) ++torn;
            }
        };
        mpg::wait_group tasks;
        for (int i = 0; i < 6; ++i) tasks.go(read);
        std::vector<std::jthread> threads;
        for (int i = 0; i < 2; ++i) threads.emplace_back(read);
        const std::size_t rounds = mpg::test::scaled(100);
        for (std::size_t k = 0; k < rounds; ++k) {
            for (int i = 0; i < 8; ++i) mpg::yield();
            if (k % 4 == 3 && !m.try_lock_for(1us)) continue;
            if (k % 4 != 3) m.lock();
            ++a;
            mpg::yield();
            ++b;
            m.unlock();
        }
        end = true;
        tasks.wait();
        mpg::blocking([&] { threads.clear(); });
        EXPECT_EQ(torn, 0);
        EXPECT_TRUE(m.try_lock());
    });
}

} // namespace
