// blocking(f): f may block its OS thread, and nobody else is held up by it.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <barrier>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

struct blocking : mpg::test::with_procs {};
MPG_TEST_PROCS(blocking);

/// A pipe; read() blocks its thread until write() was called elsewhere.
class thread_gate {
  public:
    thread_gate() {
        if (::pipe(fds_) != 0) throw std::runtime_error("pipe");
    }
    ~thread_gate() {
        ::close(fds_[0]);
        ::close(fds_[1]);
    }
    void pass() {
        char c;
        while (::read(fds_[0], &c, 1) != 1) {
        }
    }
    void open(std::size_t times = 1) {
        std::string text(times, 'x');
        if (::write(fds_[1], text.data(), times) != static_cast<::ssize_t>(times))
            throw std::runtime_error("write");
    }

  private:
    int fds_[2];
};

TEST_P(blocking, returns_what_the_function_returns) {
    run([] {
        EXPECT_EQ(mpg::blocking([] { return 5; }), 5);
        mpg::blocking([] {});
        int x = 0;
        decltype(auto) r = mpg::blocking([&]() -> int& { return x; });
        static_assert(std::is_same_v<decltype(r), int&>);
        EXPECT_EQ(&r, &x);
        EXPECT_EQ(*mpg::blocking([] { return std::make_unique<int>(6); }), 6);
        EXPECT_THROW(mpg::blocking([] { throw std::logic_error("inside"); }), std::logic_error);
        EXPECT_EQ(mpg::blocking([p = std::make_unique<int>(7)] { return *p; }), 7);
    });
}

TEST(blocking_on_a_plain_thread, just_calls) {
    EXPECT_EQ(mpg::blocking([] { return std::this_thread::get_id(); }), std::this_thread::get_id());
    EXPECT_THROW(mpg::blocking([] { throw 1; }), int);
}

TEST_P(blocking, sixty_four_calls_are_in_it_at_once) {
    run([] {
        std::barrier all(64); // of OS threads: opens only when 64 of them are there
        mpg::wait_group ended;
        for (int i = 0; i < 64; ++i) ended.go([&] { mpg::blocking([&] { all.arrive_and_wait(); }); });
        ended.wait();
    });
}

TEST_P(blocking, others_go_on_meanwhile) {
    run([] {
        thread_gate gate;
        mpg::chan<void> done;
        for (int i = 0; i < 8; ++i) {
            mpg::go([&gate, done] {
                mpg::blocking([&] { gate.pass(); });
                done.send();
            });
        }
        auto* rt = mpg::runtime::current();
        EXPECT_TRUE(mpg::test::eventually([&] { return rt->stats().tasks_blocking == 8; }));
        for (int i = 0; i < 1000; ++i) mpg::spawn([] { mpg::yield(); }).join();
        mpg::sleep_for(1ms);
        EXPECT_EQ(rt->stats().tasks_blocking, 8u);
        gate.open(8);
        for (int i = 0; i < 8; ++i) done.recv();
        EXPECT_EQ(rt->stats().tasks_blocking, 0u);
    });
}

TEST_P(blocking, short_calls_return_at_once) {
    run([] {
        mpg::wait_group ended;
        std::atomic<std::int64_t> sum{0};
        const std::int64_t calls = static_cast<std::int64_t>(mpg::test::scaled(2000));
        for (int i = 0; i < 10; ++i) {
            ended.go([&] {
                for (std::int64_t k = 0; k < calls; ++k) sum += mpg::blocking([k] { return k; });
            });
        }
        ended.wait();
        EXPECT_EQ(sum, 10 * calls * (calls - 1) / 2);
    });
}

TEST_P(blocking, a_task_that_waits_for_the_one_inside_is_served) {
    // The only runnable task wakes the one that is inside a blocking call by way of the operating system
    // alone.
    run([] {
        std::mutex m;
        std::condition_variable cv;
        bool go_on = false;
        auto inside = mpg::spawn([&] {
            mpg::blocking([&] {
                std::unique_lock lock(m);
                cv.wait(lock, [&] { return go_on; });
            });
            return 1;
        });
        auto outside = mpg::spawn([&] {
            for (int i = 0; i < 10; ++i) mpg::yield();
            std::lock_guard lock(m);
            go_on = true;
            cv.notify_one();
        });
        EXPECT_EQ(inside.join(), 1);
        outside.join();
    });
}

TEST_P(blocking, library_calls_inside_work_as_on_a_plain_thread) {
    run([] {
        mpg::chan<int> there, back;
        mpg::go([=] {
            while (auto v = there.recv()) back.send(*v + 1);
        });
        for (int i = 0; i < 50; ++i) {
            int got = mpg::blocking([&] {
                there.send(i);
                return back.recv().value();
            });
            ASSERT_EQ(got, i + 1);
        }
        there.close();
        std::atomic<bool> ran{false};
        mpg::chan<void> done;
        mpg::blocking([&] {
            mpg::go([&, done] {
                ran = true;
                done.close();
            });
        });
        done.recv();
        EXPECT_TRUE(ran);
        EXPECT_EQ(mpg::blocking([] { return mpg::blocking([] { return 3; }); }), 3);
        mpg::blocking([] { mpg::sleep_for(100us); });
        mpg::mutex m;
        mpg::blocking([&] { m.lock(); });
        m.unlock();
    });
}

TEST_P(blocking, stop_waits_for_the_call_and_then_unwinds) {
    std::atomic<int> returned{0}, unwound{0};
    thread_gate gate;
    std::thread opener;
    run([&] {
        mpg::wait_group inside;
        inside.add(4);
        for (int i = 0; i < 4; ++i) {
            mpg::go([&] {
                try {
                    mpg::blocking([&] {
                        inside.done();
                        gate.pass();
                        ++returned;
                    });
                    mpg::yield();
                    mpg::chan<void>().recv();
                } catch (const mpg::unwound&) {
                    ++unwound;
                    throw;
                }
            });
        }
        inside.wait();
        opener = std::thread([&] { gate.open(4); }); // before or after the stop has begun: both are right
    });
    opener.join();
    EXPECT_EQ(returned, 4);
    EXPECT_EQ(unwound, 4);
}

TEST_P(blocking, mixes_with_channels_and_timers) {
    run([] {
        mpg::wait_group ended;
        mpg::chan<int> c(3);
        const int rounds = static_cast<int>(mpg::test::scaled(300));
        for (int i = 0; i < 10; ++i) {
            ended.go([=] {
                for (int k = 0; k < rounds; ++k) {
                    c.send(k);
                    if (k % 8 == i % 8) mpg::blocking([] { std::this_thread::sleep_for(50us); });
                    if (k % 16 == i) mpg::sleep_for(20us);
                }
            });
            ended.go([=] {
                for (int k = 0; k < rounds; ++k) {
                    c.recv();
                    if (k % 8 == 7 - i % 8) mpg::blocking([] { std::this_thread::yield(); });
                }
            });
        }
        ended.wait();
    });
}

TEST(blocking_limit, ends_the_process_with_a_clear_message) {
    auto child = mpg::test::run_in_child([] {
        mpg::options o;
        o.procs = 2;
        o.max_threads = 16;
        mpg::run(o, [] {
            std::barrier never(1000);
            for (int i = 0; i < 100; ++i) mpg::go([&] { mpg::blocking([&] { never.arrive_and_wait(); }); });
            mpg::chan<void>().recv();
        });
    });
    EXPECT_EQ(child.exit_code, 2) << child;
    EXPECT_NE(child.err.find("fatal error: thread limit of 16 reached"), std::string::npos) << child;
}

} // namespace
