// condition_variable: FIFO, timed forms, the mutex is locked again however a wait ends.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/sync.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct condition_variable : mpg::test::with_procs {};
MPG_TEST_PROCS(condition_variable);

/// Until pred() is true under m.
template <class Pred> void until(mpg::mutex& m, Pred pred) {
    for (;;) {
        {
            std::lock_guard guard(m);
            if (pred()) return;
        }
        mpg::yield();
    }
}

TEST_P(condition_variable, wakes_in_order) {
    run([] {
        mpg::mutex m;
        mpg::condition_variable c;
        std::vector<int> order;
        int waiting = 0, turn = 0;
        mpg::wait_group tasks;
        for (int i = 0; i < 10; ++i) {
            tasks.go([&, i] {
                std::unique_lock lock(m);
                ++waiting;
                c.wait(lock); // never spurious
                order.push_back(i);
                turn = i + 1;
            });
            until(m, [&] { return waiting == i + 1; });
        }
        for (int i = 0; i < 10; ++i) {
            c.notify_one();
            until(m, [&] { return turn == i + 1; });
        }
        tasks.wait();
        EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    });
}

TEST_P(condition_variable, bounded_buffer_of_tasks_and_threads) {
    run([] {
        mpg::mutex m;
        mpg::condition_variable not_full, not_empty;
        std::vector<std::size_t> buffer;
        const std::size_t each = mpg::test::scaled(1000);
        std::size_t sum = 0, left = 4 * each;
        auto produce = [&] {
            for (std::size_t i = 1; i <= each; ++i) {
                std::unique_lock lock(m);
                not_full.wait(lock, [&] { return buffer.size() < 3; });
                buffer.push_back(i);
                not_empty.notify_one();
            }
        };
        auto consume = [&] {
            for (;;) {
                std::unique_lock lock(m);
                not_empty.wait(lock, [&] { return !buffer.empty() || left == 0; });
                if (left == 0) return;
                sum += buffer.back();
                buffer.pop_back();
                if (--left == 0) not_empty.notify_all();
                not_full.notify_one();
            }
        };
        mpg::wait_group tasks;
        for (int i = 0; i < 3; ++i) {
            tasks.go(produce);
            tasks.go(consume);
        }
        std::jthread p(produce), c(consume);
        tasks.wait();
        mpg::blocking([&] {
            p.join();
            c.join();
        });
        EXPECT_EQ(sum, 4 * each * (each + 1) / 2);
    });
}

TEST_P(condition_variable, timed_waits) {
    run([] {
        mpg::mutex m;
        mpg::condition_variable c;
        std::unique_lock lock(m);
        EXPECT_EQ(c.wait_for(lock, 1ms), mpg::cv_status::timeout);
        EXPECT_EQ(c.wait_until(lock, std::chrono::system_clock::now() - 1s), mpg::cv_status::timeout);
        EXPECT_FALSE(c.wait_for(lock, 1ms, [] { return false; }));
        EXPECT_TRUE(c.wait_for(lock, -1ms, [] { return true; }));
        EXPECT_TRUE(lock.owns_lock());
        bool ready = false;
        mpg::wait_group tasks;
        tasks.go([&] {
            std::lock_guard guard(m);
            ready = true;
            c.notify_all();
        });
        EXPECT_TRUE(c.wait_until(lock, mpg::clock::now() + 1h, [&] { return ready; }));
        lock.unlock();
        tasks.wait();
    });
}

TEST_P(condition_variable, stop_locks_the_mutex_again) {
    mpg::mutex m;
    mpg::condition_variable c;
    int inside = 0, most = 0, unwound = 0;
    run([&] {
        mpg::latch waiting(3);
        for (int i = 0; i < 3; ++i)
            mpg::go([&] {
                std::unique_lock lock(m);
                struct check {
                    std::unique_lock<mpg::mutex>& lock;
                    int &inside, &most, &unwound;
                    ~check() {
                        EXPECT_TRUE(lock.owns_lock());
                        most = std::max(most, ++inside);
                        ++unwound;
                        --inside;
                    }
                } on_exit{lock, inside, most, unwound};
                waiting.count_down();
                c.wait(lock);
                ADD_FAILURE() << "nobody notifies";
            });
        waiting.wait();
    });
    EXPECT_EQ(unwound, 3);
    EXPECT_EQ(most, 1);
    EXPECT_TRUE(m.try_lock());
}

} // namespace
