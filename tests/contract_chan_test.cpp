// The documented surface of channels and select, form by form, as a program would write it.
#include "support.hpp"

#include <mpg/mpg.hpp>

#include <array>
#include <atomic>
#include <concepts>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using mpg::recv_chan;
using mpg::send_chan;
using namespace std::chrono_literals;

// Shapes.
static_assert(std::copyable<chan<int>> && std::copyable<send_chan<int>> && std::copyable<recv_chan<int>>);
static_assert(std::is_nothrow_copy_constructible_v<chan<std::string>>);
static_assert(std::equality_comparable<chan<int>> && std::equality_comparable<recv_chan<void>>);
static_assert(std::convertible_to<chan<int>, send_chan<int>> &&
              std::convertible_to<chan<int>, recv_chan<int>>);
static_assert(!std::convertible_to<send_chan<int>, chan<int>> &&
              !std::convertible_to<recv_chan<int>, send_chan<int>>);
static_assert(!std::convertible_to<std::size_t, chan<int>> &&
              std::constructible_from<chan<int>, std::size_t>);
static_assert(std::convertible_to<std::nullptr_t, chan<int>> &&
              std::convertible_to<std::nullptr_t, recv_chan<int>>);
static_assert(std::derived_from<mpg::channel_closed, std::logic_error>);
static_assert(std::derived_from<mpg::nil_channel, std::logic_error>);
static_assert(std::ranges::input_range<chan<int>> &&
              std::ranges::input_range<const chan<std::unique_ptr<int>>>);
static_assert(std::ranges::input_range<recv_chan<std::string>>);
static_assert(std::same_as<decltype(std::declval<const chan<int>>().recv()), std::optional<int>>);
static_assert(std::same_as<decltype(std::declval<const chan<void>>().recv()), bool>);
static_assert(std::same_as<decltype(mpg::select()), std::size_t>);

template <class Ch>
concept can_send = requires(const Ch& c) {
    c.send(1);
};
template <class Ch>
concept can_recv = requires(const Ch& c) {
    c.recv();
};
template <class Ch>
concept can_close = requires(const Ch& c) {
    c.close();
};
static_assert(can_send<chan<int>> && can_send<send_chan<int>> && !can_send<recv_chan<int>>);
static_assert(can_recv<chan<int>> && can_recv<recv_chan<int>> && !can_recv<send_chan<int>>);
static_assert(can_close<send_chan<int>> && !can_close<recv_chan<int>>);

struct contract_chan : mpg::test::with_procs {};
MPG_TEST_PROCS(contract_chan);

TEST(contract_chan, nil_and_zero_capacity_are_told_apart) {
    mpg::run([] {
        chan<int> nil(nullptr), also_nil = nullptr, zero(0), five{5};
        const send_chan<int> nil_sender;
        const recv_chan<int> nil_receiver;
        EXPECT_EQ(zero.capacity(), 0u);
        EXPECT_EQ(five.capacity(), 5u);
        EXPECT_EQ(nil, also_nil);
        EXPECT_TRUE(nil == nullptr);
        EXPECT_NE(nil, zero);
        EXPECT_FALSE(nil.closed());
        EXPECT_EQ(nil.size() + nil.capacity(), 0u);
        int v = 7;
        EXPECT_EQ(nil.try_send(v), chan_status::full);
        EXPECT_EQ(nil.try_recv(v), chan_status::empty);
        EXPECT_EQ(nil.send_for(v, 1ms), chan_status::timeout);
        EXPECT_EQ(nil.recv_for(v, 1ms), chan_status::timeout);
        EXPECT_EQ(nil_sender.send_for(v, 0ms), chan_status::timeout);
        EXPECT_EQ(nil_receiver.recv_for(v, -1ms), chan_status::timeout);
        EXPECT_EQ(v, 7);
        auto ctx = mpg::with_timeout(mpg::context::background(), 1ms);
        EXPECT_EQ(nil.send(ctx, v), chan_status::cancelled);
        EXPECT_EQ(nil.recv(ctx, v), chan_status::cancelled);
        EXPECT_THROW(nil.close(), mpg::nil_channel);
        EXPECT_THROW(nil_sender.close(), mpg::nil_channel);
        EXPECT_EQ(mpg::select(mpg::on_recv(nil), mpg::on_send(nil, 1), mpg::otherwise()), 2u);
        EXPECT_EQ(mpg::select(mpg::on_recv(nil_receiver), mpg::on_send(nil_sender, 1), mpg::on_timeout(1ms)),
                  2u);
        chan<void> nothing(nullptr);
        EXPECT_EQ(nothing.try_send(), chan_status::full);
        EXPECT_EQ(nothing.try_recv(), chan_status::empty);
        EXPECT_EQ(nothing.recv_for(1ms), chan_status::timeout);
    });
}

