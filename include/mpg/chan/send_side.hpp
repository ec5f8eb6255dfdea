// The sending half of a handle's interface.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/chan/handle.hpp>
#include <mpg/chan/operation.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace mpg {

namespace channels {

/// A send that is no inline element's, or was sent back.
template <class T> MPG_NOINLINE void send_anyhow(channel<T>& c, T& v) {
    send_op<T> op(&c, std::addressof(v));
    if (wait_single(op, single_ops<sched::wait_reason::chan_send>) == outcome::closed) throw channel_closed();
}
/// The rest of send. For an inline element the lock is held.
template <class T> MPG_NOINLINE void send_slow(channel<T>& c, T& v) {
    if constexpr (inline_element<T>) {
        chan_waiter* peer = nullptr;
        outcome result = c.offer(std::move(v), peer);
        if (result == outcome::done) {
            c.lock.unlock();
            if (peer) wake(*peer);
            return;
        }
        if (result == outcome::closed)
            c.lock.unlock();
        else if constexpr (in_registers<T>)
            result = wait_here(c, c.senders, std::addressof(v), &emit_as<T, T&&>, single_ops<sched::wait_reason::chan_send>);
        else
            result = wait_in(c, c.senders, std::addressof(v), &emit_as<T, T&&>, single_ops<sched::wait_reason::chan_send>);
        if (result == outcome::done) [[likely]] return;
        if (result == outcome::closed) throw channel_closed();
    }
    send_anyhow(c, v);
}

/// Sends; throws channel_closed. Into the buffer: one lock, the move, one unlock.
template <class T> void send(channel<T>* c, T& v) {
    if (!c) [[unlikely]]
        wait_forever(forever_ops<sched::wait_reason::chan_nil>);
    if constexpr (inline_element<T>) {
        sched::suspension_point();
        c->lock.lock();
        if (c->quiet_room()) [[likely]] {
            c->push(std::move(v));
            c->lock.unlock();
            return;
        }
    }
    send_slow(*c, v);
}

template <class T> MPG_NOINLINE chan_status try_send_slow(channel<T>& c, T& v) {
    send_op<T> op(&c, std::addressof(v));
    switch (try_now(op)) {
    case outcome::done:
        return chan_status::ok;
    case outcome::closed:
        return chan_status::closed;
    default:
        return chan_status::full;
    }
}
template <class T> chan_status try_send(channel<T>* c, T& v) {
    if (!c || !c->looks_sendable()) return chan_status::full; // the argument: channel_core
    if constexpr (inline_element<T>) {
        c->lock.lock();
        bool room = c->quiet_room();
        if (room) [[likely]]
            c->push(std::move(v));
        c->lock.unlock();
        if (room) return chan_status::ok;
    }
    return try_send_slow(*c, v);
}

template <class T>
chan_status send_limited(channel<T>* c, T& v, std::chrono::nanoseconds after, sched::cancel_source* source) {
    send_op<T> op(c, std::addressof(v));
    return wait_limited(op, after, source, many_ops<sched::wait_reason::chan_send>);
}

} // namespace channels

/// Sending. All of it may be called by any number of tasks and threads at once, on a const handle too. Values
/// of one sender arrive in their order; waiting senders are served in the order in which they came.
///
/// An element whose move throws leaves the channel unchanged and its source with the sender. Elements whose
/// move is noexcept and that have at most 1 KiB are moved under the channel's spinlock: such a move, and the
/// destructor of a moved-from value, must not wait nor use the channel.
template <class Self, class T> class send_side {
  public:
    /// Hands v to a receiver or to the buffer; waits until there is one, or room. Throws channel_closed, also
    /// when it is closed while this waits. On a nil channel it waits for ever. After Go's runtime/chan.go.
    void send(T v) const { channels::send(core(), v); }

    /// As send, but never waits. v is moved from only when ok. ok | full | closed
    chan_status try_send(T& v) const { return channels::try_send(core(), v); }
    chan_status try_send(T&& v) const { return channels::try_send(core(), v); }

    /// As send, but waits at most that long. v is moved from only when ok. ok | closed | timeout
    chan_status send_for(T& v, base::any_duration d) const { return channels::send_limited(core(), v, d, nullptr); }
    chan_status send_for(T&& v, base::any_duration d) const { return channels::send_limited(core(), v, d, nullptr); }

    /// As send, but gives up when ctx is done, also when it was done before. v is moved from only when ok.
    /// ok | closed | cancelled
    chan_status send(const context& ctx, T& v) const {
        return channels::send_limited(core(), v, duration::max(), sched::source_of(ctx));
    }
    chan_status send(const context& ctx, T&& v) const { return send(ctx, v); }

    /// Says that no value will follow: receivers drain the buffer and then see the end. Throws channel_closed
    /// when it was closed before, nil_channel on a nil channel. Wakes all who wait; never waits.
    void close() const {
        if (!core()) throw nil_channel();
        channels::close(*core());
    }

  private:
    auto* core() const noexcept { return channels::access::of(static_cast<const Self&>(*this)); }
};

/// Sending on a channel of void: only the fact.
template <class Self> class send_side<Self, void> {
  public:
    void send() const {
        channels::nothing v;
        channels::send(core(), v);
    }
    chan_status try_send() const {
        channels::nothing v;
        return channels::try_send(core(), v);
    }
    chan_status send_for(base::any_duration d) const {
        channels::nothing v;
        return channels::send_limited(core(), v, d, nullptr);
    }
    chan_status send(const context& ctx) const {
        channels::nothing v;
        return channels::send_limited(core(), v, duration::max(), sched::source_of(ctx));
    }
    void close() const {
        if (!core()) throw nil_channel();
        channels::close(*core());
    }

  private:
    auto* core() const noexcept { return channels::access::of(static_cast<const Self&>(*this)); }
};

} // namespace mpg
