// The end of a task against everything that its handle may do at that moment.
#include "support.hpp"

#include <mpg/mpg.hpp>

#include <atomic>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct join : mpg::test::with_procs {};
MPG_TEST_PROCS(join);

// How long a task runs, and when its handle is used, by a few steps more or less.
void some_yields(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) mpg::yield();
}

// What a frame holds is destroyed once, by whoever is last.
struct counted {
    std::atomic<int>* alive;
    explicit counted(std::atomic<int>& a)
        : alive(&a) {
        ++a;
    }
    counted(counted&& o) noexcept
        : alive(o.alive) {
        ++*alive;
    }
    ~counted() { --*alive; }
};

TEST_P(join, cancelled_while_the_task_ends) {
    run([] {
        std::atomic<int> alive = 0;
        std::size_t cancelled = 0;
        for (std::size_t i = 0; i < mpg::test::scaled(3000); ++i) {
            auto task = mpg::spawn([&alive, i, kept = counted(alive)] {
                some_yields(i % 5);
                return counted(alive);
            });
            auto ctx = mpg::with_cancel(mpg::context::background());
            auto canceller = mpg::spawn([&ctx, i] {
                some_yields(i % 7);
                ctx.cancel();
            });
            try {
                auto result = task.join(ctx);
                EXPECT_EQ(result.alive, &alive);
            } catch (const std::system_error& e) {
                EXPECT_EQ(e.code(), mpg::errc::cancelled);
                EXPECT_TRUE(task.joinable());
                ++cancelled;
                if (i % 2) (void)task.join();
            }
            canceller.join();
        }
        EXPECT_TRUE(mpg::test::eventually([&] { return alive == 0; })) << alive;
        EXPECT_GT(cancelled, 0u);
    });
}

TEST_P(join, deadline_while_the_task_ends) {
    run([] {
        for (std::size_t i = 0; i < mpg::test::scaled(300); ++i) {
            auto task = mpg::spawn([i] {
                mpg::sleep_for(std::chrono::microseconds(i % 200));
                return i;
            });
            for (;;) {
                auto ctx =
                    mpg::with_timeout(mpg::context::background(), std::chrono::microseconds(i % 150 + 1));
                try {
                    EXPECT_EQ(task.join(ctx), i);
                    break;
                } catch (const std::system_error& e) {
                    EXPECT_EQ(e.code(), mpg::errc::deadline_exceeded);
                }
            }
        }
    });
}

TEST_P(join, handle_goes_while_the_task_ends) {
    run([] {
        std::atomic<int> alive = 0;
        for (std::size_t i = 0; i < mpg::test::scaled(3000); ++i) {
            auto task = mpg::spawn([&alive, i, kept = counted(alive)] {
                some_yields(i % 4);
                if (i % 3 == 0) throw std::system_error(std::make_error_code(std::errc::io_error));
                return std::make_unique<counted>(alive);
            });
            some_yields(i % 5);
            if (i % 2) task.detach();
        }
        EXPECT_TRUE(mpg::test::eventually([&] { return alive == 0; })) << alive;
    });
}

TEST_P(join, asked_for_done_while_the_task_ends) {
    run([] {
        std::vector<mpg::recv_chan<void>> outlive;
        for (std::size_t i = 0; i < mpg::test::scaled(2000); ++i) {
            auto task = mpg::spawn([i] { some_yields(i % 4); });
            if (i % 4 == 0) {
                outlive.push_back(task.done());
                continue; // detached
            }
            some_yields(i % 3);
            auto same = mpg::spawn([&task] { return task.done(); });
            auto done = task.done();
            EXPECT_EQ(same.join(), done);
            if (i % 4 == 1) task.join();
            EXPECT_FALSE(done.recv());
            EXPECT_TRUE(done.closed());
            if (i % 4 == 2) task.join();
        }
        for (auto& c : outlive) EXPECT_FALSE(c.recv());
    });
}

TEST_P(join, by_a_plain_thread) {
    run([] {
        for (std::size_t i = 0; i < mpg::test::scaled(300); ++i) {
            auto task = mpg::spawn([i] {
                some_yields(i % 50);
                return i;
            });
            std::thread t([&] {
                auto ctx = mpg::with_timeout(mpg::context::background(), std::chrono::microseconds(i % 40));
                try {
                    if (i % 2) {
                        EXPECT_EQ(task.join(ctx), i);
                        return;
                    }
                } catch (const std::system_error&) {
                }
                EXPECT_EQ(task.join(), i);
            });
            mpg::blocking([&] { t.join(); });
        }
    });
}

// A stop withdraws joins of every kind; the tasks that are joined are unwound, too.
TEST_P(join, stop_ends_them) {
    for (int round = 0; round < 20; ++round) {
        std::atomic<int> unwound = 0;
        run([&] {
            struct count {
                std::atomic<int>& n;
                ~count() { ++n; }
            };
            auto forever = [&unwound] {
                count c{unwound};
                mpg::chan<void>().recv();
            };
            mpg::go([&, forever] {
                count c{unwound};
                mpg::spawn(forever).join();
            });
            mpg::go([&, forever] {
                count c{unwound};
                auto ctx = mpg::with_timeout(mpg::context::background(), 1h);
                mpg::spawn(forever).join(ctx);
            });
            some_yields(static_cast<std::size_t>(round));
        });
        EXPECT_LE(unwound, 4);
    }
}

} // namespace
