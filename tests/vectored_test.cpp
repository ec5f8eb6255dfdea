// Transfers of many pieces of memory, of files around the system's cache, and what files need beside reading and writing.
// ctest: own-macros
#define MPG_IO_SYSCALLS "faults.hpp"
#include "io_support.hpp"

#include <mpg/context.hpp>
#include <mpg/io.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <sys/stat.h>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;
using mpg::file;

struct vectored : with_pollers {};
MPG_TEST_IO(vectored);

namespace {

/// A folder of one's own.
struct folder {
    folder() {
        path = (std::filesystem::temp_directory_path() / "mpg_vectored_XXXXXX").string();
        if (!::mkdtemp(path.data())) std::abort();
    }
    ~folder() { std::filesystem::remove_all(path); }
    std::string operator/(const char* name) const { return path + '/' + name; }
    std::string path;
};

/// Memory cut into pieces of 0 to `most` bytes.
struct cut_up {
    cut_up(std::size_t size, std::size_t most, std::uint64_t seed)
        : memory(size, '.') {
        std::mt19937_64 random(seed);
        for (std::size_t at = 0; at != size;) {
            const std::size_t n = std::min<std::size_t>(random() % (most + 1), size - at);
            pieces.push_back({memory.data() + at, n});
            at += n;
        }
    }
    void fill(std::string_view data) { data.copy(memory.data(), memory.size()); }
    std::string memory;
    std::vector<::iovec> pieces;
};

std::string digits(std::size_t n) {
    std::string s;
    for (int i = 0; s.size() < n; ++i) s += std::to_string(i);
    s.resize(n);
    return s;
}

constexpr int fresh = O_RDWR | O_CREAT | O_TRUNC;

} // namespace