TEST_P(contract_chan, every_form_with_values) {
    run([] {
        const chan<std::string> c(1);
        const mpg::context bg = mpg::context::background();
        c.send("one");
        std::string v = "two", got;
        EXPECT_EQ(c.try_send(v), chan_status::full);
        EXPECT_EQ(c.send_for(v, 1ms), chan_status::timeout);
        auto expired = mpg::with_timeout(bg, 0ns);
        EXPECT_EQ(c.send(expired, v), chan_status::cancelled);
        EXPECT_EQ(v, "two"); // moved from only when ok
        EXPECT_EQ(c.size(), 1u);
        EXPECT_EQ(c.recv(), std::optional<std::string>("one"));
        EXPECT_EQ(c.try_send(v), chan_status::ok);
        EXPECT_EQ(c.try_recv(got), chan_status::ok);
        EXPECT_EQ(got, "two");
        EXPECT_EQ(c.try_recv(got), chan_status::empty);
        EXPECT_EQ(c.recv_for(got, 1ms), chan_status::timeout);
        EXPECT_EQ(c.recv(expired, got), chan_status::cancelled);
        v = "three";
        EXPECT_EQ(c.send(bg, v), chan_status::ok);
        EXPECT_EQ(c.recv(bg, got), chan_status::ok);
        v = "four";
        EXPECT_EQ(c.send_for(v, std::chrono::hours(1)), chan_status::ok);
        EXPECT_EQ(c.recv_for(got, std::chrono::nanoseconds::max()), chan_status::ok);
        EXPECT_EQ(got, "four");
        c.send("last");
        c.close();
        EXPECT_TRUE(c.closed());
        EXPECT_EQ(c.try_send(v), chan_status::closed);
        EXPECT_EQ(c.send_for(v, 1h), chan_status::closed);
        EXPECT_EQ(c.send(bg, v), chan_status::closed);
        EXPECT_THROW(c.send("x"), mpg::channel_closed);
        EXPECT_THROW(c.close(), mpg::channel_closed);
        EXPECT_EQ(c.recv_for(got, 1h), chan_status::ok); // drained first
        EXPECT_EQ(c.recv(), std::nullopt);
        EXPECT_EQ(c.try_recv(got), chan_status::closed);
        EXPECT_EQ(c.recv_for(got, 1h), chan_status::closed);
        EXPECT_EQ(c.recv(bg, got), chan_status::closed);
        EXPECT_EQ(got, "last");
    });
}

