// thread_lock: the task stays on its OS thread, and nobody else runs there.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>
#include <mpg/sched/biased_lock.hpp>
#include <mpg/task.hpp>

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;

struct no_suspend : mpg::test::with_procs {
    void expect_caught(const char* why, const std::function<void()>& f) {
        auto c = mpg::test::run_in_child([&] {
            run([&] {
                mpg::this_task::set_name("holder");
                mpg::no_suspend outer;
                f();
            });
        });
#if !defined(NDEBUG)
        EXPECT_EQ(c.exit_code, 2) << why << c;
        EXPECT_NE(c.err.find("(holder) suspends under no_suspend: " + std::string(why)), std::string::npos) << c;
#else
        EXPECT_EQ(c.exit_code, 0) << why << c;
#endif
    }
};
MPG_TEST_PROCS(no_suspend);

TEST_P(no_suspend, catches_a_wait_that_carries_a_thread_s_lock_away) {
    expect_caught("chan receive", [] {
        std::recursive_mutex m;
        std::lock_guard hold(m);
        mpg::after(1ms).recv();
    });
    expect_caught("sleep", [] {
        mpg::no_suspend inner;
        mpg::sleep_for(1ms);
    });
    if (procs() == 1) // else the other task may be gone to another P
        expect_caught("yield", [] {
            mpg::go([] {});
            mpg::yield();
        });
}

TEST_P(no_suspend, allows_what_does_not_suspend) {
    run([] {
        std::shared_mutex m;
        mpg::chan<int> c(1);
        {
            mpg::no_suspend here;
            std::lock_guard hold(m);
            c.send(1);
            EXPECT_EQ(c.recv(), 1);
        }
        mpg::yield();
        mpg::thread_lock stays;
        mpg::no_suspend here; // with the thread to itself a task may wait
        std::lock_guard hold(m);
        mpg::sleep_for(100us);
    });
    mpg::no_suspend on_a_plain_thread;
    mpg::sleep_for(100us);
}

struct thread_lock : mpg::test::with_procs {};
MPG_TEST_PROCS(thread_lock);

/// Never inlined: what thread_local or gettid tell must not be remembered over a suspension.
[[gnu::noinline]] ::pid_t thread_id() {
    asm volatile("" ::: "memory");
    return ::gettid();
}

TEST_P(thread_lock, keeps_the_thread_over_every_kind_of_wait) {
    run([] {
        mpg::wait_group ended;
        mpg::chan<int> first, second; // one for each pair: in step k one of the two sends and the other receives
        for (int i = 0; i < 4; ++i) {
            ended.go([i, c = i < 2 ? first : second] {
                mpg::thread_lock lock;
                const auto here = thread_id();
                for (int k = 0; k < 50; ++k) {
                    mpg::yield();
                    EXPECT_EQ(thread_id(), here);
                    if ((k + i) % 2)
                        c.send(k);
                    else
                        c.recv();
                    EXPECT_EQ(thread_id(), here);
                    if (k % 10 == 0) mpg::sleep_for(100us);
                    EXPECT_EQ(thread_id(), here);
                    mpg::blocking([&] { EXPECT_EQ(thread_id(), here); });
                    EXPECT_EQ(thread_id(), here);
                    mpg::spawn([here] { EXPECT_NE(thread_id(), here); }).join();
                    EXPECT_EQ(thread_id(), here);
                }
            });
        }
        ended.wait();
    });
}

TEST_P(thread_lock, has_the_thread_alone) {
    run([] {
        std::atomic<::pid_t> owned{0};
        std::atomic<bool> on{true};
        mpg::wait_group ended;
        for (int i = 0; i < 10; ++i) {
            ended.go([&] {
                while (on) {
                    EXPECT_NE(thread_id(), owned);
                    mpg::yield();
                }
            });
        }
        auto locked = mpg::spawn([&] {
            for (int round = 0; round < 20; ++round) {
                mpg::thread_lock lock;
                owned = thread_id();
                for (int k = 0; k < 20; ++k) mpg::yield();
                mpg::sleep_for(50us);
                owned = 0;
            }
        });
        locked.done().recv();
        on = false;
        ended.wait();
    });
}

TEST_P(thread_lock, nests) {
    run([] {
        mpg::spawn([] {
            mpg::thread_lock outer;
            const auto here = thread_id();
            {
                mpg::thread_lock inner;
                mpg::yield();
                EXPECT_EQ(thread_id(), here);
            }
            for (int i = 0; i < 20; ++i) {
                mpg::yield();
                EXPECT_EQ(thread_id(), here);
            }
        }).join();
    });
}

TEST_P(thread_lock, of_main_works) {
    run([] {
        mpg::thread_lock lock;
        const auto here = thread_id();
        mpg::chan<int> c;
        mpg::go([c] {
            for (int i = 0; i < 10; ++i) c.send(i);
        });
        for (int i = 0; i < 10; ++i) EXPECT_EQ(c.recv(), i);
        mpg::sleep_for(1ms);
        EXPECT_EQ(thread_id(), here);
    });
}

