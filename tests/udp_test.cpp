#include "io_support.hpp"

#include <mpg/context.hpp>

#include <array>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;
using mpg::net::endpoint;
using mpg::net::udp_socket;

struct udp : with_pollers {};
MPG_TEST_IO(udp);

TEST_P(udp, exchanges_datagrams) {
    run([] {
        auto a = udp_socket::bind("127.0.0.1:0"), b = udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(a && b);
        ASSERT_EQ(*a->send_to(bytes("hello"), b->local_endpoint()), 5u);
        ASSERT_EQ(*a->send_to({}, b->local_endpoint()), 0u);
        std::array<std::byte, 16> buffer;
        endpoint from;
        EXPECT_EQ(*b->recv_from(buffer, from), 5u);
        EXPECT_EQ(text(std::span(buffer).first(5)), "hello");
        EXPECT_EQ(from, a->local_endpoint());
        EXPECT_EQ(*b->recv_from(buffer, from), 0u); // a datagram without data is one
        auto waiting = mpg::spawn([&] { return a->recv_from(buffer, from).value_or(99); });
        mpg::yield();
        ASSERT_TRUE(b->send_to(bytes("back"), a->local_endpoint()));
        EXPECT_EQ(waiting.join(), 4u);
        EXPECT_EQ(from, b->local_endpoint());
    });
}

TEST_P(udp, connected_sockets_know_their_peer) {
    run([] {
        auto server = udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(server);
        auto client = udp_socket::connect(server->local_endpoint().to_string());
        ASSERT_TRUE(client) << client.error().message();
        EXPECT_EQ(client->remote_endpoint(), server->local_endpoint());
        ASSERT_TRUE(client->send(bytes("ping")));
        std::array<std::byte, 16> buffer;
        endpoint from;
        ASSERT_EQ(*server->recv_from(buffer, from), 4u);
        ASSERT_TRUE(server->send_to(bytes("pong!"), from));
        EXPECT_EQ(*client->recv(buffer), 5u);
    });
}

TEST_P(udp, an_any_address_takes_ipv4_and_ipv6) {
    run([] {
        auto server = udp_socket::bind(":0");
        ASSERT_TRUE(server) << server.error().message();
        const auto port = server->local_endpoint().port();
        std::array<std::byte, 16> buffer;
        for (const char* host : {"127.0.0.1:0", "[::1]:0"}) {
            auto client = udp_socket::bind(host);
            if (!client) continue; // no IPv6 here
            endpoint from;
            ASSERT_TRUE(client->send_to(bytes("x"), endpoint::parse(host)->with_port(port)));
            ASSERT_EQ(*server->recv_from(buffer, from), 1u);
            EXPECT_EQ(from, client->local_endpoint());
            ASSERT_TRUE(server->send_to(bytes("yy"), from)); // to IPv4 through an IPv6 socket, too
            EXPECT_EQ(*client->recv(buffer), 2u);
        }
    });
}

TEST_P(udp, an_error_of_the_network_is_reported_once_and_passes) {
    run([] {
        const auto nobody = [] { return udp_socket::bind("127.0.0.1:0")->local_endpoint(); }();
        auto s = udp_socket::connect(nobody);
        ASSERT_TRUE(s);
        ASSERT_TRUE(s->send(bytes("x")));
        std::array<std::byte, 4> buffer;
        EXPECT_EQ(s->recv(buffer).error(), std::errc::connection_refused);
        s->set_read_deadline(mpg::clock::now() + 10ms);
        EXPECT_EQ(s->recv(buffer).error(), errc::deadline_exceeded);
    });
}

TEST_P(udp, too_long_a_datagram_is_an_error) {
    run([] {
        auto s = udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(s);
        EXPECT_EQ(s->send_to(std::vector<std::byte>(70'000), s->local_endpoint()).error(),
                  std::errc::message_size);
    });
}

TEST_P(udp, deadlines_contexts_and_close_end_what_is_pending) {
    run([] {
        auto s = udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(s);
        std::array<std::byte, 4> buffer;
        endpoint from;
        s->set_deadline(mpg::clock::now() + 10ms);
        EXPECT_EQ(s->recv_from(buffer, from).error(), errc::deadline_exceeded);
        s->set_deadline(std::nullopt);
        auto ctx = mpg::with_timeout(mpg::context::background(), 10ms);
        EXPECT_EQ(s->recv_from(buffer, from, ctx).error(), errc::deadline_exceeded);
        auto waiting = mpg::spawn([&] { return s->recv_from(buffer, from).error(); });
        for (int i = 0; i != 10; ++i) mpg::yield();
        s->close();
        EXPECT_EQ(waiting.join(), errc::closed);
        EXPECT_EQ(s->send_to(buffer, from).error(), errc::closed);
    });
}

TEST_P(udp, refuses_bad_addresses) {
    run([] {
        EXPECT_EQ(udp_socket::bind("127.0.0.1").error(), std::errc::invalid_argument);
        EXPECT_EQ(udp_socket::connect("127.0.0.1:x").error(), std::errc::invalid_argument);
        EXPECT_EQ(udp_socket::bind(endpoint()).error(), std::errc::address_family_not_supported);
        auto s = udp_socket::bind("127.0.0.1:0");
        EXPECT_EQ(udp_socket::bind(s->local_endpoint()).error(), std::errc::address_in_use);
    });
}
