#include "io_support.hpp"

#include <mpg/context.hpp>
#include <mpg/io.hpp>
#include <mpg/time.hpp>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

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
            mpg::copy_info how;
            const auto n = mpg::copy(far.client, near.server, how);
            EXPECT_EQ(how.method, mpg::copy_method::splice);
            EXPECT_EQ(how.bytes, data.size());
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

TEST_P(copy, says_how) {
    const auto data = pattern(scaled(3 << 20));
    run([&] {
        temporary t, other;
        other.path += "_2";
        auto f = file::open(t.path, O_RDWR | O_CREAT | O_TRUNC);
        ASSERT_TRUE(f && f->write(data));
        auto from = file::open(t.path), to = file::open(other.path, O_RDWR | O_CREAT | O_TRUNC);
        ASSERT_TRUE(from && to);
        std::byte one;
        ASSERT_EQ(*from->read(std::span(&one, 1)), 1u); // it goes on where the file stands
        mpg::copy_info how;
        EXPECT_EQ(*mpg::copy(*to, *from, how), data.size() - 1);
        EXPECT_EQ(how.method, mpg::copy_method::copy_file_range);
        EXPECT_EQ(how.bytes, data.size() - 1);
        EXPECT_EQ(*mpg::copy(*to, *from, how), 0u);
        EXPECT_EQ(how.method, mpg::copy_method::none);
        std::vector<std::byte> back(data.size() - 1);
        EXPECT_EQ(*to->read_at(back, 0), back.size());
        EXPECT_TRUE(std::equal(back.begin(), back.end(), data.begin() + 1));

        auto p = connect_local();
        auto reader = mpg::spawn([&] { return read_all(p.server); });
        auto again = file::open(t.path);
        EXPECT_EQ(*mpg::copy(p.client, *again, how), data.size());
        EXPECT_EQ(how.method, mpg::copy_method::sendfile);
        p.client.close();
        EXPECT_TRUE(std::ranges::equal(bytes(reader.join()), data));

        memory m;
        auto third = file::open(t.path);
        EXPECT_EQ(*mpg::copy(m, *third, how), data.size());
        EXPECT_EQ(how.method, mpg::copy_method::buffer);

        auto generated = file::open("/proc/self/maps"); // copy_file_range would say that it is empty
        auto into = file::open(other.path, O_RDWR | O_CREAT | O_TRUNC);
        EXPECT_GT(*mpg::copy(*into, *generated, how), 0u);
        EXPECT_NE(how.method, mpg::copy_method::none);
        EXPECT_EQ(how.bytes, *into->size());
    });
}

