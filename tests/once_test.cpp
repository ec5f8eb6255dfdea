// once: one call, whoever comes first; an exception lets the next try.
#include "support.hpp"

#include <mpg/sync.hpp>

#include <atomic>
#include <stdexcept>

namespace {

struct once : mpg::test::with_procs {};
MPG_TEST_PROCS(once);

TEST_P(once, runs_one_time_and_all_see_it) {
    run([] {
        for (int round = 0; round < 50; ++round) {
            mpg::once o;
            int calls = 0;
            mpg::wait_group tasks;
            for (int i = 0; i < 10; ++i)
                tasks.go([&] {
                    o.call([&](int n) {
                        mpg::yield();
                        calls += n;
                    }, 1);
                    EXPECT_EQ(calls, 1);
                });
            tasks.wait();
        }
    });
}

TEST_P(once, exception_lets_the_next_run) {
    run([] {
        mpg::once o;
        std::atomic<int> calls = 0, thrown = 0;
        mpg::wait_group tasks;
        for (int i = 0; i < 10; ++i)
            tasks.go([&] {
                try {
                    o.call([&] {
                        if (++calls < 4) throw std::runtime_error("not yet");
                    });
                } catch (const std::runtime_error&) {
                    ++thrown;
                }
            });
        tasks.wait();
        EXPECT_EQ(calls, 4);
        EXPECT_EQ(thrown, 3);
    });
}

} // namespace
