// A value or an error: the members of C++23's std::expected, for standard libraries that do not have it.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace mpg::io {

template <class E> class unexpected {
  public:
    template <class G = E>
    requires(!std::is_same_v<std::remove_cvref_t<G>, unexpected> &&
             !std::is_same_v<std::remove_cvref_t<G>, std::in_place_t> &&
             std::is_constructible_v<E, G>) constexpr explicit unexpected(G&& error)
        : error_(std::forward<G>(error)) {}

    constexpr const E& error() const& noexcept { return error_; }
    constexpr E& error() & noexcept { return error_; }
    constexpr E&& error() && noexcept { return std::move(error_); }
    friend constexpr bool operator==(const unexpected& a, const unexpected& b) {
        return a.error_ == b.error_;
    }

  private:
    E error_;
};
template <class E> unexpected(E) -> unexpected<E>;

/// Selects the constructor of an error in place.
struct unexpect_t {
    explicit unexpect_t() = default;
};
inline constexpr unexpect_t unexpect{};

/// Thrown by value() of a result that holds an error.
template <class E> class bad_expected_access : public std::exception {
  public:
    explicit bad_expected_access(E error)
        : error_(std::move(error)) {
        if constexpr (requires { error_.message(); })
            text_ = std::make_shared<const std::string>(error_.message());
    }
    const char* what() const noexcept override { return text_ ? text_->c_str() : "no value but an error"; }
    const E& error() const& noexcept { return error_; }
    E& error() & noexcept { return error_; }

  private:
    E error_;
    std::shared_ptr<const std::string> text_; // shared: copies of an exception must not throw
};

template <class T, class E> class expected;

namespace detail {
template <class> inline constexpr bool is_expected = false;
template <class T, class E> inline constexpr bool is_expected<expected<T, E>> = true;
template <class> inline constexpr bool is_unexpected = false;
template <class E> inline constexpr bool is_unexpected<unexpected<E>> = true;

/// Calls f and wraps what it returns, also nothing, as the value of an expected<R, E>.
template <class E, class F, class... Args> auto wrap_call(F&& f, Args&&... args) {
    using R = std::remove_cv_t<std::invoke_result_t<F, Args...>>;
    if constexpr (std::is_void_v<R>) {
        std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
        return expected<void, E>();
    } else {
        return expected<R, E>(std::in_place, std::invoke(std::forward<F>(f), std::forward<Args>(args)...));
    }
}
} // namespace detail

