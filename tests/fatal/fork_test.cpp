// fork() in a program that has a runtime: the child may exec or _exit; what needs the runtime there is refused loudly, and
// the parent goes on as if nothing had been.
//
// ctest: no-tsan it supports no threads in a forked child: ends it, or, told not to, lets it hang with epoll
#include "io_support.hpp"
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/io.hpp>
#include <mpg/scope.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

struct fork_child : mpg::test::with_procs {
    /// Forks in a task, runs f in the child, and lets the parent's runtime do some work afterwards.
    mpg::test::child_result forked(const std::function<void()>& f) {
        return mpg::test::run_in_child([&] {
            return run([&] {
                mpg::chan<int> c(1);
                mpg::sleep_for(1ms);
                const ::pid_t child = ::fork();
                if (child == 0) {
                    f();
                    ::_exit(7);
                }
                for (int i = 0; i < 100; ++i) { // timers, wake-ups and tasks of the parent
                    mpg::go([c, i] { c.send(i); });
                    if (c.recv() != i) return 90;
                }
                mpg::sleep_for(1ms);
                int status = 0;
                if (mpg::blocking([&] { return ::waitpid(child, &status, 0); }) != child) return 91;
                return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
            });
        });
    }
    void expect_refused(const char* what, const std::function<void()>& f) {
        SCOPED_TRACE(what);
        auto c = forked(f);
        EXPECT_EQ(c.exit_code, 2) << c;
        EXPECT_NE(c.err.find("fatal error: the runtime was used in a child of fork()"), std::string::npos) << c;
    }
};
MPG_TEST_PROCS(fork_child);

// What the thread holds in that moment nobody gives up in the child.
TEST_P(fork_child, may_not_wait_for_a_missing_thread) {
    auto c = mpg::test::run_in_child([&] {
        mpg::base::spinlock lock;
        std::atomic<bool> held{false}, over{false};
        std::thread holder([&] {
            lock.lock();
            held = true;
            while (!over) std::this_thread::sleep_for(1ms);
            lock.unlock();
        });
        const int status = run([&] {
            while (!held) mpg::yield();
            const ::pid_t child = ::fork();
            if (child == 0) {
                lock.lock();
                ::_exit(7);
            }
            int ended = 0;
            mpg::blocking([&] { return ::waitpid(child, &ended, 0); });
            return WIFEXITED(ended) ? WEXITSTATUS(ended) : 92;
        });
        over = true;
        holder.join();
        return status;
    });
    EXPECT_EQ(c.exit_code, 2) << c;
    EXPECT_NE(c.err.find("fatal error: the runtime was used in a child of fork()"), std::string::npos) << c;
}

TEST_P(fork_child, may_exit) {
    auto c = forked([] {});
    EXPECT_EQ(c.exit_code, 7) << c;
}

TEST_P(fork_child, may_exec) {
    auto c = forked([] { ::execl("/bin/sh", "sh", "-c", "exit 5", nullptr); });
    EXPECT_EQ(c.exit_code, 5) << c;
}

// What is executed has the masks of the program: nothing blocked or ignored because of the runtime.
TEST_P(fork_child, executes_with_the_signals_of_the_program) {
    const auto of_signals = [] {
        std::ifstream f("/proc/self/status");
        std::string all;
        for (std::string line; std::getline(f, line);)
            if (line.starts_with("SigBlk:") || line.starts_with("SigIgn:")) all += line + '\n';
        return all;
    };
    const std::string before = of_signals();
    ASSERT_NE(before, "");
    auto c = forked([] { ::execl("/bin/grep", "grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status", nullptr); });
    EXPECT_EQ(c.exit_code, 0) << c;
    EXPECT_EQ(c.out, before);
}

TEST_P(fork_child, may_not_use_the_runtime) {
    expect_refused("go", [] { mpg::go([] {}); });
    expect_refused("yield", [] { mpg::yield(); });
    expect_refused("sleep", [] { mpg::sleep_for(1ms); });
    expect_refused("channel", [] { mpg::chan<int>().recv(); });
    expect_refused("join", [] { mpg::spawn([] {}).join(); });
    expect_refused("blocking", [] { mpg::blocking([] {}); });
}

