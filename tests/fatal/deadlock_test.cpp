// Deadlock detection: what it reports, and what it leaves alone. Each case in a child process.
// ctest: lines
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/scope.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <functional>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

struct deadlock : mpg::test::with_procs {
    mpg::test::child_result child(const std::function<void()>& main, mpg::options o = {}) {
        o.procs = procs();
        return mpg::test::run_in_child([=] { mpg::run(o, main); });
    }
    void expect_reported(const char* what, const std::function<void()>& main) {
        SCOPED_TRACE(what);
        auto c = child(main);
        EXPECT_EQ(c.exit_code, 2) << c;
        EXPECT_NE(c.err.find("fatal error: all tasks are asleep - deadlock!"), std::string::npos) << c;
    }
    void expect_fine(const char* what, const std::function<void()>& main) {
        SCOPED_TRACE(what);
        auto c = child(main);
        EXPECT_EQ(c.exit_code, 0) << c;
        EXPECT_EQ(c.err, "") << c;
    }
};
MPG_TEST_PROCS(deadlock);

TEST_P(deadlock, of_main_alone_is_reported) {
    expect_reported("recv", [] { mpg::chan<int>().recv(); });
    expect_reported("send", [] { mpg::chan<int>().send(1); });
    expect_reported("nil", [] { mpg::chan<int>(nullptr).recv(); });
    expect_reported("select of nothing", [] { mpg::select(); });
    expect_reported("select", [] {
        mpg::chan<int> a, b;
        mpg::select(mpg::on_recv(a, [](auto) {}), mpg::on_send(b, 1));
    });
}

TEST_P(deadlock, in_sync_types_is_reported) {
    expect_reported("mutex", [] {
        mpg::mutex m;
        m.lock();
        m.lock();
    });
    expect_reported("shared_mutex", [] {
        mpg::shared_mutex m;
        m.lock_shared();
        m.lock();
    });
    expect_reported("condition_variable", [] {
        mpg::mutex m;
        mpg::condition_variable cv;
        std::unique_lock lock(m);
        cv.wait(lock, [] { return false; });
    });
    expect_reported("wait_group", [] {
        mpg::wait_group g;
        g.add(1);
        g.wait();
    });
    expect_reported("semaphore", [] { mpg::semaphore(0).acquire(1); });
    expect_reported("latch", [] { mpg::latch(1).wait(); });
}

TEST_P(deadlock, of_many_tasks_is_reported_with_all_of_them) {
    auto c = child([] {
        for (int i = 0; i < 5; ++i) {
            mpg::go([i] {
                mpg::this_task::set_name("stuck-" + std::to_string(i));
                mpg::chan<int>().recv();
            });
        }
        mpg::mutex m;
        m.lock();
        m.lock();
    });
    EXPECT_EQ(c.exit_code, 2) << c;
    EXPECT_NE(c.err.find("fatal error: all tasks are asleep - deadlock!"), std::string::npos) << c;
    for (int i = 0; i < 5; ++i) EXPECT_NE(c.err.find("stuck-" + std::to_string(i)), std::string::npos) << c;
    EXPECT_NE(c.err.find("chan receive"), std::string::npos) << c;
    EXPECT_NE(c.err.find("mutex"), std::string::npos) << c;
}

TEST_P(deadlock, after_a_busy_life_is_reported) {
    expect_reported("channels", [] {
        mpg::chan<int> c(10);
        for (int i = 0; i < 20; ++i) {
            mpg::go([c] {
                for (int k = 0; k < 100; ++k) {
                    c.send(k);
                    mpg::yield();
                }
            });
        }
        for (int i = 0; i < 2001; ++i) c.recv(); // one more than come
    });
    expect_reported("timers", [] {
        mpg::wait_group g;
        for (int i = 0; i < 10; ++i) g.go([] { mpg::sleep_for(2ms); });
        g.wait();
        mpg::select();
    });
    expect_reported("blocking calls", [] {
        mpg::wait_group g;
        for (int i = 0; i < 10; ++i) g.go([] { mpg::blocking([] { ::usleep(1000); }); });
        g.wait();
        mpg::select();
    });
    expect_reported("a stopped timer", [] {
        mpg::timer t(1h);
        t.stop();
        mpg::select();
    });
    expect_reported("a cancelled context", [] {
        auto ctx = mpg::with_timeout(mpg::context::background(), 1h);
        ctx.cancel();
        mpg::select();
    });
}

TEST_P(deadlock, of_joins_is_reported) {
    expect_reported("join", [] { mpg::spawn([] { mpg::select(); }).join(); });
    expect_reported("each other", [] {
        mpg::chan<mpg::recv_chan<void>> c(1);
        auto a = mpg::spawn([c] { c.recv().value().recv(); });
        auto b = mpg::spawn([done = a.done()] { done.recv(); });
        c.send(b.done());
        b.join();
    });
    expect_reported("scope", [] {
        mpg::scope s;
        s.go([] { mpg::select(); });
        s.wait();
    });
}

TEST_P(deadlock, of_locked_tasks_is_reported) {
    expect_reported("main", [] {
        mpg::thread_lock lock;
        mpg::select();
    });
    expect_reported("both", [] {
        mpg::go([] {
            mpg::thread_lock lock;
            mpg::select();
        });
        mpg::thread_lock lock;
        mpg::select();
    });
}

TEST_P(deadlock, is_none_while_something_may_wake_a_task) {
    expect_fine("sleep", [] { mpg::sleep_for(20ms); });
    expect_fine("timer", [] { mpg::after(20ms).recv(); });
    expect_fine("after_func", [] {
        mpg::chan<void> c;
        mpg::after_func(20ms, [c] { c.close(); });
        c.recv();
    });
    expect_fine("context", [] {
        auto ctx = mpg::with_timeout(mpg::context::background(), 20ms);
        ctx.done().recv();
    });
    expect_fine("blocking", [] {
        mpg::chan<void> c;
        mpg::go([c] {
            mpg::blocking([] { ::usleep(20'000); });
            c.close();
        });
        c.recv();
    });
    expect_fine("locked task in blocking", [] {
        mpg::chan<void> c;
        mpg::go([c] {
            mpg::thread_lock lock;
            mpg::blocking([] { ::usleep(20'000); });
            c.close();
        });
        c.recv();
    });
    expect_fine("the end of main", [] {
        for (int i = 0; i < 10; ++i) mpg::go([] { mpg::select(); });
        mpg::yield();
    });
}

TEST_P(deadlock, is_none_while_a_plain_thread_lives) {
    expect_fine("it sends", [] {
        mpg::chan<int> c;
        std::thread t([c] {
            ::usleep(50'000);
            c.send(1);
        });
        EXPECT_EQ(c.recv(), 1);
        t.join();
    });
    // The thread that owns a runtime object is one, too.
    SCOPED_TRACE("owner");
    auto c = mpg::test::run_in_child([&] {
        mpg::options o;
        o.procs = procs();
        mpg::runtime rt(o);
        mpg::chan<int> in, out;
        rt.go([=] { out.send(in.recv().value() + 1); });
        ::usleep(50'000);
        in.send(5);
        return out.recv().value();
    });
    EXPECT_EQ(c.exit_code, 6) << c;
    EXPECT_EQ(c.err, "") << c;
}

TEST_P(deadlock, detection_can_be_turned_off) {
    mpg::options o;
    o.detect_deadlock = false;
    auto c = child(
        [] {
            ::alarm(1);
            mpg::select();
        },
        o);
    EXPECT_EQ(c.signal, SIGALRM) << c;
    EXPECT_EQ(c.err, "") << c;
}

} // namespace
