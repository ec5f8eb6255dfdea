// after, timer, ticker, after_func: Go's time package as of 1.23.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sched/timer_wheel.hpp>
#include <mpg/select.hpp>
#include <mpg/time.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using mpg::on_recv;
using mpg::on_timeout;
using mpg::time_point;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
constexpr auto never = std::chrono::nanoseconds::max();

struct timers : mpg::test::with_procs {};
MPG_TEST_PROCS(timers);

// Nothing comes for a while.
void expect_silence(const mpg::recv_chan<time_point>& c) {
    EXPECT_EQ(mpg::select(on_recv(c), on_timeout(20ms)), 1u);
}
// How many values are there. The channel itself does not say.
std::size_t unread(const mpg::recv_chan<time_point>& c) { return mpg::channels::access::of(c)->filled(); }
// Waits until the value of a timer or ticker is there, without receiving it.
template <class Timer> void wait_until_fired(const Timer& t) {
    EXPECT_TRUE(mpg::test::eventually([&] { return unread(t.c()) != 0; }));
}

TEST_P(timers, after_sends_the_time_once) {
    run([] {
        auto begin = clock::now();
        auto c = mpg::after(5ms);
        auto at = c.recv();
        ASSERT_TRUE(at);
        EXPECT_GE(*at - begin, 5ms);
        EXPECT_LE(*at, clock::now());
        expect_silence(c);
        EXPECT_TRUE(mpg::after(0ns).recv().has_value());
        EXPECT_TRUE(mpg::after(-1h).recv().has_value());
    });
}

TEST_P(timers, after_fires_in_order) { // Go's TestAfterQueuing
    run([] {
        const std::vector<int> slots{5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0};
        // The first and the last are far from each other, but a busy machine may let a task start later than that.
        bool in_order = false;
        for (int round = 0; round < 50 && !in_order; ++round) {
            chan<std::pair<int, time_point>> results;
            auto begin = clock::now();
            for (int s : slots) mpg::go([=] { results.send({s, *mpg::after(s * 10ms).recv()}); });
            std::vector<int> order;
            for (std::size_t i = 0; i < slots.size(); ++i) {
                auto [s, at] = *results.recv();
                EXPECT_GE(at - begin, s * 10ms);
                order.push_back(s);
            }
            in_order = std::find(order.begin(), order.end(), 0) < std::find(order.begin(), order.end(), 9);
        }
        EXPECT_TRUE(in_order);
    });
}

TEST_P(timers, abandoned_afters_cost_nothing_later) {
    run([] {
        for (int i = 0; i < 2000; ++i) {
            chan<int> c(1);
            c.send(i);
            EXPECT_EQ(mpg::select(on_recv(c), on_recv(mpg::after(1h))), 0u);
        }
        for (int i = 0; i < 500; ++i) (void)mpg::after(std::chrono::microseconds(i % 20));
    });
}

TEST_P(timers, stop_before_it_fires) {
    run([] {
        mpg::timer t(30ms);
        EXPECT_TRUE(t.stop());
        EXPECT_FALSE(t.stop());
        expect_silence(t.c());
        EXPECT_EQ(mpg::select(on_recv(t.c()), on_timeout(30ms)), 1u);
    });
}

TEST_P(timers, channel_looks_unbuffered) { // so in Go 1.23: len and cap are 0
    run([] {
        mpg::timer t(0ns);
        mpg::ticker each(1ms);
        wait_until_fired(t);
        wait_until_fired(each);
        for (const auto& c : {t.c(), each.c(), mpg::after(1h)}) {
            EXPECT_EQ(c.size(), 0u);
            EXPECT_EQ(c.capacity(), 0u);
        }
        time_point at;
        EXPECT_EQ(t.c().try_recv(at), chan_status::ok);
    });
}

TEST_P(timers, unread_value_counts_as_pending_and_goes) {
    run([] {
        mpg::timer t(1ms);
        wait_until_fired(t);
        EXPECT_TRUE(t.stop());
        EXPECT_EQ(unread(t.c()), 0u);
        expect_silence(t.c());

        EXPECT_FALSE(t.reset(1ms));
        wait_until_fired(t);
        EXPECT_TRUE(t.reset(1h)); // no stale value after a reset
        expect_silence(t.c());
        EXPECT_TRUE(t.stop());
    });
}

