// barrier: phases, completion, drops.
#include "support.hpp"

#include <mpg/sync.hpp>

#include <atomic>
#include <cstddef>

namespace {

struct barrier : mpg::test::with_procs {};
MPG_TEST_PROCS(barrier);

TEST_P(barrier, phases_do_not_overlap) {
    run([] {
        const std::size_t phases = mpg::test::scaled(200);
        std::size_t completed = 0;
        std::atomic<std::size_t> arrived = 0;
        mpg::barrier b(5, [&]() noexcept {
            EXPECT_EQ(arrived, 5 * (completed + 1));
            ++completed;
        });
        mpg::wait_group tasks;
        for (int i = 0; i < 5; ++i)
            tasks.go([&, i] {
                for (std::size_t k = 0; k < phases; ++k) {
                    ++arrived;
                    if (i % 2)
                        b.arrive_and_wait();
                    else
                        b.wait(b.arrive());
                    EXPECT_EQ(completed, k + 1);
                    EXPECT_GE(arrived, 5 * (k + 1));
                }
            });
        tasks.wait();
        EXPECT_EQ(completed, phases);
    });
}

TEST_P(barrier, dropped_ones_are_not_expected) {
    run([] {
        mpg::barrier b(3);
        mpg::wait_group tasks;
        tasks.go([&] { b.arrive_and_drop(); });
        for (int i = 0; i < 2; ++i)
            tasks.go([&] {
                for (int k = 0; k < 10; ++k) b.arrive_and_wait();
            });
        tasks.wait();
    });
}

} // namespace
