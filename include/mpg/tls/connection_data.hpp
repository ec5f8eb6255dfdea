// Data over a TLS connection: reading, and writing in records.
#pragma once

#include <mpg/tls/connection.hpp>

namespace mpg::tls::detail {

inline result<std::size_t> connection::read(std::span<std::byte> to, const context& ctx) {
    if (const std::error_code e = hindrance(read_deadline_, ctx)) return unexpected(e);
    if (const std::error_code e = handshake(ctx)) return unexpected(e);
    if (to.empty()) return std::size_t{0};
    turn mine(reading_);
    if (const std::error_code e = mine.take(ctx)) return unexpected(e);
    for (;;) {
        std::size_t n = 0;
        bool output = false;
        const progress p = step([&](engine& e) {
            const progress now = e.read(to, n);
            output = !e.output().empty();
            if (e.output().size() > most_output) e.fail(errc::too_many_messages);
            return now;
        });
        if (output) send_if_free(ctx);
        switch (p) {
        case progress::ok:
            return n;
        case progress::end:
            return std::size_t{0};
        case progress::failed:
            return unexpected(engine_.error());
        default:
            break;
        }
        if (const std::error_code e = fill(ctx)) return unexpected(e);
    }
}

/// Encrypts one chunk, or lets the kernel do it, and sends it. The caller holds writing_.
inline std::error_code connection::encrypt(std::span<const std::byte> piece, const context& ctx) {
    if (in_kernel_) {
        {
            const std::lock_guard lock(mutex_);
            if (const std::error_code e = engine_.error()) return e;
        }
        while (!piece.empty()) {
            const auto n = below_->write_some(piece, ctx);
            if (!n) return n.error();
            piece = piece.subspan(*n);
        }
        return send(ctx);
    }
    const auto write = [&](engine& e) { return e.write(piece); };
    progress p = step(write);
    // The peer has sent the first part of a message of the handshake's kind (a ticket, a new key): OpenSSL
    // wants all of that before it writes.
    if (p == progress::want_input) {
        turn in(reading_);
        if (const std::error_code e = in.take(ctx)) return e;
        while ((p = step(write)) == progress::want_input)
            if (const std::error_code e = fill(ctx)) return e;
    }
    if (p != progress::ok) {
        (void)send(ctx); // an alert
        return engine_.error();
    }
    return send(ctx);
}

/// Calls f with the turn, with what was left from earlier sent.
template <class F> result<std::size_t> connection::writing(const context& ctx, F f) {
    if (const std::error_code e = hindrance(write_deadline_, ctx)) return unexpected(e);
    if (const std::error_code e = handshake(ctx)) return unexpected(e);
    turn mine(writing_);
    if (const std::error_code e = mine.take(ctx)) return unexpected(e);
    if (write_ended_) return unexpected(std::make_error_code(std::errc::broken_pipe));
    if (const std::error_code e = send(ctx)) return unexpected(e);
    result<std::size_t> n = f();
    mine.give();
    if (n) send_if_free(ctx);
    return n;
}

inline result<std::size_t> connection::write(std::span<const std::byte> from, const context& ctx, bool all) {
    return writing(ctx, [&]() -> result<std::size_t> {
        std::size_t done = 0;
        while (done != from.size()) {
            const auto piece = from.subspan(done, std::min(chunk, from.size() - done));
            if (const std::error_code e = encrypt(piece, ctx)) return unexpected(e);
            done += piece.size();
            if (!all) break;
        }
        return done;
    });
}

template <class F> result<io::outcome> connection::lend_descriptor(const context& ctx, F f) {
    io::outcome e = 0;
    const auto n = writing(ctx, [&]() -> result<std::size_t> {
        e = f(in_kernel_ ? below_->descriptor() : nullptr);
        return std::size_t{0};
    });
    if (!n) return unexpected(n.error());
    return e;
}

/// Small pieces go together into one record.
inline result<std::size_t> connection::writev(std::span<const ::iovec> pieces, const context& ctx) {
    return writing(ctx, [&]() -> result<std::size_t> {
        std::size_t done = 0, held = 0;
        std::unique_ptr<std::byte[]> together;
        const auto put = [&](std::span<const std::byte> data) -> std::error_code {
            for (; !data.empty(); data = data.subspan(std::min(chunk, data.size())))
                if (const std::error_code e = encrypt(data.first(std::min(chunk, data.size())), ctx))
                    return e;
            return {};
        };
        for (const ::iovec& p : pieces) {
            std::span<const std::byte> data(static_cast<const std::byte*>(p.iov_base), p.iov_len);
            done += data.size();
            if (held == 0 && (data.size() >= gathered || pieces.size() == 1)) {
                if (const std::error_code e = put(data)) return unexpected(e);
                continue;
            }
            while (!data.empty()) {
                if (!together) together.reset(new std::byte[gathered]);
                const std::size_t n = std::min(gathered - held, data.size());
                std::memcpy(together.get() + held, data.data(), n);
                held += n;
                data = data.subspan(n);
                if (held != gathered) continue;
                if (const std::error_code e = put({together.get(), held})) return unexpected(e);
                held = 0;
            }
        }
        if (const std::error_code e = put({together.get(), held})) return unexpected(e);
        return done;
    });
}

} // namespace mpg::tls::detail
