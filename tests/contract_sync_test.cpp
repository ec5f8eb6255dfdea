// The documented surface of the sync types, form by form, as a program would write it.
#include "support.hpp"

#include <mpg/mpg.hpp>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

// The named requirements.
template <class M>
concept timed_lockable = requires(M& m) {
    m.lock();
    { m.try_lock() } -> std::same_as<bool>;
    { m.try_lock_for(1ms) } -> std::same_as<bool>;
    { m.try_lock_until(steady_clock::now()) } -> std::same_as<bool>;
    { m.try_lock_until(std::chrono::system_clock::now()) } -> std::same_as<bool>;
    m.unlock();
};
template <class M>
concept shared_timed_lockable = timed_lockable<M> && requires(M& m) {
    m.lock_shared();
    { m.try_lock_shared() } -> std::same_as<bool>;
    { m.try_lock_shared_for(1s) } -> std::same_as<bool>;
    { m.try_lock_shared_until(steady_clock::now()) } -> std::same_as<bool>;
    m.unlock_shared();
};
static_assert(timed_lockable<mpg::mutex> && shared_timed_lockable<mpg::shared_mutex>);
static_assert(!std::copyable<mpg::mutex> && !std::movable<mpg::semaphore> && !std::movable<mpg::latch>);
static_assert(std::same_as<decltype(std::declval<mpg::semaphore&>().acquire(mpg::context::background(), 1)),
                           std::error_code>);

// Usable by constructors that run before main, whatever their order: nothing of these is done at run time.
constinit mpg::mutex static_mutex;
constinit mpg::shared_mutex static_shared_mutex;
constinit mpg::condition_variable static_condition;
constinit mpg::once static_once;
constinit mpg::wait_group static_tasks;
constinit mpg::semaphore static_places(1);

TEST(contract_sync_static, is_initialised_before_all_else) {
    int calls = 0;
    static_once.call([&] { ++calls; });
    static_once.call([&] { ++calls; });
    std::unique_lock lock(static_mutex);
    std::shared_lock shared(static_shared_mutex);
    EXPECT_EQ(static_condition.wait_for(lock, 1ms), std::cv_status::timeout);
    static_tasks.wait();
    EXPECT_TRUE(static_places.try_acquire(1));
    EXPECT_FALSE(static_places.try_acquire(1));
    static_places.release(1);
    EXPECT_EQ(calls, 1);
}

struct contract_sync : mpg::test::with_procs {};
MPG_TEST_PROCS(contract_sync);

TEST_P(contract_sync, locks_of_the_standard_library) {
    run([] {
        mpg::mutex a, b;
        mpg::shared_mutex s;
        int n = 0;
        {
            std::scoped_lock both(a, b);
            std::unique_lock none(a, std::try_to_lock);
            EXPECT_FALSE(none.owns_lock());
            auto other = mpg::spawn([&] {
                std::unique_lock timed(a, 1ms);
                return timed.owns_lock();
            });
            EXPECT_FALSE(other.join());
        }
        std::lock(a, b);
        std::lock_guard one(a, std::adopt_lock), two(b, std::adopt_lock);
        {
            std::shared_lock reader(s), second(s, std::defer_lock);
            EXPECT_TRUE(second.try_lock());
            EXPECT_FALSE(s.try_lock());
            EXPECT_FALSE(s.try_lock_for(1ms));
            EXPECT_FALSE(s.try_lock_until(steady_clock::now() + 1ms));
        }
        {
            std::unique_lock writer(s);
            EXPECT_FALSE(s.try_lock_shared());
            EXPECT_FALSE(s.try_lock_shared_for(1ms));
            std::shared_lock late(s, steady_clock::now() + 1ms);
            EXPECT_FALSE(late.owns_lock());
            ++n;
        }
        EXPECT_TRUE(s.try_lock_shared_until(steady_clock::now() -
                                            1s)); // free: a time that has passed does not matter
        s.unlock_shared();
        EXPECT_EQ(n, 1);
    });
}

TEST_P(contract_sync, condition_variable_as_the_standard_one) {
    run([] {
        mpg::mutex m;
        mpg::condition_variable cv;
        bool ready = false;
        std::unique_lock lock(m);
        EXPECT_EQ(cv.wait_for(lock, 1ms), std::cv_status::timeout);
        EXPECT_EQ(cv.wait_until(lock, steady_clock::now() - 1s), std::cv_status::timeout);
        EXPECT_FALSE(cv.wait_for(lock, 1ms, [&] { return ready; }));
        EXPECT_FALSE(cv.wait_until(lock, steady_clock::now() + 1ms, [&] { return ready; }));
        EXPECT_TRUE(cv.wait_for(lock, 0ms, [] { return true; }));
        EXPECT_TRUE(lock.owns_lock());
        mpg::go([&] {
            std::lock_guard guard(m);
            ready = true;
            cv.notify_all();
        });
        cv.wait(lock, [&] { return ready; });
        EXPECT_TRUE(lock.owns_lock());
        ready = false;
        mpg::go([&] {
            std::lock_guard guard(m);
            ready = true;
            cv.notify_one();
        });
        EXPECT_TRUE(cv.wait_for(lock, 1h, [&] { return ready; }));
    });
}

