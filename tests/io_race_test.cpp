// Contexts that end operations at random moments: what is written, datagrams, messages with descriptors, accepted
// connections, copies. (Reads of streams: tcp_cancel_test.) Buffers are overwritten as soon as an operation has returned:
// what would still use them shows, over 100,000 times for each poller with its three numbers of processors. What an
// operation says it has done has been done, and nothing else that counts is lost.
//
// ctest: label:concurrent
#include "io_support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/io.hpp>
#include <mpg/time.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <sys/socket.h>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;

struct io_race : with_pollers {
  protected:
    std::mt19937_64 random{seed()};

    void yield_some(unsigned below) {
        for (auto n = random() % below; n != 0; --n) mpg::yield();
    }
    /// f(ctx) in a task of its own, whose context is cancelled a while after `meanwhile`. True: it was done in spite of that.
    template <class F, class G> bool race(F f, G meanwhile) {
        auto ctx = mpg::with_cancel(mpg::context::background());
        auto task = mpg::spawn([&] { return f(ctx); });
        yield_some(4);
        meanwhile();
        yield_some(3);
        ctx.cancel();
        const std::error_code e = task.join();
        EXPECT_TRUE(!e || e == errc::cancelled) << e;
        return !e;
    }
    static constexpr std::byte dead{0xa5};
};
MPG_TEST_IO(io_race);

namespace {
constexpr auto nothing = [] {};
template <class T> std::error_code error_of(const mpg::result<T>& r) { return r ? std::error_code() : r.error(); }
} // namespace

