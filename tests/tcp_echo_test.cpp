// TCP: bytes arrive, all of them and in order, whatever the sizes, on both pollers.
//
// ctest: label:concurrent
#include "io_support.hpp"

#include <mpg/chan.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string_view>

using namespace mpg::test;
using mpg::errc;
using mpg::net::tcp_listener;
using mpg::net::tcp_stream;

struct tcp : with_pollers {};
MPG_TEST_IO(tcp);

namespace {

/// Echoes until the listener is closed; each connection in a task.
void echo_server(tcp_listener& l) {
    while (auto s = l.accept())
        mpg::go([s = std::move(*s)]() mutable {
            std::array<std::byte, 4096> buffer;
            while (auto n = s.read(buffer))
                if (*n == 0 || !s.write(std::span(buffer).first(*n))) break;
        });
}

std::vector<std::byte> pattern(std::size_t n) {
    std::vector<std::byte> v(n);
    std::mt19937_64 random(seed());
    for (std::size_t i = 0; i + 8 <= n; i += 8) {
        const auto x = random();
        std::memcpy(&v[i], &x, 8);
    }
    return v;
}

} // namespace

TEST_P(tcp, uses_the_poller_that_was_asked_for) {
    run([] { EXPECT_TRUE(mpg::runtime::current()); });
    mpg::runtime rt(setup());
    const char* overrides = std::getenv("MPG_NETPOLL");
    if (overrides && std::string_view(overrides) == "automatic") overrides = nullptr;
    EXPECT_STREQ(mpg::to_string(rt.stats().poller), overrides ? overrides : mpg::to_string(GetParam().backend))
        << rt.stats().poller_reason;
}

TEST_P(tcp, echoes) {
    run([] {
        auto l = listen_local();
        auto server = mpg::spawn([&] { echo_server(l); });
        auto c = tcp_stream::connect(l.local_endpoint());
        ASSERT_TRUE(c) << c.error().message();
        EXPECT_EQ(c->remote_endpoint(), l.local_endpoint());
        EXPECT_NE(c->local_endpoint().port(), 0);
        for (std::string_view word : {"hello", "a", "world"}) {
            ASSERT_EQ(*c->write(bytes(word)), word.size());
            std::vector<std::byte> back(word.size());
            ASSERT_TRUE(read_full(*c, back));
            EXPECT_EQ(text(back), word);
        }
        ASSERT_FALSE(c->shutdown_write());
        std::array<std::byte, 8> rest;
        EXPECT_EQ(*c->read(rest), 0u);
        EXPECT_EQ(*c->read(rest), 0u);
        l.close();
        server.join();
    });
}

TEST_P(tcp, echoes_on_many_connections_at_once) {
    constexpr int connections = 64;
    const int rounds = static_cast<int>(scaled(200));
    run([&] {
        auto l = listen_local();
        auto server = mpg::spawn([&] { echo_server(l); });
        std::atomic<int> good{0};
        std::vector<mpg::task<void>> clients;
        for (int i = 0; i != connections; ++i)
            clients.push_back(mpg::spawn([&, i] {
                auto c = tcp_stream::connect(l.local_endpoint());
                ASSERT_TRUE(c) << c.error().message();
                std::array<std::byte, 64> out, in;
                for (int r = 0; r != rounds; ++r) {
                    out.fill(static_cast<std::byte>(i + r));
                    ASSERT_TRUE(c->write(out));
                    ASSERT_TRUE(read_full(*c, in));
                    ASSERT_EQ(in, out);
                    ++good;
                }
            }));
        for (auto& c : clients) c.join();
        EXPECT_EQ(good, connections * rounds);
        l.close();
        server.join();
    });
}

TEST_P(tcp, sends_64_mib_in_one_write) {
    const std::size_t size = scaled(64 << 20);
    const auto data = pattern(size);
    run([&] {
        auto p = connect_local();
        auto writer = mpg::spawn([&] {
            EXPECT_EQ(*p.client.write(data), size);
            p.client.close();
        });
        std::vector<std::byte> got(size);
        ASSERT_TRUE(read_full(p.server, got));
        EXPECT_TRUE(got == data);
        std::byte one;
        EXPECT_EQ(*p.server.read(std::span(&one, 1)), 0u);
        writer.join();
    });
}

