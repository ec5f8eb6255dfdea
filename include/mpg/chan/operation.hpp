// A send or a receive as an object, and the ways to run one: once, until it is done, or until a time or a
// context.
#pragma once

#include <mpg/chan/boxed.hpp>
#include <mpg/chan/case.hpp>
#include <mpg/chan/channel.hpp>
#include <mpg/chan/wait_many.hpp>

#include <memory>
#include <optional>
#include <type_traits>

namespace mpg::channels {

/// Sends an inline element from a source of type V (a reference type), which it does not touch before it is
/// done.
template <class T, class V> struct inline_send : channel_case {
    std::remove_reference_t<V>* from;

    inline_send(channel<T>* c, std::remove_reference_t<V>* v) noexcept
        : channel_case(c, true, &ops_for<inline_send>)
        , from(v) {}
    void retarget(std::remove_reference_t<V>* v) noexcept { from = v; }
    outcome attempt() noexcept { return static_cast<channel<T>&>(*core).offer(static_cast<V>(*from), peer); }
    bool finish() noexcept {
        if (peer) wake(*peer);
        return true;
    }
    void prepare(chan_waiter& n) noexcept {
        n.slot = const_cast<void*>(static_cast<const void*>(from)); // emit_as adds the const again
        n.emit = &emit_as<T, V>;
    }
    outcome woken(chan_waiter& n) noexcept { return n.ok ? outcome::done : outcome::closed; }
};

/// Receives an inline element into *out, which is empty.
template <class T> struct inline_recv : channel_case {
    std::optional<T>* out;

    inline_recv(channel<T>* c, std::optional<T>* o) noexcept
        : channel_case(c, false, &ops_for<inline_recv>)
        , out(o) {}
    outcome attempt() noexcept { return static_cast<channel<T>&>(*core).take(*out, peer); }
    bool finish() noexcept {
        if (peer) wake(*peer);
        return true;
    }
    void prepare(chan_waiter& n) noexcept { n.slot = out; }
    outcome woken(chan_waiter& n) noexcept { return n.ok ? outcome::done : outcome::closed; }
};

template <class T, class V = T&&>
using send_op = std::conditional_t<inline_element<T>, inline_send<T, V>, boxed_send<T>>;
template <class T> using recv_op = std::conditional_t<inline_element<T>, inline_recv<T>, boxed_recv<T>>;

/// Precondition: the lock is held; it is released. False: start over.
template <class Op> bool conclude(Op& op) {
    op.core->lock.unlock();
    return op.result != outcome::done || op.finish();
}

/// Tries once, under the lock.
template <class Op> outcome try_now(Op& op) {
    do {
        op.core->lock.lock();
        op.peer = nullptr;
        op.result = op.attempt();
    } while (!conclude(op));
    return op.result;
}

/// Waits until it is done or closed.
template <class Op> MPG_NOINLINE outcome wait_single(Op& op, const sched::park_ops& ops) {
    channel_core& c = *op.core;
    for (;;) {
        sched::suspension_point();
        c.lock.lock();
        op.peer = nullptr;
        op.result = op.attempt();
        if (op.result != outcome::blocked) {
            if (conclude(op)) return op.result;
            continue;
        }
        chan_waiter node;
        node.who = sched::current();
        op.prepare(node);
        op.link(node);
        single_wait w{&c, &op.queue(), &node};
        bool woken = sched::park(ops, &w);
        if (woken) op.result = op.woken(node);
        sched::suspension_point();
        if (woken && op.result != outcome::blocked) return op.result;
    }
}

/// Tries; then waits, but at most until after has passed (max(): no limit) or the source (null: none) is
/// done. op may be that of a nil channel.
template <class Op>
chan_status wait_limited(Op& op, std::chrono::nanoseconds after, sched::cancel_source* source,
                         const sched::park_ops& ops) {
    sched::suspension_point();
    if (source && source->is_done()) return chan_status::cancelled;
    if (op.looks_ready() && try_now(op) != outcome::blocked)
        return op.result == outcome::done ? chan_status::ok : chan_status::closed;
    if (after.count() <= 0) return chan_status::timeout;
    timeout_case limit(after);
    done_case done(source);
    select_case* cases[] = {&op, &limit, &done};
    std::uint32_t order[3];
    channel_core* locks[3];
    switch (many_wait({cases, 3, order, locks}, ops).run()) {
    case 0:
        return op.result == outcome::done ? chan_status::ok : chan_status::closed;
    case 1:
        return chan_status::timeout;
    default:
        return chan_status::cancelled;
    }
}

} // namespace mpg::channels
