#include "io_support.hpp"

#include <mpg/context.hpp>
#include <mpg/io.hpp>

#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;
using mpg::file;

struct files : with_pollers {};
MPG_TEST_IO(files);

struct pipes : with_pollers {};
MPG_TEST_IO(pipes);

namespace {
struct temporary {
    temporary() {
        static std::atomic<int> n{0};
        path = (std::filesystem::temp_directory_path() /
                ("mpg_file_" + std::to_string(::getpid()) + "_" + std::to_string(++n)))
                   .string();
    }
    ~temporary() { std::filesystem::remove(path); }
    std::string path;
};
constexpr int fresh = O_RDWR | O_CREAT | O_TRUNC;
} // namespace

TEST_P(files, read_back_what_was_written) {
    run([] {
        temporary t;
        auto f = file::open(t.path, fresh);
        ASSERT_TRUE(f) << f.error().message();
        EXPECT_EQ(*f->write(bytes("hello ")), 6u);
        EXPECT_EQ(*f->write(bytes("world")), 5u);
        EXPECT_EQ(*f->size(), 11u);
        EXPECT_FALSE(f->sync());
        f->close();
        EXPECT_EQ(f->write(bytes("x")).error(), errc::closed);
        f = file::open(t.path);
        ASSERT_TRUE(f);
        EXPECT_EQ(read_all(*f), "hello world");
        std::byte one;
        EXPECT_EQ(*f->read(std::span(&one, 1)), 0u);
    });
}

TEST_P(files, positioned_transfers_do_not_move_the_position) {
    run([] {
        temporary t;
        auto f = file::open(t.path, fresh);
        ASSERT_TRUE(f);
        ASSERT_TRUE(f->write(bytes("0123456789")));
        ASSERT_EQ(*f->write_at(bytes("abc"), 2), 3u);
        std::array<std::byte, 4> four;
        EXPECT_EQ(*f->read_at(four, 1), 4u);
        EXPECT_EQ(text(four), "1abc");
        EXPECT_EQ(*f->read_at(four, 8), 2u); // up to the end
        EXPECT_EQ(*f->read_at(four, 100), 0u);
        ASSERT_TRUE(f->write(bytes("X"))); // goes on where the first write ended
        EXPECT_EQ(*f->read_at(four, 9), 2u);
        EXPECT_EQ(text(std::span(four).first(2)), "9X");
    });
}

TEST_P(files, many_tasks_read_and_write_at_once) {
    constexpr std::size_t tasks = 16, size = 100'000;
    run([&] {
        temporary t;
        auto f = file::open(t.path, fresh);
        ASSERT_TRUE(f);
        std::vector<mpg::task<void>> all;
        for (std::size_t i = 0; i != tasks; ++i)
            all.push_back(mpg::spawn([&, i] {
                std::vector<std::byte> mine(size, static_cast<std::byte>('a' + i)), back(size);
                ASSERT_EQ(*f->write_at(mine, i * size), size);
                ASSERT_EQ(*f->read_at(back, i * size), size);
                EXPECT_TRUE(back == mine);
            }));
        for (auto& a : all) a.join();
        EXPECT_EQ(*f->size(), tasks * size);
    });
}

TEST_P(files, errors_are_the_systems) {
    run([] {
        temporary t;
        EXPECT_EQ(file::open(t.path).error(), std::errc::no_such_file_or_directory);
        EXPECT_EQ(file::open(std::string_view("a\0b", 3)).error(), std::errc::invalid_argument);
        auto f = file::open(t.path, O_WRONLY | O_CREAT);
        ASSERT_TRUE(f);
        std::byte one;
        EXPECT_EQ(f->read(std::span(&one, 1)).error(), std::errc::bad_file_descriptor);
        auto d = file::open("/");
        ASSERT_TRUE(d);
        EXPECT_EQ(d->read(std::span(&one, 1)).error(), std::errc::is_a_directory);
        auto full = file::open("/dev/full", O_WRONLY);
        ASSERT_TRUE(full);
        EXPECT_EQ(full->write(std::span(&one, 1)).error(), std::errc::no_space_on_device);
        EXPECT_EQ(file().read(std::span(&one, 1)).error(), errc::closed);
        EXPECT_EQ(file().size().error(), errc::closed);
    });
}

