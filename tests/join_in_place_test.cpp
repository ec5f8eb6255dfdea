// join of a task that was started last here and has not begun: it runs on the stack of who joins, and is a task all the
// same.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <cerrno>
#include <cfenv>
#include <exception>
#include <stdexcept>
#include <string>

namespace {

using namespace std::chrono_literals;

struct join_in_place : mpg::test::with_procs {};
MPG_TEST_PROCS(join_in_place);

int fib(int n) {
    if (n < 2) return n;
    auto first = mpg::spawn(fib, n - 1);
    int second = fib(n - 2);
    return first.join() + second;
}

TEST_P(join_in_place, fork_and_join_gives_what_calls_give) {
    EXPECT_EQ(run([] { return fib(20); }), 6765);
}

TEST_P(join_in_place, the_task_is_itself) {
    run([] {
        static mpg::task_local<int> local;
        *local = 1;
        mpg::this_task::set_name("host");
        for (int i = 0; i < 100; ++i) {
            const auto id = mpg::this_task::id();
            auto t = mpg::spawn([id] {
                EXPECT_NE(mpg::this_task::id(), id);
                EXPECT_EQ(mpg::this_task::name(), "");
                EXPECT_EQ(*local, 0);
                *local = 2;
                mpg::this_task::set_name("guest");
                return mpg::this_task::id();
            });
            const auto told = t.id();
            EXPECT_EQ(t.join(), told);
            EXPECT_EQ(mpg::this_task::id(), id);
            EXPECT_EQ(mpg::this_task::name(), "host");
            EXPECT_EQ(*local, 1);
        }
    });
}

TEST_P(join_in_place, what_belongs_to_a_task_stays_with_it) {
    run([] {
        for (int i = 0; i < 100; ++i) {
            const bool waits = i % 2;
            try {
                throw std::runtime_error("host's");
            } catch (const std::runtime_error&) {
                std::fesetround(FE_UPWARD);
                errno = 7;
                auto t = mpg::spawn([waits] {
                    EXPECT_EQ(std::current_exception(), nullptr);
                    EXPECT_EQ(std::uncaught_exceptions(), 0);
                    EXPECT_EQ(errno, 0);
                    EXPECT_EQ(std::fegetround(), FE_TONEAREST);
                    errno = 8;
                    std::fesetround(FE_DOWNWARD);
                    try {
                        throw 5;
                    } catch (int) {
                        if (waits) mpg::sleep_for(100us);
                        EXPECT_NE(std::current_exception(), nullptr);
                    }
                    throw std::logic_error("guest's");
                });
                EXPECT_THROW(t.join(), std::logic_error);
                EXPECT_EQ(std::fegetround(), FE_UPWARD);
                std::fesetround(FE_TONEAREST);
                try {
                    throw; // still the host's
                } catch (const std::runtime_error& e) {
                    EXPECT_STREQ(e.what(), "host's");
                }
            }
        }
    });
}

TEST_P(join_in_place, a_task_that_waits_holds_up_only_its_host) {
    run([] {
        mpg::chan<int> c;
        std::atomic<bool> other{false};
        auto host = mpg::spawn([&] {
            auto guest = mpg::spawn([&] { return *c.recv() + 1; });
            return guest.join() + 1;
        });
        mpg::yield();
        mpg::go([&] { other = true; });
        ASSERT_TRUE(mpg::test::eventually([&] { return other.load(); }));
        c.send(5);
        EXPECT_EQ(host.join(), 7);
    });
}

TEST_P(join_in_place, a_host_goes_on_where_its_guest_ended) {
    run([] {
        mpg::wait_group ended;
        for (int i = 0; i < 20; ++i) {
            ended.go([] {
                for (int k = 0; k < 50; ++k) {
                    auto guest = mpg::spawn([k] {
                        for (int j = 0; j < k % 4; ++j) mpg::yield();
                        if (k % 8 == 0) mpg::blocking([] {});
                        return k;
                    });
                    EXPECT_EQ(guest.join(), k);
                }
            });
        }
        ended.wait();
    });
}

TEST_P(join_in_place, ends_with_the_runtime) {
    std::atomic<int> ends{0};
    run([&] {
        mpg::chan<void> there;
        mpg::go([&ends, there] {
            struct at_end {
                std::atomic<int>& n;
                ~at_end() { ++n; }
            } host{ends};
            mpg::spawn([&ends, there] {
                at_end guest{ends};
                there.send();
                mpg::chan<void>().recv();
            }).join();
        });
        there.recv();
    });
    EXPECT_EQ(ends, 2);
}

int depth(int n) {
    volatile char room[512] = {};
    if (n == 0) return room[0];
    return mpg::spawn(depth, n - 1).join() + 1 + room[1];
}

TEST_P(join_in_place, goes_on_elsewhere_when_the_stack_is_half_full) {
    EXPECT_EQ(run([] { return depth(2000); }), 2000);
}

} // namespace
