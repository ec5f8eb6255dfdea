// Tasks that block their OS thread without telling anybody (blocking() would): the others go on, and no system call is
// interrupted.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <netdb.h>
#include <poll.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

struct held_up : mpg::test::with_procs {};
MPG_TEST_PROCS(held_up);

struct pipe_ends {
    int fds[2];
    pipe_ends() {
        if (::pipe(fds) != 0) throw std::runtime_error("pipe");
    }
    ~pipe_ends() {
        ::close(fds[0]);
        ::close(fds[1]);
    }
};

TEST_P(held_up, readers_of_pipes_that_other_tasks_write) {
    run([&] {
        const unsigned n = 2 * std::min(procs(), 8u) + 1;
        std::vector<pipe_ends> pipes(n);
        mpg::wait_group ended;
        std::atomic<unsigned> read{0};
        for (unsigned i = 0; i < n; ++i) {
            ended.go([&, i] {
                char c;
                if (::read(pipes[i].fds[0], &c, 1) == 1) ++read; // errno would be EINTR
            });
        }
        mpg::yield();
        for (unsigned i = 0; i < n; ++i) ended.go([&, i] { EXPECT_EQ(::write(pipes[i].fds[1], "x", 1), 1); });
        ended.wait();
        EXPECT_EQ(read, n);
    });
}

TEST_P(held_up, sleepers) {
    run([&] {
        const unsigned few = std::min(procs(), 8u), n = 4 * few;
        mpg::wait_group ended;
        std::atomic<unsigned> interrupted{0}, early{0}, asleep{0};
        std::atomic<bool> met{false};
        for (unsigned i = 0; i < n; ++i) {
            ended.go([&] {
                // More than `few` at once, or for ever: with so few Ps that needs others to go on meanwhile.
                if (++asleep > few) met = true;
                do {
                    auto begin = clock_type::now();
                    ::timespec t{0, 20'000'000};
                    if (::nanosleep(&t, nullptr) != 0) ++interrupted;
                    if (clock_type::now() - begin < 20ms) ++early;
                } while (!met);
                --asleep;
            });
        }
        ended.wait();
        EXPECT_EQ(interrupted, 0u);
        EXPECT_EQ(early, 0u);
    });
}

TEST_P(held_up, lookups_of_names) {
    const auto lookup = [] { // of what /etc/hosts has; a resolver's locks, files and perhaps sockets
        ::addrinfo hints{}, *found = nullptr;
        hints.ai_socktype = SOCK_STREAM;
        const int rc = ::getaddrinfo("localhost", "80", &hints, &found);
        int n = 0;
        for (auto* at = found; at; at = at->ai_next) ++n;
        if (found) ::freeaddrinfo(found);
        return std::pair(rc, n);
    };
    const auto expected = lookup();
    run([&] {
        mpg::wait_group ended;
        for (int i = 0; i < 16; ++i) {
            ended.go([&] {
                for (int k = 0; k < 10; ++k) {
                    EXPECT_EQ(lookup(), expected);
                    if (k % 3 == 0) mpg::yield();
                }
            });
        }
        for (int i = 0; i < 5; ++i) mpg::sleep_for(1ms);
        ended.wait();
    });
}

TEST_P(held_up, mutex_whose_owner_is_queued) {
    run([&] {
        std::mutex a, b;
        mpg::wait_group ended;
        for (int i = 0; i < 20; ++i) {
            ended.go([&, i] {
                for (int k = 0; k < 5; ++k) {
                    std::mutex& m = (i + k) % 2 ? a : b;
                    std::lock_guard guard(m);
                    mpg::yield(); // the next one's thread will wait for us
                }
            });
        }
        ended.wait();
    });
}

TEST_P(held_up, timers_and_channels_go_on) {
    run([&] {
        pipe_ends gate;
        std::vector<mpg::task<void>> blocked;
        for (unsigned i = 0; i < std::min(procs(), 8u); ++i) {
            blocked.push_back(mpg::spawn([&] {
                ::pollfd p{gate.fds[0], POLLIN, 0};
                while (::poll(&p, 1, -1) != 1) ADD_FAILURE() << "poll was interrupted";
                mpg::yield(); // without a P by now
            }));
        }
        mpg::chan<int> c;
        mpg::go([c] {
            for (int i = 0; i < 20; ++i) {
                mpg::sleep_for(1ms);
                c.send(i);
            }
            c.close();
        });
        int n = 0;
        for (int v : c) EXPECT_EQ(v, n++);
        EXPECT_EQ(n, 20);
        EXPECT_EQ(::write(gate.fds[1], "x", 1), 1);
        for (auto& t : blocked) t.join();
    });
}

TEST_P(held_up, in_what_a_locked_thread_does) {
    run([&] {
        pipe_ends gate;
        std::atomic<bool> reads{false};
        auto locked = mpg::spawn([&] {
            mpg::thread_lock lock;
            auto id = std::this_thread::get_id();
            char c;
            reads = true;
            EXPECT_EQ(::read(gate.fds[0], &c, 1), 1);
            mpg::yield();
            asm volatile("" ::: "memory");
            EXPECT_EQ(std::this_thread::get_id(), id);
        });
        EXPECT_TRUE(mpg::test::eventually([&] { return reads.load(); })); // with one P: once that has been taken from it
        EXPECT_EQ(::write(gate.fds[1], "x", 1), 1);
        locked.join();
    });
}

TEST_P(held_up, blocking_and_spawning_without_a_p) {
    run([&] {
        mpg::wait_group ended;
        std::atomic<int> sum{0};
        for (int i = 0; i < 30; ++i) {
            ended.go([&] {
                ::usleep(3000); // the P may be gone after this
                mpg::blocking([&] { ::usleep(500); });
                ::usleep(3000);
                sum += mpg::spawn([] { return 1; }).join();
                ::usleep(3000);
                mpg::go([&] { sum += 100; });
                mpg::sleep_for(1ms);
            });
        }
        ended.wait();
        ASSERT_TRUE(mpg::test::eventually([&] { return sum == 3030; })) << sum;
    });
}

} // namespace