// Go's TestCondSignalGenerations: each signal wakes the one who waits longest.
TEST_P(contract_sync, condition_variable_wakes_in_order) {
    run([] {
        constexpr int n = 50;
        mpg::mutex m;
        mpg::condition_variable cv;
        mpg::chan<void> running;
        mpg::chan<int> awake;
        for (int i = 0; i < n; ++i) {
            mpg::go([&, i] {
                std::unique_lock lock(m);
                running.send();
                if (i % 2)
                    cv.wait(lock);
                else
                    cv.wait_for(lock, 1h);
                lock.unlock();
                awake.send(i);
            });
            running.recv();
            std::lock_guard queued(m); // it waits now
        }
        for (int i = 0; i < n; ++i) {
            {
                std::lock_guard guard(m);
                cv.notify_one();
            }
            EXPECT_EQ(awake.recv(), i);
        }
    });
}

TEST_P(contract_sync, wait_group) {
    run([] {
        mpg::wait_group g;
        EXPECT_THROW(g.done(), std::logic_error);
        EXPECT_THROW(g.add(-1), std::logic_error);
        g.wait();
        g.add(3);
        EXPECT_THROW(g.add(-4), std::logic_error); // and changes nothing
        std::atomic<int> n = 0;
        for (int i = 0; i < 3; ++i)
            mpg::go([&] {
                ++n;
                g.done();
            });
        for (int i = 0; i < 20; ++i) g.go([&, p = std::make_unique<int>(1)] { n += *p; });
        g.wait();
        EXPECT_EQ(n, 23);
        g.go([&] { ++n; }); // again
        g.wait();
        EXPECT_EQ(n, 24);
    });
}

TEST_P(contract_sync, once_runs_again_after_an_exception) {
    run([] {
        mpg::once o;
        int ran = 0;
        EXPECT_THROW(o.call([&] {
            ++ran;
            throw std::runtime_error("first");
        }),
                     std::runtime_error);
        mpg::wait_group g;
        for (int i = 0; i < 10; ++i)
            g.go([&] {
                o.call([&] {
                    mpg::yield();
                    ++ran;
                });
                EXPECT_EQ(ran, 2); // nobody returns before it was done
            });
        g.wait();
        o.call([&] { ++ran; });
        EXPECT_EQ(ran, 2);
    });
}

TEST_P(contract_sync, semaphore_ends_with_a_context) {
    run([] {
        mpg::semaphore s(3);
        s.acquire(2);
        EXPECT_TRUE(s.try_acquire(1));
        EXPECT_FALSE(s.try_acquire());
        auto ctx = mpg::with_timeout(mpg::context::background(), 1ms);
        EXPECT_EQ(s.acquire(ctx, 1), mpg::errc::deadline_exceeded);
        auto cancelled = mpg::with_cancel(mpg::context::background());
        cancelled.cancel();
        EXPECT_EQ(s.acquire(cancelled, 1), mpg::errc::cancelled);
        s.release(3);
        EXPECT_EQ(s.acquire(mpg::context::background(), 3), std::error_code());
    });
}

// Those who want many are not overtaken by those who want few. With one P a task that was started has come to
// its wait when its creator goes on.
TEST(contract_semaphore, is_fifo) {
    mpg::test::run_with_procs(1, [] {
        mpg::semaphore s(3);
        s.acquire(3);
        std::vector<int> order;
        mpg::wait_group ended;
        const std::size_t wants[] = {1, 3, 1, 2};
        for (int i = 0; i < 4; ++i) {
            ended.go([&, i] {
                s.acquire(wants[i]);
                order.push_back(i);
            });
            mpg::yield();
        }
        auto given = [&](std::size_t n) {
            s.release(n);
            for (int i = 0; i < 10; ++i) mpg::yield();
            return order.size();
        };
        EXPECT_EQ(given(1), 1u);
        EXPECT_EQ(given(2), 1u); // enough for those behind, not for the first
        EXPECT_FALSE(s.try_acquire(1));
        EXPECT_EQ(given(1), 2u);
        EXPECT_EQ(given(2), 3u);
        EXPECT_EQ(given(1), 4u);
        ended.wait();
        EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
    });
}

TEST_P(contract_sync, latch_and_barrier_as_in_std) {
    run([] {
        mpg::latch start(1), end(4);
        const mpg::latch& seen = end;
        std::atomic<int> phase = 0;
        auto completed = [&]() noexcept { ++phase; };
        mpg::barrier meet(4, completed);
        EXPECT_FALSE(seen.try_wait());
        for (int i = 0; i < 4; ++i)
            mpg::go([&, i] {
                start.wait();
                meet.arrive_and_wait();
                EXPECT_EQ(phase, 1);
                auto token = meet.arrive();
                meet.wait(std::move(token));
                EXPECT_EQ(phase, 2);
                if (i == 0)
                    meet.arrive_and_drop();
                else
                    meet.arrive_and_wait();
                if (i != 0) meet.arrive_and_wait(); // three are left
                end.count_down();
            });
        start.arrive_and_wait();
        seen.wait();
        EXPECT_TRUE(seen.try_wait());
        EXPECT_EQ(phase, 4);
        static_assert(mpg::latch::max() > 1'000'000 && mpg::barrier<>::max() > 1'000'000);
    });
}

