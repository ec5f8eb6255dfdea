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

TEST_P(udp, broadcasts_are_allowed) {
    run([] {
        const auto bound = udp_socket::bind("127.0.0.1:0"), connected = udp_socket::connect("127.0.0.1:9");
        for (const auto* s : {&bound, &connected})
            EXPECT_EQ(mpg::io::sys::get_option((*s)->native_handle(), SOL_SOCKET, SO_BROADCAST), 1);
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

TEST_P(udp, batches_keep_their_order_and_their_borders) {
    run([] {
        auto a = udp_socket::bind("127.0.0.1:0"), b = udp_socket::bind(":0");
        ASSERT_TRUE(a && b);
        const endpoint to = endpoint::parse("127.0.0.1:0")->with_port(b->local_endpoint().port());
        std::vector<std::string> texts;
        for (int i = 0; i != 70; ++i) texts.push_back(std::string(static_cast<std::size_t>(i), 'a'));
        std::vector<mpg::net::outgoing_datagram> out;
        for (const std::string& t : texts) out.push_back({bytes(t), to, 0});
        std::vector<std::array<std::byte, 60>> buffers(100);
        std::vector<mpg::net::datagram> in(100);
        for (std::size_t i = 0; i != in.size(); ++i) in[i].buffer = buffers[i];
        auto receiver = mpg::spawn([&] {
            std::size_t n = 0;
            while (n != texts.size()) {
                auto got = b->recv_batch(std::span(in).subspan(n));
                if (!got) return n;
                EXPECT_GE(*got, 1u);
                n += *got;
            }
            return n;
        });
        mpg::yield();
        EXPECT_EQ(*a->send_batch(out), texts.size());
        ASSERT_EQ(receiver.join(), texts.size());
        for (std::size_t i = 0; i != texts.size(); ++i) {
            EXPECT_EQ(in[i].size, std::min<std::size_t>(i, 60));
            EXPECT_EQ(in[i].truncated, i > 60);
            EXPECT_EQ(in[i].from, a->local_endpoint());
            EXPECT_EQ(in[i].segment, 0u);
        }
        for (auto& d : out) d.to = a->local_endpoint(); // IPv4 through an IPv6 socket
        EXPECT_EQ(*b->send_batch(std::span(out).first(40)), 40u);
        for (std::size_t n = 0; n != 40;) n += a->recv_batch(in).value_or(40);
        EXPECT_EQ(*a->recv_batch({}), 0u);
        EXPECT_EQ(*a->send_batch({}), 0u);
    });
}

TEST_P(udp, a_batch_tells_how_far_it_came) {
    run([] {
        auto a = udp_socket::bind("127.0.0.1:0"), b = udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(a && b);
        const std::vector<std::byte> huge(70'000);
        const mpg::net::outgoing_datagram out[] = {{bytes("x"), b->local_endpoint()}, {huge, b->local_endpoint()}};
        EXPECT_EQ(*a->send_batch(out), 1u);
        EXPECT_EQ(a->send_batch(std::span(out).subspan(1)).error(), std::errc::message_size);
        std::array<std::byte, 8> buffer;
        mpg::net::datagram in[2] = {{.buffer = buffer}, {.buffer = buffer}};
        EXPECT_EQ(*b->recv_batch(in), 1u);
        auto ctx = mpg::with_timeout(mpg::context::background(), 5ms);
        EXPECT_EQ(b->recv_batch(in, ctx).error(), errc::deadline_exceeded);
        auto waiting = mpg::spawn([&] { return b->recv_batch(in).error(); });
        mpg::yield();
        b->close();
        EXPECT_EQ(waiting.join(), errc::closed);
    });
}

TEST_P(udp, the_system_cuts_and_joins_datagrams) {
    run([] {
        auto a = udp_socket::bind("127.0.0.1:0"), b = udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(a && b);
        const std::string data(1000 * 9 + 500, 'd');
        const mpg::net::outgoing_datagram out[] = {{bytes(data), b->local_endpoint(), 1000}};
        std::vector<std::vector<std::byte>> buffers(16, std::vector<std::byte>(64 << 10));
        std::vector<mpg::net::datagram> in(16);
        for (std::size_t i = 0; i != in.size(); ++i) in[i].buffer = buffers[i];
        for (const bool gro : {false, true}) {
            ASSERT_FALSE(b->set_gro(gro));
            ASSERT_EQ(*a->send_batch(out), 1u);
            std::size_t datagrams = 0, total = 0;
            while (total != data.size()) {
                const auto n = b->recv_batch(in);
                ASSERT_TRUE(n);
                for (const auto& d : std::span(in).first(*n)) {
                    total += d.size;
                    datagrams += d.segment ? (d.size + d.segment - 1) / d.segment : 1;
                    if (d.segment) {
                        EXPECT_EQ(d.segment, 1000u);
                    } else {
                        EXPECT_LE(d.size, 1000u);
                    }
                    if (!gro) {
                        EXPECT_EQ(d.segment, 0u);
                    }
                }
            }
            EXPECT_EQ(datagrams, 10u);
        }
        EXPECT_EQ(udp_socket().set_gro(true), errc::closed);
    });
}

TEST_P(udp, sockets_share_a_port_when_they_say_so) {
    run([] {
        auto a = udp_socket::bind("127.0.0.1:0", {.reuse_port = true});
        ASSERT_TRUE(a);
        auto b = udp_socket::bind(a->local_endpoint(), {.reuse_port = true});
        ASSERT_TRUE(b) << b.error().message();
        EXPECT_EQ(udp_socket::bind(a->local_endpoint()).error(), std::errc::address_in_use);
        int seen[2] = {};
        mpg::net::udp_socket* const both[] = {&*a, &*b};
        auto count = [&](int i) {
            return mpg::spawn([&, i] {
                endpoint from;
                std::byte one;
                while (both[i]->recv_from(std::span(&one, 1), from)) {
                    ++seen[i];
                    if (!both[i]->send_to(std::span(&one, 1), from)) break;
                }
            });
        };
        auto x = count(0), y = count(1);
        for (int i = 0; i != 40; ++i) { // each from a port of its own
            auto c = udp_socket::connect(a->local_endpoint());
            std::byte one;
            ASSERT_TRUE(c && c->send(bytes("x")) && c->recv(std::span(&one, 1)));
        }
        a->close();
        b->close();
        x.join();
        y.join();
        EXPECT_GT(seen[0], 0);
        EXPECT_GT(seen[1], 0);
        EXPECT_EQ(seen[0] + seen[1], 40);
    });
}
