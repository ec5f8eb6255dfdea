// Unix sockets that keep messages whole, and descriptors that travel in messages.
#include "io_support.hpp"

#include <mpg/context.hpp>

#include <array>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <sys/resource.h>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;
using mpg::net::endpoint;
using mpg::net::unix_datagram;
using mpg::net::unix_seqpacket;
using mpg::net::unix_seqpacket_listener;
using mpg::net::unix_stream;

struct unix_packet : with_pollers {};
MPG_TEST_IO(unix_packet);

namespace {
std::string fresh_name(const char* what = "") {
    static int n = 0;
    return (std::filesystem::temp_directory_path() /
            ("mpg_packet_" + std::to_string(::getpid()) + what + std::to_string(++n)))
        .string();
}
std::size_t open_descriptors() { return detail::descriptors().size(); }

/// Sends n ends of pipes with `text` from a to b.
template <class S> bool send_pipes(S& a, std::string_view text, std::size_t n) {
    auto p = mpg::pipe();
    if (!p) return false;
    const std::vector<int> fds(n, p->second.native_handle());
    return a.send_message(bytes(text), fds).has_value();
}
} // namespace

TEST_P(unix_packet, datagrams_stay_whole_and_have_senders) {
    run([] {
        const std::string at = fresh_name(), back = fresh_name();
        auto server = unix_datagram::bind(at), client = unix_datagram::bind(back);
        ASSERT_TRUE(server && client);
        EXPECT_EQ(server->local_endpoint().to_string(), at);
        EXPECT_EQ(unix_datagram::bind(at).error(), std::errc::address_in_use);
        ASSERT_TRUE(client->send_to(bytes("one"), *endpoint::from_path(at)));
        ASSERT_TRUE(client->send_to({}, *endpoint::from_path(at)));
        ASSERT_FALSE(client->connect_to(at));
        ASSERT_TRUE(client->send(bytes("a longer one")));
        std::array<std::byte, 8> buffer;
        endpoint from;
        EXPECT_EQ(*server->recv_from(buffer, from), 3u);
        EXPECT_EQ(from.to_string(), back);
        EXPECT_EQ(*server->recv(buffer), 0u);
        const auto long_one = server->recv_message(buffer);
        ASSERT_TRUE(long_one);
        EXPECT_EQ(long_one->size, 8u);
        EXPECT_TRUE(long_one->truncated);
        auto nameless = unix_datagram::connect(at);
        ASSERT_TRUE(nameless);
        ASSERT_TRUE(nameless->send(bytes("x")));
        EXPECT_EQ(*server->recv_from(buffer, from), 1u);
        EXPECT_TRUE(from.empty());
        server->close();
        EXPECT_FALSE(std::filesystem::exists(at));
        EXPECT_FALSE(client->send(bytes("x")));
        EXPECT_EQ(unix_datagram::connect(at).error(), std::errc::no_such_file_or_directory);
        *client = unix_datagram();
        EXPECT_FALSE(std::filesystem::exists(back));
    });
}

/// Both kinds of senders wait for room, and for no longer than they are told to.
TEST_P(unix_packet, a_full_queue_makes_senders_wait) {
    run([] {
        const std::string at = "@" + fresh_name();
        auto server = unix_datagram::bind(at);
        auto other = unix_datagram::bind("@" + fresh_name());
        auto connected = unix_datagram::connect(at);
        ASSERT_TRUE(server && other && connected);
        const endpoint to = *endpoint::from_path(at);
        int sent = 0;
        for (;; ++sent) {
            auto soon = mpg::with_timeout(mpg::context::background(), 5ms);
            if (auto n = connected->send(bytes("c"), soon); !n) {
                EXPECT_EQ(n.error(), errc::deadline_exceeded);
                break;
            }
        }
        auto soon = mpg::with_timeout(mpg::context::background(), 5ms);
        EXPECT_EQ(other->send_to(bytes("u"), to, soon).error(), errc::deadline_exceeded);
        auto a = mpg::spawn([&] { return connected->send(bytes("c")).has_value(); });
        auto b = mpg::spawn([&] { return other->send_to(bytes("u"), to).has_value(); });
        std::byte one;
        int seen = 0;
        for (; seen != sent + 2; ++seen) ASSERT_TRUE(server->recv(std::span(&one, 1)));
        EXPECT_TRUE(a.join());
        EXPECT_TRUE(b.join());
        auto none = mpg::with_timeout(mpg::context::background(), 5ms);
        EXPECT_EQ(server->recv(std::span(&one, 1), none).error(), errc::deadline_exceeded);
        auto waits = mpg::spawn([&] { return server->recv(std::span(&one, 1)).error(); });
        mpg::yield();
        server->close();
        EXPECT_EQ(waits.join(), errc::closed);
    });
}

