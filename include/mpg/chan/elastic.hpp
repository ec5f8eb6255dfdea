// elastic_chan: a channel that grows and shrinks, numbers its values, and may drop.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/chan/elastic_state.hpp>
#include <mpg/chan/operation.hpp>
#include <mpg/chan/select_case.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace mpg {

namespace channels {

template <class T, class V> struct elastic_send : channel_case {
    std::remove_reference_t<V>* from;
    typename elastic_channel<T>::leftovers rest;
    bool must_grow = false;

    elastic_send(elastic_channel<T>* c, std::remove_reference_t<V>* v) noexcept
        : channel_case(c, true, &ops_for<elastic_send>)
        , from(v) {}
    void retarget(std::remove_reference_t<V>* v) noexcept { from = v; }
    elastic_channel<T>& chan() const noexcept { return static_cast<elastic_channel<T>&>(*core); }

    outcome attempt() noexcept {
        using offered = typename elastic_channel<T>::offered;
        auto emit = [this](void* where, bool optional) noexcept { emit_as<T, V>(source(), where, optional); };
        offered how = chan().offer(emit, peer, rest);
        must_grow = how == offered::must_grow;
        return how == offered::blocked  ? outcome::blocked
               : how == offered::closed ? outcome::closed
                                        : outcome::done;
    }
    bool finish() {
        if (must_grow) {
            chan().grow();
            return false;
        }
        if (peer) wake(*peer);
        rest = {};
        return true;
    }
    void prepare(chan_waiter& n) noexcept {
        n.slot = source();
        n.emit = &emit_as<T, V>;
    }
    outcome woken(chan_waiter& n) noexcept { return n.ok ? outcome::done : outcome::closed; }

  private:
    void* source() const noexcept { return const_cast<void*>(static_cast<const void*>(from)); }
};

template <class T> struct elastic_recv : channel_case {
    std::optional<elastic_item<T>>* out;
    typename elastic_channel<T>::leftovers rest;
    bool must_shrink = false;

    elastic_recv(elastic_channel<T>* c, std::optional<elastic_item<T>>* o) noexcept
        : channel_case(c, false, &ops_for<elastic_recv>)
        , out(o) {}
    elastic_channel<T>& chan() const noexcept { return static_cast<elastic_channel<T>&>(*core); }

    outcome attempt() noexcept {
        if (core->filled() == 0) return core->is_closed() ? outcome::closed : outcome::blocked;
        must_shrink = chan().take(*out, peer, rest);
        return outcome::done;
    }
    bool finish() noexcept {
        if (must_shrink) chan().shrink();
        if (peer) wake(*peer);
        rest = {};
        return true;
    }
    void prepare(chan_waiter& n) noexcept { n.slot = out; }
    outcome woken(chan_waiter& n) noexcept { return n.ok ? outcome::done : outcome::closed; }
};

} // namespace channels

