// select_set: cases that are decided at run time.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace {

using mpg::chan;
using mpg::select_set;
using namespace std::chrono_literals;

struct select_set_waits : mpg::test::with_procs {};
MPG_TEST_PROCS(select_set_waits);

TEST(select_set, waits_again_with_the_same_cases) {
    chan<int> a(2), b(2);
    int sum = 0;
    select_set set;
    set.recv(a, [&](std::optional<int> v) { sum += *v; }).recv(b, [&](std::optional<int> v) {
        sum += 10 * *v;
    });
    set.otherwise();
    EXPECT_EQ(set.size(), 3u);
    a.send(1);
    EXPECT_EQ(set.wait(), 0u);
    b.send(2);
    EXPECT_EQ(set.wait(), 1u);
    EXPECT_EQ(set.wait(), 2u);
    EXPECT_EQ(sum, 21);
}

TEST(select_set, sends_a_copy_each_time) {
    chan<std::string> c(3);
    std::string text = "a text that needs memory of its own";
    int sent = 0;
    select_set set;
    set.send(c, text, [&] { ++sent; }).otherwise();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(set.wait(), 0u);
    EXPECT_EQ(set.wait(), 1u);
    EXPECT_EQ(sent, 3);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(c.recv(), text);
}

TEST(select_set, a_value_that_cannot_be_copied_is_sent_once) {
    chan<std::unique_ptr<int>> full(1), c(2);
    full.send(nullptr);
    select_set set;
    set.send(full, std::make_unique<int>(1)).send(c, std::make_unique<int>(2)).otherwise();
    EXPECT_EQ(set.wait(), 1u);
    EXPECT_EQ(set.wait(), 2u);
    (void)full.recv();
    EXPECT_EQ(set.wait(), 0u);
    EXPECT_EQ(**full.recv(), 1);
    EXPECT_EQ(**c.recv(), 2);
    EXPECT_EQ(set.wait(), 2u);
}

TEST(select_set, closed_nil_void_and_converted) {
    chan<int> nil = nullptr, closed;
    chan<void> v(1);
    chan<std::string> s(1);
    closed.close();
    select_set set;
    set.recv(nil).send(nil, 1).send(v).send(s, "literal");
    EXPECT_NE(set.wait(), set.wait());
    EXPECT_EQ(s.recv(), "literal");
    EXPECT_EQ(v.size(), 1u);
    select_set throwing;
    throwing.send(closed, 1).otherwise();
    EXPECT_THROW(throwing.wait(), mpg::channel_closed);
    EXPECT_THROW(throwing.otherwise(), std::logic_error);
    select_set end;
    bool ended = false;
    end.recv(mpg::recv_chan<int>(closed), [&](std::optional<int> x) { ended = !x; });
    EXPECT_EQ(end.wait(), 0u);
    EXPECT_TRUE(ended);
}

TEST_P(select_set_waits, hundreds_of_channels) {
    run([] {
        constexpr int n = 300;
        std::vector<chan<int>> channels(n);
        for (int i = 0; i < n; ++i) channels[static_cast<std::size_t>(i)] = chan<int>();
        std::vector<int> got(n);
        select_set set;
        for (std::size_t i = 0; i < n; ++i)
            set.recv(channels[i], [&, i](std::optional<int> v) { got[i] += *v; });
        for (auto& c : channels)
            mpg::go([c] {
                for (int k = 1; k <= 3; ++k) c.send(k);
            });
        for (int i = 0; i < 3 * n; ++i) EXPECT_LT(set.wait(), static_cast<std::size_t>(n));
        for (int g : got) EXPECT_EQ(g, 6);
    });
}

TEST_P(select_set_waits, time_outs_count_from_each_wait) {
    run([] {
        chan<int> c;
        int fired = 0;
        select_set set;
        set.recv(c).timeout(2ms, [&] { ++fired; });
        auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < 3; ++i) EXPECT_EQ(set.wait(), 1u);
        EXPECT_GE(std::chrono::steady_clock::now() - begin, 6ms);
        EXPECT_EQ(fired, 3);
    });
}

TEST_P(select_set_waits, shrinking_set_merges_streams) {
    run([] {
        std::vector<chan<int>> open;
        for (int i = 0; i < 20; ++i) {
            chan<int> c(static_cast<std::size_t>(i % 3));
            open.push_back(c);
            mpg::go([c, i] {
                for (int k = 0; k < 10; ++k) c.send(i);
                c.close();
            });
        }
        int sum = 0;
        while (!open.empty()) {
            std::size_t ended = open.size();
            select_set set;
            for (std::size_t i = 0; i < open.size(); ++i)
                set.recv(open[i], [&, i](std::optional<int> v) {
                    if (v)
                        sum += *v;
                    else
                        ended = i;
                });
            while (ended == open.size()) set.wait();
            open.erase(open.begin() + static_cast<std::ptrdiff_t>(ended));
        }
        EXPECT_EQ(sum, 10 * 190);
    });
}

} // namespace