TEST_P(tcp, sends_both_ways_at_once) {
    const std::size_t size = scaled(8 << 20);
    const auto data = pattern(size);
    run([&] {
        auto p = connect_local();
        auto exchange = [&](tcp_stream& s) {
            auto out = mpg::spawn([&] { EXPECT_EQ(*s.write(data), size); });
            std::vector<std::byte> got(size);
            EXPECT_TRUE(read_full(s, got));
            EXPECT_TRUE(got == data);
            out.join();
        };
        auto other = mpg::spawn([&] { exchange(p.server); });
        exchange(p.client);
        other.join();
    });
}

TEST_P(tcp, writev_sends_all_pieces_in_order) {
    const auto data = pattern(scaled(4 << 20));
    run([&] {
        auto p = connect_local();
        std::vector<iovec> pieces;
        std::mt19937_64 random(seed());
        for (std::size_t at = 0; at != data.size();) {
            const std::size_t n = std::min<std::size_t>(random() % 5000, data.size() - at); // 0 too
            pieces.push_back({const_cast<std::byte*>(data.data()) + at, n});
            at += n;
        }
        const auto before = pieces;
        auto writer = mpg::spawn([&] {
            EXPECT_EQ(*p.client.writev(pieces), data.size());
            EXPECT_EQ(std::memcmp(pieces.data(), before.data(), pieces.size() * sizeof(iovec)), 0);
            EXPECT_EQ(*p.client.writev({}), 0u);
            p.client.close();
        });
        std::vector<std::byte> got(data.size());
        ASSERT_TRUE(read_full(p.server, got));
        EXPECT_TRUE(got == data);
        writer.join();
    });
}

TEST_P(tcp, write_some_returns_what_fits) {
    run([&] {
        auto p = connect_local();
        const std::vector<std::byte> big(32 << 20);
        auto n = p.client.write_some(big);
        ASSERT_TRUE(n);
        EXPECT_GT(*n, 0u);
        EXPECT_LT(*n, big.size()); // nobody reads: the buffers of the system are smaller
    });
}

TEST_P(tcp, an_empty_buffer_does_nothing) {
    run([&] {
        auto p = connect_local();
        EXPECT_EQ(*p.client.write({}), 0u);
        EXPECT_EQ(*p.client.write_some({}), 0u);
        EXPECT_EQ(*p.client.read({}), 0u);
    });
}

TEST_P(tcp, half_close_leaves_the_other_direction_open) {
    run([&] {
        auto p = connect_local();
        ASSERT_TRUE(p.client.write(bytes("question")));
        ASSERT_FALSE(p.client.shutdown_write());
        EXPECT_EQ(read_all(p.server), "question");
        ASSERT_TRUE(p.server.write(bytes("answer")));
        p.server.close();
        EXPECT_EQ(read_all(p.client), "answer");
        EXPECT_EQ(p.client.write(bytes("x")).error(), std::errc::broken_pipe); // and no SIGPIPE
    });
}

TEST_P(tcp, data_and_end_that_arrive_together_are_both_seen) {
    run([&] {
        auto l = listen_local();
        for (int i = 0; i != 200; ++i) {
            auto p = connect_local(l);
            auto reader = mpg::spawn([&] { return read_all(p.server); });
            mpg::yield(); // so that it waits, and a poller knows the descriptor
            ASSERT_TRUE(p.client.write(bytes("x")));
            if (i % 2) mpg::yield();
            ASSERT_TRUE(p.client.write(bytes("end")));
            p.client.close();
            EXPECT_EQ(reader.join(), "xend");
        }
    });
}

TEST_P(tcp, two_writers_do_not_mix_their_bytes) {
    constexpr std::size_t size = scaled(1 << 20);
    run([&] {
        auto p = connect_local();
        auto write_all_of = [&](char c) {
            return mpg::spawn([&p, c] {
                const std::vector<std::byte> mine(size, static_cast<std::byte>(c));
                for (int i = 0; i != 4; ++i) EXPECT_TRUE(p.client.write(mine));
            });
        };
        auto a = write_all_of('a'), b = write_all_of('b');
        for (int i = 0; i != 8; ++i) {
            std::vector<std::byte> got(size);
            ASSERT_TRUE(read_full(p.server, got));
            EXPECT_EQ(std::count(got.begin(), got.end(), got[0]), static_cast<std::ptrdiff_t>(size));
        }
        a.join();
        b.join();
    });
}