TEST_P(contract_chan, every_form_of_void) {
    run([] {
        const chan<void> c(2);
        const mpg::context bg = mpg::context::background();
        c.send();
        EXPECT_EQ(c.try_send(), chan_status::ok);
        EXPECT_EQ(c.try_send(), chan_status::full);
        EXPECT_EQ(c.send_for(1ms), chan_status::timeout);
        EXPECT_TRUE(c.recv());
        EXPECT_EQ(c.send(bg), chan_status::ok);
        EXPECT_EQ(c.try_recv(), chan_status::ok);
        EXPECT_EQ(c.recv_for(1ms), chan_status::ok);
        EXPECT_EQ(c.recv_for(1ms), chan_status::timeout);
        bool fired = false;
        EXPECT_EQ(mpg::select(mpg::on_send(c, [&] { fired = true; })), 0u);
        EXPECT_TRUE(fired);
        EXPECT_EQ(mpg::select(mpg::on_send(c)), 0u);
        EXPECT_EQ(c.recv(bg), chan_status::ok);
        EXPECT_EQ(mpg::select(mpg::on_recv(c, [&](bool ok) { fired = !ok; })), 0u);
        EXPECT_FALSE(fired);
        auto cancelled = mpg::with_cancel(bg);
        cancelled.cancel();
        EXPECT_EQ(c.recv(cancelled), chan_status::cancelled);
        c.send();
        c.send();
        int n = 0;
        c.close();
        for ([[maybe_unused]] auto& each : c) ++n;
        EXPECT_EQ(n, 2);
        EXPECT_FALSE(c.recv());
        EXPECT_EQ(c.try_recv(), chan_status::closed);
        EXPECT_EQ(c.recv_for(1h), chan_status::closed);
        EXPECT_EQ(c.recv(bg), chan_status::closed);
        EXPECT_EQ(c.try_send(), chan_status::closed);
        EXPECT_EQ(c.send_for(1h), chan_status::closed);
        EXPECT_EQ(c.send(bg), chan_status::closed);
        EXPECT_THROW(c.send(), mpg::channel_closed);
        EXPECT_EQ(mpg::select(mpg::on_recv(c, [&](bool ok) { fired = !ok; }), mpg::otherwise()), 0u);
        EXPECT_TRUE(fired);
    });
}

TEST(contract_chan, handles_are_keys) {
    chan<int> a(1), b(1), a2 = a;
    std::unordered_set<chan<int>> set{a, b, a2};
    EXPECT_EQ(set.size(), 2u);
    std::unordered_map<recv_chan<int>, int> views;
    views[a] = 1;
    views[a2] = 2;
    EXPECT_EQ(views.size(), 1u);
    send_chan<int> s = a, s2 = a2;
    EXPECT_EQ(s, s2);
    EXPECT_EQ(std::hash<send_chan<int>>()(s), std::hash<send_chan<int>>()(s2));
    std::vector<chan<int>> many(3, a);
    EXPECT_EQ(many[2], a);
}

TEST_P(contract_chan, ranges_and_algorithms) {
    run([] {
        chan<int> c;
        mpg::go(
            [](send_chan<int> out) {
                for (int i = 1; i <= 5; ++i) out.send(i);
                out.close();
            },
            c);
        int sum = 0;
        for (int v : c | std::views::filter([](int i) { return i % 2 == 1; })) sum += v;
        EXPECT_EQ(sum, 9);
        const recv_chan<std::unique_ptr<int>> owned = [] {
            chan<std::unique_ptr<int>> made(2);
            made.send(std::make_unique<int>(1));
            made.send(std::make_unique<int>(2));
            made.close();
            return made;
        }();
        std::vector<std::unique_ptr<int>> kept;
        for (auto& p : owned) kept.push_back(std::move(p));
        EXPECT_EQ(kept.size(), 2u);
        EXPECT_EQ(*kept[1], 2);
        for (int v : c) ADD_FAILURE() << v;
    });
}

TEST_P(contract_chan, select_takes_values_as_documented) {
    run([] {
        chan<std::string> room(4), full;
        std::string l = "lvalue", r = "rvalue", stays = "stays";
        const std::string k = "const";
        EXPECT_EQ(mpg::select(mpg::on_send(room, l)), 0u);
        EXPECT_EQ(mpg::select(mpg::on_send(room, k, [] {})), 0u);
        EXPECT_EQ(mpg::select(mpg::on_send(full, std::move(stays)), mpg::on_send(room, std::move(r))), 1u);
        EXPECT_EQ(mpg::select(mpg::on_send(send_chan<std::string>(room), "literal"), mpg::otherwise()), 0u);
        EXPECT_EQ(l, "lvalue");
        EXPECT_EQ(stays, "stays");
        std::vector<std::string> got;
        for (int i = 0; i < 4; ++i)
            mpg::select(mpg::on_recv(recv_chan<std::string>(room),
                                     [&](std::optional<std::string> s) { got.push_back(*s); }));
        EXPECT_EQ(got, (std::vector<std::string>{"lvalue", "const", "rvalue", "literal"}));
        // An rvalue that is sent to a strand which comes later.
        auto receiver = mpg::spawn([full] { return *full.recv(); });
        EXPECT_EQ(mpg::select(mpg::on_send(full, std::move(stays)), mpg::on_timeout(1h)), 0u);
        EXPECT_EQ(receiver.join(), "stays");
    });
}