TEST_P(copy, of_a_file_is_cancelled_while_the_peer_does_not_read) {
    run([] {
        temporary t;
        auto f = file::open(t.path, O_RDWR | O_CREAT | O_TRUNC);
        ASSERT_TRUE(f);
        ASSERT_EQ(::ftruncate(f->native_handle(), 64 << 20), 0);
        auto p = connect_local();
        mpg::copy_info how;
        auto ctx = mpg::with_cancel(mpg::context::background());
        auto canceller = mpg::spawn([&] {
            int there = 0;
            EXPECT_TRUE(eventually([&] { return ::ioctl(p.server.native_handle(), FIONREAD, &there) == 0 && there > 0; }));
            mpg::sleep_for(5ms); // then it mostly waits for room
            ctx.cancel();
        });
        EXPECT_EQ(mpg::copy(p.client, *f, ctx, how).error(), errc::cancelled);
        canceller.join();
        EXPECT_EQ(how.method, mpg::copy_method::sendfile);
        EXPECT_GT(how.bytes, 0u);
        p.client.close();
        std::vector<std::byte> got(static_cast<std::size_t>(how.bytes));
        EXPECT_TRUE(read_full(p.server, got)) << "what it says has gone out";
        EXPECT_EQ(*p.server.read(std::span(got).first(1)), 0u);

        auto q = connect_local();
        q.server.close();
        auto again = file::open(t.path);
        const auto n = mpg::copy(q.client, *again);
        EXPECT_TRUE(n.error() == std::errc::broken_pipe || n.error() == std::errc::connection_reset) << n.error();
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

namespace {

/// A stream that copy can only read and write.
struct opaque {
    mpg::net::tcp_stream& s;
    mpg::result<std::size_t> read(std::span<std::byte> to) { return s.read(to); }
    mpg::result<std::size_t> write(std::span<const std::byte> from) { return s.write(from); }
};

double cpu_seconds() {
    ::rusage r;
    ::getrusage(RUSAGE_SELF, &r);
    return static_cast<double>(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           static_cast<double>(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

enum class by { splice, splice_epoll, buffer, bare_splice };

/// What cannot be cheaper: splice and poll, and nothing else. Copies to the end.
std::size_t bare_splice(int from, int to) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return 0;
    constexpr std::size_t piece = 1 << 20;
    (void)::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(piece));
    for (int fd : {from, to}) (void)::fcntl(fd, F_SETFL, O_NONBLOCK);
    auto move = [](int in, int out, std::size_t n, ::pollfd wait) {
        for (;;) {
            const ::ssize_t r = ::splice(in, nullptr, out, nullptr, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            if (r >= 0 || errno != EAGAIN) return r;
            (void)::poll(&wait, 1, -1);
        }
    };
    std::size_t total = 0;
    for (::ssize_t got; (got = move(from, ends[1], piece, {from, POLLIN, 0})) > 0;)
        for (::ssize_t n; got > 0; got -= n, total += static_cast<std::size_t>(n))
            if ((n = move(ends[0], to, static_cast<std::size_t>(got), {to, POLLOUT, 0})) <= 0) return total;
    for (int fd : ends) ::close(fd);
    return total;
}

/// CPU time that a child spends on a proxy between two other ones, in us; the sender sends `total` bytes.
int proxy_cost(std::size_t total, by way) {
    int sender[2], receiver[2];
    auto pair = [](int ends[2]) {
        const int l = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ::sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::socklen_t size = sizeof at;
        ends[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        // Not bbr, whose timers cost more than all splices where a timer is the host's. Without cubic it goes as it is.
        for (int fd : {l, ends[0]}) (void)::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
        if (::bind(l, reinterpret_cast<::sockaddr*>(&at), size) != 0 || ::listen(l, 1) != 0 ||
            ::getsockname(l, reinterpret_cast<::sockaddr*>(&at), &size) != 0 ||
            ::connect(ends[0], reinterpret_cast<::sockaddr*>(&at), size) != 0)
            return false;
        ends[1] = ::accept4(l, nullptr, nullptr, SOCK_CLOEXEC);
        ::close(l);
        return ends[1] >= 0;
    };
    if (!pair(sender) || !pair(receiver)) return -1;
    std::vector<char> buffer(1 << 20);
    auto child = [&](auto f) {
        const ::pid_t pid = ::fork();
        if (pid == 0) {
            f();
            ::_exit(0);
        }
        return pid;
    };
    const ::pid_t sends = child([&] {
        for (int fd : {sender[1], receiver[0], receiver[1]}) ::close(fd);
        for (std::size_t left = total; left != 0;) {
            const ::ssize_t n = ::send(sender[0], buffer.data(), std::min(left, buffer.size()), MSG_NOSIGNAL);
            if (n <= 0) return;
            left -= static_cast<std::size_t>(n);
        }
    });
    const ::pid_t receives = child([&] {
        for (int fd : {receiver[0], sender[0], sender[1]}) ::close(fd);
        while (::recv(receiver[1], buffer.data(), buffer.size(), MSG_TRUNC) > 0) {
        }
    });
    ::close(sender[0]);
    ::close(receiver[1]);
    const auto proxy = run_in_child([&] {
        if (way == by::bare_splice) {
            const double before = cpu_seconds();
            const bool all = bare_splice(sender[1], receiver[0]) == total;
            std::printf("%d", static_cast<int>((cpu_seconds() - before) * 1e6));
            return all ? 0 : 1;
        }
        mpg::options o;
        o.procs = 1;
        if (way == by::splice_epoll) o.backend = mpg::netpoll::epoll;
        return mpg::run(o, [&] {
            auto in = mpg::net::tcp_stream::adopt(mpg::io::unique_fd(sender[1]));
            auto out = mpg::net::tcp_stream::adopt(mpg::io::unique_fd(receiver[0]));
            if (!in || !out) return 1;
            const double before = cpu_seconds();
            mpg::copy_info how;
            opaque a{*in}, b{*out};
            const auto n = way != by::buffer ? mpg::copy(*out, *in, how) : mpg::copy(b, a, how);
            std::printf("%d", static_cast<int>((cpu_seconds() - before) * 1e6));
            return n.value_or(0) == total &&
                           how.method == (way != by::buffer ? mpg::copy_method::splice : mpg::copy_method::buffer)
                       ? 0
                       : 1;
        });
    });
    ::close(sender[1]);
    ::close(receiver[0]);
    for (::pid_t pid : {sends, receives}) ::waitpid(pid, nullptr, 0);
    EXPECT_EQ(proxy.exit_code, 0) << proxy;
    return std::atoi(proxy.out.c_str());
}

} // namespace

/// $MPG_TEST_PROXY_MIB: how much goes through.
TEST(copy_cost, a_proxy_in_the_kernel_is_cheaper_than_a_buffer) {
    const char* given = std::getenv("MPG_TEST_PROXY_MIB");
    const std::size_t total = (given ? std::strtoull(given, nullptr, 10) : scaled(160)) << 20;
    int kernel = INT_MAX, epoll = INT_MAX, buffer = INT_MAX, bare = INT_MAX; // the least of three: others use the machine, too
    for (int i = 0; i != 3; ++i) {
        kernel = std::min(kernel, proxy_cost(total, by::splice));
        epoll = std::min(epoll, proxy_cost(total, by::splice_epoll));
        bare = std::min(bare, proxy_cost(total, by::bare_splice));
        buffer = std::min(buffer, proxy_cost(total, by::buffer));
    }
    std::cout << "CPU of a proxy for " << (total >> 20) << " MiB: " << buffer << " us by a buffer, " << kernel << " us by splice, "
              << epoll << " us with epoll, " << bare << " us by a bare loop of splice and poll\n";
    if (!mpg::base::asan && !mpg::base::tsan) {
        for (int ours : {kernel, epoll}) {
            EXPECT_LT(ours * 10, buffer * 8);
            EXPECT_LT(ours, bare * 2);
        }
    }
}
