// The cases of a select: on_recv, on_send, on_timeout, on_done, otherwise.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/chan/case.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/chan/operation.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace mpg {

namespace channels {

/// The handler of a case without one.
struct no_handler {
    template <class... A> void operator()(A&&...) const noexcept {}
};

/// The kinds of handle that a case takes, by a specialisation for each: receive and send say what can be
/// done, value what is sent, and op<V> and recv the operations.
template <class Handle> struct case_traits { static constexpr bool receives = false, sends = false; };
template <class T> struct channel_case_traits {
    using sent = element_of<T>;
    using received = element_of<T>;
    static constexpr bool is_void = std::is_void_v<T>;
    static channel<element_of<T>>* core(const handle<T>& h) noexcept { return access::of(h); }
    using recv = recv_op<element_of<T>>;
    template <class V> using send = send_op<element_of<T>, V>;
    static constexpr bool is_inline = inline_element<element_of<T>>;
};
template <class T> struct case_traits<chan<T>> : channel_case_traits<T> {
    static constexpr bool receives = true, sends = true;
};
template <class T> struct case_traits<recv_chan<T>> : channel_case_traits<T> {
    static constexpr bool receives = true, sends = false;
};
template <class T> struct case_traits<send_chan<T>> : channel_case_traits<T> {
    static constexpr bool receives = false, sends = true;
};

/// A reference for an lvalue handle, the handle itself for an rvalue: then the case keeps the channel alive.
template <class Ch>
using kept = std::conditional_t<std::is_lvalue_reference_v<Ch>, const std::remove_cvref_t<Ch>&,
                                std::remove_cvref_t<Ch>>;

/// What precedes the operation among the bases, for it is initialised from it.
template <class Ch> struct keeper { kept<Ch> kept_channel; };

/// Ch and H are deduced as for forwarding: an lvalue is referred to, an rvalue kept.
template <class Ch, class H, class Traits = case_traits<std::remove_cvref_t<Ch>>>
class recv_case : keeper<Ch>, public Traits::recv {
    using op = typename Traits::recv;

  public:
    recv_case(Ch&& ch, H&& h)
        : keeper<Ch>{std::forward<Ch>(ch)}
        , op(Traits::core(this->kept_channel), &out_)
        , handler_(std::forward<H>(h)) {}

    void begin() noexcept { out_.reset(); }
    void handle() {
        if constexpr (Traits::is_void)
            std::invoke(handler_, this->result == outcome::done);
        else if constexpr (taken && requires { handler_(take()); })
            handler_(take());
        else
            std::invoke(handler_, std::move(out_));
    }

  private:
    using received = typename Traits::received;
    // A handler may take the value without asking. GCC, which looks through the wait, then warns that an empty optional
    // has none (-Wmaybe-uninitialized): so it is told that somebody else may have put one there.
#if defined(__GNUC__) && !defined(__clang__)
    static constexpr bool taken = std::is_nothrow_move_constructible_v<received> && !std::is_trivially_copyable_v<received>;
#else
    static constexpr bool taken = false;
#endif
    std::optional<received> take() noexcept {
        std::optional<received> t(std::move(out_));
        asm volatile("" : : "r"(&t) : "memory");
        return t;
    }

