// mutex: exclusion, fairness, timed forms, threads, stops.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/sync.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct mutex : mpg::test::with_procs {};
MPG_TEST_PROCS(mutex);

TEST_P(mutex, excludes_tasks_and_threads) {
    run([] {
        mpg::mutex m;
        std::size_t n = 0;
        const std::size_t rounds = mpg::test::scaled(5000);
        auto work = [&] {
            for (std::size_t i = 0; i < rounds; ++i) {
                std::lock_guard guard(m);
                std::size_t seen = n;
                if (i % 64 == 0) mpg::yield(); // others meet a mutex that is held
                n = seen + 1;
            }
        };
        mpg::wait_group tasks;
        for (int i = 0; i < 8; ++i) tasks.go(work);
        std::vector<std::jthread> threads;
        for (int i = 0; i < 2; ++i) threads.emplace_back(work);
        tasks.wait();
        mpg::blocking([&] { threads.clear(); });
        EXPECT_EQ(n, 10 * rounds);
    });
}

TEST_P(mutex, try_lock_tells_whether_it_is_held) {
    run([] {
        mpg::mutex m;
        EXPECT_TRUE(m.try_lock());
        EXPECT_FALSE(m.try_lock());
        EXPECT_FALSE(m.try_lock_for(0s));
        EXPECT_FALSE(m.try_lock_for(-1h));
        EXPECT_FALSE(m.try_lock_until(std::chrono::system_clock::now() - 1h));
        m.unlock();
        EXPECT_TRUE(m.try_lock_for(std::chrono::hours::max()));
        m.unlock();
    });
}

TEST_P(mutex, timed_lock_gives_up_and_gets) {
    run([] {
        mpg::mutex m;
        m.lock();
        mpg::wait_group tasks;
        std::atomic<int> gave_up = 0;
        tasks.go([&] {
            auto start = mpg::clock::now();
            if (!m.try_lock_for(2ms)) ++gave_up;
            EXPECT_GE(mpg::clock::now() - start, 2ms);
        });
        tasks.wait();
        EXPECT_EQ(gave_up, 1);
        tasks.go([&] {
            EXPECT_TRUE(m.try_lock_until(mpg::clock::now() + 1h));
            m.unlock();
        });
        mpg::yield();
        m.unlock();
        tasks.wait();
        EXPECT_TRUE(m.try_lock());
        m.unlock();
    });
}

// Time-outs that meet unlocks: no wake-up may be lost between those who give up and those who do not.
TEST_P(mutex, time_outs_lose_no_wakeup) {
    run([] {
        mpg::mutex m;
        mpg::wait_group tasks;
        for (int i = 0; i < 8; ++i)
            tasks.go([&, i] {
                for (std::size_t k = 0; k < mpg::test::scaled(300); ++k) {
                    if (i % 2 ? m.try_lock_for(std::chrono::microseconds(k % 7)) : (m.lock(), true)) {
                        mpg::yield();
                        m.unlock();
                    }
                }
            });
        tasks.wait();
        EXPECT_TRUE(m.try_lock());
    });
}

// A task that takes the mutex again at once cannot keep out one that waits: that one is handed it.
TEST_P(mutex, waiter_is_not_starved) {
    run([] {
        mpg::mutex m;
        std::atomic<bool> got = false;
        mpg::wait_group tasks;
        m.lock();
        tasks.go([&] {
            std::lock_guard guard(m);
            got = true;
        });
        tasks.go([&] {
            while (!got) {
                std::lock_guard guard(m);
                for (auto end = mpg::clock::now() + 100us; mpg::clock::now() < end;) {}
            }
        });
        mpg::yield();
        m.unlock();
        tasks.wait();
        EXPECT_TRUE(got);
    });
}

TEST_P(mutex, next_owner_may_destroy_it) {
    run([] {
        for (std::size_t i = 0; i < mpg::test::scaled(2000); ++i) {
            struct shared {
                mpg::mutex m;
                int users = 2;
            };
            auto* s = new shared;
            auto drop = [s] {
                bool last;
                {
                    s->m.lock();
                    last = --s->users == 0;
                    s->m.unlock();
                }
                if (last) delete s;
            };
            mpg::wait_group tasks;
            tasks.go(drop);
            tasks.go(drop);
            tasks.wait();
        }
    });
}

TEST_P(mutex, stop_ends_who_waits_and_lets_a_thread_go_on) {
    mpg::mutex m;
    std::atomic<int> ended = 0;
    struct count {
        std::atomic<int>& n;
        ~count() { ++n; }
    };
    m.lock();
    std::jthread waits;
    std::atomic<bool> thread_got = false;
    run([&] {
        for (int i = 0; i < 3; ++i)
            mpg::go([&] {
                count c{ended};
                m.lock();
                ADD_FAILURE() << "nobody unlocks";
            });
        waits = std::jthread([&] {
            std::lock_guard guard(m);
            thread_got = true;
        });
        for (int i = 0; i < 50; ++i) mpg::yield();
    });
    EXPECT_LE(ended, 3); // those that had started
    EXPECT_FALSE(thread_got);
    m.unlock();
    waits.join();
    EXPECT_TRUE(thread_got);
}

} // namespace
