// pool: objects come back, and are not shared while in use.
#include "support.hpp"

#include <mpg/sync.hpp>

#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

struct pool : mpg::test::with_procs {};
MPG_TEST_PROCS(pool);

TEST_P(pool, one_user_at_a_time) {
    run([] {
        struct object {
            int users = 0;
        };
        std::atomic<int> made = 0;
        mpg::pool<object> p([&] { return ++made, object{}; });
        mpg::wait_group tasks;
        for (int i = 0; i < 8; ++i)
            tasks.go([&] {
                for (std::size_t k = 0; k < mpg::test::scaled(1000); ++k) {
                    auto h = p.get();
                    EXPECT_EQ(++h->users, 1);
                    if (k % 32 == 0) mpg::yield();
                    --h->users;
                }
            });
        tasks.wait();
        EXPECT_LE(made, 8);
    });
}

TEST(pool_handle, gives_back_what_it_had) {
    std::optional<mpg::pool<std::string>> p(std::in_place);
    auto a = p->get();
    *a = "kept";
    std::string* first = a.get();
    {
        auto moved = std::move(a);
        EXPECT_FALSE(a);
        EXPECT_EQ(moved.get(), first);
    }
    a = p->get();
    EXPECT_EQ(a.get(), first);
    EXPECT_EQ(*a, "kept");
    auto b = p->get();
    EXPECT_EQ(*b, "");
    p.reset(); // handles may outlive it
    b->append("still there");
    mpg::pool<int> failing([]() -> int { throw std::runtime_error("no"); });
    EXPECT_THROW((void)failing.get(), std::runtime_error);
}

} // namespace
