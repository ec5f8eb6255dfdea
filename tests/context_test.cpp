// context: trees that end together, deadlines, values.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/sync.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

using mpg::context;
using mpg::with_cancel;
using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<mpg::cancel_context>);
static_assert(std::is_nothrow_move_constructible_v<mpg::cancel_context>);
static_assert(std::is_convertible_v<const mpg::cancel_context&, context>);

struct name_key {
    using type = std::string;
};
struct user_key {
    using type = std::string;
};

std::string what(const std::exception_ptr& e) {
    try {
        if (!e) return "null";
        std::rethrow_exception(e);
    } catch (const std::system_error& s) {
        return "system_error " + s.code().message();
    } catch (const std::exception& s) {
        return s.what();
    }
}

// No runtime is needed without a deadline.
TEST(context_tree, background_is_never_done) {
    context b = context::background();
    EXPECT_FALSE(b.is_done());
    EXPECT_FALSE(b.err());
    EXPECT_FALSE(b.cause());
    EXPECT_FALSE(b.deadline());
    EXPECT_FALSE(b.done());
    EXPECT_EQ(b.value<name_key>(), nullptr);
}

TEST(context_tree, ends_from_the_top) {
    auto top = with_cancel(context::background());
    auto left = with_cancel(top), right = with_cancel(top);
    auto below = with_cancel(mpg::with_value<name_key>(left, "x"));
    auto done = below.done();
    EXPECT_EQ(below.done(), done);
    left.cancel(std::make_exception_ptr(std::runtime_error("first")));
    left.cancel(std::make_exception_ptr(std::runtime_error("second")));
    EXPECT_TRUE(left.is_done() && below.is_done());
    EXPECT_FALSE(top.is_done() || right.is_done());
    EXPECT_FALSE(done.recv()); // closed
    EXPECT_EQ(below.err(), mpg::errc::cancelled);
    EXPECT_EQ(what(below.cause()), "first");
    top.cancel();
    EXPECT_TRUE(right.is_done());
    EXPECT_EQ(what(right.cause()), "system_error cancelled");
    EXPECT_EQ(what(left.cause()), "first");
    auto late = with_cancel(left);
    EXPECT_TRUE(late.is_done() && late.done().closed());
    EXPECT_EQ(what(late.cause()), "first");
}

TEST(context_tree, dropping_and_moving_a_cancel_context) {
    std::optional<context> copy;
    {
        auto a = with_cancel(context::background());
        copy = a;
        auto b = std::move(a);
        a.cancel(); // empty: does nothing
        EXPECT_FALSE(copy->is_done());
        b = with_cancel(context::background());
        EXPECT_TRUE(copy->is_done());
        copy = b;
        EXPECT_FALSE(copy->is_done());
    }
    EXPECT_TRUE(copy->is_done());
}

TEST(context_tree, values_are_found_on_the_way_up) {
    auto a = mpg::with_value<name_key>(context::background(), "outer");
    auto c = with_cancel(a);
    auto b = mpg::with_value<name_key>(mpg::with_value<user_key>(c, "me"), "inner");
    EXPECT_EQ(*b.value<name_key>(), "inner");
    EXPECT_EQ(*b.value<user_key>(), "me");
    EXPECT_EQ(*c.value<name_key>(), "outer");
    EXPECT_EQ(c.value<user_key>(), nullptr);
    c.cancel();
    EXPECT_TRUE(b.is_done());
    EXPECT_FALSE(a.is_done());
}

TEST(context_tree, long_chains_die_without_a_deep_stack) {
    context c = context::background();
    for (int i = 0; i < 200'000; ++i) c = mpg::with_value<name_key>(c, "");
    EXPECT_FALSE(c.is_done());
}

TEST(context_tree, a_deadline_needs_a_runtime) {
    EXPECT_THROW((void)mpg::with_timeout(context::background(), 1h), std::logic_error);
    auto never = mpg::with_timeout(context::background(), mpg::duration::max());
    EXPECT_FALSE(never.deadline());
    auto past = mpg::with_timeout(context::background(), -1s);
    EXPECT_EQ(past.err(), mpg::errc::deadline_exceeded);
}

struct context_with_runtime : mpg::test::with_procs {};
MPG_TEST_PROCS(context_with_runtime);

TEST_P(context_with_runtime, deadline_passes_to_children) {
    run([] {
        auto start = mpg::clock::now();
        auto parent = mpg::with_timeout(context::background(), 3ms);
        auto child = mpg::with_timeout(parent, 1h);
        auto earlier = mpg::with_deadline(parent, start);
        EXPECT_EQ(child.deadline(), parent.deadline());
        EXPECT_EQ(earlier.err(), mpg::errc::deadline_exceeded);
        child.done().recv();
        EXPECT_GE(mpg::clock::now() - start, 3ms);
        EXPECT_EQ(child.err(), mpg::errc::deadline_exceeded);
        EXPECT_EQ(parent.err(), mpg::errc::deadline_exceeded);
        EXPECT_EQ(what(child.cause()), "system_error deadline exceeded");
        auto cancelled = mpg::with_timeout(context::background(), 1h);
        cancelled.cancel();
        EXPECT_EQ(cancelled.err(), mpg::errc::cancelled);
    });
}

// Deadlines, cancels, children and last references that meet.
TEST_P(context_with_runtime, races_of_ends) {
    run([] {
        mpg::wait_group tasks;
        std::atomic<std::size_t> ended = 0;
        const std::size_t rounds = mpg::test::scaled(300);
        for (std::size_t i = 0; i < rounds; ++i) {
            auto parent = std::make_shared<mpg::cancel_context>(
                mpg::with_timeout(context::background(), std::chrono::microseconds(i % 50)));
            for (int k = 0; k < 3; ++k)
                tasks.go([&, parent, k] {
                    auto child = mpg::with_timeout(*parent, std::chrono::microseconds(10 * k));
                    auto below = with_cancel(child);
                    if (k == 0) parent->cancel();
                    if (k == 1) child.cancel();
                    below.done().recv();
                    EXPECT_TRUE(below.is_done() && below.err());
                    ++ended;
                });
        }
        tasks.wait();
        EXPECT_EQ(ended, 3 * rounds);
    });
}

TEST_P(context_with_runtime, threads_and_tasks_wait_for_the_same) {
    run([] {
        auto ctx = with_cancel(context::background());
        mpg::wait_group tasks;
        std::atomic<int> woken = 0;
        auto work = [&, c = context(ctx)] {
            c.done().recv();
            ++woken;
        };
        for (int i = 0; i < 10; ++i) tasks.go(work);
        std::jthread t(work);
        mpg::yield();
        ctx.cancel();
        tasks.wait();
        mpg::blocking([&] { t.join(); });
        EXPECT_EQ(woken, 11);
    });
}

} // namespace
