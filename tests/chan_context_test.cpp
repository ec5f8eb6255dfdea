// Channels and contexts: the cancellable forms, on_done, elastic channels that end with a context.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/select.hpp>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using mpg::context;
using mpg::on_done;
using mpg::on_recv;
using mpg::on_send;
using mpg::with_cancel;
using namespace std::chrono_literals;

struct chan_context : mpg::test::with_procs {};
MPG_TEST_PROCS(chan_context);

TEST_P(chan_context, background_never_cancels) {
    run([] {
        chan<int> c;
        auto t = mpg::spawn([c] {
            int v = 3;
            EXPECT_EQ(c.send(context::background(), v), chan_status::ok);
        });
        int v = 0;
        EXPECT_EQ(c.recv(context::background(), v), chan_status::ok);
        EXPECT_EQ(v, 3);
        t.join();
        c.close();
        EXPECT_EQ(c.recv(context::background(), v), chan_status::closed);
        EXPECT_EQ(c.send(context::background(), v), chan_status::closed);
    });
}

TEST_P(chan_context, cancel_ends_waits_and_keeps_the_value) {
    run([] {
        for (std::size_t cap : {0u, 1u}) {
            auto ctx = with_cancel(context::background());
            chan<std::string> in(cap), out(cap), nil = nullptr;
            if (cap) out.send("full");
            auto r = mpg::spawn([&] {
                std::string v = "untouched";
                EXPECT_EQ(in.recv(ctx, v), chan_status::cancelled);
                EXPECT_EQ(v, "untouched");
            });
            auto s = mpg::spawn([&] {
                std::string v = "mine";
                EXPECT_EQ(out.send(ctx, v), chan_status::cancelled);
                EXPECT_EQ(v, "mine");
            });
            auto n = mpg::spawn([&] {
                std::string v;
                EXPECT_EQ(nil.recv(ctx, v), chan_status::cancelled);
                EXPECT_EQ(nil.send(ctx, v), chan_status::cancelled);
            });
            auto w = mpg::spawn([&] { EXPECT_EQ(chan<void>().recv(ctx), chan_status::cancelled); });
            for (int i = 0; i < 100; ++i) mpg::yield();
            ctx.cancel();
            r.join();
            s.join();
            n.join();
            w.join();
            std::string v;
            EXPECT_EQ(in.try_send(v), cap ? chan_status::ok : chan_status::full);
        }
    });
}

TEST_P(chan_context, done_before_comes_first) {
    run([] {
        auto ctx = with_cancel(context::background());
        ctx.cancel();
        chan<int> c(2);
        c.send(1);
        int v = 0;
        EXPECT_EQ(c.recv(ctx, v), chan_status::cancelled);
        EXPECT_EQ(c.send(ctx, v), chan_status::cancelled);
        EXPECT_EQ(c.size(), 1u);
    });
}

TEST_P(chan_context, deadline_ends_a_wait) {
    run([] {
        auto ctx = mpg::with_timeout(context::background(), 3ms);
        chan<int> c;
        int v = 0;
        EXPECT_EQ(c.recv(ctx, v), chan_status::cancelled);
        EXPECT_EQ(ctx.err(), mpg::errc::deadline_exceeded);
    });
}

TEST_P(chan_context, on_done_in_select) {
    run([] {
        auto ctx = with_cancel(context::background());
        chan<int> c;
        auto t = mpg::spawn([&] {
            bool done = false;
            EXPECT_EQ(
                mpg::select(on_recv(c), on_done(context::background()), on_done(ctx, [&] { done = true; })),
                2u);
            return done;
        });
        for (int i = 0; i < 100; ++i) mpg::yield();
        ctx.cancel();
        EXPECT_TRUE(t.join());
        EXPECT_EQ(mpg::select(on_recv(c), on_done(ctx)), 1u);
        EXPECT_EQ(mpg::select(on_recv(c), on_done(ctx), mpg::otherwise()), 1u);
        EXPECT_EQ(mpg::select(mpg::otherwise(), on_done(context::background())), 0u);
        EXPECT_EQ(mpg::select(on_recv(ctx.done()), on_recv(c)), 0u);
        mpg::select_set set;
        set.recv(c).done(ctx);
        EXPECT_EQ(set.wait(), 1u);
        // Ready channels and a done context are chosen alike.
        int channel = 0;
        chan<int> full(1);
        for (int i = 0; i < 2000; ++i) {
            int v = 0;
            (void)full.try_send(v);
            channel += mpg::select(on_done(ctx), on_recv(full)) == 1;
        }
        EXPECT_GT(channel, 800);
        EXPECT_LT(channel, 1200);
    });
}

// A transfer and a cancel at the same moment: the value is with exactly one side.
TEST_P(chan_context, cancel_races_with_transfer) {
    run([] {
        for (std::size_t i = 0; i < mpg::test::scaled(2000); ++i) {
            auto ctx = with_cancel(context::background());
            chan<int> c(i % 2);
            auto sender = mpg::spawn([&] {
                int v = 1;
                return c.send(ctx, v);
            });
            auto receiver = mpg::spawn([&] {
                int v = 0;
                return c.recv(ctx, v);
            });
            if (i % 3 == 0) mpg::yield();
            ctx.cancel();
            chan_status s = sender.join(), r = receiver.join();
            std::size_t left = c.size();
            EXPECT_EQ(s == chan_status::ok, r == chan_status::ok || left == 1) << i;
        }
    });
}

TEST_P(chan_context, elastic_channel_ends_with_its_context) {
    run([] {
        auto ctx = with_cancel(context::background());
        mpg::elastic_chan<int> c({.low = 1, .high = 2, .max = 8}, ctx);
        for (int i = 0; i < 5; ++i) c.send(i);
        auto sum = mpg::spawn([c] {
            int total = 0;
            for (auto& item : c) total += item.value;
            return total;
        });
        ctx.cancel();
        EXPECT_EQ(sum.join(), 10);
        EXPECT_TRUE(c.closed());
        EXPECT_THROW(c.send(1), mpg::channel_closed);
        mpg::elastic_chan<int> late({.low = 1, .high = 2, .max = 8}, mpg::overflow::drop_oldest, ctx);
        EXPECT_TRUE(late.closed());
    });
}

TEST(chan_context_life,
     elastic_channel_keeps_what_it_needs) { // the context's last handle goes first, or last
    mpg::test::run_with_all_procs([] {
        auto c = [] {
            auto ctx = with_cancel(context::background());
            return mpg::elastic_chan<int>({.low = 1, .high = 2, .max = 2}, ctx);
        }();
        EXPECT_TRUE(c.closed()); // its destructor cancelled
        auto ctx = with_cancel(context::background());
        { mpg::elastic_chan<int> gone({.low = 1, .high = 2, .max = 2}, ctx); }
        ctx.cancel();
    });
}

} // namespace