/// Holds a T or an E. Access without a check is undefined when the other is there, as in the standard. Nor does
/// dropping one warn: a program must not compile here and not there.
template <class T, class E> class expected {
  public:
    using value_type = T;
    using error_type = E;
    using unexpected_type = unexpected<E>;
    template <class U> using rebind = expected<U, E>;

    expected() requires std::is_default_constructible_v<T> : value_(), has_(true) {}
    template <class U = T>
    requires(!std::is_same_v<std::remove_cvref_t<U>, std::in_place_t> &&
             !std::is_same_v<std::remove_cvref_t<U>, expected> &&
             !detail::is_unexpected<std::remove_cvref_t<U>> &&
             std::is_constructible_v<T, U>) explicit(!std::is_convertible_v<U, T>) expected(U&& value)
        : value_(std::forward<U>(value))
        , has_(true) {}
    template <class G>
    requires std::is_constructible_v<E, const G&> expected(const unexpected<G>& e)
        : error_(e.error())
        , has_(false) {}
    template <class G>
    requires std::is_constructible_v<E, G> expected(unexpected<G>&& e)
        : error_(std::move(e).error())
        , has_(false) {}
    template <class... Args>
    requires std::is_constructible_v<T, Args...>
    explicit expected(std::in_place_t, Args&&... args)
        : value_(std::forward<Args>(args)...)
        , has_(true) {}
    template <class... Args>
    requires std::is_constructible_v<E, Args...>
    explicit expected(unexpect_t, Args&&... args)
        : error_(std::forward<Args>(args)...)
        , has_(false) {}

    expected(const expected& other) requires(
        std::is_copy_constructible_v<T>&& std::is_copy_constructible_v<E>)
        : has_(other.has_) {
        construct(other);
    }
    expected(expected&& other) noexcept(
        std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_move_constructible_v<
            E>) requires(std::is_move_constructible_v<T>&& std::is_move_constructible_v<E>)
        : has_(other.has_) {
        construct(std::move(other));
    }
    expected& operator=(const expected& other) requires(
        std::is_copy_constructible_v<T>&& std::is_copy_constructible_v<E>) {
        if (this != &other) *this = expected(other);
        return *this;
    }
    expected& operator=(expected&& other) noexcept(
        std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_move_constructible_v<
            E>) requires(std::is_move_constructible_v<T>&& std::is_move_constructible_v<E>) {
        if (this == &other) return *this;
        destroy();
        has_ = other.has_;
        construct(std::move(other));
        return *this;
    }
    template <class U = T>
    requires(!std::is_same_v<std::remove_cvref_t<U>, expected> &&
             !detail::is_unexpected<std::remove_cvref_t<U>> && std::is_constructible_v<T, U>) expected&
    operator=(U&& value) {
        return *this = expected(std::in_place, std::forward<U>(value));
    }
    template <class G> expected& operator=(unexpected<G> e) { return *this = expected(std::move(e)); }
    ~expected() { destroy(); }

    template <class... Args> T& emplace(Args&&... args) {
        *this = expected(std::in_place, std::forward<Args>(args)...);
        return value_;
    }

    bool has_value() const noexcept { return has_; }
    explicit operator bool() const noexcept { return has_; }
    T* operator->() noexcept { return std::addressof(value_); }
    const T* operator->() const noexcept { return std::addressof(value_); }
    T& operator*() & noexcept { return value_; }
    const T& operator*() const& noexcept { return value_; }
    T&& operator*() && noexcept { return std::move(value_); }
    const T&& operator*() const&& noexcept { return std::move(value_); }
    T& value() & { return check(), value_; }
    const T& value() const& { return check(), value_; }
    T&& value() && { return check(), std::move(value_); }
    const T&& value() const&& { return check(), std::move(value_); }
    E& error() & noexcept { return error_; }
    const E& error() const& noexcept { return error_; }
    E&& error() && noexcept { return std::move(error_); }
    const E&& error() const&& noexcept { return std::move(error_); }

    template <class U> T value_or(U&& other) const& {
        return has_ ? value_ : static_cast<T>(std::forward<U>(other));
    }
    template <class U> T value_or(U&& other) && {
        return has_ ? std::move(value_) : static_cast<T>(std::forward<U>(other));
    }
    template <class G = E> E error_or(G&& other) const& {
        return has_ ? static_cast<E>(std::forward<G>(other)) : error_;
    }

    template <class F> auto and_then(F&& f) & { return and_then_of(*this, std::forward<F>(f)); }
    template <class F> auto and_then(F&& f) const& { return and_then_of(*this, std::forward<F>(f)); }
    template <class F> auto and_then(F&& f) && { return and_then_of(std::move(*this), std::forward<F>(f)); }
    template <class F> auto transform(F&& f) & { return transform_of(*this, std::forward<F>(f)); }
    template <class F> auto transform(F&& f) const& { return transform_of(*this, std::forward<F>(f)); }
    template <class F> auto transform(F&& f) && { return transform_of(std::move(*this), std::forward<F>(f)); }
    template <class F> auto or_else(F&& f) & { return or_else_of(*this, std::forward<F>(f)); }
    template <class F> auto or_else(F&& f) const& { return or_else_of(*this, std::forward<F>(f)); }
    template <class F> auto or_else(F&& f) && { return or_else_of(std::move(*this), std::forward<F>(f)); }
    template <class F> auto transform_error(F&& f) & { return transform_error_of(*this, std::forward<F>(f)); }
    template <class F> auto transform_error(F&& f) const& {
        return transform_error_of(*this, std::forward<F>(f));
    }
    template <class F> auto transform_error(F&& f) && {
        return transform_error_of(std::move(*this), std::forward<F>(f));
    }

    friend void swap(expected& a, expected& b) noexcept(std::is_nothrow_move_constructible_v<T>) {
        expected keep = std::move(a);
        a = std::move(b);
        b = std::move(keep);
    }
    friend bool operator==(const expected& a, const expected& b) {
        return a.has_ == b.has_ && (a.has_ ? a.value_ == b.value_ : a.error_ == b.error_);
    }
    template <class U>
    requires(!detail::is_expected<U> && !detail::is_unexpected<U>) friend bool operator==(const expected& a,
                                                                                          const U& b) {
        return a.has_ && a.value_ == b;
    }
    template <class G> friend bool operator==(const expected& a, const unexpected<G>& b) {
        return !a.has_ && a.error_ == b.error();
    }

  private:
    void check() const {
        if (!has_) throw bad_expected_access<E>(error_);
    }
    template <class Other> void construct(Other&& other) {
        if (has_)
            std::construct_at(std::addressof(value_), std::forward<Other>(other).value_);
        else
            std::construct_at(std::addressof(error_), std::forward<Other>(other).error_);
    }
    void destroy() noexcept {
        if (has_)
            std::destroy_at(std::addressof(value_));
        else
            std::destroy_at(std::addressof(error_));
    }
    template <class S, class F> static auto and_then_of(S&& s, F&& f) {
        using R = std::remove_cvref_t<decltype(std::invoke(std::forward<F>(f), *std::forward<S>(s)))>;
        if (s.has_) return std::invoke(std::forward<F>(f), *std::forward<S>(s));
        return R(unexpect, std::forward<S>(s).error());
    }
    template <class S, class F> static auto transform_of(S&& s, F&& f) {
        using R = decltype(detail::wrap_call<E>(std::forward<F>(f), *std::forward<S>(s)));
        if (s.has_) return detail::wrap_call<E>(std::forward<F>(f), *std::forward<S>(s));
        return R(unexpect, std::forward<S>(s).error());
    }
    template <class S, class F> static auto or_else_of(S&& s, F&& f) {
        using R = std::remove_cvref_t<decltype(std::invoke(std::forward<F>(f), std::forward<S>(s).error()))>;
        if (s.has_) return R(std::in_place, *std::forward<S>(s));
        return std::invoke(std::forward<F>(f), std::forward<S>(s).error());
    }
    template <class S, class F> static auto transform_error_of(S&& s, F&& f) {
        using G = std::remove_cvref_t<decltype(std::invoke(std::forward<F>(f), std::forward<S>(s).error()))>;
        if (s.has_) return expected<T, G>(std::in_place, *std::forward<S>(s));
        return expected<T, G>(unexpect, std::invoke(std::forward<F>(f), std::forward<S>(s).error()));
    }

    union {
        T value_;
        E error_;
    };
    bool has_;
};

