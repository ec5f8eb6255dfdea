// chan<T> and its one-way views.
#pragma once

#include <mpg/chan/handle.hpp>
#include <mpg/chan/recv_side.hpp>
#include <mpg/chan/send_side.hpp>

#include <concepts>
#include <cstddef>
#include <functional>

namespace mpg {

template <class T> class send_chan;
template <class T> class recv_chan;

/// A channel of Go: what one strand sends another receives. A handle of one pointer: copies refer to the same
/// channel, which lives as long as one of them. T is movable, or void. A moved-from handle is nil.
///
/// Cost: an operation that need not wait is one locked section of about 7 ns; a hand-off to a waiting strand
/// does not go through the buffer. Construction is one allocation.
template <class T>
class chan : public channels::handle<T>, public send_side<chan<T>, T>, public recv_side<chan<T>, T> {
    using base = channels::handle<T>;

  public:
    /// Unbuffered: a send completes when a receiver has the value.
    chan()
        : chan(std::size_t{0}) {}
    /// With a buffer for that many values. Throws std::length_error, std::bad_alloc.
    explicit chan(std::size_t capacity)
        : base(channels::channel<channels::element_of<T>>::make(capacity)) {}
    /// Nil: send and receive wait for ever, a case of a select is never ready. A template, so that
    /// chan<int>(0) is a capacity.
    template <std::same_as<std::nullptr_t> N> chan(N) noexcept {}
    explicit chan(channels::access::adopted a) noexcept
        : base(a.c) {}

    friend bool operator==(const chan& a, const chan& b) noexcept {
        return channels::access::identity(a) == channels::access::identity(b);
    }
};

/// A channel that can only be sent to (and closed).
template <class T> class send_chan : public channels::handle<T>, public send_side<send_chan<T>, T> {
    using base = channels::handle<T>;

  public:
    /// Nil.
    send_chan() noexcept = default;
    template <std::same_as<std::nullptr_t> N> send_chan(N) noexcept {}
    send_chan(const chan<T>& c) noexcept
        : base(c) {}
    send_chan(chan<T>&& c) noexcept
        : base(std::move(c)) {}
    explicit send_chan(channels::access::adopted a) noexcept
        : base(a.c) {}

    friend bool operator==(const send_chan& a, const send_chan& b) noexcept {
        return channels::access::identity(a) == channels::access::identity(b);
    }
};

/// A channel that can only be received from.
template <class T> class recv_chan : public channels::handle<T>, public recv_side<recv_chan<T>, T> {
    using base = channels::handle<T>;

  public:
    /// Nil.
    recv_chan() noexcept = default;
    template <std::same_as<std::nullptr_t> N> recv_chan(N) noexcept {}
    recv_chan(const chan<T>& c) noexcept
        : base(c) {}
    recv_chan(chan<T>&& c) noexcept
        : base(std::move(c)) {}
    explicit recv_chan(channels::access::adopted a) noexcept
        : base(a.c) {}

    friend bool operator==(const recv_chan& a, const recv_chan& b) noexcept {
        return channels::access::identity(a) == channels::access::identity(b);
    }
};

} // namespace mpg

/// Of the channel's identity: equal for a channel and its views.
template <class T> struct std::hash<mpg::chan<T>> {
    std::size_t operator()(const mpg::chan<T>& c) const noexcept {
        return std::hash<const void*>{}(mpg::channels::access::identity(c));
    }
};
template <class T> struct std::hash<mpg::send_chan<T>> {
    std::size_t operator()(const mpg::send_chan<T>& c) const noexcept {
        return std::hash<const void*>{}(mpg::channels::access::identity(c));
    }
};
template <class T> struct std::hash<mpg::recv_chan<T>> {
    std::size_t operator()(const mpg::recv_chan<T>& c) const noexcept {
        return std::hash<const void*>{}(mpg::channels::access::identity(c));
    }
};