/// A buffered channel whose capacity follows its load (watermarks), that numbers what it accepts, and that
/// can drop instead of wait. For producers that must not wait and consumers that must know what they have
/// missed. A handle, as chan is; it takes part in select (on_recv gives std::optional<elastic_item<T>>) and
/// is used by any number of tasks and threads. A moved-from handle must not be used. T has a noexcept move
/// and at most 1 KiB.
///
///   mpg::elastic_chan<sample> samples({.low = 8, .high = 64, .max = 4096}, mpg::overflow::drop_oldest);
///   while (auto item = samples.recv()) { missed += item->seq - expected; expected = item->seq + 1; ... }
template <class T> class elastic_chan : public channels::reference {
  public:
    using item = elastic_item<T>;
    using value_type = item;

    /// Throws std::invalid_argument unless 0 < high, low <= high <= max; std::bad_alloc. heartbeat: see
    /// heartbeat(); max() is none, and with another one std::logic_error is thrown where no runtime is alive.
    explicit elastic_chan(watermarks marks = {}, overflow policy = overflow::block,
                          duration heartbeat = duration::max())
        : reference(new channels::elastic_channel<T>(marks, policy)) {
        core()->beat_every(heartbeat);
    }
    /// Closes when ctx is done; what is in the buffer can still be received.
    template <class Context>
    requires std::derived_from<Context, context> elastic_chan(watermarks marks, const Context& ctx,
                                                              overflow policy = overflow::block,
                                                              duration heartbeat = duration::max())
        : elastic_chan(marks, policy, heartbeat) {
        using complete = std::conditional_t<std::is_same_v<Context, void>, void, context>; // here, not before
        auto kept = std::make_shared<const complete>(ctx);
        core()->end_with(sched::source_of(*kept), kept);
    }
    template <class Context>
    requires std::derived_from<Context, context>
    elastic_chan(watermarks marks, overflow policy, const Context& ctx, duration heartbeat = duration::max())
        : elastic_chan(marks, ctx, policy, heartbeat) {}
    template <class Context>
    requires std::derived_from<Context, context>
    explicit elastic_chan(const Context& ctx, watermarks marks = {}, overflow policy = overflow::block,
                          duration heartbeat = duration::max())
        : elastic_chan(marks, ctx, policy, heartbeat) {}

    /// ok, or full: rejected by the policy. With overflow::block it waits while max values are there. Throws
    /// channel_closed, also when it is closed while this waits; std::bad_alloc when it had to grow.
    chan_status send(T v) const {
        send_op op(core(), std::addressof(v));
        if (core()->policy == overflow::reject) return answer(channels::try_now(op));
        return answer(channels::wait_single(op, channels::single_ops<sched::wait_reason::chan_send>));
    }
    /// Never waits; v is moved from only when ok. ok | full | closed
    chan_status try_send(T& v) const {
        send_op op(core(), std::addressof(v));
        channels::outcome o = channels::try_now(op);
        return o == channels::outcome::closed ? chan_status::closed : answer(o);
    }
    chan_status try_send(T&& v) const { return try_send(v); }
    /// Waits at most that long, whatever the policy. v is moved from only when ok. ok | closed | timeout
    chan_status send_for(T& v, base::any_duration d) const { return send_limited(v, d, nullptr); }
    chan_status send_for(T&& v, base::any_duration d) const { return send_limited(v, d, nullptr); }
    /// Waits until ctx is done, whatever the policy. ok | closed | cancelled
    chan_status send(const context& ctx, T& v) const {
        return send_limited(v, duration::max(), sched::source_of(ctx));
    }
    chan_status send(const context& ctx, T&& v) const { return send(ctx, v); }

    /// The oldest value and its number; waits for it. nullopt: closed and drained.
    std::optional<item> recv() const {
        std::optional<item> out;
        recv_op op(core(), &out);
        channels::wait_single(op, channels::single_ops<sched::wait_reason::chan_recv>);
        return out;
    }
    /// The same without the number.
    std::optional<T> recv_value() const {
        std::optional<item> got = recv();
        return got ? std::optional<T>(std::move(got->value)) : std::nullopt;
    }
    /// As those of chan, into an item or a value. ok | empty | closed | timeout | cancelled
    template <class Out> chan_status try_recv(Out& v) const {
        return recv_into(v, [](auto& op) {
            switch (channels::try_now(op)) {
            case channels::outcome::done:
                return chan_status::ok;
            case channels::outcome::closed:
                return chan_status::closed;
            default:
                return chan_status::empty;
            }
        });
    }
    template <class Out> chan_status recv_for(Out& v, base::any_duration d) const {
        return recv_limited(v, d, nullptr);
    }
    template <class Out> chan_status recv(const context& ctx, Out& v) const {
        return recv_limited(v, duration::max(), sched::source_of(ctx));
    }
    /// An input range of items, until closed and drained.
    auto begin() const { return iterator(*this); }
    std::default_sentinel_t end() const noexcept { return {}; }

    /// Throws channel_closed when it was closed before, also by its context.
    void close() const {
        if (!core()->end()) throw channel_closed("mpg: close of closed channel");
    }

    /// The present one: high at first, at most max.
    std::size_t capacity() const noexcept { return core()->capacity_now(); }
    /// All counters at one moment; takes the lock.
    elastic_stats stats() const noexcept { return core()->stats(); }
    std::uint64_t grown() const noexcept { return stats().grown; }
    std::uint64_t dropped() const noexcept { return stats().dropped; }
    std::uint64_t rejected() const noexcept { return stats().rejected; }
    std::size_t high_water() const noexcept { return stats().high_water; }

    /// A snapshot every period that the constructor was given, so that a receiver can tell silence from
    /// death, and watch the load. A slow receiver finds the newest one only. Closes with the channel; nil
    /// when there is no heartbeat.
    recv_chan<elastic_stats> heartbeat() const noexcept { return core()->heartbeat(); }

    friend bool operator==(const elastic_chan& a, const elastic_chan& b) noexcept {
        return a.core() == b.core();
    }

  private:
    friend struct channels::case_traits<elastic_chan>;
    using send_op = channels::elastic_send<T, T&&>;
    using recv_op = channels::elastic_recv<T>;

    class iterator {
      public:
        using value_type = item;
        using difference_type = std::ptrdiff_t;
        using iterator_concept = std::input_iterator_tag;
        explicit iterator(const elastic_chan& from)
            : from_(from)
            , item_(from_.recv()) {}
        iterator(iterator&&) = default;
        iterator& operator=(iterator&&) = default;
        item& operator*() const noexcept { return *item_; }
        item* operator->() const noexcept { return std::addressof(*item_); }
        iterator& operator++() {
            item_.reset();
            std::optional<item> next = from_.recv();
            if (next) item_.emplace(std::move(*next));
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept { return !it.item_; }

      private:
        elastic_chan from_;
        mutable std::optional<item> item_;
    };

    channels::elastic_channel<T>* core() const noexcept {
        return static_cast<channels::elastic_channel<T>*>(channels::access::identity(*this));
    }
    chan_status answer(channels::outcome o) const {
        if (o == channels::outcome::done) return chan_status::ok;
        if (o == channels::outcome::closed) throw channel_closed();
        if (core()->policy == overflow::reject) core()->count_rejected();
        return chan_status::full;
    }
    chan_status send_limited(T& v, base::any_duration d, sched::cancel_source* source) const {
        send_op op(core(), std::addressof(v));
        return channels::wait_limited(op, d, source, channels::many_ops<sched::wait_reason::chan_send>);
    }
    template <class Out, class F> chan_status recv_into(Out& v, F f) const {
        std::optional<item> out;
        recv_op op(core(), &out);
        chan_status s = f(op);
        if (s != chan_status::ok) return s;
        if constexpr (std::is_same_v<Out, item>)
            channels::move_into(v, std::move(*out));
        else
            channels::move_into(v, std::move(out->value));
        return s;
    }
    template <class Out> chan_status recv_limited(Out& v, base::any_duration d, sched::cancel_source* source) const {
        return recv_into(v, [&](auto& op) {
            return channels::wait_limited(op, d, source, channels::many_ops<sched::wait_reason::chan_recv>);
        });
    }
};

template <class T> struct channels::case_traits<elastic_chan<T>> {
    static constexpr bool receives = true, sends = true, is_void = false, is_inline = true;
    using sent = T;
    using received = elastic_item<T>;
    static elastic_channel<T>* core(const elastic_chan<T>& c) noexcept { return c.core(); }
    using recv = elastic_recv<T>;
    template <class V> using send = elastic_send<T, V>;
};

} // namespace mpg

template <class T> struct std::hash<mpg::elastic_chan<T>> {
    std::size_t operator()(const mpg::elastic_chan<T>& c) const noexcept {
        return std::hash<const void*>{}(mpg::channels::access::identity(c));
    }
};