    std::optional<received> out_;
    H handler_;
};

/// What a send case of an rvalue of a suitable type sends: the object itself, when it is chosen.
template <class V> struct borrowed_value {
    V* source;
    using as = V&&;
    explicit borrowed_value(V&& v) noexcept
        : source(std::addressof(v)) {}
    V* address() noexcept { return source; }
};
/// All others are evaluated where Go evaluates them, on the way in: the case sends its own copy.
template <class T> struct evaluated_value {
    T value;
    using as = T&&;
    template <class V>
    explicit evaluated_value(V&& v)
        : value(std::forward<V>(v)) {}
    T* address() noexcept { return std::addressof(value); }
};
template <class Traits, class V, class T = typename Traits::sent>
inline constexpr bool borrows =
    !std::is_reference_v<V> && !std::is_const_v<V> && !std::is_trivially_copyable_v<T> &&
    (Traits::is_inline ? std::is_nothrow_constructible_v<T, V&&> : std::is_same_v<V, T>);
template <class Traits, class V>
using value_holder = std::conditional_t<borrows<Traits, V>, borrowed_value<std::remove_reference_t<V>>,
                                        evaluated_value<typename Traits::sent>>;

template <class Holder> struct holder_base { Holder holder; };

template <class Ch, class V, class H, class Traits = case_traits<std::remove_cvref_t<Ch>>>
class send_case : keeper<Ch>,
                  holder_base<value_holder<Traits, V>>,
                  public Traits::template send<typename value_holder<Traits, V>::as> {
    using holder_type = value_holder<Traits, V>;
    using op = typename Traits::template send<typename holder_type::as>;

  public:
    send_case(Ch&& ch, V&& v, H&& h)
        : keeper<Ch>{std::forward<Ch>(ch)}
        , holder_base<holder_type>{holder_type(std::forward<V>(v))}
        , op(Traits::core(this->kept_channel), this->holder.address())
        , handler_(std::forward<H>(h)) {}

    void begin() noexcept {}
    void handle() {
        if (this->result == outcome::closed) throw channel_closed();
        std::invoke(handler_);
    }

  private:
    H handler_;
};

/// A case without a channel.
template <class Base, class H> class plain_case : public Base {
  public:
    template <class A>
    plain_case(A a, H&& h)
        : Base(a)
        , handler_(std::forward<H>(h)) {}
    explicit plain_case(H&& h)
        : handler_(std::forward<H>(h)) {}
    void begin() noexcept {}
    void handle() { std::invoke(handler_); }

  private:
    H handler_;
};

template <class Ch>
concept receivable = case_traits<std::remove_cvref_t<Ch>>::receives;
template <class Ch>
concept sendable = case_traits<std::remove_cvref_t<Ch>>::sends;

} // namespace channels

/// A case that receives from ch. handler: void(std::optional<T>), nullopt when ch is closed and drained; for
/// a channel of void: void(bool). It may be left out. Use the case within the expression that makes it, or
/// keep it as long as ch (an lvalue) and handler (an lvalue).
template <channels::receivable Ch, class H = channels::no_handler> auto on_recv(Ch&& ch, H&& handler = H()) {
    return channels::recv_case<Ch, H>(std::forward<Ch>(ch), std::forward<H>(handler));
}

/// A case that sends value to ch. handler: void(), and may be left out. An rvalue is moved from only when the
/// case is chosen (so it must live until then; one that has to be converted with a chance of an exception is
/// converted here), an lvalue is copied here. When ch is closed and this case is chosen, select throws
/// channel_closed.
template <channels::sendable Ch, class V, class H = channels::no_handler>
requires(!channels::case_traits<std::remove_cvref_t<Ch>>::is_void) auto on_send(Ch&& ch, V&& value,
                                                                                H&& handler = H()) {
    return channels::send_case<Ch, V, H>(std::forward<Ch>(ch), std::forward<V>(value),
                                         std::forward<H>(handler));
}
template <channels::sendable Ch, class H = channels::no_handler>
requires(channels::case_traits<std::remove_cvref_t<Ch>>::is_void) auto on_send(Ch&& ch, H&& handler = H()) {
    return channels::send_case<Ch, channels::nothing, H>(std::forward<Ch>(ch), channels::nothing{},
                                                         std::forward<H>(handler));
}

/// A case that is chosen when nothing else was for that long, counted from the beginning of the wait. Of
/// several the shortest counts. Zero or less: only what is ready at once comes before it. nanoseconds::max():
/// never.
template <class H = channels::no_handler> auto on_timeout(base::any_duration d, H&& handler = H()) {
    return channels::plain_case<channels::timeout_case, H>(d, std::forward<H>(handler));
}

/// A case that is ready when the context is done. ctx must outlive it.
template <class H = channels::no_handler> auto on_done(const context& ctx, H&& handler = H()) {
    return channels::plain_case<channels::done_case, H>(sched::source_of(ctx), std::forward<H>(handler));
}

/// Go's default: chosen when no other case is ready; with it a select never waits.
template <class H = channels::no_handler> auto otherwise(H&& handler = H()) {
    return channels::plain_case<channels::otherwise_case, H>(std::forward<H>(handler));
}

} // namespace mpg
