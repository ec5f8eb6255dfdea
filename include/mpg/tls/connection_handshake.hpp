// The handshake of a TLS connection: what connection.hpp says of `handshaking_`.
#pragma once

#include <mpg/tls/connection.hpp>

namespace mpg::tls::detail {

inline std::error_code connection::handshake(const context& ctx) {
    if (is_through()) return {};
    if (closed_.load(std::memory_order_relaxed)) return mpg::errc::closed;
    turn mine(handshaking_);
    if (const std::error_code e = mine.take(ctx)) return e;
    if (is_through()) return {};
    if (handshake_failed_) return handshake_failed_;
    const std::error_code e = run_handshake(ctx);
    say_key_log();
    return e ? e : finish();
}

/// One that fails because of the stream below, a deadline or its context goes on where it was with the next
/// call.
inline std::error_code connection::run_handshake(const context& ctx) {
    for (;;) {
        const progress p = step([](engine& e) { return e.handshake(); });
        turn mine(writing_);
        if (const std::error_code e = mine.take(ctx)) return e;
        const std::error_code not_sent = send(ctx);
        mine.give();
        if (p == progress::failed || p == progress::end) {
            handshake_failed_ = p == progress::end ? make_error_code(errc::truncated) : engine_.error();
            return handshake_failed_;
        }
        if (not_sent) return not_sent;
        if (p == progress::ok) return {};
        if (p == progress::want_choice) {
            choose_certificate();
            continue;
        }
        if (const std::error_code e = fill(ctx)) return e;
    }
}

inline void connection::choose_certificate() {
    std::string name;
    {
        const std::lock_guard lock(mutex_);
        name = engine_.hello().server_name;
    }
    auto c = engine_.settings().choose({name});
    const std::lock_guard lock(mutex_);
    if (c)
        engine_.choose(std::move(*c));
    else
        engine_.choose_none(c.error() ? c.error() : make_error_code(errc::no_certificate));
}

inline void connection::say_key_log() {
    const auto& to = engine_.settings().key_log;
    if (!to) return;
    std::string lines;
    {
        const std::lock_guard lock(mutex_);
        lines.swap(engine_.key_log());
    }
    for (std::size_t at = 0, end; (end = lines.find('\n', at)) != lines.npos; at = end + 1)
        to(std::string_view(lines).substr(at, end - at));
}

/// Nothing is unsent, and nobody writes before the handshake is through.
inline bool connection::hand_over() {
    const config_state& c = engine_.settings();
    if (!c.ktls) return false;
    const std::lock_guard lock(mutex_);
    bool done = false;
    if (const kernel_keys keys = engine_.keys();
        keys.is_set() && !c.no_ktls.load(std::memory_order_relaxed)) {
        const io::outcome e = below_->encrypt_by(keys);
        if (e == transport::no_kernel_tls)
            c.no_ktls.store(true, std::memory_order_relaxed); // the next ones need not ask
        done = e >= 0;
    }
    engine_.forget_secret();
    if (done) engine_.hand_over();
    return in_kernel_ = done;
}

inline std::error_code connection::finish() {
    {
        const std::lock_guard lock(mutex_);
        state_ = engine_.state();
    }
    state_.ktls = hand_over();
    if (const auto& check = engine_.settings().check) {
        if (const std::error_code e = check(state_)) {
            handshake_failed_ = e;
            below_->close();
            return e;
        }
    }
    through_.store(true, std::memory_order_release); // pairs with: is_through
    return {};
}

} // namespace mpg::tls::detail
