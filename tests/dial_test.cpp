// Connecting to one of several addresses.
#include "io_support.hpp"

#include <mpg/mpg.hpp>
#include <mpg/net.hpp>

#include <atomic>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::net::endpoint;
using mpg::net::tcp_stream;

struct dial : with_pollers {};
MPG_TEST_IO(dial);

namespace {
endpoint at(const char* text) { return *endpoint::parse(text); }
mpg::result<tcp_stream> reach(const endpoint& to, mpg::sched::cancel_source* stop) {
    (void)stop;
    return tcp_stream::connect(to);
}
} // namespace

TEST(dial_order, families_take_turns) {
    std::vector<endpoint> all{at("[::1]:1"), at("[::2]:1"), at("[::3]:1"), at("1.0.0.1:1"), at("1.0.0.2:1")};
    mpg::net::detail::interleave(all);
    const std::vector<endpoint> want{at("[::1]:1"), at("1.0.0.1:1"), at("[::2]:1"), at("1.0.0.2:1"),
                                     at("[::3]:1")};
    EXPECT_EQ(all, want);
}

TEST_P(dial, goes_on_at_once_after_a_failure) {
    run([] {
        auto l = listen_local();
        auto closed = listen_local();
        const endpoint nobody = closed.local_endpoint();
        closed.close();
        std::vector<endpoint> all(40, nobody);
        all.push_back(l.local_endpoint());
        const auto start = mpg::clock::now();
        auto s = mpg::net::detail::race<tcp_stream>(all, mpg::context::background(), reach);
        ASSERT_TRUE(s);
        EXPECT_EQ(s->remote_endpoint(), l.local_endpoint());
        EXPECT_LT(mpg::clock::now() - start, 40 * mpg::net::detail::head_start)
            << "no head start was waited for";
    });
}

TEST_P(dial, the_first_ones_error_is_told_when_all_fail) {
    run([] {
        auto failing = [](const endpoint& to, mpg::sched::cancel_source*) -> mpg::result<tcp_stream> {
            return mpg::unexpected(std::make_error_code(to.port() == 1 ? std::errc::network_unreachable
                                                                       : std::errc::connection_refused));
        };
        auto s = mpg::net::detail::race<tcp_stream>({at("1.0.0.1:1"), at("1.0.0.1:2")},
                                                    mpg::context::background(), failing);
        EXPECT_EQ(s.error(), std::errc::network_unreachable);
    });
}

TEST_P(dial, one_that_hangs_does_not_hold_up_the_next_and_is_cancelled) {
    run([] {
        auto l = listen_local();
        mpg::chan<void> given_up(1);
        auto one_hangs = [&](const endpoint& to, mpg::sched::cancel_source* stop) -> mpg::result<tcp_stream> {
            if (to.port() != 1) return tcp_stream::connect(to);
            mpg::chan<int> never;
            int v;
            mpg::channels::recv_limited(mpg::channels::access::of(never), v, mpg::duration::max(), stop);
            given_up.send();
            return mpg::unexpected(stop->err());
        };
        auto s = mpg::net::detail::race<tcp_stream>({at("1.0.0.1:1"), l.local_endpoint()},
                                                    mpg::context::background(), one_hangs);
        ASSERT_TRUE(s);
        EXPECT_EQ(s->remote_endpoint(), l.local_endpoint());
        given_up.recv();
        // And a context ends all of it.
        auto limit = mpg::with_timeout(mpg::context::background(), 5ms);
        auto t = mpg::net::detail::race<tcp_stream>({at("1.0.0.1:1"), at("1.0.0.1:1")}, limit, one_hangs);
        EXPECT_EQ(t.error(), mpg::errc::deadline_exceeded);
        given_up.recv();
    });
}

TEST_P(dial, a_name_with_two_families_reaches_the_one_that_listens) {
    run([] {
        for (const char* only : {"127.0.0.1:0", "[::1]:0"}) {
            auto l = mpg::net::tcp_listener::bind(only, {.v6_only = true});
            ASSERT_TRUE(l);
            auto s = tcp_stream::connect("localhost:" + std::to_string(l->local_endpoint().port()));
            if (mpg::net::resolve("localhost")->size() == 1 && only[0] == '[') continue; // no IPv6 name here
            ASSERT_TRUE(s) << only << s.error().message();
        }
    });
}
