// The documented surface of time, contexts, scopes and task handles, form by form, as a program would write
// it.
#include "support.hpp"

#include <mpg/mpg.hpp>

#include <atomic>
#include <concepts>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using mpg::context;
using namespace std::chrono_literals;
constexpr auto never = std::chrono::nanoseconds::max();

static_assert(std::same_as<decltype(mpg::after(1ms)), mpg::recv_chan<mpg::time_point>>);
static_assert(std::same_as<mpg::time_point::clock, std::chrono::steady_clock>);
static_assert(std::copyable<context> && std::default_initializable<context> && std::movable<mpg::cancel_context> &&
              !std::copyable<mpg::cancel_context>);
static_assert(std::derived_from<mpg::cancel_context, context>);
static_assert(std::movable<mpg::task<int>> && !std::copyable<mpg::task<int>>);
static_assert(!std::movable<mpg::scope>);
static_assert(std::same_as<decltype(std::declval<const mpg::task<int>>().done()), mpg::recv_chan<void>>);
static_assert(std::is_error_code_enum_v<mpg::errc>);

struct contract_time : mpg::test::with_procs {};
MPG_TEST_PROCS(contract_time);

TEST_P(contract_time, sleeps_timers_and_tickers) {
    run([] {
        auto begin = std::chrono::steady_clock::now();
        mpg::sleep_for(2ms);
        mpg::sleep_until(begin + 4ms);
        mpg::sleep_for(-1s);
        mpg::sleep_until(begin);
        auto at = mpg::after(1ms).recv();
        ASSERT_TRUE(at);
        EXPECT_GE(*at - begin, 5ms);

        mpg::timer t{1h};
        EXPECT_TRUE(t.reset(1ms)); // it was pending
        EXPECT_TRUE(t.c().recv().has_value());
        EXPECT_FALSE(t.stop()); // received: not pending
        EXPECT_FALSE(t.reset(1us));
        mpg::sleep_for(2ms);
        EXPECT_TRUE(t.stop()); // fired, but unread: pending, and gone
        mpg::time_point v;
        EXPECT_EQ(t.c().try_recv(v), mpg::chan_status::empty);
        EXPECT_FALSE(t.stop());
        mpg::timer forever{never};
        EXPECT_EQ(mpg::select(mpg::on_recv(forever.c()), mpg::on_timeout(1ms)), 1u);
        EXPECT_TRUE(forever.stop());

        mpg::ticker ticks{1ms};
        auto first = ticks.c().recv();
        mpg::sleep_for(5ms);
        auto kept = ticks.c().recv(); // one waits; the others were dropped
        EXPECT_GT(*kept, *first);
        ticks.reset(1h);
        EXPECT_EQ(ticks.c().try_recv(v), mpg::chan_status::empty);
        ticks.reset(1ms);
        EXPECT_TRUE(ticks.c().recv().has_value());
        ticks.stop();
        EXPECT_EQ(ticks.c().try_recv(v), mpg::chan_status::empty);
        EXPECT_FALSE(ticks.c().closed());
        EXPECT_THROW(mpg::ticker{0ns}, std::invalid_argument);
        EXPECT_THROW(mpg::ticker{-1ms}, std::invalid_argument);
        EXPECT_THROW(ticks.reset(0ms), std::invalid_argument);
    });
}

TEST_P(contract_time, durations_of_any_kind) {
    run([] {
        const auto ever = std::chrono::hours::max(); // too long for nanoseconds
        const std::chrono::duration<double, std::milli> short_while(1.5);
        mpg::chan<int> c;
        int v = 0;
        const auto begin = std::chrono::steady_clock::now();
        mpg::sleep_for(short_while);
        EXPECT_GE(std::chrono::steady_clock::now() - begin, 1500us);
        mpg::sleep_for(std::chrono::hours::min());
        const auto noon = std::chrono::system_clock::now() + 1ms;
        mpg::sleep_until(noon);
        EXPECT_GE(std::chrono::system_clock::now(), noon);
        mpg::sleep_until(std::chrono::time_point_cast<std::chrono::seconds>(begin));
        EXPECT_TRUE(mpg::after(short_while).recv());
        EXPECT_EQ(c.recv_for(v, short_while), mpg::chan_status::timeout);
        EXPECT_EQ(mpg::select(mpg::on_recv(c), mpg::on_timeout(ever), mpg::on_timeout(short_while)), 2u);
        EXPECT_TRUE(mpg::timer(ever).stop());
        EXPECT_FALSE(mpg::with_timeout(context::background(), ever).deadline());
        EXPECT_TRUE(mpg::with_timeout(context::background(), -ever).is_done());
        EXPECT_TRUE(mpg::ticker(short_while).c().recv());
        EXPECT_TRUE(mpg::after_func(ever, [] {}).stop());
        mpg::go([c] { c.send(1); });
        EXPECT_EQ(c.recv_for(v, ever), mpg::chan_status::ok);
    });
}

