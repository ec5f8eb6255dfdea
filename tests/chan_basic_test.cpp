// What one strand can see of a channel: values, capacity, close, nil, ranges, views, void.
#include "support.hpp"

#include <mpg/chan.hpp>

#include <memory>
#include <ranges>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using mpg::recv_chan;
using mpg::send_chan;

template <class C>
concept can_send = requires(C c) {
    c.send(1);
};
template <class C>
concept can_recv = requires(C c) {
    c.recv();
};
template <class C>
concept can_close = requires(C c) {
    c.close();
};

static_assert(can_send<const chan<int>> && can_recv<const chan<int>> && can_close<const chan<int>>);
static_assert(can_send<send_chan<int>> && !can_recv<send_chan<int>> && can_close<send_chan<int>>);
static_assert(!can_send<recv_chan<int>> && can_recv<recv_chan<int>> && !can_close<recv_chan<int>>);
static_assert(std::is_convertible_v<chan<int>, send_chan<int>> &&
              std::is_convertible_v<chan<int>, recv_chan<int>>);
static_assert(!std::is_convertible_v<send_chan<int>, chan<int>> &&
              !std::is_convertible_v<recv_chan<int>, chan<int>>);
static_assert(!std::is_convertible_v<send_chan<int>, recv_chan<int>>);
static_assert(!std::is_convertible_v<chan<int>, send_chan<long>>);
static_assert(!std::is_convertible_v<std::size_t, chan<int>>);
static_assert(std::is_base_of_v<std::logic_error, mpg::channel_closed>);
static_assert(std::is_base_of_v<std::logic_error, mpg::nil_channel>);
static_assert(std::ranges::input_range<chan<int>> &&
              std::ranges::input_range<const chan<std::unique_ptr<int>>>);
static_assert(std::ranges::input_range<recv_chan<int>> && !std::ranges::range<send_chan<int>>);

struct node { // an incomplete type may stand in its own channel's type
    chan<node> reply;
    int value;
};

TEST(chan, buffered_values_come_in_order) {
    chan<int> c(3);
    EXPECT_EQ(c.capacity(), 3u);
    for (int i = 1; i <= 3; ++i) {
        c.send(i);
        EXPECT_EQ(c.size(), static_cast<std::size_t>(i));
    }
    for (int round = 0; round < 10; ++round) { // the ring wraps
        EXPECT_EQ(c.recv(), round + 1);
        c.send(round + 4);
    }
    EXPECT_EQ(c.size(), 3u);
}

TEST(chan, default_and_zero_are_unbuffered) {
    chan<int> a, b(0);
    int v = 1;
    EXPECT_EQ(a.capacity(), 0u);
    EXPECT_EQ(b.capacity(), 0u);
    EXPECT_TRUE(b); // 0 is a capacity, not the null pointer
    EXPECT_EQ(a.try_send(v), chan_status::full);
    EXPECT_EQ(a.try_recv(v), chan_status::empty);
}

TEST(chan, try_forms_tell_full_empty_and_closed) {
    chan<std::string> c(1);
    std::string v = "one";
    EXPECT_EQ(c.try_send(v), chan_status::ok);
    v = "two";
    EXPECT_EQ(c.try_send(v), chan_status::full);
    EXPECT_EQ(v, "two");
    EXPECT_EQ(c.try_recv(v), chan_status::ok);
    EXPECT_EQ(v, "one");
    EXPECT_EQ(c.try_recv(v), chan_status::empty);
    EXPECT_EQ(v, "one");
    EXPECT_EQ(c.try_send("three"), chan_status::ok);
    c.close();
    EXPECT_EQ(c.try_send(v), chan_status::closed);
    EXPECT_EQ(v, "one");
    EXPECT_EQ(c.try_recv(v), chan_status::ok);
    EXPECT_EQ(v, "three");
    EXPECT_EQ(c.try_recv(v), chan_status::closed);
    EXPECT_EQ(v, "three");
}