TEST_P(contract_chan, every_kind_of_case_with_and_without_handler) {
    run([] {
        chan<int> c;
        auto ctx = mpg::with_cancel(mpg::context::background());
        int ran = 0;
        auto count = [&](auto&&...) { ++ran; };
        EXPECT_EQ(mpg::select(mpg::on_recv(c), mpg::on_done(ctx), mpg::on_timeout(1us)), 2u);
        EXPECT_EQ(mpg::select(mpg::on_recv(c, count), mpg::on_done(ctx, count), mpg::on_timeout(1us, count)),
                  2u);
        EXPECT_EQ(mpg::select(mpg::on_send(c, 1, count), mpg::on_done(ctx, count), mpg::otherwise(count)),
                  2u);
        ctx.cancel();
        EXPECT_EQ(mpg::select(mpg::on_recv(c), mpg::on_done(ctx)), 1u);
        EXPECT_EQ(mpg::select(mpg::on_recv(c, count), mpg::on_done(ctx, count), mpg::otherwise(count)), 1u);
        EXPECT_EQ(mpg::select(mpg::on_recv(ctx.done(), count), mpg::on_send(c, 1)), 0u);
        EXPECT_EQ(ran, 4);
        c.close();
        EXPECT_THROW(mpg::select(mpg::on_send(c, 1), mpg::otherwise()), mpg::channel_closed);
        EXPECT_THROW(mpg::select(mpg::on_send(c, 1, count)), mpg::channel_closed);
        EXPECT_EQ(mpg::select(mpg::on_recv(c, [&](std::optional<int> v) { ran = v ? -1 : 0; })), 0u);
        EXPECT_EQ(ran, 0);
    });
}

TEST_P(contract_chan, set_of_cases) {
    run([] {
        chan<int> a(1), b(1);
        chan<void> v(1);
        auto ctx = mpg::with_cancel(mpg::context::background());
        int from_a = 0, sent = 0, late = 0, over = 0;
        mpg::select_set set;
        set.recv(a, [&](std::optional<int> x) { from_a += x.value_or(100); })
            .send(b, 5, [&] { ++sent; })
            .send(v)
            .timeout(2ms, [&] { ++late; })
            .done(ctx, [&] { ++over; });
        std::size_t first = set.wait(), second = set.wait();
        EXPECT_EQ(first + second, 3u); // b and v had room, in either order
        EXPECT_EQ(set.wait(), 3u);
        a.send(7);
        EXPECT_EQ(set.wait(), 0u);
        EXPECT_EQ(b.recv(), 5);
        EXPECT_EQ(set.wait(), 1u); // the same value again
        ctx.cancel();
        EXPECT_EQ(set.wait(), 4u);
        EXPECT_EQ(from_a, 7);
        EXPECT_EQ(sent, 2);
        EXPECT_EQ(late, 1);
        EXPECT_EQ(over, 1);
        mpg::select_set polled;
        polled.recv(a).otherwise([&] { late = 9; });
        EXPECT_EQ(polled.wait(), 1u);
        EXPECT_EQ(late, 9);
        b.recv();
        b.close();
        mpg::select_set closed;
        closed.send(b, 1).otherwise();
        EXPECT_THROW(closed.wait(), mpg::channel_closed);
    });
}

