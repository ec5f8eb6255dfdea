// The end of a runtime: whatever its tasks are doing, each ends by mpg::unwound and nothing is left.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/scope.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace std::chrono_literals;

/// Counts the living; so destructors that did not run are seen.
struct alive {
    explicit alive(std::atomic<int>& n)
        : count(&n) {
        ++*count;
    }
    alive(const alive& o)
        : count(o.count) {
        ++*count;
    }
    ~alive() { --*count; }
    alive& operator=(const alive&) = delete;
    std::atomic<int>* count;
};

struct runtime_stop : mpg::test::with_procs {
    /// Starts a runtime whose main starts f in 20 tasks, lets them get wherever they get, and returns.
    void stop_during(const char* what, const std::function<void()>& f) {
        SCOPED_TRACE(what);
        std::minstd_rand random(static_cast<unsigned>(mpg::test::seed()));
        for (int round = 0; round < 10; ++round) {
            std::atomic<int> living{0}, returned{0};
            unsigned yields = static_cast<unsigned>(random()) % 40;
            run([&] {
                for (int i = 0; i < 20; ++i) {
                    mpg::go([&living, &returned, &f, captured = alive(living)] {
                        alive local(living);
                        f();
                        ++returned;
                    });
                }
                for (unsigned i = 0; i < yields; ++i) mpg::yield();
            });
            EXPECT_EQ(living, 0);
            EXPECT_EQ(returned, 0);
        }
    }
};
MPG_TEST_PROCS(runtime_stop);

TEST_P(runtime_stop, destroys_tasks_that_never_started) {
    std::atomic<int> living{0};
    run([&] {
        for (int i = 0; i < 1000; ++i) mpg::go([captured = alive(living)] {});
    });
    EXPECT_EQ(living, 0);
}

TEST_P(runtime_stop, unwinds_channel_waits) {
    mpg::chan<int> empty, full(1), nil(nullptr);
    full.send(0);
    stop_during("recv", [&] { empty.recv(); });
    stop_during("send", [&] { full.send(1); });
    stop_during("nil", [&] { nil.recv(); });
    stop_during("recv_for", [&] {
        int v = 0;
        empty.recv_for(v, 1h);
    });
    stop_during("recv with context", [&] {
        int v = 0;
        auto ctx = mpg::with_timeout(mpg::context::background(), 1h);
        empty.recv(ctx, v);
    });
    stop_during("range", [&] {
        for (int v : empty) EXPECT_EQ(v, -1);
    });
    EXPECT_EQ(full.recv(), 0); // what was there before is there still, and no sender has slipped in
    EXPECT_EQ(full.size(), 0u);
}

TEST_P(runtime_stop, unwinds_selects) {
    mpg::chan<int> a, b;
    mpg::chan<void> c;
    auto nothing = [](auto&&...) {};
    stop_during("no case", [] { mpg::select(); });
    stop_during("three channels", [&] {
        mpg::select(mpg::on_recv(a, nothing), mpg::on_recv(b, nothing), mpg::on_recv(c, nothing));
    });
    stop_during("with timeout and context", [&] {
        auto ctx = mpg::with_cancel(mpg::context::background());
        mpg::select(mpg::on_recv(a, nothing), mpg::on_timeout(1h, nothing), mpg::on_done(ctx, nothing));
    });
    EXPECT_EQ(a.try_recv(*std::make_unique<int>()), mpg::chan_status::empty);
}