TEST(chan, closed_is_drained_then_ends) {
    chan<int> c(2);
    c.send(1);
    c.send(2);
    EXPECT_FALSE(c.closed());
    c.close();
    EXPECT_TRUE(c.closed());
    EXPECT_EQ(c.recv(), 1);
    EXPECT_EQ(c.recv(), 2);
    EXPECT_EQ(c.recv(), std::nullopt);
    EXPECT_EQ(c.recv(), std::nullopt);
}

TEST(chan, send_on_closed_throws) {
    chan<int> c(1);
    c.close();
    EXPECT_THROW(c.send(1), mpg::channel_closed);
    EXPECT_EQ(c.size(), 0u);
}

TEST(chan, second_close_throws) {
    chan<int> c;
    c.close();
    EXPECT_THROW(c.close(), mpg::channel_closed);
    EXPECT_THROW(send_chan<int>(c).close(), mpg::channel_closed);
}

TEST(chan, nil_is_never_ready) {
    chan<int> nil = nullptr;
    int v = 7;
    EXPECT_FALSE(nil);
    EXPECT_EQ(nil.try_send(v), chan_status::full);
    EXPECT_EQ(nil.try_recv(v), chan_status::empty);
    EXPECT_EQ(nil.recv_for(v, std::chrono::nanoseconds(0)), chan_status::timeout);
    EXPECT_EQ(nil.send_for(v, std::chrono::nanoseconds(-1)), chan_status::timeout);
    EXPECT_FALSE(nil.closed());
    EXPECT_EQ(nil.size(), 0u);
    EXPECT_EQ(nil.capacity(), 0u);
    EXPECT_THROW(nil.close(), mpg::nil_channel);
    EXPECT_EQ(v, 7);
    EXPECT_TRUE(nil == nullptr);
    EXPECT_TRUE(recv_chan<int>() == nullptr && send_chan<int>(nullptr) == nullptr);
    EXPECT_THROW(chan<void>(nullptr).close(), mpg::nil_channel);
    EXPECT_EQ(chan<void>(nullptr).try_send(), chan_status::full);
}

TEST(chan, copies_are_the_same_channel) {
    chan<int> a(1), b = a, other(1);
    a.send(5);
    EXPECT_EQ(b.recv(), 5);
    EXPECT_TRUE(a == b && a != other);
    EXPECT_TRUE(recv_chan<int>(a) == b && send_chan<int>(a) == b);
    std::hash<chan<int>> h;
    EXPECT_EQ(h(a), h(b));
    EXPECT_EQ(h(a), std::hash<recv_chan<int>>{}(recv_chan<int>(a)));
    std::unordered_set<chan<int>> set{a, b, other};
    EXPECT_EQ(set.size(), 2u);
    chan<int> moved = std::move(a);
    EXPECT_TRUE(a == nullptr && moved == b); // NOLINT: a moved-from handle is nil
    b = other;
    EXPECT_TRUE(b == other);
}

TEST(chan, views_keep_the_channel) {
    recv_chan<int> r;
    {
        chan<int> c(1);
        send_chan<int> s = c;
        r = c;
        s.send(4);
        s.close();
    }
    EXPECT_EQ(r.recv(), 4);
    EXPECT_TRUE(r.closed());
}

TEST(chan, const_handles_work) {
    const chan<int> c(1);
    c.send(1);
    EXPECT_EQ(c.recv(), 1);
    c.close();
}