TEST_P(unix_packet, connections_of_packets) {
    run([] {
        const std::string at = fresh_name();
        auto l = unix_seqpacket_listener::bind(at);
        ASSERT_TRUE(l) << l.error().message();
        auto c = unix_seqpacket::connect(at);
        auto s = l->accept();
        ASSERT_TRUE(c && s);
        for (const char* text : {"one", "", "three"}) ASSERT_TRUE(c->send(bytes(text)));
        std::array<std::byte, 16> buffer;
        EXPECT_EQ(*s->recv(buffer), 3u);
        EXPECT_EQ(*s->recv(buffer), 0u);
        EXPECT_EQ(*s->recv(buffer), 5u);
        auto waits = mpg::spawn([&] { return s->recv(buffer).value_or(99); });
        mpg::yield();
        ASSERT_TRUE(c->send(bytes("later")));
        EXPECT_EQ(waits.join(), 5u);
        EXPECT_FALSE(c->shutdown_write());
        EXPECT_EQ(*s->recv(buffer), 0u);
        ASSERT_TRUE(s->send(bytes("back")));
        EXPECT_EQ(*c->recv(buffer), 4u);
        l->close();
        EXPECT_FALSE(std::filesystem::exists(at));
        EXPECT_EQ(l->accept().error(), errc::closed);
    });
}

TEST_P(unix_packet, descriptors_travel) {
    run([] {
        auto streams = unix_stream::pair();
        auto packets = unix_seqpacket::pair();
        auto datagrams = unix_datagram::pair();
        ASSERT_TRUE(streams && packets && datagrams);
        auto try_with = [](auto& from, auto& to) {
            auto p = mpg::pipe();
            ASSERT_TRUE(p);
            const int fds[] = {p->first.native_handle(), p->second.native_handle()};
            auto receiver = mpg::spawn([&] {
                std::array<std::byte, 16> buffer;
                return to.recv_message(buffer);
            });
            mpg::yield();
            ASSERT_TRUE(from.send_message(bytes("take"), fds));
            auto got = receiver.join();
            ASSERT_TRUE(got) << got.error().message();
            EXPECT_EQ(got->size, 4u);
            EXPECT_FALSE(got->fds_lost);
            ASSERT_EQ(got->fds.size(), 2u);
            for (auto& fd : got->fds) EXPECT_TRUE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
            auto reads = mpg::file::adopt(std::move(got->fds[0]));
            auto writes = mpg::file::adopt(std::move(got->fds[1]));
            ASSERT_TRUE(reads && writes);
            p->second.close();
            ASSERT_TRUE(writes->write(bytes("through")));
            writes->close();
            EXPECT_EQ(read_all(*reads), "through");
        };
        try_with(streams->first, streams->second);
        try_with(packets->first, packets->second);
        try_with(datagrams->first, datagrams->second);
    });
}

TEST_P(unix_packet, streams_with_descriptors_send_all_and_keep_borders) {
    run([] {
        auto s = unix_stream::pair();
        ASSERT_TRUE(s);
        EXPECT_EQ(s->first.send_message({}, std::vector<int>{0}).error(), std::errc::invalid_argument);
        const std::string big(1 << 20, 'b');
        auto sender = mpg::spawn([&] {
            EXPECT_TRUE(send_pipes(s->first, big, 1));
            EXPECT_TRUE(send_pipes(s->first, "tail", 2));
            s->first.close();
        });
        std::vector<std::byte> buffer(2 << 20);
        std::string all;
        std::vector<std::size_t> counts;
        for (;;) {
            auto m = s->second.recv_message(buffer);
            ASSERT_TRUE(m);
            if (m->size == 0) break;
            if (!m->fds.empty()) counts.push_back(m->fds.size());
            if (m->fds.size() == 2) { // with the first byte of their message, and of none later
                EXPECT_LE(all.size(), big.size());
                EXPECT_GT(all.size() + m->size, big.size());
            }
            all += text(std::span(buffer).first(m->size));
        }
        sender.join();
        EXPECT_EQ(all, big + "tail");
        EXPECT_EQ(counts, (std::vector<std::size_t>{1, 2}));
    });
}