TEST_P(timers, stop_after_receive_is_false) {
    run([] {
        mpg::timer t(1ms);
        EXPECT_TRUE(t.c().recv().has_value());
        EXPECT_FALSE(t.stop());
        EXPECT_FALSE(t.reset(1ms));
        EXPECT_TRUE(t.c().recv().has_value());
    });
}

TEST_P(timers, reset_puts_off_and_brings_forward) {
    run([] {
        auto begin = clock::now();
        mpg::timer t(1h);
        EXPECT_TRUE(t.reset(10ms)); // earlier
        EXPECT_TRUE(t.c().recv().has_value());
        EXPECT_GE(clock::now() - begin, 10ms);
        EXPECT_FALSE(t.reset(5ms));
        begin = clock::now();
        EXPECT_TRUE(t.reset(40ms)); // later
        EXPECT_TRUE(t.c().recv().has_value());
        EXPECT_GE(clock::now() - begin, 40ms);
    });
}

TEST_P(timers, earlier_timer_after_a_late_one) { // Go's TestTimerModifiedEarlier
    run([] {
        mpg::timer late(1h);
        for (int i = 0; i < 5; ++i) {
            auto begin = clock::now();
            EXPECT_TRUE(late.reset(2ms));
            EXPECT_TRUE(late.c().recv().has_value());
            EXPECT_LT(clock::now() - begin, 30s);
            EXPECT_FALSE(late.reset(1h));
        }
    });
}

TEST_P(timers, never_is_pending_for_ever) {
    run([] {
        mpg::timer t(never);
        expect_silence(t.c());
        EXPECT_TRUE(t.stop());
        EXPECT_FALSE(t.stop());
        EXPECT_FALSE(t.reset(never));
        EXPECT_TRUE(t.reset(1ms));
        EXPECT_TRUE(t.c().recv().has_value());
        mpg::timer far(never - 1ns); // now + d would overflow
        EXPECT_TRUE(far.stop());
    });
}

TEST_P(timers, handles_share_one_timer_and_the_channel_keeps_it) {
    run([] {
        auto c = mpg::timer(2ms).c();
        EXPECT_TRUE(c.recv().has_value());
        mpg::timer a(1h), b = a;
        EXPECT_TRUE(b.stop());
        EXPECT_FALSE(a.stop());
    });
}

TEST_P(timers, stop_and_reset_race_with_firing_and_receiving) {
    run([] {
        mpg::timer t(never);
        std::atomic<bool> over{false};
        std::atomic<int> received{0};
        std::vector<mpg::task<void>> receivers;
        for (int i = 0; i < 2; ++i)
            receivers.push_back(mpg::spawn([&] {
                time_point at;
                while (!over) received += t.c().recv_for(at, 50us) == chan_status::ok;
            }));
        int armed = 0, withdrawn = t.stop() ? 0 : 1;
        for (std::size_t i = 0; i < mpg::test::scaled(3000); ++i) {
            withdrawn += t.reset(std::chrono::microseconds(i % 10));
            ++armed;
            if (i % 3 == 0) withdrawn += t.stop();
            if (i % 5 == 0) mpg::yield();
        }
        withdrawn += t.stop();
        over = true;
        for (auto& r : receivers) r.join();
        EXPECT_EQ(armed, withdrawn + received); // each firing was received, or was withdrawn, never both
        EXPECT_EQ(unread(t.c()), 0u);
    });
}

TEST_P(timers, ticker_ticks_on_its_grid) {
    run([] {
        auto begin = clock::now();
        mpg::ticker t(2ms);
        int n = 0;
        time_point last = begin;
        for (time_point at : t.c()) {
            EXPECT_GT(at, last);
            last = at;
            if (++n == 10) break;
        }
        EXPECT_GE(clock::now() - begin, 20ms);
        t.stop();
        expect_silence(t.c());
        EXPECT_FALSE(t.c().closed());
    });
}

TEST_P(timers, ticker_drops_ticks_for_a_slow_receiver) {
    run([] {
        mpg::ticker t(1ms);
        mpg::sleep_for(30ms);
        EXPECT_LE(unread(t.c()), 1u);
        // What was missed does not come later: of what comes now, one was kept, one may be late, one is just due.
        const auto begin = clock::now();
        for (int i = 0; i < 10; ++i) EXPECT_TRUE(t.c().recv().has_value());
        EXPECT_GE(clock::now() - begin, 7ms);
    });
}

