// I/O and signals as the page of the public API declares them: each name in each form, with and without a
// context, by programs that know nothing else. What they must do in detail is tested beside each header.
#include "io_support.hpp"

#include <mpg/io.hpp>
#include <mpg/mpg.hpp>
#include <mpg/net.hpp>
#include <mpg/signal.hpp>

#include <array>
#include <csignal>
#include <fcntl.h>
#include <string>
#include <system_error>
#include <type_traits>
#include <unistd.h>
#include <unordered_set>
#include <vector>

namespace {

using namespace std::chrono_literals;
using mpg::test::bytes;
using mpg::test::text;

struct io_contract : mpg::test::with_pollers {
  protected:
    mpg::context none = mpg::context::background();
};
MPG_TEST_IO(io_contract);

template <class T> T take(mpg::result<T> r) {
    EXPECT_TRUE(r.has_value()) << r.error().message();
    return std::move(r).value();
}

/// What every descriptor that waits must do: fail by context, by deadline, by close from another task.
template <class Object, class Wait> void check_ends(Object& o, Wait wait) {
    const auto far = mpg::clock::now() + 1h;
    auto cancelled = mpg::with_cancel(mpg::context::background());
    mpg::go([&] { cancelled.cancel(); });
    EXPECT_EQ(wait(cancelled), mpg::errc::cancelled);
    EXPECT_EQ(wait(mpg::with_timeout(mpg::context::background(), 1ms)), mpg::errc::deadline_exceeded);
    EXPECT_EQ(wait(mpg::with_deadline(mpg::context::background(), mpg::clock::now() + 1ms)),
              mpg::errc::deadline_exceeded);

    EXPECT_FALSE(o.set_deadline(mpg::clock::now() + 1ms));
    EXPECT_EQ(wait(mpg::context::background()), mpg::errc::deadline_exceeded);
    EXPECT_FALSE(o.set_deadline(std::nullopt));
    EXPECT_FALSE(o.set_read_deadline(far));
    EXPECT_FALSE(o.set_write_deadline(far));
    mpg::task<std::error_code> pending = mpg::spawn([&] { return wait(mpg::context::background()); });
    mpg::yield();
    EXPECT_FALSE(o.set_read_deadline(mpg::clock::now()));
    EXPECT_EQ(pending.join(), mpg::errc::deadline_exceeded);
    EXPECT_FALSE(o.set_read_deadline(std::nullopt));

    EXPECT_GE(o.native_handle(), 0);
    mpg::task<std::error_code> closed = mpg::spawn([&] { return wait(mpg::context::background()); });
    mpg::yield();
    o.close();
    EXPECT_EQ(closed.join(), mpg::errc::closed);
    EXPECT_EQ(wait(mpg::context::background()), mpg::errc::closed);
    EXPECT_TRUE(o.set_deadline(far));
    o.close();
}

template <class Stream> void check_stream(Stream a, Stream b, const mpg::context& none) {
    static_assert(!std::is_copy_constructible_v<Stream> && std::is_nothrow_move_constructible_v<Stream>);
    std::array<std::byte, 64> buffer;
    EXPECT_EQ(a.write(bytes("one")), 3u);
    EXPECT_EQ(text(std::span(buffer).first(take(b.read(buffer)))), "one");
    EXPECT_EQ(a.write(bytes("two"), none), 3u);
    EXPECT_EQ(text(std::span(buffer).first(take(b.read(buffer, none)))), "two");
    EXPECT_EQ(a.write_some(bytes("x")), 1u);
    EXPECT_EQ(a.write_some(bytes("y"), none), 1u);
    char hello[] = "hello ", world[] = "world";
    const ::iovec pieces[] = {{hello, 6}, {world, 5}};
    EXPECT_EQ(a.writev(pieces), 11u);
    EXPECT_EQ(a.writev(pieces, none), 11u);
    EXPECT_FALSE(a.shutdown_write());
    EXPECT_EQ(mpg::test::read_all(b), "xyhello worldhello world");
    EXPECT_EQ(b.read(buffer), 0u) << "and again";
    EXPECT_EQ(b.write(bytes("still open")), 10u);
    EXPECT_EQ(a.read(buffer), 10u);
    check_ends(a, [&](const mpg::context& ctx) { return a.read(buffer, ctx).error(); });
    EXPECT_FALSE(b.write(std::vector<std::byte>(8 << 20)).has_value()) << "the peer is gone";
}

TEST_P(io_contract, tcp) {
    run([&] {
        mpg::net::listen_options plain = {};
        auto l = take(mpg::net::tcp_listener::bind("127.0.0.1:0", plain));
        const std::string at = l.local_endpoint().to_string();
        EXPECT_EQ(at, "127.0.0.1:" + std::to_string(l.local_endpoint().port()));
        auto c = take(mpg::net::tcp_stream::connect(at));
        auto s = take(l.accept());
        EXPECT_EQ(c.local_endpoint(), s.remote_endpoint());
        EXPECT_EQ(c.remote_endpoint(), s.local_endpoint());
        check_stream(std::move(c), std::move(s), none);

        auto c2 = take(
            mpg::net::tcp_stream::connect("localhost:" + std::to_string(l.local_endpoint().port()), none));
        auto s2 = take(l.accept(none));
        EXPECT_TRUE(s2.write(bytes("!")));
        check_ends(l, [&](const mpg::context& ctx) { return l.accept(ctx).error(); });
        EXPECT_EQ(mpg::net::tcp_stream::connect(at).error(), std::errc::connection_refused);
    });
}

TEST_P(io_contract, unix_streams) {
    run([&] {
        const std::string path = ::testing::TempDir() + "mpg_contract_" + std::to_string(::getpid());
        auto l = take(mpg::net::unix_listener::bind(path));
        auto c = take(mpg::net::unix_stream::connect(path));
        auto s = take(l.accept());
        EXPECT_EQ(c.remote_endpoint().to_string(), path);
        check_stream(std::move(c), std::move(s), none);
        auto c2 = take(mpg::net::unix_stream::connect(path, none));
        auto s2 = take(l.accept(none));
        check_ends(l, [&](const mpg::context& ctx) { return l.accept(ctx).error(); });
    });
}

TEST_P(io_contract, udp) {
    run([&] {
        auto a = take(mpg::net::udp_socket::bind("127.0.0.1:0")),
             b = take(mpg::net::udp_socket::bind("127.0.0.1:0"));
        auto c = take(mpg::net::udp_socket::connect(a.local_endpoint().to_string()));
        std::array<std::byte, 64> buffer;
        mpg::net::endpoint from;
        EXPECT_EQ(b.send_to(bytes("one"), a.local_endpoint()), 3u);
        EXPECT_EQ(a.recv_from(buffer, from), 3u);
        EXPECT_EQ(from, b.local_endpoint());
        EXPECT_EQ(a.send_to(bytes("four"), from, none), 4u);
        EXPECT_EQ(b.recv_from(buffer, from, none), 4u);
        EXPECT_EQ(from, a.local_endpoint());
        EXPECT_EQ(c.send(bytes("a")), 1u);
        EXPECT_EQ(c.send(bytes(""), none), 0u);
        EXPECT_EQ(a.recv_from(buffer, from), 1u);
        EXPECT_EQ(a.recv_from(buffer, from), 0u) << "an empty datagram";
        EXPECT_EQ(a.send_to(bytes("to c"), c.local_endpoint()), 4u);
        EXPECT_EQ(a.send_to(bytes("again"), from), 5u);
        EXPECT_EQ(c.recv(buffer), 4u);
        EXPECT_EQ(c.recv(buffer, none), 5u);
        check_ends(a, [&](const mpg::context& ctx) { return a.recv_from(buffer, from, ctx).error(); });
        check_ends(c, [&](const mpg::context& ctx) { return c.recv(buffer, ctx).error(); });
    });
}

TEST_P(io_contract, endpoints_and_names) {
    run([&] {
        auto a = take(mpg::net::udp_socket::bind("127.0.0.1:0")),
             b = take(mpg::net::udp_socket::bind("[::1]:0"));
        const mpg::net::endpoint x = a.local_endpoint(), y = b.local_endpoint(), same = x;
        EXPECT_TRUE(x == same && x != y && ((x < y) != (y < x)) && x <= same);
        EXPECT_EQ(std::hash<mpg::net::endpoint>{}(x), std::hash<mpg::net::endpoint>{}(same));
        EXPECT_EQ((std::unordered_set<mpg::net::endpoint>{x, y, same}.size()), 2u);
        EXPECT_EQ(y.to_string(), "[::1]:" + std::to_string(y.port()));
        std::vector<mpg::net::endpoint> found = take(mpg::net::resolve("localhost"));
        EXPECT_FALSE(found.empty());
        EXPECT_FALSE(take(mpg::net::resolve("127.0.0.1", none)).empty());
        auto done = mpg::with_cancel(none);
        done.cancel();
        EXPECT_EQ(mpg::net::resolve("localhost", done).error(), mpg::errc::cancelled);
        EXPECT_EQ(mpg::net::tcp_stream::connect("localhost:1", done).error(), mpg::errc::cancelled);
    });
}

TEST_P(io_contract, files) {
    run([&] {
        const std::string path = ::testing::TempDir() + "mpg_contract_file_" + std::to_string(::getpid());
        auto f = take(mpg::file::open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
        ::unlink(path.c_str());
        EXPECT_EQ(f.write(bytes("hello ")), 6u);
        EXPECT_EQ(f.write(bytes("world"), none), 5u);
        EXPECT_EQ(f.write_at(bytes("H"), 0), 1u);
        EXPECT_EQ(f.write_at(bytes("W"), 6, none), 1u);
        EXPECT_FALSE(f.sync());
        EXPECT_FALSE(f.sync(none));
        EXPECT_EQ(f.size(), 11u);
        std::array<std::byte, 64> buffer;
        EXPECT_EQ(text(std::span(buffer).first(take(f.read_at(buffer, 0)))), "Hello World");
        EXPECT_EQ(text(std::span(buffer).first(take(f.read_at(buffer, 6, none)))), "World");
        EXPECT_EQ(f.read(buffer), 0u) << "at its end";
        EXPECT_EQ(f.read(buffer, none), 0u);
        EXPECT_EQ(mpg::file::open("/nowhere/at/all", O_RDONLY, 0).error(),
                  std::errc::no_such_file_or_directory);
        auto ends = take(mpg::pipe());
        check_ends(ends.first, [&](const mpg::context& ctx) { return ends.first.read(buffer, ctx).error(); });
        f.close();
        EXPECT_EQ(f.read(buffer).error(), mpg::errc::closed);
    });
}

/// Something that can be written to and read from the other side of.
TEST_P(io_contract, copies_between_any_two) {
    run([&] {
        std::string data;
        for (int i = 0; data.size() < 700'000; ++i) data += std::to_string(i);
        const std::string path = ::testing::TempDir() + "mpg_contract_copy_" + std::to_string(::getpid());
        auto full_file = [&] {
            auto f = take(mpg::file::open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
            ::unlink(path.c_str());
            EXPECT_EQ(f.write_at(bytes(data), 0), data.size());
            return f;
        };
        auto unix_pair = [&] {
            auto l = take(mpg::net::unix_listener::bind("@mpg_contract_" + std::to_string(::getpid())));
            auto c = take(mpg::net::unix_stream::connect(l.local_endpoint().to_string()));
            return std::pair(std::move(c), take(l.accept()));
        };
        auto tcp_pair = [&] {
            auto p = mpg::test::connect_local();
            return std::pair(std::move(p.client), std::move(p.server));
        };
        auto to_each = [&](auto& source) {
            {
                auto [in, out] = tcp_pair();
                auto got = mpg::spawn([&] { return mpg::test::read_all(in); });
                EXPECT_EQ(mpg::copy(out, source), data.size());
                out.close();
                EXPECT_EQ(got.join(), data);
            }
        };
        auto from_writer = [&](auto pair, auto then) {
            auto& [write, read] = pair;
            auto filled = mpg::spawn([&] {
                EXPECT_EQ(write.write(bytes(data)), data.size());
                write.close();
            });
            then(read);
            filled.join();
        };
        auto f = full_file();
        to_each(f);
        from_writer(tcp_pair(), to_each);
        from_writer(unix_pair(), to_each);
        from_writer(
            [&] {
                auto p = take(mpg::pipe());
                return std::pair(std::move(p.second), std::move(p.first));
            }(),
            to_each);
        // Into a file, a pipe, a Unix stream; with a context.
        from_writer(tcp_pair(), [&](auto& source) {
            auto to = take(mpg::file::open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
            ::unlink(path.c_str());
            EXPECT_EQ(mpg::copy(to, source, none), data.size());
            EXPECT_EQ(to.size(), data.size());
            std::string back(data.size(), '\0');
            EXPECT_EQ(to.read_at(std::as_writable_bytes(std::span(back)), 0), data.size());
            EXPECT_EQ(back, data);
        });
        for (int i = 0; i < 2; ++i) {
            auto source = full_file();
            auto p = take(mpg::pipe());
            auto got = mpg::spawn([&] { return mpg::test::read_all(p.first); });
            EXPECT_EQ(mpg::copy(p.second, source, none), data.size());
            p.second.close();
            EXPECT_EQ(got.join(), data);
        }
        auto source = full_file();
        auto u = unix_pair();
        auto got = mpg::spawn([&] { return mpg::test::read_all(u.second); });
        EXPECT_EQ(mpg::copy(u.first, source), data.size());
        u.first.close();
        EXPECT_EQ(got.join(), data);

        auto done = mpg::with_cancel(none);
        done.cancel();
        auto again = full_file();
        auto p = tcp_pair();
        EXPECT_EQ(mpg::copy(p.first, again, done).error(), mpg::errc::cancelled);
        EXPECT_EQ(mpg::copy(p.first, p.first, mpg::with_timeout(none, 2ms)).error(),
                  mpg::errc::deadline_exceeded);
    });
}

TEST_P(io_contract, signals) {
    run([] {
        mpg::recv_chan<int> signals = mpg::notify({SIGUSR1, SIGUSR2});
        ::raise(SIGUSR2);
        EXPECT_EQ(signals.recv(), SIGUSR2);
        ::raise(SIGUSR1);
        int got = 0;
        mpg::select(mpg::on_recv(signals, [&](std::optional<int> s) { got = *s; }), mpg::on_timeout(1min));
        EXPECT_EQ(got, SIGUSR1);
    });
}

TEST(io_contract_types, errors_are_error_codes) {
    const std::error_code all[] = {mpg::errc::cancelled, mpg::errc::deadline_exceeded, mpg::errc::closed,
                                   mpg::errc::server_closed};
    for (const std::error_code& e : all) EXPECT_FALSE(e.message().empty());
    const mpg::result<int> good = 3, bad = mpg::unexpected(make_error_code(mpg::errc::closed));
    EXPECT_EQ(good.value_or(1) + bad.value_or(1), 4);
    EXPECT_EQ(bad.error(), mpg::errc::closed);
}

TEST_P(io_contract, a_dropped_result_is_no_error) {
    run([] {
        auto p = mpg::test::connect_local();
        p.client.write(bytes("x")); // compiles without a warning
        p.client.shutdown_write();
        EXPECT_EQ(mpg::test::read_all(p.server), "x");
    });
}

} // namespace