TEST_P(vectored, readv_fills_one_buffer_after_the_other) {
    const std::string data = digits(scaled(2 << 20));
    run([&] {
        auto p = connect_local();
        auto writer = mpg::spawn([&] {
            for (std::size_t at = 0, n = 1; at != data.size(); at += n, n = n * 7 % 65537) {
                n = std::min(n, data.size() - at);
                ASSERT_EQ(p.client.write(bytes(std::string_view(data).substr(at, n))), n);
            }
            p.client.close();
        });
        std::string got;
        cut_up to(20'000, 500, 1);
        for (std::size_t calls = 0;; ++calls) {
            const auto n = calls % 3 == 2 ? p.server.read(std::as_writable_bytes(std::span(to.memory))) : p.server.readv(to.pieces);
            ASSERT_TRUE(n) << n.error().message();
            if (*n == 0) break;
            got.append(to.memory, 0, *n);
        }
        EXPECT_TRUE(got == data);
        EXPECT_EQ(p.server.readv(to.pieces), 0u) << "and it stays so";
        writer.join();
    });
}

TEST_P(vectored, readv_waits_for_a_byte_and_can_be_ended) {
    run([] {
        auto p = connect_local();
        char a[3], b[3];
        const ::iovec pieces[] = {{a, 3}, {nullptr, 0}, {b, 3}};
        EXPECT_EQ(p.server.readv({}), 0u);
        EXPECT_EQ(p.server.readv(std::span(pieces).subspan(1, 1)), 0u) << "no room";
        p.server.set_read_deadline(mpg::clock::now() + 10ms);
        EXPECT_EQ(p.server.readv(pieces).error(), errc::deadline_exceeded);
        p.server.set_read_deadline(std::nullopt);
        EXPECT_EQ(p.server.readv(pieces, mpg::with_timeout(mpg::context::background(), 10ms)).error(), errc::deadline_exceeded);
        auto reader = mpg::spawn([&] { return p.server.readv(pieces); });
        for (int i = 0; i != 10; ++i) mpg::yield();
        ASSERT_TRUE(p.client.write(bytes("abcd")));
        EXPECT_EQ(reader.join(), 4u);
        EXPECT_EQ(std::string(a, 3) + std::string(b, 1), "abcd");
        auto closed = mpg::spawn([&] { return p.server.readv(pieces).error(); });
        for (int i = 0; i != 10; ++i) mpg::yield();
        p.server.close();
        EXPECT_EQ(closed.join(), errc::closed);
        EXPECT_EQ(mpg::net::tcp_stream().readv(pieces).error(), errc::closed);
    });
}

TEST_P(vectored, files_take_and_give_pieces) {
    run([] {
        folder dir;
        auto f = file::open(dir / "f", fresh);
        ASSERT_TRUE(f);
        cut_up from(100'000, 300, 2), to(120'000, 700, 3);
        from.fill(digits(100'000));
        ASSERT_EQ(f->writev(from.pieces), 100'000u);
        ASSERT_EQ(f->writev_at(std::span(from.pieces).first(3), 50'000), from.pieces[0].iov_len + from.pieces[1].iov_len + from.pieces[2].iov_len);
        ASSERT_EQ(f->write(bytes("end")), 3u) << "the position is behind what writev has written";
        std::string expected = from.memory + "end";
        const std::string again = from.memory.substr(0, from.pieces[0].iov_len + from.pieces[1].iov_len + from.pieces[2].iov_len);
        expected.replace(50'000, again.size(), again);
        EXPECT_EQ(f->readv_at(to.pieces, 0), expected.size()) << "up to the end";
        EXPECT_TRUE(to.memory.substr(0, expected.size()) == expected);
        EXPECT_EQ(f->readv_at(to.pieces, 99'999), 4u);
        EXPECT_EQ(to.memory.substr(0, 4), from.memory.substr(99'999) + "end");
        EXPECT_EQ(f->readv_at(to.pieces, 1 << 20), 0u);
        EXPECT_EQ(f->readv(to.pieces), 0u) << "at the end";
        auto g = file::open(dir / "f");
        ASSERT_TRUE(g);
        std::string got;
        while (true) {
            const auto n = g->readv(to.pieces);
            ASSERT_TRUE(n);
            if (*n == 0) break;
            got.append(to.memory, 0, *n);
        }
        EXPECT_TRUE(got == expected);
        EXPECT_EQ(g->writev(from.pieces).error(), std::errc::bad_file_descriptor);
        EXPECT_EQ(g->writev({}), 0u);
        EXPECT_EQ(file().readv(to.pieces).error(), errc::closed);
        EXPECT_EQ(file().writev_at(to.pieces, 0).error(), errc::closed);
    });
}

TEST_P(vectored, pipes_take_and_give_pieces) {
    const std::string data = digits(scaled(1 << 20));
    run([&] {
        auto p = mpg::pipe();
        ASSERT_TRUE(p);
        cut_up from(data.size(), 5000, 4), to(10'000, 100, 5);
        from.fill(data);
        auto writer = mpg::spawn([&] {
            EXPECT_EQ(p->second.writev(from.pieces), data.size());
            p->second.close();
        });
        std::string got;
        while (true) {
            const auto n = p->first.readv(to.pieces);
            ASSERT_TRUE(n);
            if (*n == 0) break;
            got.append(to.memory, 0, *n);
        }
        EXPECT_TRUE(got == data);
        writer.join();
        auto broken = mpg::pipe();
        ASSERT_TRUE(broken);
        broken->first.close();
        EXPECT_EQ(broken->second.writev(from.pieces).error(), std::errc::broken_pipe) << "and no signal";
    });
}

TEST_P(vectored, short_and_interrupted_transfers_lose_nothing) {
    run([] {
        folder dir;
        cut_up from(3000, 200, 6), to(3000, 300, 7);
        from.fill(digits(3000));
        for (const std::size_t most : {std::size_t{1}, std::size_t{7}, std::size_t{1} << 20}) {
            short_transfers few(most);
            frequent a(call::readv, EINTR, 2), b(call::writev, EINTR, 2), c(call::preadv, EINTR, 2), d(call::pwritev, EINTR, 2),
                e(call::recvmsg, EINTR, 2), f(call::sendmsg, EINTR, 2);
            auto out = file::open(dir / "f", fresh);
            ASSERT_TRUE(out);
            EXPECT_EQ(out->writev(from.pieces), 3000u);
            EXPECT_EQ(out->writev_at(from.pieces, 3000), 3000u);
            for (const std::uint64_t at : {0u, 3000u}) {
                std::fill(to.memory.begin(), to.memory.end(), '.');
                EXPECT_EQ(out->readv_at(to.pieces, at), 3000u);
                EXPECT_TRUE(to.memory == from.memory);
            }
            auto p = mpg::pipe();
            auto s = connect_local();
            EXPECT_EQ(p->second.writev(from.pieces), 3000u);
            EXPECT_EQ(s.client.writev(from.pieces), 3000u);
            std::string got;
            while (got.size() != 3000) {
                const auto n = p->first.readv(to.pieces);
                ASSERT_TRUE(n && *n > 0);
                got.append(to.memory, 0, *n);
            }
            EXPECT_TRUE(got == from.memory);
            got.clear();
            while (got.size() != 3000) {
                const auto n = s.server.readv(to.pieces);
                ASSERT_TRUE(n && *n > 0);
                got.append(to.memory, 0, *n);
            }
            EXPECT_TRUE(got == from.memory);
        }
    });
}

/// Around the system's cache: memory, length and position are multiples of what the disk wants.
TEST_P(vectored, direct_transfers) {
    run([] {
        folder dir;
        auto f = file::open(dir / "f", fresh | O_DIRECT);
        if (!f) { // tmpfs before Linux 6.6
            EXPECT_EQ(f.error(), std::errc::invalid_argument);
            return;
        }
        constexpr std::size_t block = 4096, blocks = 16;
        const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(block, 2 * blocks * block), std::free);
        auto* at = static_cast<std::byte*>(memory.get());
        const std::span out(at, blocks * block), in(at + blocks * block, blocks * block);
        std::memcpy(out.data(), digits(out.size()).data(), out.size());
        EXPECT_EQ(f->write(out), out.size());
        const ::iovec pieces[] = {{out.data(), block}, {out.data() + 5 * block, 2 * block}};
        EXPECT_EQ(f->writev_at(pieces, out.size()), 3 * block);
        EXPECT_FALSE(f->sync());
        EXPECT_EQ(f->read_at(in, 0), in.size());
        EXPECT_EQ(std::memcmp(in.data(), out.data(), in.size()), 0);
        EXPECT_EQ(f->read_at(in, out.size()), 3 * block) << "up to the end";
        EXPECT_EQ(std::memcmp(in.data() + block, out.data() + 5 * block, 2 * block), 0);
    });
}

/// Folders and the properties of files, by the standard library in blocking().
TEST_P(vectored, folders_by_blocking) {
    run([] {
        folder dir;
        for (const char* name : {"a", "b", "c"}) {
            auto f = file::open(dir / name, fresh);
            ASSERT_TRUE(f);
            ASSERT_TRUE(f->write(bytes(name)));
        }
        const auto names = mpg::blocking([&] {
            std::set<std::string> all;
            for (const auto& e : std::filesystem::directory_iterator(dir.path)) all.insert(e.path().filename().string());
            return all;
        });
        EXPECT_EQ(names, (std::set<std::string>{"a", "b", "c"}));
        EXPECT_EQ(mpg::blocking([&] { return std::filesystem::file_size(dir / "a"); }), 1u);
        struct ::stat s {};
        EXPECT_EQ(mpg::blocking([&] { return ::stat((dir / "b").c_str(), &s); }), 0);
        EXPECT_TRUE(S_ISREG(s.st_mode));
        EXPECT_THROW(mpg::blocking([&] { return std::filesystem::file_size(dir / "none"); }), std::filesystem::filesystem_error);
    });
}