TEST_P(thread_lock, locked_tasks_talk_to_each_other) {
    run([] {
        mpg::chan<int> ping, pong;
        auto a = mpg::spawn([=] {
            mpg::thread_lock lock;
            const auto here = thread_id();
            for (int i = 0; i < 200; ++i) {
                ping.send(i);
                EXPECT_EQ(pong.recv(), i);
            }
            EXPECT_EQ(thread_id(), here);
            return here;
        });
        auto b = mpg::spawn([=] {
            mpg::thread_lock lock;
            const auto here = thread_id();
            for (int i = 0; i < 200; ++i) {
                EXPECT_EQ(ping.recv(), i);
                pong.send(i);
            }
            EXPECT_EQ(thread_id(), here);
            return here;
        });
        auto first = a.join();
        EXPECT_NE(first, b.join());
    });
}

TEST_P(thread_lock, blocks_and_yields_without_holding_up_others) {
    run([] {
        mpg::chan<void> c;
        mpg::go([c] {
            mpg::thread_lock lock;
            for (int i = 0; i < 10; ++i) {
                mpg::yield();
                mpg::sleep_for(200us);
                c.send();
            }
        });
        for (int i = 0; i < 10; ++i) EXPECT_TRUE(c.recv());
    });
}

TEST_P(thread_lock, task_may_end_while_it_holds_one) {
    run([] {
        for (int i = 0; i < 20; ++i) {
            mpg::chan<void> done;
            // The lock lives in the closure: it is destroyed with the task, after its function has returned.
            mpg::go([done, lock = std::unique_ptr<mpg::thread_lock>()]() mutable {
                lock = std::make_unique<mpg::thread_lock>();
                mpg::yield();
                done.close();
            });
            done.recv();
            mpg::spawn([] { mpg::yield(); }).join();
        }
    });
}

TEST_P(thread_lock, many_at_once) {
    run([] {
        std::mutex m;
        std::set<::pid_t> threads;
        mpg::wait_group ended;
        mpg::barrier all(20);
        for (int i = 0; i < 20; ++i) {
            ended.go([&] {
                mpg::thread_lock lock;
                {
                    std::lock_guard guard(m);
                    threads.insert(thread_id());
                }
                all.arrive_and_wait();
            });
        }
        ended.wait();
        EXPECT_EQ(threads.size(), 20u);
    });
}

TEST_P(thread_lock, is_unwound_at_a_stop) {
    std::atomic<int> ended{0};
    run([&] {
        struct counts {
            std::atomic<int>& n;
            ~counts() { ++n; }
        };
        mpg::wait_group ready;
        for (int i = 0; i < 10; ++i) {
            ready.add(1);
            mpg::go([&] {
                counts c{ended};
                mpg::thread_lock lock;
                ready.done();
                if (mpg::this_task::id() % 2)
                    mpg::chan<void>().recv();
                else
                    mpg::sleep_for(1h);
            });
        }
        ready.wait();
    });
    EXPECT_EQ(ended, 10);
}

// Parks with a lock that is at home on its P, as a channel's is, and whose machine then gives the P away.
struct parks_with_a_lock : mpg::test::with_procs {
    mpg::sched::biased_lock* lock = nullptr;
    int inside = 0;                    // guarded by lock
    mpg::sched::task* parked = nullptr; // likewise

    static void commit(void* arg) noexcept {
        auto& self = *static_cast<parks_with_a_lock*>(arg);
        self.inside = 0;
        self.parked = self.next;
        self.lock->unlock();
    }
    mpg::sched::task* next = nullptr;
};
TEST_P(parks_with_a_lock, and_nobody_else_is_inside_before_it_has_left) {
    static constexpr mpg::sched::park_ops ops{mpg::sched::wait_reason::chan_recv, &commit, [](void*) noexcept { return false; }};
    constexpr int rounds = 2'000;
    run([&] {
        mpg::sched::biased_lock at_home;
        lock = &at_home;
        int woken = 0, met = 0;
        auto locked = mpg::spawn([&] {
            mpg::thread_lock here;
            for (int i = 0; i != rounds; ++i) {
                at_home.lock();
                inside = 1;
                next = mpg::sched::current();
                mpg::sched::park(ops, this);
            }
        });
        while (woken != rounds) {
            at_home.lock();
            met += inside;
            mpg::sched::task* t = std::exchange(parked, nullptr);
            at_home.unlock();
            if (t) {
                ++woken;
                mpg::sched::ready(t);
            }
            mpg::yield();
        }
        locked.join();
        EXPECT_EQ(met, 0);
    });
}
MPG_TEST_PROCS(parks_with_a_lock);

} // namespace