TEST_P(fork_child, may_not_wait_for_anything) {
    expect_refused("wait group", [] {
        mpg::wait_group g;
        g.add(1);
        g.wait();
    });
    expect_refused("mutex", [] {
        mpg::mutex m;
        m.lock();
        m.lock();
    });
    expect_refused("mutex, for a while", [] {
        mpg::mutex m;
        m.lock();
        (void)m.try_lock_for(1h);
    });
    expect_refused("shared mutex", [] {
        mpg::shared_mutex m;
        m.lock();
        m.lock_shared();
    });
    expect_refused("condition variable", [] {
        mpg::mutex m;
        std::unique_lock lock(m);
        mpg::condition_variable().wait(lock);
    });
    expect_refused("semaphore", [] { mpg::semaphore(0).acquire(); });
    expect_refused("latch", [] { mpg::latch(1).wait(); });
    expect_refused("barrier", [] { mpg::barrier<>(2).arrive_and_wait(); });
    expect_refused("channel, sending", [] { mpg::chan<int>().send(1); });
    expect_refused("channel, timed", [] {
        int v;
        (void)mpg::chan<int>().recv_for(v, 1h);
    });
    expect_refused("select", [] { mpg::select(mpg::on_recv(mpg::chan<int>()), mpg::on_recv(mpg::after(1h))); });
    expect_refused("context", [] { mpg::with_timeout(mpg::context::background(), 1h).done().recv(); });
    expect_refused("ticker", [] { mpg::ticker(1h).c().recv(); });
    expect_refused("scope", [] {
        mpg::scope s;
        s.go([] {});
    });
}

TEST_P(fork_child, may_not_set_timers_which_would_never_fire) {
    expect_refused("after_func", [] { (void)mpg::after_func(1ms, [] {}); });
    expect_refused("after", [] { (void)mpg::after(1ms); });
    expect_refused("timer", [] { mpg::timer t(1ms); });
    expect_refused("ticker", [] { mpg::ticker t(1ms); });
    expect_refused("timeout", [] { (void)mpg::with_timeout(mpg::context::background(), 1ms); });
}

TEST_P(fork_child, of_a_plain_thread_may_run_its_own) {
    auto c = mpg::test::run_in_child([&] {
        mpg::options o;
        o.procs = procs();
        mpg::runtime rt(o);
        if (rt.run([] { return 1; }) != 1) return 90;
        const ::pid_t child = ::fork();
        if (child == 0) {
            const int got = run([] { return mpg::spawn([] { return 6; }).join(); });
            ::_exit(got); // rt is not stopped: its threads are the parent's
        }
        if (rt.run([] { return mpg::spawn([] { return 3; }).join(); }) != 3) return 91;
        int status = 0;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
    });
    EXPECT_EQ(c.exit_code, 6) << c;
}

TEST_P(fork_child, of_a_plain_thread_may_not_use_its_parents) {
    for (bool waits : {false, true}) {
        auto c = mpg::test::run_in_child([&] {
            mpg::options o;
            o.procs = procs();
            mpg::runtime rt(o);
            rt.run([] {});
            const ::pid_t child = ::fork();
            if (child == 0) {
                if (waits)
                    rt.run([] {});
                else
                    rt.go([] {});
                ::_exit(7);
            }
            int status = 0;
            ::waitpid(child, &status, 0);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
        });
        EXPECT_EQ(c.exit_code, 2) << c;
        EXPECT_NE(c.err.find("fatal error: the runtime was used in a child of fork()"), std::string::npos) << c;
    }
}

TEST_P(fork_child, may_leave_a_runtime_object_behind) {
    auto c = mpg::test::run_in_child([&] {
        ::pid_t child;
        {
            mpg::options o;
            o.procs = procs();
            mpg::runtime rt(o);
            rt.run([] {});
            child = ::fork();
        } // the child's destructor has nothing to end
        if (child == 0) ::_exit(4);
        int status = 0;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
    });
    EXPECT_EQ(c.exit_code, 4) << c;
}

// The child has copies of the parent's descriptors, of its rings and epoll instances too, and keeps them as long as it lives:
// so what the parent has closed is not closed, and its number is another's. Each reader gets what was sent to it, and that once.
struct fork_beside_io : mpg::test::with_pollers {
    using pair = mpg::test::tcp_pair;
    static constexpr std::size_t n = 8;

    /// A reader for each server's side; then something for each of them to read. What each got, in order.
    static void exchange(std::vector<pair>& pairs, int round, const std::function<void()>& while_they_wait) {
        std::vector<mpg::task<std::string>> readers;
        mpg::wait_group begun;
        for (pair& p : pairs) {
            begun.add(1);
            readers.push_back(mpg::spawn([&] {
                std::array<std::byte, 64> to;
                begun.done();
                const auto got = p.server.read(to);
                return got ? std::string(mpg::test::text(std::span(to).first(*got))) : got.error().message();
            }));
        }
        begun.wait();
        mpg::sleep_for(1ms); // most of them wait by now; it is right for all
        while_they_wait();
        for (std::size_t i = 0; i < pairs.size(); ++i) {
            const std::string what = std::to_string(round) + ' ' + std::to_string(i);
            EXPECT_TRUE(pairs[i].client.write(mpg::test::bytes(what)));
            EXPECT_EQ(readers[i].join(), what);
        }
    }
};
MPG_TEST_IO(fork_beside_io);