TEST_P(runtime_stop, unwinds_sync_waits) {
    mpg::mutex m;
    m.lock();
    stop_during("mutex", [&] { std::lock_guard guard(m); });
    m.unlock();
    mpg::shared_mutex s;
    s.lock();
    stop_during("shared_mutex read", [&] { std::shared_lock guard(s); });
    stop_during("shared_mutex write", [&] { std::unique_lock guard(s); });
    s.unlock();
    mpg::mutex cm;
    mpg::condition_variable cv;
    stop_during("condition_variable", [&] {
        std::unique_lock lock(cm);
        cv.wait(lock, [] { return false; });
    });
    EXPECT_TRUE(cm.try_lock()); // the unwound waits have given it back
    cm.unlock();
    mpg::wait_group g;
    g.add(1);
    stop_during("wait_group", [&] { g.wait(); });
    g.done();
    mpg::semaphore sem(1);
    stop_during("semaphore", [&] { sem.acquire(2); });
    EXPECT_TRUE(sem.try_acquire(1));
    mpg::latch latch(1);
    stop_during("latch", [&] { latch.wait(); });
    latch.count_down();
    mpg::barrier barrier(10'000);
    stop_during("barrier", [&] { barrier.arrive_and_wait(); });
}

TEST_P(runtime_stop, unwinds_once_and_its_waiters) {
    for (int round = 0; round < 20; ++round) {
        mpg::once once;
        mpg::chan<void> never;
        std::atomic<int> returned{0};
        run([&] {
            for (int i = 0; i < 10; ++i) {
                mpg::go([&] {
                    once.call([&] { never.recv(); });
                    ++returned;
                });
            }
            for (int i = 0; i < round; ++i) mpg::yield();
        });
        EXPECT_EQ(returned, 0);
        bool called = false; // nobody has come through: the next caller runs it
        once.call([&] { called = true; });
        EXPECT_TRUE(called);
    }
}

TEST_P(runtime_stop, unwinds_sleeps_yields_and_joins) {
    stop_during("sleep for ever", [] { mpg::sleep_for(std::chrono::nanoseconds::max()); });
    stop_during("sleep until never", [] { mpg::sleep_until(mpg::time_point::max()); });
    stop_during("sleep", [] { mpg::sleep_for(1h); });
    stop_during("yield", [] {
        for (;;) mpg::yield();
    });
    stop_during("join", [] { mpg::spawn([] { mpg::sleep_for(1h); }).join(); });
    stop_during("join with context", [] {
        auto ctx = mpg::with_cancel(mpg::context::background());
        mpg::spawn([] { mpg::sleep_for(1h); }).join(ctx);
    });
    stop_during("after", [] { mpg::after(1h).recv(); });
    stop_during("short sleeps", [] {
        for (;;) mpg::sleep_for(50us);
    });
    stop_during("respawning", [] {
        struct again {
            void operator()() const { mpg::go(again{}); }
        };
        mpg::go(again{});
        mpg::select();
    });
}

TEST_P(runtime_stop, unwinds_scopes_in_any_state) {
    stop_during("scope", [] {
        mpg::scope s;
        for (int i = 0; i < 5; ++i) s.go([](const mpg::context& ctx) { ctx.done().recv(); });
        s.wait();
    });
    stop_during("scope with a limit", [] {
        mpg::scope s;
        s.limit(2);
        for (int i = 0; i < 5; ++i) s.go([] { mpg::sleep_for(1h); });
        s.wait();
    });
    // A wait group whose tasks are destroyed before they start must let its owner's destructor go on.
    stop_during("wait_group::go", [] {
        struct waits {
            mpg::wait_group group;
            ~waits() { group.wait(); }
        } w;
        for (int i = 0; i < 5; ++i) w.group.go([] { mpg::chan<void>().recv(); });
        mpg::select();
    });
}

TEST_P(runtime_stop, unwinds_while_tasks_are_busy) {
    for (int round = 0; round < 20; ++round) {
        std::atomic<int> living{0};
        run([&] {
            mpg::chan<int> c(4);
            mpg::mutex m;
            for (int i = 0; i < 20; ++i) {
                mpg::go([&living, c, i, captured = alive(living)] {
                    alive local(living);
                    for (int k = 0;; ++k)
                        if ((k + i) % 2) {
                            c.send(k);
                        } else {
                            c.recv();
                        }
                });
            }
            for (int i = 0; i < round; ++i) mpg::yield();
        });
        EXPECT_EQ(living, 0);
    }
}

TEST_P(runtime_stop, throws_from_waits_that_could_succeed) {
    std::atomic<int> got{0}, unwound{0};
    run([&] {
        mpg::chan<int> c(10);
        for (int i = 0; i < 10; ++i) c.send(i);
        mpg::chan<void> ready;
        mpg::go([&got, &unwound, c, ready] {
            try {
                ready.send();
                mpg::chan<void>().recv();
            } catch (const mpg::unwound&) {
                ++unwound;
                try {
                    mpg::sleep_for(0ns);
                    mpg::yield();
                    ++got;
                } catch (const mpg::unwound&) {
                    ++unwound;
                }
                throw;
            }
        });
        ready.recv();
    });
    EXPECT_EQ(got, 0);
    EXPECT_EQ(unwound, 2);
}

TEST_P(runtime_stop, unwound_is_no_std_exception) {
    static_assert(!std::is_base_of_v<std::exception, mpg::unwound>);
    std::atomic<bool> as_std{false}, passed{false};
    run([&] {
        mpg::chan<void> ready;
        mpg::go([&, ready] {
            try {
                try {
                    ready.send();
                    mpg::chan<void>().recv();
                } catch (const std::exception&) {
                    as_std = true;
                }
            } catch (...) {
                passed = true;
                throw;
            }
        });
        ready.recv();
    });
    EXPECT_FALSE(as_std);
    EXPECT_TRUE(passed);
}

TEST_P(runtime_stop, waits_in_destructors_work_while_unwinding) {
    struct in_destructor {
        std::function<void()> f;
        ~in_destructor() { f(); }
    };
    std::atomic<int> met{0};
    mpg::chan<int> meeting;
    mpg::mutex m;
    run([&] {
        mpg::wait_group ready;
        ready.add(2);
        mpg::go([&] {
            in_destructor d{[&] {
                mpg::yield();
                mpg::sleep_for(1ms);
                meeting.send(5);
                std::lock_guard guard(m);
                ++met;
            }};
            ready.done();
            mpg::chan<void>().recv();
        });
        mpg::go([&] {
            in_destructor d{[&] {
                std::lock_guard guard(m);
                if (meeting.recv() == 5) ++met;
            }};
            ready.done();
            mpg::sleep_for(1h);
        });
        ready.wait();
    });
    EXPECT_EQ(met, 2);
}

// A task that has lost its P in a system call waits without one: the stop must see all of that, though its machine gives up no P.
TEST_P(runtime_stop, unwinds_what_waits_since_it_lost_its_p) {
    std::atomic<int> living{0};
    run([&] {
        mpg::chan<int> never;
        std::atomic<bool> began{false};
        mpg::go([&living, &began, never, captured = alive(living)] {
            alive local(living);
            began = true;
            ::usleep(30'000); // unannounced
            never.recv();
            ADD_FAILURE() << "nobody sends";
        });
        while (!began || mpg::runtime::current()->stats().tasks_waiting == 0) mpg::yield();
    });
    EXPECT_EQ(living, 0);
}

TEST_P(runtime_stop, follows_an_exception_of_main) {
    std::atomic<int> living{0};
    EXPECT_THROW(run([&] {
                     for (int i = 0; i < 50; ++i) {
                         mpg::go([captured = alive(living)] { mpg::chan<void>().recv(); });
                     }
                     mpg::yield();
                     throw std::runtime_error("main");
                 }),
                 std::runtime_error);
    EXPECT_EQ(living, 0);
}

TEST_P(runtime_stop, of_a_runtime_object_unwinds_what_it_holds) {
    std::atomic<int> living{0};
    mpg::options o;
    o.procs = procs();
    {
        mpg::runtime rt(o);
        for (int i = 0; i < 50; ++i) {
            rt.go([&living, captured = alive(living)] {
                alive local(living);
                mpg::chan<void>().recv();
            });
        }
    }
    EXPECT_EQ(living, 0);
}

TEST_P(runtime_stop, makes_joins_of_unwound_tasks_throw) {
    mpg::options o;
    o.procs = procs();
    mpg::runtime rt(o);
    mpg::chan<void> started;
    auto blocked = rt.spawn([started]() -> int {
        started.send();
        mpg::chan<void>().recv();
        return 1;
    });
    started.recv();
    rt.stop();
    EXPECT_TRUE(blocked.joinable());
    EXPECT_THROW(blocked.join(), mpg::unwound);
    EXPECT_FALSE(blocked.joinable());
}

TEST_P(runtime_stop, comes_while_plain_threads_use_the_same_objects) {
    for (int round = 0; round < 10; ++round) {
        mpg::chan<int> c(2);
        std::thread sender([&] {
            try {
                for (int i = 0;; ++i) c.send(i);
            } catch (const mpg::channel_closed&) {
            }
        });
        run([&] {
            for (int i = 0; i < 4; ++i) {
                mpg::go([&] {
                    while (c.recv()) {
                    }
                });
            }
            for (int i = 0; i < 20 * round; ++i) mpg::yield();
        });
        c.close();
        sender.join();
    }
}

TEST_P(runtime_stop, reports_a_handler_that_swallows_unwound) {
    auto child = mpg::test::run_in_child([&] {
        run([] {
            mpg::chan<void> ready;
            mpg::go([ready] {
                mpg::this_task::set_name("swallower");
                try {
                    ready.send();
                    mpg::chan<void>().recv();
                } catch (...) { // what the report is about
                }
            });
            ready.recv();
        });
        return 5;
    });
    EXPECT_EQ(child.exit_code, 5) << child;
    EXPECT_NE(child.err.find("unwound"), std::string::npos) << child;
    EXPECT_NE(child.err.find("swallower"), std::string::npos) << child;
}

TEST_P(runtime_stop, does_not_hang_when_a_loop_swallows_unwound) {
    auto child = mpg::test::run_in_child([&] {
        run([] {
            mpg::chan<void> ready;
            mpg::go([ready] {
                mpg::this_task::set_name("swallower");
                for (bool told = false;;) {
                    try { // the stop may begin while it sends
                        if (!std::exchange(told, true)) ready.send();
                        mpg::chan<void>().recv();
                    } catch (...) {
                    }
                }
            });
            ready.recv();
        });
        std::_Exit(5); // its stack cannot be given back
    });
    EXPECT_EQ(child.exit_code, 5) << child;
    EXPECT_NE(child.err.find("unwound"), std::string::npos) << child;
    EXPECT_NE(child.err.find("swallower"), std::string::npos) << child;
}

} // namespace
