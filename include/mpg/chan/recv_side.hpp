// The receiving half of a handle's interface, and the range.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/chan/handle.hpp>
#include <mpg/chan/operation.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace mpg {

namespace channels {

/// A receive that is no inline element's, or was sent back.
template <class T> MPG_NOINLINE void recv_anyhow(channel<T>& c, std::optional<T>& out) {
    recv_op<T> op(&c, &out);
    wait_single(op, single_ops<sched::wait_reason::chan_recv>);
}
/// The rest of recv, into out, which is empty. For an inline element the lock is held.
template <class T> MPG_ALWAYS_INLINE void recv_slow_into(channel<T>& c, std::optional<T>& out) {
    if constexpr (inline_element<T>) {
        chan_waiter* peer = nullptr;
        constexpr const sched::park_ops& ops = single_ops<sched::wait_reason::chan_recv>;
        if (c.take(out, peer) != outcome::blocked) {
            c.lock.unlock();
            if (peer) wake(*peer);
            return;
        }
        outcome result;
        if constexpr (in_registers<T>)
            result = wait_here(c, c.receivers, &out, nullptr, ops);
        else
            result = wait_in(c, c.receivers, &out, nullptr, ops);
        if (result != outcome::blocked) [[likely]] return;
    }
    recv_anyhow(c, out);
}
template <class T> MPG_NOINLINE std::optional<T> recv_slow(channel<T>& c) {
    std::optional<T> out;
    recv_slow_into(c, out);
    return out;
}

/// Scalars come back in two registers. An optional of one comes in a single one, for which the compiler reads
/// back at once, as a whole, what was written a moment ago in two parts; that waits for the writes (12
/// cycles).
struct registers {
    std::uint64_t value, there;
};
/// Not inlined: the compiler would warn where a caller trusts that a value has come.
template <class T> MPG_NOINLINE std::optional<T> none() noexcept {
    asm volatile("");
    return std::nullopt;
}
template <class T> MPG_NOINLINE registers recv_slow_scalar(channel<T>& c) {
    std::optional<T> out;
    recv_slow_into(c, out);
    registers r{0, out.has_value()};
    if constexpr (std::is_scalar_v<T>)
        if (out) std::memcpy(&r.value, std::addressof(*out), sizeof(T));
    return r;
}

/// Removes the first element, whose value is gone, and unlocks.
template <class T> struct drop_front_and_unlock {
    channel<T>& c;
    ~drop_front_and_unlock() {
        c.drop_front();
        c.lock.unlock();
    }
};

/// Receives; empty when the channel is closed and drained. From the buffer: one lock, the move, one unlock;
/// the result does not go through memory there if it fits into registers, which is why this is always
/// inlined. It is built by the return, so that there is one move whether or not the compiler elides others.
template <class T> MPG_ALWAYS_INLINE std::optional<T> recv(channel<T>* c) {
    if (!c) [[unlikely]]
        wait_forever(forever_ops<sched::wait_reason::chan_nil>);
    if constexpr (inline_element<T>) {
        sched::suspension_point();
        c->lock.lock();
        if (c->quiet_value()) [[likely]] {
            drop_front_and_unlock<T> afterwards{*c};
            return std::optional<T>(std::in_place, std::move(c->front()));
        }
    }
    if constexpr (in_registers<T>) {
        registers r = recv_slow_scalar(*c);
        if (!r.there) [[unlikely]]
            return none<T>();
        T v;
        if constexpr (std::is_scalar_v<T>) std::memcpy(&v, &r.value, sizeof(T));
        return std::optional<T>(std::in_place, v);
    } else {
        return recv_slow(*c);
    }
}

/// Runs f(op) with an operation that receives into v.
template <class T, class F> chan_status recv_into(channel<T>* c, T& v, F f) {
    if constexpr (inline_element<T>) {
        std::optional<T> out;
        recv_op<T> op(c, &out);
        chan_status s = f(op);
        if (s == chan_status::ok) move_into(v, std::move(*out));
        return s;
    } else {
        recv_op<T> op(c, nullptr, std::addressof(v));
        return f(op);
    }
}

template <class T> MPG_NOINLINE chan_status try_recv_slow(channel<T>& c, T& v) {
    return recv_into(&c, v, [](auto& op) {
        switch (try_now(op)) {
        case outcome::done:
            return chan_status::ok;
        case outcome::closed:
            return chan_status::closed;
        default:
            return chan_status::empty;
        }
    });
}
template <class T> chan_status try_recv(channel<T>* c, T& v) {
    if (!c || !c->looks_receivable()) return chan_status::empty; // the argument: channel_core
    return try_recv_slow(*c, v);
}

template <class T>
chan_status recv_limited(channel<T>* c, T& v, std::chrono::nanoseconds after, sched::cancel_source* source) {
    return recv_into(c, v, [&](auto& op) {
        return wait_limited(op, after, source, many_ops<sched::wait_reason::chan_recv>);
    });
}

} // namespace channels