/// A child in which each of these would have to wait for the parent's rings or epoll instances.
TEST_P(fork_beside_io, does_none_that_waits) {
    const auto c = mpg::test::run_in_child([&] {
        run([] {
            auto listener = mpg::test::listen_local();
            pair p = mpg::test::connect_local(listener);
            auto udp = mpg::net::udp_socket::bind("127.0.0.1:0");
            auto file = mpg::file::open("/proc/self/exe");
            ASSERT_TRUE(udp && file);
            std::array<std::byte, 64> to;
            const std::vector<std::byte> much(64 << 20);
            mpg::net::endpoint from;
            const std::pair<const char*, std::function<void()>> calls[] = {
                {"read", [&] { (void)p.server.read(to); }},
                {"write", [&] { (void)p.server.write(much); }},
                {"accept", [&] { (void)listener.accept(); }},
                {"receive", [&] { (void)udp->recv_from(to, from); }},
                {"lookup", [&] { (void)mpg::net::resolve("localhost"); }},
                {"open", [&] { (void)mpg::file::open("/dev/null"); }},
                {"deadline", [&] {
                     p.server.set_deadline(std::chrono::steady_clock::now() + 1h);
                     (void)p.server.read(to);
                 }},
            };
            for (const auto& [what, f] : calls) {
                SCOPED_TRACE(what);
                int err[2];
                ASSERT_EQ(::pipe(err), 0);
                const ::pid_t child = ::fork();
                if (child == 0) {
                    ::dup2(err[1], 2);
                    f();
                    ::_exit(7);
                }
                ::close(err[1]);
                std::string said;
                char piece[256];
                mpg::blocking([&] {
                    for (::ssize_t got; (got = ::read(err[0], piece, sizeof piece)) > 0;)
                        said.append(piece, static_cast<std::size_t>(got));
                });
                ::close(err[0]);
                int status = 0;
                EXPECT_EQ(mpg::blocking([&] { return ::waitpid(child, &status, 0); }), child);
                EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 2) << status;
                EXPECT_NE(said.find("fatal error: the runtime was used in a child of fork()"), std::string::npos) << said;
            }
            std::vector<pair> fresh;
            for (std::size_t i = 0; i < n; ++i) fresh.push_back(mpg::test::connect_local(listener));
            exchange(fresh, 1, [] {});
            auto got = file->read_at(to, 0);
            EXPECT_TRUE(got && *got == to.size());
        });
        return ::testing::Test::HasFailure() ? 1 : 0;
    });
    EXPECT_EQ(c.exit_code, 0) << c;
}

TEST_P(fork_beside_io, takes_nothing_of_what_the_parent_waits_for) {
    const auto c = mpg::test::run_in_child([&] {
        run([] {
            auto listener = mpg::test::listen_local();
            std::vector<pair> pairs;
            for (std::size_t i = 0; i < n; ++i) pairs.push_back(mpg::test::connect_local(listener));
            int live[2];
            ASSERT_EQ(::pipe(live), 0);
            ::pid_t stays = -1, executes = -1;
            exchange(pairs, 0, [&] {
                if ((stays = ::fork()) == 0) { // until the parent lets go
                    ::close(live[1]);
                    char never;
                    while (::read(live[0], &never, 1) < 0) {}
                    ::_exit(0);
                }
                if ((executes = ::fork()) == 0) {
                    ::execl("/bin/true", "true", nullptr);
                    ::_exit(1);
                }
            });
            // The old connections are alive in the child. What comes over them is nobody's here.
            std::vector<int> numbers;
            std::vector<mpg::net::tcp_stream> peers;
            for (pair& p : pairs) {
                numbers.push_back(p.server.native_handle());
                peers.push_back(std::move(p.client));
                p.server.close();
            }
            std::vector<pair> fresh;
            for (std::size_t i = 0; i < n; ++i) fresh.push_back(mpg::test::connect_local(listener));
            std::size_t again = 0;
            for (pair& p : fresh) again += static_cast<std::size_t>(std::count(numbers.begin(), numbers.end(), p.server.native_handle()));
            EXPECT_GT(again, 0u); // numbers are used again
            exchange(fresh, 1, [&] {
                for (auto& peer : peers) EXPECT_TRUE(peer.write(mpg::test::bytes("for the child")));
            });
            exchange(fresh, 2, [&] { // while one child ends, which holds all of it
                ::close(live[1]);
                for (::pid_t child : {stays, executes}) {
                    int status = -1;
                    EXPECT_EQ(mpg::blocking([&] { return ::waitpid(child, &status, 0); }), child);
                    EXPECT_EQ(status, 0);
                }
            });
            exchange(fresh, 3, [] {});
            ::close(live[0]);
        });
        return ::testing::Test::HasFailure() ? 1 : 0;
    });
    EXPECT_EQ(c.exit_code, 0) << c;
}

} // namespace