/// Success without a value, or an E.
template <class E> class expected<void, E> {
  public:
    using value_type = void;
    using error_type = E;
    using unexpected_type = unexpected<E>;
    template <class U> using rebind = expected<U, E>;

    expected() = default;
    explicit expected(std::in_place_t) {}
    template <class G>
    requires std::is_constructible_v<E, const G&> expected(const unexpected<G>& e)
        : error_(e.error())
        , has_(false) {}
    template <class G>
    requires std::is_constructible_v<E, G> expected(unexpected<G>&& e)
        : error_(std::move(e).error())
        , has_(false) {}
    template <class... Args>
    requires std::is_constructible_v<E, Args...>
    explicit expected(unexpect_t, Args&&... args)
        : error_(std::forward<Args>(args)...)
        , has_(false) {}

    void emplace() noexcept { has_ = true; }
    bool has_value() const noexcept { return has_; }
    explicit operator bool() const noexcept { return has_; }
    void operator*() const noexcept {}
    void value() const {
        if (!has_) throw bad_expected_access<E>(error_);
    }
    E& error() & noexcept { return error_; }
    const E& error() const& noexcept { return error_; }
    E&& error() && noexcept { return std::move(error_); }
    template <class G = E> E error_or(G&& other) const {
        return has_ ? static_cast<E>(std::forward<G>(other)) : error_;
    }

    template <class F> auto and_then(F&& f) const {
        using R = std::remove_cvref_t<std::invoke_result_t<F>>;
        return has_ ? std::invoke(std::forward<F>(f)) : R(unexpect, error_);
    }
    template <class F> auto transform(F&& f) const {
        using R = decltype(detail::wrap_call<E>(std::forward<F>(f)));
        return has_ ? detail::wrap_call<E>(std::forward<F>(f)) : R(unexpect, error_);
    }
    template <class F> auto or_else(F&& f) const {
        using R = std::remove_cvref_t<std::invoke_result_t<F, const E&>>;
        return has_ ? R() : std::invoke(std::forward<F>(f), error_);
    }
    template <class F> auto transform_error(F&& f) const {
        using G = std::remove_cvref_t<std::invoke_result_t<F, const E&>>;
        return has_ ? expected<void, G>()
                    : expected<void, G>(unexpect, std::invoke(std::forward<F>(f), error_));
    }

    friend bool operator==(const expected& a, const expected& b) {
        return a.has_ == b.has_ && (a.has_ || a.error_ == b.error_);
    }
    template <class G> friend bool operator==(const expected& a, const unexpected<G>& b) {
        return !a.has_ && a.error_ == b.error();
    }

  private:
    E error_{};
    bool has_ = true;
};

} // namespace mpg::io
