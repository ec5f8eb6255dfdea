// scope: tasks that end together.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/scope.hpp>
#include <mpg/sync.hpp>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

using mpg::context;

struct scope : mpg::test::with_procs {};
MPG_TEST_PROCS(scope);

TEST_P(scope, waits_for_all_its_tasks) {
    run([] {
        mpg::scope s;
        std::atomic<int> n = 0;
        for (int i = 0; i < 20; ++i)
            s.go([&, p = std::make_unique<int>(1)] {
                mpg::yield();
                n += *p;
                s.go([&] { ++n; }); // a task of the scope may start others
            });
        s.wait();
        EXPECT_EQ(n, 40);
        EXPECT_FALSE(s.ctx().is_done());
        s.go([&](const context& ctx) { n += ctx.is_done() ? 100 : 1; });
        s.wait();
        EXPECT_EQ(n, 41);
    });
}

TEST_P(scope, first_exception_cancels_the_rest) {
    run([] {
        mpg::scope s;
        std::atomic<int> cancelled = 0;
        for (int i = 0; i < 5; ++i)
            s.go([&](const context& ctx) {
                ctx.done().recv();
                ++cancelled;
                throw std::logic_error("a later one");
            });
        s.go([] { throw std::runtime_error("first"); });
        for (int i = 0; i < 2; ++i) {
            try {
                s.wait();
                ADD_FAILURE() << "wait did not throw";
            } catch (const std::runtime_error& e) {
                EXPECT_EQ(e.what(), std::string("first"));
            }
        }
        EXPECT_EQ(cancelled, 5);
        EXPECT_THROW(std::rethrow_exception(s.ctx().cause()), std::runtime_error);
    });
}

TEST_P(scope, destructor_cancels_then_waits) {
    run([] {
        int ended = 0;
        {
            mpg::scope s;
            s.go([&](const context& ctx) {
                ctx.done().recv();
                for (int i = 0; i < 10; ++i) mpg::yield();
                ++ended;
            });
        }
        EXPECT_EQ(ended, 1);
    });
}

TEST_P(scope, ends_with_its_parent) {
    run([] {
        auto parent = mpg::with_cancel(context::background());
        mpg::scope s(parent);
        s.go([](const context& ctx) { ctx.done().recv(); });
        parent.cancel();
        s.wait();
        EXPECT_TRUE(s.ctx().is_done());
    });
}

TEST_P(scope, limit_bounds_how_many_run) {
    run([] {
        mpg::scope s;
        s.limit(3);
        std::atomic<int> running = 0, most = 0;
        for (int i = 0; i < 50; ++i)
            s.go([&] {
                int now = ++running;
                for (int m = most; now > m && !most.compare_exchange_weak(m, now);) {}
                mpg::yield();
                --running;
            });
        s.wait();
        EXPECT_LE(most, 3);
        EXPECT_THROW(s.limit(0), std::invalid_argument);
        s.go([](const context& ctx) { ctx.done().recv(); });
        EXPECT_THROW(s.limit(1), std::logic_error);
        s.cancel();
        s.wait();
        s.limit(1);
    });
}

TEST_P(scope, closures_are_gone_when_wait_returns) {
    run([] {
        auto token = std::make_shared<int>(0);
        mpg::scope s;
        for (int i = 0; i < 20; ++i) s.go([token] { mpg::yield(); });
        s.wait();
        EXPECT_EQ(token.use_count(), 1);
    });
}

// A stop: tasks that wait are unwound, others never start; the scope's destructor returns all the same.
TEST_P(scope, stop_ends_it) {
    std::atomic<int> scopes = 0, unwound = 0;
    run([&] {
        mpg::latch inside(1);
        mpg::go([&] {
            struct count {
                std::atomic<int>& n;
                ~count() { ++n; }
            } after{scopes};
            mpg::scope s;
            for (int i = 0; i < 100; ++i)
                s.go([&, i] {
                    count c{unwound};
                    if (i == 0) inside.count_down();
                    mpg::chan<int>().recv();
                });
            s.wait();
            ADD_FAILURE() << "nobody sends";
        });
        inside.wait();
    });
    EXPECT_EQ(scopes, 1);
    EXPECT_GE(unwound, 1);
}

} // namespace
