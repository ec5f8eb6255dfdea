// The documented surface of runtimes, tasks and dumps, form by form, as a program would write it.
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <concepts>
#include <functional>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

namespace {

using mpg::options;
using mpg::runtime;
using namespace std::chrono_literals;

// Shapes.
static_assert(std::copyable<options> && std::is_aggregate_v<options> && std::default_initializable<options>);
static_assert(std::same_as<decltype(options::procs), unsigned>);
static_assert(std::same_as<decltype(options::stack_size), std::size_t> &&
              std::same_as<decltype(options::max_threads), std::size_t>);
static_assert(std::same_as<decltype(options::preempt_after), std::chrono::nanoseconds>);
static_assert(std::same_as<decltype(options::backend), mpg::netpoll>);
static_assert(std::same_as<decltype(options::detect_deadlock), bool>);
static_assert(!std::movable<runtime> && std::default_initializable<runtime>);
static_assert(std::constructible_from<runtime, options> && !std::convertible_to<options, runtime>);
static_assert(noexcept(runtime::current()));
static_assert(!std::derived_from<mpg::unwound, std::exception>);
static_assert(!std::movable<mpg::thread_lock>);
static_assert(std::same_as<decltype(mpg::go([] {})), void> && std::same_as<decltype(mpg::yield()), void>);
static_assert(std::same_as<decltype(mpg::blocking(std::declval<int& (*)()>())), int&>);
static_assert(std::same_as<decltype(mpg::run(std::declval<int& (*)()>())), int&>);
static_assert(std::same_as<decltype(mpg::this_task::id()), std::uint64_t>);
static_assert(std::same_as<decltype(mpg::this_task::name()), std::string_view>);
static_assert(std::same_as<decltype(std::declval<const mpg::task<int>>().id()), std::uint64_t>);

struct contract_runtime : mpg::test::with_procs {};
MPG_TEST_PROCS(contract_runtime);

TEST(contract_options, have_the_documented_defaults_and_order) {
    const options o;
    EXPECT_EQ(o.procs, 0u);
    EXPECT_EQ(o.stack_size, 256u << 10);
    EXPECT_EQ(o.max_threads, 10'000u);
    EXPECT_EQ(o.preempt_after, 10ms);
    EXPECT_EQ(o.backend, mpg::netpoll::automatic);
    EXPECT_TRUE(o.detect_deadlock);
    const int result = mpg::run({.procs = 2,
                                 .stack_size = 128 << 10,
                                 .max_threads = 64,
                                 .preempt_after = 20ms,
                                 .backend = mpg::netpoll::epoll,
                                 .detect_deadlock = false},
                                [] { return static_cast<int>(runtime::current()->stats().procs); });
    EXPECT_EQ(result, 2);
}

TEST_P(contract_runtime, held_as_an_object) {
    EXPECT_EQ(runtime::current(), nullptr);
    runtime rt(options{.procs = procs()});
    EXPECT_EQ(rt.run([&] { return runtime::current() == &rt; }), true);
    EXPECT_THROW(rt.run([] { throw std::domain_error("main"); }), std::domain_error);
    std::unique_ptr<int> owned = rt.run([p = std::make_unique<int>(4)]() mutable { return std::move(p); });
    EXPECT_EQ(*owned, 4);
    mpg::chan<int> c(2);
    rt.go([c](int v, std::unique_ptr<int> p) { c.send(v + *p); }, 1, std::make_unique<int>(2));
    EXPECT_EQ(c.recv(), 3);
    mpg::task<int> sum = rt.spawn([](int a, int b) { return a + b; }, 3, 4);
    EXPECT_EQ(sum.join(), 7);
    int target = 0;
    rt.spawn([](int& r) { r = 5; }, std::ref(target)).join();
    EXPECT_EQ(target, 5);
    const runtime& seen = rt;
    EXPECT_EQ(seen.stats().procs, procs());
    bool unwound = false;
    rt.go([c, &unwound] {
        try {
            c.send(0), c.send(0), c.send(0);
        } catch (const mpg::unwound&) {
            unwound = true;
            throw;
        }
    });
    while (c.size() != 2) std::this_thread::yield();
    rt.stop();
    EXPECT_TRUE(unwound);
    rt.stop(); // again: nothing
    EXPECT_THROW(rt.run([] {}), std::logic_error);
}

TEST_P(contract_runtime, every_figure_of_the_statistics) {
    run([&] {
        mpg::chan<void> end;
        mpg::task<void> waits = mpg::spawn([end] { end.recv(); });
        mpg::yield();
        const mpg::runtime_stats s = runtime::current()->stats();
        EXPECT_EQ(s.procs, procs());
        EXPECT_GE(s.threads, 1u);
        EXPECT_LE(s.threads_idle, s.threads);
        EXPECT_GE(s.tasks, 2u);
        EXPECT_GE(s.tasks_created, s.tasks);
        // In which state each is at that moment is the scheduler's, and the machine's, business.
        EXPECT_GE(s.tasks_runnable + s.tasks_running + s.tasks_waiting + s.tasks_blocking + s.tasks_frozen, 2u);
        EXPECT_TRUE(s.poller == mpg::netpoll::io_uring || s.poller == mpg::netpoll::epoll);
        EXPECT_TRUE(s.poller_reason.empty() || s.poller == mpg::netpoll::epoll) << s.poller_reason;
        EXPECT_GT(s.stack_bytes_resident_estimate, 0u);
        EXPECT_LE(s.stack_bytes_resident_estimate, s.stack_bytes_mapped);
        EXPECT_EQ(s.dropped_exceptions, 0u);
        static_assert(std::unsigned_integral<decltype(s.steals)> && std::unsigned_integral<decltype(s.handoffs)> &&
                      std::unsigned_integral<decltype(s.preemptions)>);
        end.close();
        waits.join();
        mpg::blocking([] { EXPECT_GE(runtime::current()->stats().tasks_blocking, 1u); });
    });
}

struct adder {
    int base;
    int add(int n) const { return base + n; }
};

TEST_P(contract_runtime, callables_as_for_a_std_thread) {
    run([] {
        const adder five{5};
        EXPECT_EQ(mpg::spawn(&adder::add, &five, 1).join(), 6);
        EXPECT_EQ(mpg::spawn(&adder::add, five, 2).join(), 7);
        EXPECT_EQ(mpg::spawn([](std::string a, const std::string& b) { return a + b; }, "a", "b").join(), "ab");
        mpg::chan<std::string> c(1);
        char text[] = "decayed";
        mpg::go([c](const char* s) { c.send(s); }, text);
        EXPECT_EQ(c.recv(), "decayed");
    });
}

TEST_P(contract_runtime, what_belongs_to_a_task) {
    static mpg::task_local<std::string> mine;
    static mpg::task_local<int> zero;
    run([] {
        EXPECT_TRUE(mpg::this_task::inside());
        EXPECT_NE(mpg::this_task::id(), 0u);
        EXPECT_EQ(mpg::this_task::name(), "");
        mpg::this_task::set_name(std::string("worker"));
        EXPECT_EQ(mpg::this_task::name(), "worker");
        EXPECT_EQ(*zero, 0); // value-initialised
        mine.set("here");
        *mine += '!';
        EXPECT_EQ(mine.get(), "here!");
        mpg::task<std::uint64_t> other = mpg::spawn([] {
            EXPECT_EQ(mine.get(), "");
            EXPECT_EQ(mpg::this_task::name(), "");
            return mpg::this_task::id();
        });
        const std::uint64_t id = other.id();
        EXPECT_EQ(other.join(), id);
        EXPECT_NE(id, mpg::this_task::id());
        {
            mpg::thread_lock outer;
            const auto thread = std::this_thread::get_id();
            mpg::thread_lock inner;
            mpg::yield();
            mpg::sleep_for(1us);
            mpg::blocking([] {});
            EXPECT_EQ(std::this_thread::get_id(), thread);
        }
        int n = 0;
        int& same = mpg::blocking([&]() -> int& { return n; });
        EXPECT_EQ(&same, &n);
        EXPECT_THROW(mpg::blocking([] { throw std::runtime_error("passes"); }), std::runtime_error);
    });
}

TEST(contract_plain_thread, has_no_task_and_may_call) {
    EXPECT_FALSE(mpg::this_task::inside());
    EXPECT_EQ(mpg::this_task::id(), 0u);
    EXPECT_EQ(mpg::this_task::name(), "");
    mpg::this_task::set_name("nobody");
    EXPECT_EQ(mpg::blocking([] { return 5; }), 5);
    mpg::yield();
    mpg::thread_lock nothing;
    EXPECT_EQ(runtime::current(), nullptr);
    // What needs a runtime says so when there is none.
    EXPECT_THROW(mpg::go([] {}), std::logic_error);
    EXPECT_THROW((void)mpg::spawn([] {}), std::logic_error);
    EXPECT_THROW(mpg::timer{1h}, std::logic_error);
    EXPECT_THROW(mpg::ticker{1h}, std::logic_error);
    EXPECT_THROW((void)mpg::after(1h), std::logic_error);
    EXPECT_THROW((void)mpg::after_func(1h, [] {}), std::logic_error);
    EXPECT_THROW((void)mpg::with_timeout(mpg::context::background(), 1h), std::logic_error);
}

TEST(contract_plain_thread, is_served_by_the_oldest_runtime) {
    runtime oldest(options{.procs = 1}), other(options{.procs = 1});
    EXPECT_EQ(mpg::spawn([] { return runtime::current(); }).join(), &oldest);
    EXPECT_EQ(other.run([] { return mpg::spawn([] { return runtime::current(); }).join(); }), &other);
}

TEST_P(contract_runtime, a_dump_says_all_of_a_task) {
    run([] {
        mpg::chan<int> never;
        mpg::task<void> waits = mpg::spawn([never] {
            mpg::this_task::set_name("patient");
            (void)never.recv();
        });
        std::string text;
        do {
            mpg::yield();
            std::ostringstream out;
            mpg::debug::dump_tasks(out);
            text = out.str();
        } while (text.find("\"patient\"") == std::string::npos || text.find("[waiting") == std::string::npos ||
                 text.find("[running") == std::string::npos);
        EXPECT_NE(text.find(std::to_string(waits.id())), std::string::npos) << text;
        EXPECT_NE(text.find("created"), std::string::npos) << text;
        EXPECT_NE(text.find("a_dump_says_all_of_a_task"), std::string::npos) << text; // its stack, and where it was made
        never.close();
        waits.join();
    });
}

} // namespace
