#include "io_support.hpp"

#include <mpg/context.hpp>
#include <mpg/io.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <random>
#include <sys/resource.h>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;
using mpg::file;

struct copy : with_pollers {};
MPG_TEST_IO(copy);

namespace {
std::vector<std::byte> pattern(std::size_t n) {
    std::vector<std::byte> v(n);
    std::mt19937_64 random(seed());
    for (std::size_t i = 0; i + 8 <= n; i += 8) {
        const auto x = random();
        std::memcpy(&v[i], &x, 8);
    }
    return v;
}

/// A reader and a writer that are no descriptors.
struct memory {
    std::vector<std::byte> data;
    std::size_t at = 0;

    mpg::result<std::size_t> read(std::span<std::byte> to) {
        const std::size_t n = std::min(to.size(), data.size() - at);
        std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), n, to.begin());
        at += n;
        return n;
    }
    mpg::result<std::size_t> write(std::span<const std::byte> from) {
        data.insert(data.end(), from.begin(), from.end());
        return from.size();
    }
};

struct temporary {
    std::string path = (std::filesystem::temp_directory_path() / ("mpg_copy_" + std::to_string(::getpid())));
    ~temporary() { std::filesystem::remove(path); }
};
} // namespace

TEST_P(copy, proxies_between_sockets) {
    const auto data = pattern(scaled(16 << 20));
    run([&] {
        auto near = connect_local(), far = connect_local();
        auto proxy = mpg::spawn([&] {
            const auto n = mpg::copy(far.client, near.server);
            far.client.close();
            return n.value_or(0);
        });
        auto sender = mpg::spawn([&] {
            EXPECT_TRUE(near.client.write(data));
            near.client.close();
        });
        std::vector<std::byte> got(data.size());
        ASSERT_TRUE(read_full(far.server, got));
        EXPECT_TRUE(got == data);
        std::byte one;
        EXPECT_EQ(*far.server.read(std::span(&one, 1)), 0u);
        sender.join();
        EXPECT_EQ(proxy.join(), data.size());
    });
}

TEST_P(copy, goes_both_ways_at_once) {
    const auto data = pattern(scaled(4 << 20));
    run([&] {
        auto near = connect_local(), far = connect_local();
        auto there = mpg::spawn([&] {
            EXPECT_EQ(mpg::copy(far.client, near.server).value_or(0), data.size());
            far.client.shutdown_write();
        });
        auto back = mpg::spawn([&] {
            EXPECT_EQ(mpg::copy(near.server, far.client).value_or(0), data.size());
            near.server.shutdown_write();
        });
        auto exchange = [&](mpg::net::tcp_stream& s) {
            return mpg::spawn([&] {
                auto out = mpg::spawn([&] {
                    EXPECT_TRUE(s.write(data));
                    s.shutdown_write();
                });
                const std::string got = read_all(s);
                EXPECT_TRUE(std::ranges::equal(bytes(got), data));
                out.join();
            });
        };
        auto a = exchange(near.client), b = exchange(far.server);
        a.join();
        b.join();
        there.join();
        back.join();
    });
}

TEST_P(copy, from_and_to_files_and_pipes) {
    const auto data = pattern(scaled(4 << 20));
    run([&] {
        temporary t;
        auto p = connect_local();
        auto sender = mpg::spawn([&] {
            EXPECT_TRUE(p.client.write(data));
            p.client.close();
        });
        auto f = file::open(t.path, O_RDWR | O_CREAT | O_TRUNC);
        ASSERT_TRUE(f);
        EXPECT_EQ(mpg::copy(*f, p.server).value_or(0), data.size()); // socket to file
        sender.join();
        EXPECT_EQ(*f->size(), data.size());
        auto again = file::open(t.path);
        auto q = mpg::pipe();
        auto r = connect_local();
        auto to_pipe = mpg::spawn([&] { // file to pipe
            EXPECT_EQ(mpg::copy(q->second, *again).value_or(0), data.size());
            q->second.close();
        });
        auto to_socket = mpg::spawn([&] { // pipe to socket
            EXPECT_EQ(mpg::copy(r.client, q->first).value_or(0), data.size());
            r.client.close();
        });
        const std::string got = read_all(r.server);
        EXPECT_TRUE(std::ranges::equal(bytes(got), data));
        to_pipe.join();
        to_socket.join();
    });
}

TEST_P(copy, of_what_is_no_descriptor_goes_through_a_buffer) {
    run([&] {
        memory from{pattern(300'000)}, to;
        auto p = connect_local();
        auto sender = mpg::spawn([&] {
            EXPECT_EQ(*mpg::copy(p.client, from), 300'000u);
            p.client.close();
        });
        EXPECT_EQ(*mpg::copy(to, p.server), 300'000u);
        EXPECT_TRUE(to.data == from.data);
        sender.join();
    });
}

TEST_P(copy, to_what_cannot_be_spliced_to_loses_nothing) {
    const auto data = pattern(scaled(1 << 20));
    run([&] {
        temporary t;
        auto f = file::open(t.path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND); // splice refuses this
        ASSERT_TRUE(f);
        auto p = connect_local();
        auto sender = mpg::spawn([&] {
            EXPECT_TRUE(p.client.write(data));
            p.client.close();
        });
        EXPECT_EQ(mpg::copy(*f, p.server).value_or(0), data.size());
        sender.join();
        auto back = file::open(t.path);
        const std::string got = read_all(*back);
        EXPECT_TRUE(std::ranges::equal(bytes(got), data));
    });
}

TEST_P(copy, ends_with_the_error_of_a_side) {
    run([] {
        auto near = connect_local(), far = connect_local();
        far.server.close();
        auto sender = mpg::spawn([&] {
            const std::vector<std::byte> some(1 << 16);
            while (near.client.write(some)) {
            }
        });
        const auto n = mpg::copy(far.client, near.server);
        ASSERT_FALSE(n);
        EXPECT_TRUE(n.error() == std::errc::broken_pipe || n.error() == std::errc::connection_reset)
            << n.error();
        near.server.close();
        sender.join();
        EXPECT_EQ(mpg::copy(far.client, near.server).error(), errc::closed);
    });
}

TEST_P(copy, is_cancelled_while_either_side_waits) {
    run([] {
        auto near = connect_local(), far = connect_local();
        auto ctx = mpg::with_timeout(mpg::context::background(), 10ms);
        EXPECT_EQ(mpg::copy(far.client, near.server, ctx).error(),
                  errc::deadline_exceeded); // nothing to read
        auto sender = mpg::spawn([&] {
            const std::vector<std::byte> some(1 << 16);
            while (near.client.write(some)) {
            }
        });
        auto ctx2 = mpg::with_timeout(mpg::context::background(), 50ms);
        EXPECT_EQ(mpg::copy(far.client, near.server, ctx2).error(), errc::deadline_exceeded); // nobody reads
        near.server.close();
        sender.join();
        ASSERT_TRUE(far.server.write(bytes("x"))); // the socket is as it was
        std::byte one;
        EXPECT_EQ(*far.client.read(std::span(&one, 1)), 1u);
    });
}