TEST_P(tcp, several_readers_share_a_stream) {
    run([&] {
        auto p = connect_local();
        std::atomic<std::size_t> total{0};
        std::vector<mpg::task<void>> readers;
        for (int i = 0; i != 8; ++i)
            readers.push_back(mpg::spawn([&] {
                std::array<std::byte, 7> part;
                while (auto n = p.server.read(part)) {
                    if (*n == 0) break;
                    total += *n;
                }
            }));
        for (int i = 0; i != 1000; ++i) ASSERT_TRUE(p.client.write(bytes("0123456789")));
        p.client.close();
        for (auto& r : readers) r.join();
        EXPECT_EQ(total, 10'000u);
    });
}

TEST_P(tcp, a_reset_is_reported) {
    run([&] {
        auto p = connect_local();
        linger now{1, 0};
        ASSERT_EQ(setsockopt(p.client.native_handle(), SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
        p.client.close();
        std::byte one;
        EXPECT_EQ(p.server.read(std::span(&one, 1)).error(), std::errc::connection_reset);
    });
}

TEST_P(tcp, a_descriptor_made_non_blocking_by_the_user_works) {
    run([&] {
        auto p = connect_local();
        int on = 1;
        ASSERT_EQ(ioctl(p.server.native_handle(), FIONBIO, &on), 0);
        auto reader = mpg::spawn([&] { EXPECT_EQ(read_all(p.server), "later"); });
        mpg::yield();
        ASSERT_TRUE(p.client.write(bytes("later")));
        p.client.close();
        reader.join();
    });
}

TEST_P(tcp, streams_outlive_their_runtime) {
    tcp_listener l = run([] { return listen_local(); });
    tcp_pair p = run([&] { return connect_local(l); });
    for (int i = 0; i != 3; ++i)
        run([&] {
            auto reader = mpg::spawn([&] {
                std::array<std::byte, 4> four;
                EXPECT_TRUE(read_full(p.server, four));
            });
            mpg::yield();
            EXPECT_TRUE(p.client.write(bytes("four")));
            reader.join();
        });
    p.client.close();
    EXPECT_EQ(read_all(p.server), ""); // and here without any runtime
}

/// What was sent as urgent is no part of the stream, and hides nothing behind it: a read stops in front of it although
/// more is there.
TEST_P(tcp, urgent_data_is_passed_over) {
    run([] {
        auto p = connect_local();
        auto send = [&](std::string_view s, int flags) {
            ASSERT_EQ(::send(p.client.native_handle(), s.data(), s.size(), flags), static_cast<ssize_t>(s.size()));
        };
        auto reader = mpg::spawn([&] { // registered, and waiting, before anything comes
            std::array<std::byte, 100> piece;
            return p.server.read(piece);
        });
        mpg::yield();
        send("x", 0);
        EXPECT_EQ(reader.join(), 1u);
        for (int round = 0; round != 20; ++round) {
            send("ab", 0);
            send("!", MSG_OOB);
            send("cd", 0);
            for (int i = 0; i != round * 20; ++i) mpg::yield(); // the poller has seen all of it, or nothing
            std::array<std::byte, 4> four;
            ASSERT_TRUE(read_full(p.server, four));
            EXPECT_EQ(text(four), "abcd");
        }
        ASSERT_FALSE(p.client.shutdown_write());
        EXPECT_EQ(read_all(p.server), "");
    });
}

TEST_P(tcp, plain_threads_and_tasks_talk) {
    auto l = listen_local();
    std::thread server([&] {
        auto s = l.accept();
        ASSERT_TRUE(s) << s.error().message();
        EXPECT_EQ(read_all(*s), "from a task");
        EXPECT_TRUE(s->write(bytes("from a thread")));
    });
    run([&] {
        auto c = tcp_stream::connect(l.local_endpoint());
        ASSERT_TRUE(c) << c.error().message();
        EXPECT_TRUE(c->write(bytes("from a task")));
        EXPECT_FALSE(c->shutdown_write());
        EXPECT_EQ(read_all(*c), "from a thread");
    });
    server.join();
}
