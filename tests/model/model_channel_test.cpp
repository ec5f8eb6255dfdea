// Channels and select as they stand in the headers, with two or three strands: nothing hangs, no value is lost or doubled,
// and what a sender wrote before is seen by the receiver. A strand's park is that of a plain thread.
//
// ctest: timeout:600
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/strands.hpp"

#include <mpg/chan/chan.hpp>
#include <mpg/chan/select.hpp>

#include <gtest/gtest.h>

#include <array>
#include <optional>

namespace {

using namespace mpg::model;
using mpg::chan;

/// A value that carries something with it: what was written before the send must be seen after the receive.
struct parcel {
    plain<int>* written = nullptr;
    int number = 0;
};

struct state {
    std::array<plain<int>, 4> written;
    std::array<int, 4> got{};
    chan<parcel> a, b;

    state(std::size_t capacity) : a(capacity), b(capacity) {
        mpg::sched::new_strands();
        // Executions must repeat: the order of addresses.
        if (mpg::channels::access::identity(b) < mpg::channels::access::identity(a)) std::swap(a, b);
    }
    parcel pack(int i) {
        written[static_cast<std::size_t>(i)] = i;
        return {&written[static_cast<std::size_t>(i)], i};
    }
    void unpack(const std::optional<parcel>& p) {
        require(p.has_value(), "open");
        require(*p->written == p->number, "what was written before the send is seen");
        ++got[static_cast<std::size_t>(p->number)];
    }
    void all(int n) {
        for (int i = 0; i != n; ++i) require(got[static_cast<std::size_t>(i)] == 1, "each value came once");
    }
};

template <std::size_t Capacity> void send_and_receive(program& p) {
    auto s = std::make_shared<state>(Capacity);
    p.thread([&s = *s] {
        s.a.send(s.pack(0));
        s.a.send(s.pack(1));
    });
    p.thread([&s = *s] {
        s.unpack(s.a.recv());
        s.unpack(s.a.recv());
    });
    p.finally([s] { s->all(2); });
}

template <std::size_t Capacity> void close_ends_a_receiver(program& p) {
    auto s = std::make_shared<state>(Capacity);
    p.thread([&s = *s] {
        s.a.send(s.pack(0));
        s.a.close();
    });
    p.thread([&s = *s] {
        s.unpack(s.a.recv());
        require(!s.a.recv().has_value(), "closed and drained");
    });
    p.finally([s] { s->all(1); });
}

void select_receive(state& s) {
    mpg::select(mpg::on_recv(s.a, [&s](std::optional<parcel> v) { s.unpack(v); }),
                mpg::on_recv(s.b, [&s](std::optional<parcel> v) { s.unpack(v); }));
}

// Two senders on two channels, and a select that must get both.
template <std::size_t Capacity> void select_gets_both(program& p) {
    auto s = std::make_shared<state>(Capacity);
    p.thread([&s = *s] { s.a.send(s.pack(0)); });
    p.thread([&s = *s] { s.b.send(s.pack(1)); });
    p.thread([&s = *s] {
        select_receive(s);
        select_receive(s);
    });
    p.finally([s] { s->all(2); });
}

// Two selects that wait for each other on two channels: exactly one pair meets, twice.
void select_meets_select(program& p) {
    auto s = std::make_shared<state>(0);
    p.thread([&s = *s] {
        mpg::select(mpg::on_send(s.a, s.pack(0)), mpg::on_send(s.b, s.pack(0)));
    });
    p.thread([&s = *s] { select_receive(s); });
    p.finally([s] { s->all(1); });
}

// A select against a receiver and a sender that come at any time: one of both, and the other stays for who comes last.
void select_between(program& p) {
    auto s = std::make_shared<state>(0);
    p.thread([&s = *s] {
        parcel mine = s.pack(1);
        std::size_t i = mpg::select(mpg::on_recv(s.a, [&s](std::optional<parcel> v) { s.unpack(v); }), mpg::on_send(s.b, mine));
        if (i == 0)
            s.b.send(mine);
        else
            s.unpack(s.a.recv());
    });
    p.thread([&s = *s] { s.a.send(s.pack(0)); });
    p.thread([&s = *s] { s.unpack(s.b.recv()); });
    p.finally([s] { s->all(2); });
}

// try_recv answers "empty" from a peek at three words without the lock. A channel that has a value, then is closed, and then
// loses the value was never open and empty.
void peek_at_a_buffer(program& p) {
    auto s = std::make_shared<state>(1);
    s->a.send(s->pack(0));
    p.thread([&s = *s] {
        s.a.close();
        parcel v;
        if (s.a.try_recv(v) == mpg::chan_status::ok) s.unpack(v);
    });
    p.thread([&s = *s] {
        parcel v;
        auto r = s.a.try_recv(v);
        if (r == mpg::chan_status::ok) s.unpack(v);
        require(r != mpg::chan_status::empty, "never open and empty");
    });
    p.finally([s] { s->all(1); });
}

// The same with a sender that waits until the close.
void peek_at_a_sender(program& p) {
    auto s = std::make_shared<state>(0);
    auto waits = [&s = *s] { return !mpg::channels::access::identity(s.a)->senders.empty(); };
    p.thread([&s = *s] {
        try {
            s.a.send(s.pack(0));
        } catch (const mpg::channel_closed&) { ++s.got[0]; }
    });
    p.thread([&s = *s] { s.a.close(); });
    p.thread([&s = *s, waits] {
        parcel v;
        if (waits()) {
            auto r = s.a.try_recv(v);
            if (r == mpg::chan_status::ok) s.unpack(v);
            require(r != mpg::chan_status::empty, "never open and without a sender");
        }
        while (s.a.try_recv(v) == mpg::chan_status::ok) s.unpack(v);
    });
    p.finally([s] { require(s->got[0] <= 1, "once at most"); });
}

TEST(model_channel, unbuffered) {
    expect_holds(send_and_receive<0>);
    expect_holds(close_ends_a_receiver<0>);
}
TEST(model_channel, buffered) {
    expect_holds(send_and_receive<1>);
    expect_holds(close_ends_a_receiver<1>);
}
TEST(model_channel, peeks) {
    expect_holds(peek_at_a_buffer);
    expect_holds(peek_at_a_sender);
}
TEST(model_select, gets_what_two_send) { expect_holds(select_gets_both<0>); }
TEST(model_select, gets_what_two_send_into_buffers) { expect_holds(select_gets_both<1>); }
TEST(model_select, meets_another_select) { expect_holds(select_meets_select); }
TEST(model_select, between_a_sender_and_a_receiver) { expect_holds(select_between); }

TEST(model_channel, mutants_are_found) {
    expect_survivors("chan/core.hpp",
                     {send_and_receive<0>, send_and_receive<1>, close_ends_a_receiver<0>, close_ends_a_receiver<1>,
                      peek_at_a_buffer, peek_at_a_sender, select_gets_both<0>, select_meets_select, select_between},
                     {
                         // Who sees the close by a peek takes the lock; who does not is right, whatever else he sees.
                         "close: store release, without release",
                         "looks_receivable: load acquire, without acquire", // the one of closed, which comes last
                         // A wrong "full" needs a channel that has room and that the caller knows to have room; then
                         // the word itself does not go back.
                         "looks_sendable: load acquire, without acquire",
                         "looks_sendable: load acquire, without acquire",
                         // What comes in between is the queue's size, of which nobody makes more than a peek.
                         "erase: store release, late",
                         "push_back: store relaxed, late", // who reads it without the lock has been linked before
                     });
}

} // namespace
