#include "io_support.hpp"

#include <mpg/context.hpp>

#include <array>
#include <atomic>
#include <filesystem>
#include <sys/stat.h>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;
using mpg::net::unix_listener;
using mpg::net::unix_stream;

struct unix_socket : with_pollers {};
MPG_TEST_IO(unix_socket);

namespace {
std::string fresh_path() {
    static std::atomic<int> n{0};
    return (std::filesystem::temp_directory_path() /
            ("mpg_test_" + std::to_string(::getpid()) + "_" + std::to_string(++n)))
        .string();
}
} // namespace

TEST_P(unix_socket, talks_over_a_path) {
    run([] {
        const std::string path = fresh_path();
        auto l = unix_listener::bind(path);
        ASSERT_TRUE(l) << l.error().message();
        EXPECT_EQ(l->local_endpoint().to_string(), path);
        auto c = unix_stream::connect(path);
        ASSERT_TRUE(c) << c.error().message();
        auto s = l->accept();
        ASSERT_TRUE(s) << s.error().message();
        EXPECT_EQ(c->remote_endpoint().to_string(), path);
        EXPECT_EQ(s->local_endpoint().to_string(), path);
        auto echo = mpg::spawn([&] {
            std::array<std::byte, 8> buffer;
            while (auto n = s->read(buffer))
                if (*n == 0 || !s->write(std::span(buffer).first(*n))) break;
            s->close();
        });
        ASSERT_TRUE(c->write(bytes("over the hills and far away")));
        ASSERT_FALSE(c->shutdown_write());
        EXPECT_EQ(read_all(*c), "over the hills and far away");
        echo.join();
    });
}

TEST_P(unix_socket, close_removes_the_path) {
    run([] {
        const std::string path = fresh_path();
        auto l = unix_listener::bind(path);
        ASSERT_TRUE(l);
        EXPECT_TRUE(std::filesystem::exists(path));
        EXPECT_EQ(unix_listener::bind(path).error(), std::errc::address_in_use);
        EXPECT_TRUE(std::filesystem::exists(path)); // the failed one did not remove it
        l->close();
        EXPECT_FALSE(std::filesystem::exists(path));
        EXPECT_EQ(unix_stream::connect(path).error(), std::errc::no_such_file_or_directory);
        {
            auto again = unix_listener::bind(path);
            EXPECT_TRUE(again);
        }
        EXPECT_FALSE(std::filesystem::exists(path));
    });
}

TEST_P(unix_socket, abstract_names_work) {
    run([] {
        const std::string name = "@mpg_test_" + std::to_string(::getpid());
        auto l = unix_listener::bind(name);
        ASSERT_TRUE(l) << l.error().message();
        EXPECT_EQ(l->local_endpoint().to_string(), name);
        auto c = unix_stream::connect(name);
        ASSERT_TRUE(c) << c.error().message();
        EXPECT_TRUE(l->accept());
    });
}

TEST_P(unix_socket, bad_paths_are_refused) {
    run([] {
        EXPECT_EQ(unix_listener::bind("").error(), std::errc::invalid_argument);
        EXPECT_EQ(unix_listener::bind(std::string(200, 'x')).error(), std::errc::filename_too_long);
        EXPECT_EQ(unix_listener::bind("/nosuchdirectory/x").error(), std::errc::no_such_file_or_directory);
        EXPECT_EQ(unix_stream::connect(std::string_view("a\0b", 3)).error(), std::errc::invalid_argument);
    });
}

TEST_P(unix_socket, connect_waits_for_a_place_in_the_backlog) {
    run([] {
        const std::string path = fresh_path();
        auto l = unix_listener::bind(path, 1);
        ASSERT_TRUE(l);
        std::vector<mpg::task<bool>> clients;
        for (int i = 0; i != 8; ++i)
            clients.push_back(mpg::spawn([&] { return unix_stream::connect(path).has_value(); }));
        auto ctx = mpg::with_timeout(mpg::context::background(), 50ms);
        std::error_code e;
        for (int i = 0; i != 8 && !e; ++i) { // more than fit: one of them must give up
            auto c = unix_stream::connect(path, ctx);
            if (!c) e = c.error();
        }
        EXPECT_EQ(e, errc::deadline_exceeded);
        auto server = mpg::spawn([&] {
            while (auto s = l->accept()) {
            }
        });
        for (auto& c : clients) EXPECT_TRUE(c.join());
        l->close();
        server.join();
    });
}

TEST_P(unix_socket, deadlines_and_close_end_what_is_pending) {
    run([] {
        const std::string path = fresh_path();
        auto l = unix_listener::bind(path);
        ASSERT_TRUE(l);
        l->set_deadline(mpg::clock::now() + 10ms);
        EXPECT_EQ(l->accept().error(), errc::deadline_exceeded);
        l->set_deadline(std::nullopt);
        auto c = unix_stream::connect(path);
        auto s = l->accept();
        ASSERT_TRUE(c && s);
        c->set_read_deadline(mpg::clock::now() + 10ms);
        std::byte one;
        EXPECT_EQ(c->read(std::span(&one, 1)).error(), errc::deadline_exceeded);
        auto reader = mpg::spawn([&] { return s->read(std::span(&one, 1)).error(); });
        auto acceptor = mpg::spawn([&] { return l->accept().error(); });
        for (int i = 0; i != 10; ++i) mpg::yield();
        s->close();
        l->close();
        EXPECT_EQ(reader.join(), errc::closed);
        EXPECT_EQ(acceptor.join(), errc::closed);
    });
}