TEST_P(files, sync_says_what_the_system_says) {
    run([] {
        temporary t;
        auto f = file::open(t.path, fresh);
        ASSERT_TRUE(f && f->write(bytes("hello")));
        EXPECT_FALSE(f->sync());
        auto p = mpg::pipe();
        ASSERT_TRUE(p);
        EXPECT_EQ(p->second.sync(), std::errc::invalid_argument);
        EXPECT_EQ(file().sync(), errc::closed);
        auto cancelled = mpg::with_cancel(mpg::context::background());
        cancelled.cancel();
        EXPECT_EQ(f->sync(cancelled), errc::cancelled);
    });
}

TEST_P(files, plain_threads_use_them_too) {
    temporary t;
    auto f = file::open(t.path, fresh);
    ASSERT_TRUE(f);
    EXPECT_EQ(*f->write(bytes("hello")), 5u);
    std::array<std::byte, 8> buffer;
    EXPECT_EQ(*f->read_at(buffer, 0), 5u);
    EXPECT_FALSE(f->sync());
}

TEST_P(pipes, carry_bytes_and_the_end) {
    const std::size_t size = scaled(4 << 20);
    run([&] {
        auto p = mpg::pipe();
        ASSERT_TRUE(p) << p.error().message();
        auto& [reader, writer] = *p;
        auto w = mpg::spawn([&] {
            EXPECT_EQ(*writer.write(std::vector<std::byte>(size, std::byte{'x'})), size);
            writer.close();
        });
        EXPECT_EQ(read_all(reader).size(), size);
        w.join();
    });
}

TEST_P(pipes, without_a_reader_give_an_error_and_no_signal) {
    run([] {
        auto p = mpg::pipe();
        ASSERT_TRUE(p);
        p->first.close();
        EXPECT_EQ(p->second.write(bytes("x")).error(), std::errc::broken_pipe);
    });
}

TEST_P(pipes, deadlines_contexts_and_close_end_what_is_pending) {
    run([] {
        auto p = mpg::pipe();
        ASSERT_TRUE(p);
        std::byte one;
        p->first.set_read_deadline(mpg::clock::now() + 10ms);
        EXPECT_EQ(p->first.read(std::span(&one, 1)).error(), errc::deadline_exceeded);
        p->first.set_deadline(std::nullopt);
        ASSERT_EQ(p->second.write(bytes("x")), 1u); // for the read below, should the context be done before the write
        auto ctx = mpg::with_timeout(mpg::context::background(), 10ms);
        EXPECT_EQ(p->second.write(std::vector<std::byte>(1 << 20), ctx).error(), errc::deadline_exceeded);
        EXPECT_GT(*p->first.read(std::span(&one, 1)), 0u);
        auto q = mpg::pipe();
        ASSERT_TRUE(q);
        auto reader = mpg::spawn([&] { return q->first.read(std::span(&one, 1)).error(); });
        for (int i = 0; i != 10; ++i) mpg::yield();
        q->first.close();
        EXPECT_EQ(reader.join(), errc::closed);
    });
}

TEST_P(pipes, with_a_name_are_opened_as_files) {
    run([] {
        temporary t;
        ASSERT_EQ(::mkfifo(t.path.c_str(), 0600), 0);
        auto writing = mpg::spawn([&] { // waits for a reader, and holds no processor
            auto w = file::open(t.path, O_WRONLY);
            ASSERT_TRUE(w) << w.error().message();
            ASSERT_TRUE(w->write(bytes("through the fifo")));
        });
        auto r = file::open(t.path);
        ASSERT_TRUE(r) << r.error().message();
        EXPECT_EQ(read_all(*r), "through the fifo");
        writing.join();
    });
}