/// The socket takes little, so that a write mostly waits.
TEST_P(io_race, a_cancelled_write_sends_nothing_of_a_dead_buffer) {
    const int rounds = static_cast<int>(scaled(34'000));
    run([&] {
        auto p = connect_local();
        for (int side : {p.client.native_handle(), p.server.native_handle()})
            for (int buffer : {SO_SNDBUF, SO_RCVBUF}) {
                const int few = 4096;
                ASSERT_EQ(::setsockopt(side, SOL_SOCKET, buffer, &few, sizeof few), 0);
            }
        std::atomic<std::size_t> arrived{0}, foreign{0};
        auto reader = mpg::spawn([&] {
            std::vector<std::byte> some(3000);
            for (;;) {
                const auto n = p.server.read(some);
                if (!n || *n == 0) break;
                arrived += *n;
                const auto came = std::span(some).first(*n);
                foreign += *n - static_cast<std::size_t>(std::count(came.begin(), came.end(), std::byte{'w'}));
            }
        });
        std::size_t written = 0;
        int cancelled = 0;
        std::vector<std::byte> buffer(8192);
        for (int i = 0; i != rounds; ++i) {
            const std::size_t n = 1 + random() % buffer.size();
            const bool done = race(
                [&](const mpg::context& ctx) {
                    std::fill_n(buffer.begin(), n, std::byte{'w'});
                    const auto r = p.client.write(std::span(buffer).first(n), ctx);
                    std::fill_n(buffer.begin(), n, dead);
                    return error_of(r);
                },
                nothing);
            if (done) written += n;
            cancelled += !done;
        }
        p.client.close();
        reader.join();
        EXPECT_EQ(foreign, 0u);
        EXPECT_GE(arrived, written);
        EXPECT_GT(cancelled, 0);
        EXPECT_LT(cancelled, rounds);
    });
}

TEST_P(io_race, a_cancelled_read_into_pieces_loses_no_byte) {
    const int rounds = static_cast<int>(scaled(34'000));
    run([&] {
        auto p = connect_local();
        std::size_t sent = 0, received = 0;
        std::vector<std::byte> arena(64 * 64);
        for (int i = 0; i != rounds; ++i) {
            const auto at = std::span(arena).subspan((random() % 63) * 64, 128);
            race(
                [&](const mpg::context& ctx) {
                    ::iovec pieces[] = {{at.data(), 1}, {at.data() + 64, 64}};
                    const auto n = p.server.readv(pieces, ctx);
                    std::memset(pieces, 0, sizeof pieces);
                    std::fill(at.begin(), at.end(), dead);
                    received += n.value_or(0);
                    return error_of(n);
                },
                [&] {
                    if (random() % 4) sent += *p.client.write(bytes(random() % 2 ? "z" : "zzz"));
                });
            ASSERT_EQ(std::count(arena.begin(), arena.end(), std::byte{'z'}), 0) << "round " << i;
        }
        p.client.close();
        received += read_all(p.server).size();
        EXPECT_EQ(received, sent);
    });
}

TEST_P(io_race, a_cancelled_receive_loses_no_datagram) {
    const int rounds = static_cast<int>(scaled(34'000));
    run([&] {
        auto to = mpg::net::udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(to);
        auto from = mpg::net::udp_socket::connect(to->local_endpoint());
        ASSERT_TRUE(from);
        std::atomic<int> next_sent = 0, next_received = 0; // by two tasks at once
        int cancelled = 0;
        unsigned turn = 0; // of the receivers, one after the other
        std::vector<std::byte> arena(64 * 16, dead);
        auto receive = [&](const mpg::context& ctx) {
            const auto at = std::span(arena).subspan((turn++ % 64) * 16, 16);
            mpg::net::endpoint sender;
            const auto n = to->recv_from(at, sender, ctx);
            if (n) {
                EXPECT_EQ(sender, from->local_endpoint());
                EXPECT_EQ(text(at.first(*n)), std::to_string(next_received++));
            }
            std::fill(at.begin(), at.end(), dead);
            return error_of(n);
        };
        for (int i = 0; i != rounds; ++i) {
            cancelled += !race(receive, [&] {
                if (next_sent - next_received < 50 && random() % 4) {
                    EXPECT_TRUE(from->send(bytes(std::to_string(next_sent++))));
                }
            });
            ASSERT_EQ(std::count(arena.begin(), arena.end(), dead), static_cast<std::ptrdiff_t>(arena.size())) << "round " << i;
        }
        while (next_received != next_sent) ASSERT_FALSE(receive(mpg::context::background()));
        EXPECT_GT(cancelled, 0);
        EXPECT_LT(cancelled, rounds);
    });
}

/// The fixture looks for those that are left.
TEST_P(io_race, a_cancelled_receive_loses_no_descriptor) {
    const int rounds = static_cast<int>(scaled(34'000));
    run([&] {
        auto pair = mpg::net::unix_stream::pair();
        ASSERT_TRUE(pair);
        auto& [from, to] = *pair;
        std::atomic<std::size_t> sent = 0, received = 0; // by two tasks at once
        auto receive = [&, &receiver = to](const mpg::context& ctx) {
            std::byte one;
            const auto m = receiver.recv_message(std::span(&one, 1), ctx);
            if (m) {
                EXPECT_EQ(m->size, 1u);
                received += m->fds.size();
            }
            return error_of(m);
        };
        const int fds[] = {from.native_handle()};
        for (int i = 0; i != rounds; ++i)
            race(receive, [&, &sender = from] {
                if (sent - received < 50 && random() % 4) {
                    EXPECT_TRUE(sender.send_message(bytes("d"), fds));
                    ++sent;
                }
            });
        while (received != sent) ASSERT_FALSE(receive(mpg::context::background()));
    });
}

TEST_P(io_race, a_cancelled_accept_loses_no_connection) {
    const int rounds = static_cast<int>(scaled(3'000));
    run([&] {
        auto l = listen_local();
        std::atomic<std::size_t> connected = 0, accepted = 0; // by two tasks at once
        std::vector<mpg::net::tcp_stream> clients;
        auto accept = [&](const mpg::context& ctx) {
            auto s = l.accept(ctx);
            accepted += s.has_value();
            return error_of(s);
        };
        for (int i = 0; i != rounds; ++i) {
            race(accept, [&] {
                if (connected - accepted < 50 && random() % 4) {
                    auto c = mpg::net::tcp_stream::connect(l.local_endpoint());
                    EXPECT_TRUE(c);
                    if (c) clients.push_back(std::move(*c)), ++connected;
                }
            });
            if (i % 64 == 0) clients.clear();
        }
        while (accepted != connected) ASSERT_FALSE(accept(mpg::context::background()));
    });
}

/// What copy says it has written is what has come out, and what it has not taken is still there; what was in between is lost.
TEST_P(io_race, a_cancelled_copy_says_what_went_out) {
    const int rounds = static_cast<int>(scaled(300));
    const std::string data = [] {
        std::string s;
        for (int i = 0; i != 200'000; ++i) s += std::to_string(i);
        return s;
    }();
    run([&] {
        int cancelled = 0;
        for (int i = 0; i != rounds; ++i) {
            auto near = connect_local(), far = connect_local();
            mpg::chan<bool> copied(1);
            auto sender = mpg::spawn([&, waits = i % 2 == 0] { // then copy does not end but by its context
                (void)near.client.write(bytes(data));
                if (waits) (void)copied.recv();
                near.client.shutdown_write();
            });
            auto receiver = mpg::spawn([&] { return read_all(far.server); });
            auto ctx = mpg::with_cancel(mpg::context::background());
            auto canceller = mpg::spawn([&, most = random() % 1500] {
                mpg::sleep_for(std::chrono::microseconds(most));
                ctx.cancel();
            });
            mpg::copy_info how;
            const auto n = mpg::copy(far.client, near.server, ctx, how);
            copied.send(true);
            canceller.join();
            cancelled += !n;
            EXPECT_TRUE(n || n.error() == errc::cancelled);
            far.client.shutdown_write();
            const std::string out = receiver.join();
            EXPECT_EQ(out.size(), how.bytes);
            EXPECT_TRUE(out == std::string_view(data).substr(0, out.size()));
            const std::string rest = read_all(near.server);
            EXPECT_LE(out.size() + rest.size(), data.size());
            EXPECT_TRUE(std::string_view(data).ends_with(rest));
            EXPECT_TRUE(!n || out.size() == data.size());
            sender.join();
        }
        EXPECT_GE(cancelled, rounds / 2);
    });
}