TEST_P(timers, ticker_reset_and_stop_leave_no_stale_tick) {
    run([] {
        mpg::ticker t(1ms);
        wait_until_fired(t);
        t.reset(1h);
        expect_silence(t.c());
        t.reset(1ms);
        EXPECT_TRUE(t.c().recv().has_value());
        wait_until_fired(t);
        t.stop();
        expect_silence(t.c());
        t.reset(1ms); // a stopped ticker can go on
        EXPECT_TRUE(t.c().recv().has_value());
    });
}

TEST_P(timers, ticker_needs_a_positive_period) {
    run([] {
        EXPECT_THROW(mpg::ticker(0ns), std::invalid_argument);
        EXPECT_THROW(mpg::ticker(-1ms), std::invalid_argument);
        mpg::ticker t(1ms);
        EXPECT_THROW(t.reset(0ns), std::invalid_argument);
        EXPECT_TRUE(t.c().recv().has_value()); // and goes on
        mpg::ticker rare(never);
        expect_silence(rare.c());
    });
}

TEST_P(timers, ticker_stop_and_reset_from_many_tasks) {
    run([] {
        mpg::ticker t(1us);
        std::vector<mpg::task<void>> tasks;
        for (int k = 0; k < 4; ++k)
            tasks.push_back(mpg::spawn([&, k] {
                time_point v;
                for (std::size_t i = 0; i < mpg::test::scaled(1000); ++i) {
                    if (k == 0) t.stop();
                    if (k == 1) t.reset(std::chrono::microseconds(1 + i % 3));
                    if (k >= 2) (void)t.c().recv_for(v, 20us);
                }
            }));
        for (auto& task : tasks) task.join();
        t.stop();
        EXPECT_EQ(unread(t.c()), 0u);
    });
}

TEST_P(timers, after_func_runs_in_a_task_of_its_own) {
    run([] {
        chan<std::uint64_t> id;
        auto begin = clock::now();
        mpg::after_func(3ms, [id] { id.send(mpg::this_task::id()); }); // the handle is dropped
        auto other = id.recv();
        EXPECT_GE(clock::now() - begin, 3ms);
        EXPECT_NE(other, mpg::this_task::id());
        EXPECT_TRUE(other.value_or(0) != 0);
    });
}

TEST_P(timers, after_func_chain) { // Go's TestAfterFunc
    run([] {
        chan<void> done;
        struct chain {
            int left;
            chan<void> done;
            void operator()() const {
                if (left > 0)
                    mpg::after_func(100us, chain{left - 1, done});
                else
                    done.send();
            }
        };
        mpg::after_func(0ns, chain{20, done});
        EXPECT_TRUE(done.recv());
    });
}

TEST_P(timers, after_func_stop_and_reset) {
    run([] {
        std::atomic<int> runs{0};
        auto value = std::make_shared<int>(1);
        {
            auto f = mpg::after_func(1h, [&runs, value] { ++runs; });
            EXPECT_TRUE(f.stop());
            EXPECT_FALSE(f.stop());
            EXPECT_FALSE(f.reset(1ms));
            EXPECT_TRUE(mpg::test::eventually([&] { return runs == 1; }));
            EXPECT_FALSE(f.stop());
            EXPECT_FALSE(f.reset(1h));
            EXPECT_TRUE(f.reset(1ms));
            EXPECT_TRUE(mpg::test::eventually([&] { return runs == 2; }));
            auto none = mpg::after_func(never, [value] {});
            EXPECT_TRUE(none.stop());
        }
        EXPECT_TRUE(mpg::test::eventually([&] { return value.use_count() == 1; }));
    });
}

TEST_P(timers, after_func_takes_move_only_functions) {
    run([] {
        chan<int> c;
        mpg::after_func(0ns, [c, p = std::make_unique<int>(5)] { c.send(*p); });
        EXPECT_EQ(c.recv(), 5);
    });
}