/// A read stops where descriptors came with the bytes, though more bytes are there.
TEST_P(unix_packet, a_read_that_stops_at_a_border_is_not_the_last) {
    run([] {
        auto s = unix_stream::pair();
        ASSERT_TRUE(s);
        std::array<std::byte, 16> buffer;
        auto waits = mpg::spawn([&] { return s->second.read(buffer).value_or(99); });
        mpg::yield(); // so that the poller knows it
        ASSERT_TRUE(s->first.write(bytes("x")));
        EXPECT_EQ(waits.join(), 1u);
        for (int i = 0; i != 3; ++i) ASSERT_TRUE(send_pipes(s->first, "four", 1));
        for (int i = 0; i != 3; ++i) EXPECT_EQ(*s->second.read(buffer), 4u);
    });
}

/// Whatever happens to a message, no descriptor stays behind.
TEST_P(unix_packet, no_descriptor_leaks) {
    run([] {
        auto p = unix_seqpacket::pair();
        auto s = unix_stream::pair();
        ASSERT_TRUE(p && s);
        const std::size_t before = open_descriptors();
        std::array<std::byte, 2> small;
        ASSERT_TRUE(send_pipes(p->first, "longer than the buffer", 3));
        {
            auto m = p->second.recv_message(small);
            ASSERT_TRUE(m);
            EXPECT_TRUE(m->truncated);
            EXPECT_EQ(m->fds.size(), 3u);
        }
        EXPECT_EQ(open_descriptors(), before) << "with a message that was cut";
        ASSERT_TRUE(send_pipes(p->first, "x", 3));
        ASSERT_TRUE(p->second.recv(small));
        ASSERT_TRUE(send_pipes(s->first, "x", 3));
        ASSERT_TRUE(s->second.read(small));
        EXPECT_EQ(open_descriptors(), before) << "received as plain bytes";
        EXPECT_EQ(p->first.send_message(bytes("x"), std::vector<int>(254, 0)).error(),
                  std::errc::invalid_argument);
        ASSERT_TRUE(send_pipes(p->first, "x", mpg::net::most_fds));
        {
            auto m = p->second.recv_message(small);
            ASSERT_TRUE(m);
            EXPECT_EQ(m->fds.size(), mpg::net::most_fds);
            EXPECT_FALSE(m->fds_lost);
        }
        EXPECT_EQ(open_descriptors(), before);

        // This process may have two numbers more: of four descriptors two arrive.
        ASSERT_TRUE(send_pipes(p->first, "x", 4));
        ::rlimit limit;
        ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
        const int free_one = ::dup(0), free_two = ::dup(0);
        ::close(free_one);
        ::close(free_two);
        ::rlimit low = limit;
        low.rlim_cur = static_cast<::rlim_t>(free_two + 1);
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
        auto m = p->second.recv_message(small);
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
        ASSERT_TRUE(m);
        EXPECT_TRUE(m->fds_lost);
        EXPECT_EQ(m->fds.size(), 2u);
        m->fds.clear();
        EXPECT_EQ(open_descriptors(), before);
        ASSERT_TRUE(send_pipes(p->first, "x", 2)); // never received
    });
}

TEST_P(unix_packet, sockets_are_adopted_and_nothing_else) {
    run([] {
        auto l = listen_local();
        auto tcp = connect_local(l);
        auto lend = [](int fd) { return mpg::io::unique_fd(::dup(fd)); };
        auto again = mpg::net::tcp_listener::adopt(lend(l.native_handle()));
        ASSERT_TRUE(again) << again.error().message();
        EXPECT_EQ(again->local_endpoint(), l.local_endpoint());
        auto c = mpg::net::tcp_stream::connect(l.local_endpoint());
        EXPECT_TRUE(c && again->accept());
        auto s = mpg::net::tcp_stream::adopt(lend(tcp.server.native_handle()));
        ASSERT_TRUE(s);
        EXPECT_EQ(s->remote_endpoint(), tcp.client.local_endpoint());
        ASSERT_TRUE(s->write(bytes("hi")));
        std::array<std::byte, 4> buffer;
        EXPECT_EQ(*tcp.client.read(buffer), 2u);
        EXPECT_EQ(mpg::net::tcp_stream::adopt(lend(l.native_handle())).error(), std::errc::invalid_argument);
        EXPECT_EQ(mpg::net::tcp_listener::adopt(lend(s->native_handle())).error(), std::errc::invalid_argument);
        EXPECT_EQ(unix_stream::adopt(lend(s->native_handle())).error(), std::errc::invalid_argument);
        EXPECT_EQ(unix_stream::adopt(lend(::fileno(stderr))).error(), std::errc::not_a_socket);
        EXPECT_EQ(unix_stream::adopt(mpg::io::unique_fd()).error(), std::errc::bad_file_descriptor);
    });
}
