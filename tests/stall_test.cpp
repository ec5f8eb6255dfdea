// Tasks that hold up others are found, counted, and told to on_stall; and how long runnable tasks wait is measured.
//
// ctest: lines
// ctest: no-tsan  signals reach a thread that computes only at its next system call there
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/debug.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct stalls : mpg::test::with_procs {};
INSTANTIATE_TEST_SUITE_P(procs, stalls, ::testing::Values(1u, 2u), [](const auto& of) { return std::to_string(of.param); });

struct told {
    std::array<std::atomic<std::uint64_t>, 8> hogs{}; // what those who compute look at: they wait for no lock
    std::mutex lock;
    std::vector<mpg::stall> all;

    mpg::options options(std::chrono::nanoseconds after) {
        mpg::options o;
        o.stall_after = after;
        o.on_stall = [this](const mpg::stall& s) {
            std::lock_guard hold(lock);
            all.push_back(s);
            if (s.name == "hog")
                for (auto& place : hogs)
                    if (std::uint64_t none = 0; place.compare_exchange_strong(none, s.task)) break;
        };
        return o;
    }
    bool of(std::uint64_t hog) const {
        return std::any_of(hogs.begin(), hogs.end(), [=](auto& place) { return place == hog; });
    }
    std::size_t of(const char* name) {
        std::lock_guard hold(lock);
        return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [&](auto& s) { return s.name == name; }));
    }
};

[[gnu::noinline]] void compute_for_long(const std::function<bool()>& until) {
    while (!until()) asm volatile("" ::: "memory");
}

/// Work that waits behind those who do not let go.
struct waiting_work {
    std::atomic<bool> on{true};
    mpg::wait_group ended;
    explicit waiting_work(unsigned n) {
        for (unsigned i = 0; i < n; ++i)
            ended.go([this] {
                while (on) mpg::yield();
            });
    }
    void end() {
        on = false;
        ended.wait();
    }
};

// Under sanitizers, too, where nobody is preempted.
TEST_P(stalls, of_who_computes_are_told_once_with_their_stack) {
    told t;
    const auto stats = run(t.options(30ms), [&] {
        waiting_work work(2 * procs());
        mpg::wait_group ended;
        for (unsigned i = 0; i < procs(); ++i)
            ended.go([&] {
                mpg::this_task::set_name("hog");
                // Until it was told of itself: where nobody is preempted, one may wait until the other has ended.
                compute_for_long([&, me = mpg::this_task::id()] { return t.of(me); });
            });
        ended.wait();
        work.end();
        return mpg::runtime::current()->stats();
    });
    EXPECT_EQ(t.of("hog"), procs());
    EXPECT_GE(stats.stalls, procs());
    for (const mpg::stall& s : t.all) {
        if (s.name != "hog") continue;
        EXPECT_EQ(s.why, mpg::stall::reason::computes);
        EXPECT_GE(s.for_so_long, 30ms);
        EXPECT_NE(s.task, 0u);
        EXPECT_NE(s.created_at, "");
        EXPECT_NE(s.stack.find("compute_for_long"), std::string::npos) << s.stack;
    }
}

TEST_P(stalls, of_who_blocks_its_thread_are_told_once) {
    told t;
    run(t.options(20ms), [&] {
        waiting_work work(2 * procs());
        int fds[2];
        ASSERT_EQ(::pipe(fds), 0);
        auto reader = mpg::spawn([&] {
            mpg::this_task::set_name("reader");
            char c;
            EXPECT_EQ(::read(fds[0], &c, 1), 1);
        });
        EXPECT_TRUE(mpg::test::eventually([&] { return t.of("reader") != 0; }));
        EXPECT_EQ(::write(fds[1], "x", 1), 1);
        reader.join();
        work.end();
        ::close(fds[0]);
        ::close(fds[1]);
    });
    EXPECT_EQ(t.of("reader"), 1u);
    for (const mpg::stall& s : t.all) {
        if (s.name != "reader") continue;
        EXPECT_EQ(s.why, mpg::stall::reason::blocks);
        EXPECT_NE(s.stack.find("read"), std::string::npos) << s.stack;
    }
}

