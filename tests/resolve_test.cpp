#include "io_support.hpp"

#include <mpg/context.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <netdb.h>
#include <string>
#include <vector>

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

namespace {

/// A system's resolver that answers when it is told to.
struct slow_names {
    mpg::chan<void> go_on; // closed: all go on
    std::atomic<int> asked{0}, now{0}, most{0};

    mpg::net::resolver_options options(std::chrono::nanoseconds ttl = {}) {
        mpg::net::resolver_options o;
        o.ttl = ttl;
        o.max_lookups = 4;
        o.look_up = [this](const std::string& host, std::vector<endpoint>& to) -> std::error_code {
            ++asked;
            for (int n = ++now, m = most; n > m && !most.compare_exchange_weak(m, n);) {
            }
            go_on.recv();
            --now;
            if (host == "nobody") return {EAI_NONAME, mpg::net::resolver_category()};
            if (host == "broken") return {EAI_FAIL, mpg::net::resolver_category()};
            to.push_back(*endpoint::parse("192.0.2.7:0"));
            return {};
        };
        return o;
    }
};

} // namespace

/// Each look-up holds a thread, and their number has an end.
TEST_P(resolve, no_more_at_once_than_there_are_places) {
    run([] {
        slow_names names;
        ASSERT_FALSE(mpg::net::configure_resolver(names.options()));
        std::vector<mpg::task<bool>> all;
        for (int i = 0; i != 20; ++i)
            all.push_back(
                mpg::spawn([i] { return mpg::net::resolve("host" + std::to_string(i)).has_value(); }));
        EXPECT_TRUE(eventually([&] { return names.now == 4; }));
        EXPECT_EQ(mpg::net::resolve("other", mpg::with_timeout(mpg::context::background(), 2ms)).error(),
                  errc::deadline_exceeded);
        EXPECT_EQ(mpg::net::resolve("127.0.0.1")->size(), 1u) << "nothing to look up";
        names.go_on.close();
        for (auto& t : all) EXPECT_TRUE(t.join());
        EXPECT_EQ(names.most, 4);
    });
}

TEST_P(resolve, those_who_ask_for_one_name_share_a_look_up) {
    run([] {
        slow_names names;
        mpg::net::resolver r(names.options());
        std::vector<mpg::task<std::size_t>> all;
        for (int i = 0; i != 10; ++i)
            all.push_back(mpg::spawn([&] { return r.resolve("host")->size(); }));
        auto ctx = mpg::with_cancel(mpg::context::background());
        auto gives_up = mpg::spawn([&] { return r.resolve("host", ctx).error(); });
        EXPECT_TRUE(eventually([&] { return r.stats().joined == 10; }));
        ctx.cancel();
        EXPECT_EQ(gives_up.join(), errc::cancelled);
        names.go_on.close();
        for (auto& t : all) EXPECT_EQ(t.join(), 1u);
        EXPECT_EQ(names.asked, 1);
        EXPECT_EQ(r.stats().entries, 0u) << "nothing is remembered";
        EXPECT_TRUE(r.resolve("host"));
        EXPECT_EQ(names.asked, 2);
    });
}

TEST_P(resolve, answers_are_remembered_for_a_while) {
    run([] {
        slow_names names;
        names.go_on.close();
        auto o = names.options(1h);
        o.max_entries = 2;
        mpg::net::resolver r(o);
        for (int i = 0; i != 3; ++i) EXPECT_EQ(r.resolve("a")->front().to_string(), "192.0.2.7:0");
        EXPECT_EQ(names.asked, 1);
        EXPECT_EQ(r.stats().hits, 2u);
        for (const char* host : {"b", "c"}) EXPECT_TRUE(r.resolve(host)); // the oldest goes
        EXPECT_EQ(r.stats().entries, 2u);
        EXPECT_TRUE(r.resolve("b"));
        EXPECT_EQ(names.asked, 3);
        EXPECT_TRUE(r.resolve("a"));
        EXPECT_EQ(names.asked, 4);
        r.clear();
        EXPECT_EQ(r.stats().entries, 0u);
        EXPECT_TRUE(r.resolve("a"));
        EXPECT_EQ(names.asked, 5);
        for (int i = 0; i != 2; ++i) EXPECT_EQ(r.resolve("nobody").error(), std::errc::address_not_available);
        EXPECT_EQ(names.asked, 7) << "that there is none is not remembered";

        auto negative = names.options(1ns);
        negative.negative_ttl = 1h;
        mpg::net::resolver n(negative);
        for (int i = 0; i != 2; ++i) {
            EXPECT_FALSE(n.resolve("nobody")); // remembered
            EXPECT_FALSE(n.resolve("broken")); // never
            EXPECT_TRUE(n.resolve("a"));       // out of date
        }
        EXPECT_EQ(names.asked, 7 + 1 + 2 + 2);
    });
}

TEST_P(resolve, a_look_up_that_nobody_waits_for_is_dropped) {
    run([] {
        slow_names names;
        mpg::net::resolver r(names.options());
        std::vector<mpg::task<bool>> four;
        for (int i = 0; i != 4; ++i)
            four.push_back(mpg::spawn([&, i] { return r.resolve("host" + std::to_string(i)).has_value(); }));
        EXPECT_TRUE(eventually([&] { return names.now == 4; }));
        auto ctx = mpg::with_cancel(mpg::context::background());
        auto late = mpg::spawn([&] { return r.resolve("late", ctx).error(); });
        EXPECT_TRUE(eventually([&] { return r.stats().look_ups == 5; }));
        ctx.cancel();
        EXPECT_EQ(late.join(), errc::cancelled);
        names.go_on.close();
        for (auto& t : four) EXPECT_TRUE(t.join());
        EXPECT_TRUE(eventually([&] { return r.stats().dropped == 1; }));
        EXPECT_EQ(names.asked, 4);
        EXPECT_TRUE(r.resolve("late"));
    });
}

/// The runtime stops while look-ups are under way, queued and waited for.
TEST_P(resolve, a_runtime_may_stop_meanwhile) {
    slow_names names;
    mpg::net::resolver r(names.options());
    run([&] {
        for (int i = 0; i != 10; ++i)
            mpg::go([&, i] { (void)r.resolve("host" + std::to_string(i % 7)); });
        EXPECT_TRUE(eventually([&] { return names.now == 4; }));
        names.go_on.close();
    });
    EXPECT_TRUE(r.resolve("host0")) << "on a plain thread";
    run([&] { EXPECT_TRUE(r.resolve("host6")) << "in the next runtime"; });
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

TEST(resolve_on_a_plain_thread, works) {
    EXPECT_TRUE(mpg::net::resolve("localhost"));
    EXPECT_EQ(mpg::net::configure_resolver({}), std::errc::operation_not_permitted);
}