// Which of two cases goes on, when both become ready while the select waits, is a matter of chance too.
TEST(contract_select, uniform_when_they_become_ready_while_waiting) {
    mpg::test::run_with_procs(1, [] {
        constexpr int rounds = 2000;
        chan<int> c, d;
        int twice[2] = {}, mixed[3] = {};
        for (int i = 0; i < rounds; ++i) {
            mpg::go([c] { c.send(1); });
            ++twice[mpg::select(mpg::on_recv(c), mpg::on_recv(c))];
        }
        for (int i = 0; i < rounds; ++i) {
            mpg::go([d] { (void)d.recv(); });
            ++mixed[mpg::select(mpg::on_send(d, 1), mpg::on_send(d, 2), mpg::on_send(d, 3))];
        }
        for (int n : twice) EXPECT_NEAR(n, rounds / 2, 200); // 9 standard deviations
        for (int n : mixed) EXPECT_NEAR(n, rounds / 3, 200);
    });
}

TEST(contract_elastic, documented_surface) {
    mpg::run([] {
        auto ctx = mpg::with_cancel(mpg::context::background());
        mpg::elastic_chan<int> c({.low = 2, .high = 4, .max = 8}, mpg::overflow::drop_oldest);
        for (int i = 0; i < 10; ++i) EXPECT_EQ(c.send(i), chan_status::ok);
        EXPECT_EQ(c.dropped(), 2u);
        EXPECT_EQ(c.grown(), 1u);
        EXPECT_EQ(c.high_water(), 8u);
        EXPECT_EQ(c.capacity(), 8u);
        auto first = c.recv();
        EXPECT_EQ(first->seq, 2u); // 0 and 1 were dropped
        EXPECT_EQ(first->value, 2);
        mpg::select(
            mpg::on_recv(c, [](std::optional<mpg::elastic_item<int>> item) { EXPECT_EQ(item->seq, 3u); }));
        for (int i = 4; i < 9; ++i) EXPECT_EQ(c.recv()->value, i);
        EXPECT_EQ(c.capacity(), 4u); // below low
        c.close();
        EXPECT_EQ(c.recv()->value, 9);
        EXPECT_FALSE(c.recv().has_value());

        mpg::elastic_chan<std::string> rejecting({.low = 0, .high = 1, .max = 1}, mpg::overflow::reject);
        EXPECT_EQ(rejecting.send("a"), chan_status::ok);
        EXPECT_EQ(rejecting.send("b"), chan_status::full);
        mpg::elastic_chan<int> bound({.low = 0, .high = 1, .max = 2}, ctx),
            bound_too(ctx, {.low = 0, .high = 1, .max = 2});
        ctx.cancel();
        EXPECT_FALSE(bound.recv().has_value());
        EXPECT_FALSE(bound_too.recv().has_value());
        EXPECT_TRUE(bound.closed());
        mpg::elastic_chan<int> beating({.low = 0, .high = 1, .max = 2}, mpg::overflow::block, 1ms);
        EXPECT_TRUE(beating.heartbeat().recv().has_value());
    });
}

// Everything from plain threads, beside tasks.
TEST_P(contract_chan, plain_threads) {
    run([] {
        chan<int> c, back;
        std::thread t([=] {
            int v = 0;
            EXPECT_EQ(c.recv_for(v, 1h), chan_status::ok);
            back.send(v + 1);
            EXPECT_EQ(
                mpg::select(mpg::on_recv(c, [&](std::optional<int> got) { v = *got; }), mpg::on_timeout(1h)),
                0u);
            EXPECT_EQ(mpg::select(mpg::on_send(back, v + 1), mpg::on_timeout(1h)), 0u);
            auto ctx = mpg::with_timeout(mpg::context::background(), 1ms);
            EXPECT_EQ(chan<int>().recv(ctx, v), chan_status::cancelled);
            for (int x : c) back.send(x);
            back.close();
        });
        c.send(1);
        EXPECT_EQ(back.recv(), 2);
        c.send(10);
        EXPECT_EQ(back.recv(), 11);
        EXPECT_EQ(c.send_for(100, 1h), chan_status::ok);
        EXPECT_EQ(back.recv(), 100);
        c.close();
        EXPECT_FALSE(back.recv());
        mpg::blocking([&] { t.join(); });
    });
}

} // namespace