TEST_P(stalls, are_none_where_all_let_go) {
    told t;
    const auto stats = run(t.options(10s), [&] {
        waiting_work work(4);
        for (int i = 0; i < 20; ++i) mpg::sleep_for(1ms);
        mpg::blocking([] { ::usleep(1000); });
        work.end();
        return mpg::runtime::current()->stats();
    });
    EXPECT_EQ(stats.stalls, 0u);
    EXPECT_EQ(t.all.size(), 0u);
}

TEST_P(stalls, are_not_looked_for_when_that_is_turned_off) {
    told t;
    const auto stats = run(t.options(0ms), [&] {
        waiting_work work(2 * procs());
        const auto end = std::chrono::steady_clock::now() + 100ms;
        compute_for_long([&] { return std::chrono::steady_clock::now() > end; });
        work.end();
        return mpg::runtime::current()->stats();
    });
    EXPECT_EQ(stats.stalls, 0u);
}

// The hook's thread wakes nobody while it waits, but may do so while it runs.
TEST(stalls_and_deadlock, the_hook_is_no_reason_to_miss_one_nor_to_see_one) {
    auto child = mpg::test::run_in_child([] {
        mpg::options o;
        o.procs = 1;
        o.stall_after = 10ms;
        mpg::chan<void> c;
        std::atomic<bool> told{false};
        o.on_stall = [c, &told](const mpg::stall&) mutable {
            if (told.exchange(true)) return; // on a slow machine others may be found, too
            ::usleep(100'000); // all are asleep meanwhile
            c.send();
        };
        mpg::run(o, [&] {
            waiting_work work(1);
            compute_for_long([&] { return told.load(); });
            work.end();
            c.recv();
            ::write(1, "received", 8);
            c.recv();
        });
    });
    EXPECT_EQ(child.out, "received") << child;
    EXPECT_EQ(child.exit_code, 2) << child;
    EXPECT_NE(child.err.find("all tasks are asleep"), std::string::npos) << child;
}

TEST_P(stalls, scheduling_latency_is_measured) {
    const auto stats = run([&] {
        mpg::chan<int> there, back;
        mpg::go([=] {
            for (int v : there) back.send(v);
        });
        for (int i = 0; i < 2000; ++i) {
            there.send(i);
            back.recv();
        }
        there.close();
        std::thread foreign([&] {
            for (int i = 0; i < 10; ++i) there = {}, back.send(i);
        });
        for (int i = 0; i < 10; ++i) back.recv();
        mpg::blocking([&] { foreign.join(); });
        return mpg::runtime::current()->stats();
    });
    EXPECT_GE(stats.sched_latency.total(), 2 * 2000u / 80); // one of 64 or so
    EXPECT_LE(stats.sched_latency.total(), 2000u);
    EXPECT_GT(stats.sched_latency.quantile(0.5), 0ns);
    EXPECT_LE(stats.sched_latency.quantile(0.5), stats.sched_latency.quantile(0.99));
    EXPECT_EQ(mpg::latency_histogram{}.quantile(0.5), 0ns);
}

// Who waits behind one who computes waits for as long.
TEST(sched_latency, of_those_who_stand_behind_another_shows_it) {
    mpg::options o;
    o.procs = 1;
    const auto latency = mpg::run(o, [] {
        for (int i = 0; i < 64; ++i) mpg::go([] {});
        const auto end = std::chrono::steady_clock::now() + 5ms;
        compute_for_long([&] { return std::chrono::steady_clock::now() > end; });
        mpg::yield();
        return mpg::runtime::current()->stats().sched_latency;
    });
    EXPECT_GT(latency.quantile(1), 4ms);
}

} // namespace