TEST_P(timers, many_after_funcs_with_random_stops) {
    run([] {
        std::atomic<int> runs{0};
        int stopped = 0;
        const int n = static_cast<int>(mpg::test::scaled(3000));
        std::vector<mpg::delayed_func> fs;
        for (int i = 0; i < n; ++i) {
            fs.push_back(mpg::after_func(std::chrono::microseconds(i * 7 % 500), [&] { ++runs; }));
            if (i % 2) stopped += fs[static_cast<std::size_t>(i * 31 % (i + 1))].stop();
            if (i % 10 == 0) mpg::yield();
        }
        EXPECT_TRUE(mpg::test::eventually([&] { return runs + stopped == n; }));
    });
}

TEST_P(timers, stop_of_the_runtime_drops_them) { // armed timers of every kind, and what they hold
    auto value = std::make_shared<int>(1);
    mpg::recv_chan<time_point> outlives;
    auto timer = std::make_unique<std::vector<mpg::timer>>();
    std::vector<mpg::delayed_func> funcs;
    run([&] {
        mpg::after_func(1h, [value] {});
        funcs.push_back(mpg::after_func(1h, [value] {}));
        outlives = mpg::after(1h);
        timer->emplace_back(1h);
        timer->emplace_back(mpg::timer(2h));
    });
    funcs.clear();
    EXPECT_EQ(value.use_count(), 1);
    EXPECT_THROW(timer->front().reset(1ms), std::logic_error);
    EXPECT_TRUE(timer->back().stop()); // it never fired
    EXPECT_FALSE(timer->back().stop());
    time_point v;
    EXPECT_EQ(outlives.try_recv(v), chan_status::empty);
}

TEST_P(timers, on_plain_threads) {
    run([] {
        std::thread thread([] {
            EXPECT_TRUE(mpg::after(1ms).recv().has_value());
            mpg::ticker t(1ms);
            auto first = t.c().recv();
            EXPECT_TRUE(first < t.c().recv());
            std::atomic<bool> ran{false};
            mpg::after_func(1ms, [&] { ran = mpg::this_task::inside(); });
            EXPECT_TRUE(mpg::test::eventually([&] { return ran.load(); }));
            chan<int> c;
            int v = 0;
            EXPECT_EQ(c.recv_for(v, 1ms), chan_status::timeout);
        });
        mpg::blocking([&] { thread.join(); });
    });
}

TEST(timers_alone, throw_without_a_runtime) {
    EXPECT_THROW((void)mpg::after(1ms), std::logic_error);
    EXPECT_THROW(mpg::timer(1ms), std::logic_error);
    EXPECT_THROW(mpg::ticker(1ms), std::logic_error);
    EXPECT_THROW(mpg::after_func(1ms, [] {}), std::logic_error);
}

// Timers of one tick fire in the order in which they were armed, also those that moved down from a coarser slot and those
// armed after others had gone.
TEST(timer_wheel, a_tick_keeps_its_order) {
    using namespace mpg::sched;
    struct numbered : timer_node {
        int number = 0;
        std::vector<int>* fired = nullptr;
    };
    constexpr mpg::base::nanos tick = 1 << 16;
    auto wheel = std::make_unique<timer_wheel>();
    wheel->open(0);
    std::vector<int> fired;
    std::vector<numbered> nodes(600);
    auto arm = [&](int i, mpg::base::nanos at) {
        auto& n = nodes[static_cast<std::size_t>(i)];
        n.number = i;
        n.fired = &fired;
        n.fire = [](timer_node& self) noexcept {
            auto& me = static_cast<numbered&>(self);
            me.fired->push_back(me.number);
        };
        wheel->arm(n, at);
    };
    for (int i = 0; i < 200; ++i) arm(i, 100 * tick); // a level up
    for (int i = 0; i < 200; i += 3) EXPECT_TRUE(wheel->disarm(nodes[static_cast<std::size_t>(i)]));
    EXPECT_EQ(wheel->advance(99 * tick), 0); // all moved down by now
    for (int i = 200; i < 400; ++i) arm(i, 100 * tick);
    for (int i = 400; i < 600; ++i) arm(i, 101 * tick);
    EXPECT_EQ(wheel->advance(200 * tick), 533);
    EXPECT_EQ(wheel->armed(), 0u);
    EXPECT_EQ(wheel->next(), mpg::base::never);
    EXPECT_EQ(fired.size(), 533u);
    EXPECT_TRUE(std::is_sorted(fired.begin(), fired.end()));
}

} // namespace
