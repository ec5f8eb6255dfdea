// Plain threads beside tasks, over datagrams, files, pipes and HTTP: there the OS thread waits.
//
// ctest: label:concurrent
#include "crew.hpp"
#include "http_support.hpp"

#include <mpg/context.hpp>
#include <mpg/io.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::net::endpoint;
using mpg::net::udp_socket;

struct threads_and_io : with_pollers {
    static constexpr unsigned each = 3;

    template <class F> static void crew(F f) { mpg::test::crew(each, f); }
};
MPG_TEST_IO(threads_and_io);

/// Sends back what comes, until the socket is closed. Those that are empty it does not answer.
void echo(udp_socket& s) {
    std::array<std::byte, 64> buffer;
    endpoint from;
    while (auto n = s.recv_from(buffer, from))
        if (*n != 0) {
            EXPECT_TRUE(s.send_to(std::span(buffer).first(*n), from));
        }
}

TEST_P(threads_and_io, answer_each_others_datagrams) {
    const std::size_t rounds = scaled(1000);
    run([&] {
        auto by_task = udp_socket::bind("127.0.0.1:0"), by_thread = udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(by_task && by_thread);
        auto task = mpg::spawn([&] { echo(*by_task); });
        std::thread thread([&] { echo(*by_thread); });
        const std::array to{by_task->local_endpoint(), by_thread->local_endpoint()};
        crew([&](unsigned which) {
            auto s = udp_socket::bind("127.0.0.1:0");
            ASSERT_TRUE(s) << s.error().message();
            std::array<std::byte, 64> buffer;
            endpoint from;
            for (std::size_t i = 0; i < rounds; ++i) {
                const std::string sent = std::to_string(which) + " " + std::to_string(i);
                ASSERT_TRUE(s->send_to(bytes(sent), to[i % 2]));
                const auto n = s->recv_from(buffer, from);
                ASSERT_TRUE(n) << n.error().message();
                ASSERT_EQ(text(std::span(buffer).first(*n)), sent);
                ASSERT_EQ(from, to[i % 2]);
            }
        });
        by_task->close();
        by_thread->close(); // in a task, while a thread waits there
        task.join();
        mpg::blocking([&] { thread.join(); });
    });
}

TEST_P(threads_and_io, wait_for_datagrams_no_longer_than_they_may) {
    run([] {
        crew([](unsigned) {
            auto s = udp_socket::bind("127.0.0.1:0");
            ASSERT_TRUE(s) << s.error().message();
            std::array<std::byte, 8> buffer;
            endpoint from;
            auto soon = mpg::with_timeout(mpg::context::background(), 2ms);
            EXPECT_EQ(s->recv_from(buffer, from, soon).error(), mpg::errc::deadline_exceeded);
        });
    });
}

TEST_P(threads_and_io, share_a_file) {
    const std::size_t blocks = scaled(200);
    run([&] {
        std::string path = "/tmp/mpg_threads_XXXXXX";
        const int fd = ::mkstemp(path.data());
        ASSERT_GE(fd, 0);
        ::close(fd);
        auto f = mpg::file::open(path, O_RDWR);
        ASSERT_TRUE(f) << f.error().message();
        const auto place = [](std::size_t block, unsigned which) { return (block * 2 * each + which) * 64; };
        const auto content = [](std::size_t block, unsigned which) {
            return std::string(64, static_cast<char>('a' + (block + which) % 26));
        };
        crew([&](unsigned which) {
            for (std::size_t b = 0; b < blocks; ++b) {
                const auto n = f->write_at(bytes(content(b, which)), place(b, which));
                ASSERT_TRUE(n) << n.error().message();
                ASSERT_EQ(*n, 64u);
            }
            EXPECT_FALSE(f->sync());
        });
        crew([&](unsigned which) { // what the one beside it has written: a thread a task, and a task a thread
            const unsigned other = which ^ 1;
            std::array<std::byte, 64> buffer;
            for (std::size_t b = 0; b < blocks; ++b) {
                ASSERT_EQ(f->read_at(buffer, place(b, other)).value_or(0), 64u);
                ASSERT_EQ(text(buffer), content(b, other));
            }
        });
        ::unlink(path.c_str());
    });
}

TEST_P(threads_and_io, talk_through_pipes) {
    const std::size_t size = scaled(1 << 20);
    run([&] {
        mpg::runtime& rt = *mpg::runtime::current();
        crew([&](unsigned which) { // a thread's reader is a task, a task's a thread
            auto ends = mpg::pipe();
            ASSERT_TRUE(ends) << ends.error().message();
            mpg::file& from = ends->first;
            mpg::file& to = ends->second;
            std::size_t got = 0;
            const auto read = [&] {
                std::array<std::byte, 4096> buffer;
                for (;;) {
                    const auto n = from.read(buffer);
                    ASSERT_TRUE(n) << n.error().message();
                    if (*n == 0) return;
                    got += *n;
                }
            };
            const auto write = [&] {
                const std::string piece(1000, 'x');
                for (std::size_t left = size; left != 0;) {
                    const std::size_t n = std::min(left, piece.size());
                    ASSERT_TRUE(to.write(bytes(std::string_view(piece).substr(0, n))));
                    left -= n;
                }
                to.close();
            };
            if (which % 2 == 0) { // a plain thread
                mpg::chan<void> done;
                rt.go([&] {
                    read();
                    done.close();
                });
                write();
                done.recv();
            } else {
                std::thread other(read);
                write();
                mpg::blocking([&] { other.join(); });
            }
            EXPECT_EQ(got, size);
        });
    });
}

TEST_P(threads_and_io, fetch_by_one_client) {
    const std::size_t rounds = scaled(200);
    run([&] {
        live_server s;
        s->handle("POST /echo", [](mpg::http::request& q, mpg::http::response& r) {
            const auto body = q.body().read_all();
            ASSERT_TRUE(body);
            r.write(*body);
        });
        s.start();
        mpg::http::client client;
        const std::string url = "http://" + s.address().to_string() + "/echo";
        crew([&](unsigned which) {
            for (std::size_t i = 0; i < rounds; ++i) {
                const std::string sent = std::to_string(which) + " " + std::to_string(i);
                auto got = client.fetch({.method = "POST", .url = url, .body = sent});
                ASSERT_TRUE(got) << got.error().message();
                EXPECT_EQ(got->status(), 200);
                const auto body = got->body().read_all();
                ASSERT_TRUE(body) << body.error().message();
                ASSERT_EQ(*body, sent);
            }
        });
        client.close_idle();
        s->close();
        (void)s.served();
    });
}

TEST_P(threads_and_io, give_a_fetch_up) {
    run([] {
        live_server s;
        s->handle("/never", [](mpg::http::request& q, mpg::http::response&) {
            q.ctx().done().recv(); // until the peer goes
        });
        s.start();
        mpg::http::client client;
        const std::string url = "http://" + s.address().to_string() + "/never";
        crew([&](unsigned) {
            auto soon = mpg::with_timeout(mpg::context::background(), 5ms);
            const auto got = client.get(url, soon);
            ASSERT_FALSE(got);
            EXPECT_EQ(got.error(), mpg::errc::deadline_exceeded);
        });
        s->close();
        (void)s.served();
    });
}

} // namespace
