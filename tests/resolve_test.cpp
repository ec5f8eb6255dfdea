#include "io_support.hpp"

#include <mpg/context.hpp>

#include <algorithm>
#include <netdb.h>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;
using mpg::net::endpoint;

struct resolve : with_pollers {};
MPG_TEST_IO(resolve);

TEST_P(resolve, finds_this_machine) {
    run([] {
        const auto found = mpg::net::resolve("localhost");
        ASSERT_TRUE(found) << found.error().message();
        ASSERT_FALSE(found->empty());
        for (const endpoint& e : *found)
            EXPECT_TRUE(e == *endpoint::parse("127.0.0.1:0") || e == *endpoint::parse("[::1]:0"))
                << e.to_string();
        EXPECT_EQ(std::adjacent_find(found->begin(), found->end()), found->end());
    });
}

TEST_P(resolve, numbers_give_themselves) {
    run([] {
        for (std::string text : {"127.0.0.1", "::1", "2001:db8::1"}) {
            const auto found = mpg::net::resolve(text);
            ASSERT_TRUE(found) << text;
            ASSERT_EQ(found->size(), 1u);
            EXPECT_EQ(found->front().port(), 0);
        }
    });
}

TEST_P(resolve, what_is_no_name_is_an_error) {
    run([] {
        for (std::string_view bad : {std::string_view(""), std::string_view("a\0b", 3)})
            EXPECT_EQ(mpg::net::resolve(bad).error(), std::errc::invalid_argument);
        const auto nobody = mpg::net::resolve("no-such-host.invalid");
        ASSERT_FALSE(nobody);
        EXPECT_FALSE(nobody.error().message().empty());
        EXPECT_FALSE(mpg::net::tcp_stream::connect("no-such-host.invalid:80"));
        EXPECT_FALSE(mpg::net::tcp_listener::bind("no-such-host.invalid:80"));
    });
}

TEST_P(resolve, many_at_once_hold_nobody_up) {
    run([] {
        std::vector<mpg::task<bool>> all;
        for (int i = 0; i != 20; ++i)
            all.push_back(mpg::spawn([] { return mpg::net::resolve("localhost").has_value(); }));
        for (auto& t : all) EXPECT_TRUE(t.join());
    });
}

/// Each look-up holds a thread, and their number has an end.
TEST_P(resolve, no_more_at_once_than_there_are_places) {
    run([] {
        auto& places = mpg::net::detail::lookup_places();
        for (std::size_t i = 0; i != mpg::net::detail::most_lookups; ++i) places.acquire();
        EXPECT_EQ(mpg::net::resolve("localhost", mpg::with_timeout(mpg::context::background(), 2ms)).error(),
                  errc::deadline_exceeded);
        EXPECT_EQ(mpg::net::resolve("127.0.0.1")->size(), 1u) << "nothing to look up";
        auto waits = mpg::spawn([] { return mpg::net::resolve("localhost").has_value(); });
        mpg::yield();
        places.release();
        EXPECT_TRUE(waits.join());
        places.release(mpg::net::detail::most_lookups - 1);
        std::vector<mpg::task<bool>> all;
        for (std::size_t i = 0; i != 3 * mpg::net::detail::most_lookups; ++i)
            all.push_back(mpg::spawn([] { return mpg::net::resolve("localhost").has_value(); }));
        for (auto& t : all) EXPECT_TRUE(t.join());
    });
}

TEST_P(resolve, a_context_ends_the_wait) {
    run([] {
        auto ctx = mpg::with_cancel(mpg::context::background());
        EXPECT_TRUE(mpg::net::resolve("localhost", ctx));
        ctx.cancel();
        EXPECT_EQ(mpg::net::resolve("localhost", ctx).error(), errc::cancelled);
        EXPECT_EQ(mpg::net::resolve("127.0.0.1", ctx)->size(), 1u); // nothing to wait for
        auto soon = mpg::with_timeout(mpg::context::background(), 1us);
        const auto found = mpg::net::resolve("localhost", soon); // whichever comes first
        EXPECT_TRUE(found || found.error() == errc::deadline_exceeded);
    });
}

TEST(resolve_on_a_plain_thread, works) { EXPECT_TRUE(mpg::net::resolve("localhost")); }