TEST_P(contract_time, after_func) {
    run([] {
        mpg::chan<std::uint64_t> ran(4);
        mpg::after_func(1us,
                        [ran] { ran.send(mpg::this_task::id()); }); // dropping the handle does not stop it
        EXPECT_NE(ran.recv(), mpg::this_task::id());
        auto handle = mpg::after_func(1h, [ran] { ran.send(0); });
        EXPECT_TRUE(handle.stop());
        EXPECT_FALSE(handle.stop());
        auto fired = mpg::after_func(
            0ns, [ran, p = std::make_unique<int>(3)] { ran.send(static_cast<std::uint64_t>(*p)); });
        EXPECT_EQ(ran.recv(), 3u);
        EXPECT_FALSE(fired.stop());
        EXPECT_TRUE(mpg::after_func(never, [] {}).stop());
        EXPECT_EQ(ran.size(), 0u);
    });
}

struct user {
    using type = std::string;
};
struct trace {
    using type = int;
};
struct handle_key {
    using type = std::unique_ptr<int>;
};

TEST_P(contract_time, contexts) {
    run([] {
        const context root = context::background();
        EXPECT_FALSE(root.is_done());
        EXPECT_EQ(root.err(), std::error_code());
        EXPECT_EQ(root.cause(), nullptr);
        EXPECT_EQ(root.deadline(), std::nullopt);
        EXPECT_EQ(root.value<user>(), nullptr);
        EXPECT_EQ(mpg::select(mpg::on_done(root), mpg::on_recv(root.done()), mpg::otherwise()), 2u);

        auto parent = mpg::with_cancel(root);
        context named = mpg::with_value<user>(parent, "ann");
        context both = mpg::with_value<trace>(named, 7);
        context shadow = mpg::with_value<user>(both, "bob");
        context owning = mpg::with_value<handle_key>(shadow, std::make_unique<int>(4));
        EXPECT_EQ(*both.value<user>(), "ann");
        EXPECT_EQ(*owning.value<user>(), "bob");
        EXPECT_EQ(*owning.value<trace>(), 7);
        EXPECT_EQ(**owning.value<handle_key>(), 4);
        EXPECT_EQ(parent.value<user>(), nullptr);

        auto soon = std::chrono::steady_clock::now() + 1h;
        auto child = mpg::with_deadline(owning, soon);
        auto later = mpg::with_timeout(child, 2h);
        auto sooner = mpg::with_timeout(child, 1ms);
        auto unlimited = mpg::with_timeout(root, never);
        EXPECT_EQ(unlimited.deadline(), std::nullopt);
        EXPECT_EQ(child.deadline(), soon);
        EXPECT_EQ(later.deadline(), soon); // the parent's is earlier
        EXPECT_EQ(*later.value<user>(), "bob");
        EXPECT_FALSE(sooner.done().recv());
        EXPECT_EQ(sooner.err(), mpg::errc::deadline_exceeded);
        EXPECT_THROW(std::rethrow_exception(sooner.cause()), std::system_error);
        sooner.cancel(); // too late to change anything
        EXPECT_EQ(sooner.err(), mpg::errc::deadline_exceeded);
        EXPECT_FALSE(child.is_done());

        parent.cancel(std::make_exception_ptr(std::runtime_error("why")));
        parent.cancel(std::make_exception_ptr(std::logic_error("not this")));
        for (const context& c : {context(parent), shadow, context(child), context(later)}) {
            EXPECT_TRUE(c.is_done());
            EXPECT_EQ(c.err(), mpg::errc::cancelled);
            EXPECT_THROW(std::rethrow_exception(c.cause()), std::runtime_error);
            EXPECT_TRUE(c.done().closed());
        }
        auto born_done = mpg::with_timeout(parent, 1h);
        EXPECT_TRUE(born_done.is_done());
        EXPECT_EQ(born_done.err(), mpg::errc::cancelled);
        auto past = mpg::with_deadline(root, std::chrono::steady_clock::now() - 1s);
        EXPECT_EQ(past.err(), mpg::errc::deadline_exceeded);
        context kept = root;
        {
            auto scoped = mpg::with_cancel(root);
            kept = scoped;
            auto moved = std::move(scoped);
            EXPECT_FALSE(kept.is_done());
        }
        EXPECT_EQ(kept.err(), mpg::errc::cancelled); // its destructor cancels
        try {
            std::rethrow_exception(kept.cause());
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code(), mpg::errc::cancelled);
        }
    });
}