TEST_P(contract_sync, pool_gives_back_on_destruction) {
    run([] {
        mpg::pool<std::string> plain;
        std::atomic<int> made = 0;
        mpg::pool<std::vector<int>> p([&] {
            ++made;
            return std::vector<int>(3);
        });
        {
            auto h = p.get();
            EXPECT_EQ(h->size(), 3u);
            (*h)[0] = 5;
            auto moved = std::move(h);
            EXPECT_EQ(moved->front(), 5);
        }
        auto again = p.get(), fresh = p.get();
        EXPECT_EQ(made, 2);
        EXPECT_EQ(again->front(), 5);
        *plain.get() = "kept";
        EXPECT_EQ(*plain.get(), "kept");
    });
}

// Destroyed as soon as the contract allows: by the one whom the last touch has let go on.
TEST_P(contract_sync, destroyed_as_soon_as_allowed) {
    run([] {
        for (std::size_t i = 0; i < mpg::test::scaled(2000); ++i) {
            auto group = std::make_unique<mpg::wait_group>();
            group->add();
            mpg::go([g = group.get()] { g->done(); });
            auto latch = std::make_unique<mpg::latch>(1);
            mpg::go([l = latch.get()] { l->count_down(); });
            group->wait();
            group.reset();
            latch->wait();
            latch.reset();
            // Two count themselves out under a mutex of the object; the last one destroys it.
            struct shared {
                mpg::mutex m;
                int users = 2;
            };
            auto* object = new shared;
            auto leave = [object] {
                object->m.lock();
                bool last = --object->users == 0;
                object->m.unlock();
                if (last) delete object;
            };
            auto other = mpg::spawn(leave);
            leave();
            other.join();
        }
    });
}

// All of it, by plain threads against tasks.
TEST(contract_sync_alone, timed_forms_need_no_runtime) {
    mpg::mutex m, of_cv;
    mpg::shared_mutex s;
    mpg::condition_variable cv;
    mpg::semaphore none(0);
    m.lock();
    s.lock();
    std::unique_lock lock(of_cv);
    EXPECT_FALSE(m.try_lock_for(1ms));
    EXPECT_FALSE(s.try_lock_for(1ms));
    EXPECT_FALSE(s.try_lock_shared_until(std::chrono::system_clock::now() + 1ms));
    EXPECT_EQ(cv.wait_for(lock, 1ms), std::cv_status::timeout);
    EXPECT_FALSE(cv.wait_until(lock, steady_clock::now() + 1ms, [] { return false; }));
    EXPECT_FALSE(none.try_acquire_for(1ms));
    std::thread opens([&] { none.release(); });
    EXPECT_TRUE(none.try_acquire_for(std::chrono::hours::max()));
    opens.join();
}

TEST_P(contract_sync, plain_threads) {
    run([] {
        mpg::mutex m;
        mpg::shared_mutex s;
        mpg::condition_variable cv;
        mpg::semaphore places(2);
        mpg::wait_group group;
        mpg::once once;
        mpg::latch all(6);
        mpg::barrier<> meet(6);
        int count = 0, written = 0, inits = 0, turn = 0; // count and turn under m, written under s
        std::atomic<int> inside = 0, most = 0;
        auto work = [&](int who) {
            once.call([&] { ++inits; });
            meet.arrive_and_wait();
            for (int i = 0; i < 50; ++i) {
                {
                    std::lock_guard guard(m);
                    ++count;
                }
                std::shared_lock reader(s);
                if (i % 10 == who) {
                    reader.unlock();
                    std::lock_guard writer(s);
                    ++written;
                }
                places.acquire();
                int now = ++inside, seen = most;
                while (now > seen && !most.compare_exchange_weak(seen, now)) {
                }
                --inside;
                places.release();
            }
            std::unique_lock lock(m);
            cv.wait(lock, [&] { return turn == who; });
            ++turn;
            cv.notify_all();
            all.count_down();
        };
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; ++i) threads.emplace_back(work, i);
        for (int i = 3; i < 6; ++i) group.go([&, i] { work(i); });
        all.wait();
        group.wait();
        mpg::blocking([&] {
            for (auto& t : threads) t.join();
        });
        EXPECT_EQ(inits, 1);
        EXPECT_EQ(turn, 6);
        EXPECT_EQ(count, 6 * 50);
        EXPECT_EQ(written, 6 * 5);
        EXPECT_LE(most, 2);
    });
}

} // namespace
