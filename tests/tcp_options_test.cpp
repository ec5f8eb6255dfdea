// Options of TCP connections: what is on from the start, and what the system is told.
#include "io_support.hpp"

#include <mpg/net.hpp>

#include <netinet/tcp.h>

using namespace mpg::test;
using namespace std::chrono_literals;

struct tcp_options : with_pollers {};
MPG_TEST_IO(tcp_options);

namespace {
int get(const mpg::net::tcp_stream& s, int level, int name) {
    return static_cast<int>(mpg::io::sys::get_option(s.native_handle(), level, name));
}
} // namespace

TEST_P(tcp_options, nodelay_and_probes_are_on_from_the_start) {
    run([] {
        auto p = connect_local();
        for (const auto* s : {&p.client, &p.server}) {
            EXPECT_EQ(get(*s, IPPROTO_TCP, TCP_NODELAY), 1);
            EXPECT_EQ(get(*s, SOL_SOCKET, SO_KEEPALIVE), 1);
            EXPECT_EQ(get(*s, IPPROTO_TCP, TCP_KEEPIDLE), 15);
            EXPECT_EQ(get(*s, IPPROTO_TCP, TCP_KEEPINTVL), 15);
            EXPECT_EQ(get(*s, IPPROTO_TCP, TCP_KEEPCNT), 9);
        }
        auto l = *mpg::net::tcp_listener::bind("127.0.0.1:0", {.keepalive = std::nullopt});
        auto q = connect_local(l);
        EXPECT_EQ(get(q.server, SOL_SOCKET, SO_KEEPALIVE), 0);
    });
}

TEST_P(tcp_options, are_told_to_the_system) {
    run([] {
        auto p = connect_local();
        auto& s = p.client;
        EXPECT_FALSE(s.set_nodelay(false));
        EXPECT_EQ(get(s, IPPROTO_TCP, TCP_NODELAY), 0);
        EXPECT_FALSE(s.set_keepalive(mpg::net::keepalive{60s, 7s, 3}));
        EXPECT_EQ(get(s, IPPROTO_TCP, TCP_KEEPIDLE), 60);
        EXPECT_EQ(get(s, IPPROTO_TCP, TCP_KEEPINTVL), 7);
        EXPECT_EQ(get(s, IPPROTO_TCP, TCP_KEEPCNT), 3);
        EXPECT_FALSE(s.set_keepalive(mpg::net::keepalive{0s, 100000s, 1000}))
            << "brought into the system's limits";
        EXPECT_FALSE(s.set_keepalive(std::nullopt));
        EXPECT_EQ(get(s, SOL_SOCKET, SO_KEEPALIVE), 0);
        EXPECT_FALSE(s.set_user_timeout(1500ms));
        EXPECT_EQ(get(s, IPPROTO_TCP, TCP_USER_TIMEOUT), 1500);
        EXPECT_FALSE(s.set_read_buffer(20'000));
        EXPECT_EQ(get(s, SOL_SOCKET, SO_RCVBUF), 40'000);
        EXPECT_FALSE(s.set_write_buffer(20'000));
        EXPECT_EQ(get(s, SOL_SOCKET, SO_SNDBUF), 40'000);
        s.close();
        EXPECT_EQ(s.set_nodelay(true), mpg::errc::closed);
        EXPECT_EQ(mpg::net::tcp_stream().set_keepalive({}), mpg::errc::closed);
    });
}

TEST_P(tcp_options, a_linger_of_zero_resets) {
    run([] {
        auto p = connect_local();
        ASSERT_FALSE(p.client.set_linger(0s));
        p.client.close();
        std::byte one;
        EXPECT_EQ(p.server.read(std::span(&one, 1)).error(), std::errc::connection_reset);
        auto q = connect_local();
        ASSERT_FALSE(q.client.set_linger(0s));
        ASSERT_FALSE(q.client.set_linger(std::nullopt));
        q.client.close();
        EXPECT_EQ(q.server.read(std::span(&one, 1)), 0u);
    });
}