TEST_P(contract_time, scopes) {
    run([] {
        std::atomic<int> ran = 0, inside = 0, most = 0;
        {
            mpg::scope s;
            s.go([&] { ++ran; });
            s.go([&](const context& ctx) { ran += !ctx.is_done(); });
            s.go([&, p = std::make_unique<int>(1)] {
                ran += *p;
                s.go([&] { ++ran; }); // from inside
            });
            s.wait();
            EXPECT_EQ(ran, 4);
        }
        {
            mpg::scope s;
            s.limit(3);
            for (int i = 0; i < 20; ++i)
                s.go([&] {
                    int now = ++inside, seen = most;
                    while (now > seen && !most.compare_exchange_weak(seen, now)) {
                    }
                    mpg::yield();
                    --inside;
                });
            s.wait();
            EXPECT_LE(most, 3);
        }
        auto parent = mpg::with_cancel(context::background());
        mpg::scope s(parent);
        s.go([] { throw std::runtime_error("first"); });
        s.go([](const context& ctx) {
            ctx.done().recv();
            throw std::logic_error("second");
        });
        EXPECT_THROW(s.wait(), std::runtime_error);
        EXPECT_EQ(s.ctx().err(), mpg::errc::cancelled);
        EXPECT_THROW(std::rethrow_exception(s.ctx().cause()), std::runtime_error);
        EXPECT_FALSE(parent.is_done());
        bool cancelled = false;
        {
            mpg::scope ends(parent);
            ends.go([&](const context& ctx) { cancelled = !ctx.done().recv(); });
        } // the destructor cancels, then waits
        EXPECT_TRUE(cancelled);
        mpg::scope below(parent);
        below.go([](const context& ctx) { ctx.done().recv(); });
        parent.cancel();
        below.wait();
        EXPECT_TRUE(below.ctx().is_done());
        mpg::scope by_hand;
        by_hand.cancel();
        EXPECT_TRUE(by_hand.ctx().is_done());
    });
}

TEST_P(contract_time, task_handles) {
    run([] {
        auto value =
            mpg::spawn([](std::unique_ptr<int> p, int n) { return *p + n; }, std::make_unique<int>(40), 2);
        EXPECT_TRUE(value.joinable());
        EXPECT_NE(value.id(), 0u);
        EXPECT_EQ(value.join(), 42);
        EXPECT_FALSE(value.joinable());
        try {
            value.join();
            ADD_FAILURE();
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code(), std::errc::invalid_argument);
        }
        EXPECT_THROW(value.detach(), std::system_error);
        EXPECT_THROW(value.join(context::background()), std::system_error);
        mpg::task<void> fails = mpg::spawn([] { throw std::runtime_error("f"); });
        EXPECT_THROW(fails.join(), std::runtime_error);
        int referred = 0;
        mpg::task<int&> ref = mpg::spawn([&]() -> int& { return referred; });
        EXPECT_EQ(&ref.join(), &referred);
        auto moved_only = mpg::spawn([] { return std::make_unique<int>(3); });
        EXPECT_EQ(*moved_only.join(), 3);

        mpg::chan<void> end;
        auto waits = mpg::spawn([end] {
            end.recv();
            return 5;
        });
        auto ctx = mpg::with_timeout(context::background(), 1ms);
        try {
            (void)waits.join(ctx);
            ADD_FAILURE();
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code(), mpg::errc::deadline_exceeded);
        }
        EXPECT_TRUE(waits.joinable());
        auto done = waits.done();
        EXPECT_EQ(mpg::select(mpg::on_recv(done), mpg::otherwise()), 1u);
        end.close();
        EXPECT_EQ(mpg::select(mpg::on_recv(waits.done(), [](bool ok) { EXPECT_FALSE(ok); })), 0u);
        EXPECT_EQ(waits.join(context::background()), 5);
        EXPECT_FALSE(done.recv());
        auto detached = mpg::spawn([end] { end.recv(); });
        detached.detach();
        EXPECT_FALSE(detached.joinable());
        mpg::task<int> none, assigned = mpg::spawn([] { return 1; });
        none = std::move(assigned);
        EXPECT_EQ(none.join(), 1);
    });
}

TEST_P(contract_time, plain_threads) {
    run([] {
        auto sum = mpg::spawn([] { return 20; });
        auto ctx = mpg::with_cancel(context::background());
        std::thread t([&] {
            EXPECT_EQ(sum.join(), 20);
            mpg::timer timer{1ms};
            EXPECT_TRUE(timer.c().recv().has_value());
            mpg::chan<void> ran(1);
            mpg::after_func(1us, [ran] { ran.send(); });
            EXPECT_TRUE(ran.recv());
            mpg::sleep_for(1ms);
            auto timed = mpg::with_timeout(ctx, 1ms);
            timed.done().recv();
            EXPECT_EQ(timed.err(), mpg::errc::deadline_exceeded);
            auto spawned = mpg::spawn([] { return mpg::this_task::inside(); });
            EXPECT_TRUE(spawned.join());
            mpg::scope s(ctx);
            s.go([](const context& c) { c.done().recv(); });
            ctx.cancel();
            s.wait();
        });
        ctx.done().recv();
        mpg::blocking([&] { t.join(); });
    });
}

} // namespace