/// Reads a channel until it is closed and drained: an input iterator. Move-only, as streams' positions are;
/// advancing may suspend. Keeps the channel alive.
template <class Receiver> class chan_iterator {
  public:
    using value_type = typename Receiver::value_type;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    /// Receives the first value.
    explicit chan_iterator(const Receiver& from)
        : from_(from) {
        next();
    }
    chan_iterator(chan_iterator&&) = default;
    chan_iterator& operator=(chan_iterator&&) = default;

    value_type& operator*() const noexcept { return *value_; }
    value_type* operator->() const noexcept { return std::addressof(*value_); }
    chan_iterator& operator++() {
        next();
        return *this;
    }
    void operator++(int) { next(); }
    friend bool operator==(const chan_iterator& it, std::default_sentinel_t) noexcept { return !it.value_; }

  private:
    void next() {
        value_.reset();
        if (auto got = channels::recv(channels::access::of(from_))) value_.emplace(std::move(*got));
    }

    Receiver from_;
    mutable std::optional<value_type> value_;
};

/// Receiving. All of it may be called by any number of tasks and threads at once, on a const handle too;
/// waiting receivers are served in the order in which they came. What is sent happens before its receive
/// returns.
template <class Self, class T> class recv_side {
  public:
    using value_type = T;

    /// The next value; waits for it. nullopt: closed and drained. On a nil channel it waits for ever.
    MPG_ALWAYS_INLINE std::optional<T> recv() const { return channels::recv(core()); }
    /// As recv, but never waits. v is assigned only when ok. ok | empty | closed
    chan_status try_recv(T& v) const { return channels::try_recv(core(), v); }
    /// As recv, but waits at most that long. ok | closed | timeout
    chan_status recv_for(T& v, base::any_duration d) const { return channels::recv_limited(core(), v, d, nullptr); }
    /// As recv, but gives up when ctx is done, also when it was done before. ok | closed | cancelled
    chan_status recv(const context& ctx, T& v) const {
        return channels::recv_limited(core(), v, duration::max(), sched::source_of(ctx));
    }

    /// An input range: `for (T& v : ch)` runs until closed and drained. begin() receives, so it may suspend.
    auto begin() const { return chan_iterator<Self>(static_cast<const Self&>(*this)); }
    std::default_sentinel_t end() const noexcept { return {}; }

  private:
    auto* core() const noexcept { return channels::access::of(static_cast<const Self&>(*this)); }
};

/// Receiving from a channel of void: true where others get a value.
template <class Self> class recv_side<Self, void> {
  public:
    using value_type = channels::nothing;

    MPG_ALWAYS_INLINE bool recv() const { return channels::recv(core()).has_value(); }
    chan_status try_recv() const {
        channels::nothing v;
        return channels::try_recv(core(), v);
    }
    chan_status recv_for(base::any_duration d) const {
        channels::nothing v;
        return channels::recv_limited(core(), v, d, nullptr);
    }
    chan_status recv(const context& ctx) const {
        channels::nothing v;
        return channels::recv_limited(core(), v, duration::max(), sched::source_of(ctx));
    }
    auto begin() const { return chan_iterator<Self>(static_cast<const Self&>(*this)); }
    std::default_sentinel_t end() const noexcept { return {}; }

  private:
    auto* core() const noexcept { return channels::access::of(static_cast<const Self&>(*this)); }
};

} // namespace mpg