TEST(chan, range_ends_when_closed_and_drained) {
    chan<int> c(10);
    for (int i = 0; i < 10; ++i) c.send(i);
    c.close();
    std::vector<int> seen;
    for (int v : c) seen.push_back(v);
    EXPECT_EQ(seen, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    for (int v : recv_chan<int>(c)) ADD_FAILURE() << v;
}

TEST(chan, range_works_with_views_and_move_only_values) {
    chan<std::unique_ptr<int>> c(4);
    for (int i = 0; i < 4; ++i) c.send(std::make_unique<int>(i));
    c.close();
    int sum = 0;
    for (auto& p : c | std::views::take(2)) sum += *p; // it has received a third one by then, or not
    for (auto& p : c) {
        auto mine = std::move(p);
        sum += 10 * *mine;
    }
    EXPECT_GE(sum, 1);
}

TEST(chan, channel_of_void_counts) {
    chan<void> c(2);
    c.send();
    EXPECT_EQ(c.try_send(), chan_status::ok);
    EXPECT_EQ(c.try_send(), chan_status::full);
    EXPECT_EQ(c.size(), 2u);
    EXPECT_TRUE(c.recv());
    EXPECT_EQ(c.try_recv(), chan_status::ok);
    EXPECT_EQ(c.try_recv(), chan_status::empty);
    EXPECT_EQ(c.recv_for(std::chrono::nanoseconds(0)), chan_status::timeout);
    EXPECT_EQ(c.send_for(std::chrono::nanoseconds(0)), chan_status::ok);
    c.close();
    EXPECT_THROW(c.send(), mpg::channel_closed);
    EXPECT_TRUE(c.recv());
    EXPECT_FALSE(c.recv());
    EXPECT_EQ(c.try_recv(), chan_status::closed);
    int n = 0;
    for ([[maybe_unused]] auto& v : c) ++n;
    EXPECT_EQ(n, 0);
}

TEST(chan, void_needs_no_memory_for_its_capacity) {
    chan<void> c(std::size_t{1} << 60);
    for (int i = 0; i < 1000; ++i) c.send();
    EXPECT_EQ(c.size(), 1000u);
}

TEST(chan, capacity_beyond_memory_throws) {
    EXPECT_THROW(chan<long>(std::size_t{1} << 62), std::length_error);
    EXPECT_THROW(chan<long>(~std::size_t{0}), std::length_error);
}

TEST(chan, zero_sized_elements) { // after Go's test/chan/zerosize.go
    struct empty {};
    chan<empty> a(100), b;
    for (int i = 0; i < 100; ++i) a.send({});
    EXPECT_EQ(a.try_send(empty{}), chan_status::full);
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(a.recv().has_value());
}

TEST(chan, over_aligned_elements) {
    struct alignas(128) wide {
        int v;
    };
    chan<wide> c(3);
    for (int i = 0; i < 3; ++i) c.send({i});
    for (int i = 0; i < 3; ++i) {
        auto w = c.recv();
        ASSERT_TRUE(w);
        EXPECT_EQ(w->v, i);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&*w) % 128, 0u);
    }
}

TEST(chan, drops_what_is_left) {
    auto shared = std::make_shared<int>(1);
    {
        chan<std::shared_ptr<int>> c(5);
        for (int i = 0; i < 4; ++i) c.send(shared);
        (void)c.recv();
        (void)c.recv();
        for (int i = 0; i < 3; ++i) c.send(shared); // wraps
        EXPECT_EQ(shared.use_count(), 6);
    }
    EXPECT_EQ(shared.use_count(), 1);
}

TEST(chan, channels_travel_in_channels) {
    chan<chan<chan<int>>> c(1);
    {
        chan<chan<int>> inner(1);
        inner.send(chan<int>(1));
        c.send(inner);
    }
    auto innermost = *c.recv()->recv();
    innermost.send(9);
    EXPECT_EQ(innermost.recv(), 9);
}

TEST(chan, recursive_element_type) {
    chan<node> c(1);
    chan<node> reply(1);
    c.send(node{reply, 3});
    auto n = c.recv();
    n->reply.send(node{nullptr, n->value + 1});
    EXPECT_EQ(reply.recv()->value, 4);
}

TEST(chan, status_has_names) {
    EXPECT_EQ(mpg::to_string(chan_status::ok), "ok");
    EXPECT_EQ(mpg::to_string(chan_status::cancelled), "cancelled");
}

} // namespace
