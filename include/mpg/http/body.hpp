// The body of a message, as a reader.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/http/message_parser.hpp>
#include <mpg/http/wire.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::http {

class response;

namespace detail {
class connection;
class client_exchange;

/// What a body tells the exchange it belongs to.
class body_events {
  public:
    virtual void body_ended() = 0;
    virtual void body_failed() noexcept = 0;

  protected:
    ~body_events() = default;
};
} // namespace detail

/// Reads the body of a request or response, without its framing. One strand at a time uses it; a request's
/// body while its handler runs. Errors: std::errc::bad_message (malformed chunk), std::errc::file_too_large
/// (beyond max_body_bytes), std::errc::connection_aborted (the peer went away in its midst),
/// errc::deadline_exceeded (read_timeout), the system's. On a server, after an error, and when a long body
/// was not read to its end, the connection closes after the response.
class body_reader {
  public:
    body_reader(const body_reader&) = delete;
    body_reader& operator=(const body_reader&) = delete;

    /// At least one byte, or 0 at the end. May suspend. Sends "100 Continue" first where the client waits for
    /// it, and the response has not begun.
    result<std::size_t> read(std::span<std::byte> out) { return read_some(out, ctx_); }
    result<std::size_t> read(std::span<std::byte> out, const context& ctx) { return read_some(out, &ctx); }

    /// All that is left, at most `limit` bytes: std::errc::file_too_large when there is more.
    result<std::string> read_all(std::size_t limit = std::numeric_limits<std::size_t>::max()) {
        std::string text;
        std::byte piece[4096];
        while (true) {
            const auto n = read(piece);
            if (!n) return unexpected(n.error());
            if (*n == 0) return text;
            if (*n > limit - text.size()) return unexpected(std::make_error_code(std::errc::file_too_large));
            text.append(reinterpret_cast<const char*>(piece), *n);
        }
    }
    /// Whether it has been read to its end; true for a request without a body.
    bool ended() const noexcept { return ended_; }
    /// The fields that came behind a chunked body, once it has ended; without those that may not stand there
    /// (what frames, routes, authenticates).
    std::span<const std::pair<std::string, std::string>> trailers() const noexcept {
        if (!ended_ || !chunked_) return {};
        return decoder_.trailers();
    }
    /// The first of that name, without regard to case; "" when there is none.
    std::string_view trailer(std::string_view name) const noexcept {
        for (const auto& [field, value] : trailers())
            if (detail::equal_fold(field, name)) return value;
        return {};
    }

  private:
    friend class detail::connection;
    friend class detail::client_exchange;
    friend class response;

    /// A message with has_body and neither length nor chunks is ended by the end of the connection;
    /// max_unframed: how long that may be, 0 for any length.
    body_reader(detail::wire& wire, detail::chunk_decoder& decoder, const detail::message_head& head,
                bool has_body, bool continue_expected, std::size_t max_framing,
                detail::body_events& events, std::uint64_t max_unframed = 0) noexcept
        : wire_(wire)
        , decoder_(decoder)
        , events_(events)
        , max_framing_(max_framing ? max_framing : 1 << 20)
        , remaining_(head.content_length ? *head.content_length
                     : max_unframed      ? max_unframed + 1
                                         : std::numeric_limits<std::uint64_t>::max())
        , chunked_(head.chunked)
        , until_end_(has_body && !head.chunked && !head.content_length)
        , continue_expected_(continue_expected)
        , ended_(!has_body) {}

    result<std::size_t> read_some(std::span<std::byte> out, const context* ctx) {
        if (error_) return unexpected(error_);
        if (ended_ || out.empty()) return std::size_t{0};
        return chunked_ ? read_chunked(out, ctx) : read_counted(out, ctx);
    }

    result<std::size_t> read_counted(std::span<std::byte> out, const context* ctx) {
        constexpr std::size_t worth_reading_ahead = 1024; // below it the bytes behind are worth a copy
        if (out.size() > remaining_) out = out.first(static_cast<std::size_t>(remaining_));
        detail::input_buffer& in = wire_.in();
        std::size_t n = 0;
        if (in.empty() && out.size() >= worth_reading_ahead) {
            const auto got = receive(out, ctx);
            if (!got) return got;
            n = *got;
        } else {
            if (in.empty())
                if (const auto got = fill(worth_reading_ahead, ctx); !got) return got;
            n = std::min(out.size(), in.unread().size());
            std::memcpy(out.data(), in.unread().data(), n);
            in.consume(n);
        }
        remaining_ -= n;
        if (remaining_ == 0 && until_end_) return fail(std::errc::file_too_large);
        if (remaining_ == 0) end();
        return n;
    }

    result<std::size_t> read_chunked(std::span<std::byte> out, const context* ctx) {
        detail::input_buffer& in = wire_.in();
        while (true) {
            const auto d = decoder_.decode_chunked(in.unread(), out);
            in.consume(d.used);
            produced_ += d.produced;
            framing_ += d.used - d.produced;
            if (d.status) return fail(d.status == 413 ? std::errc::file_too_large : std::errc::bad_message);
            // Framing may be sixteen times the data (chunks of one byte need five), not more.
            if (framing_ > max_framing_ + 16 * produced_) return fail(std::errc::bad_message);
            if (decoder_.done()) end();
            if (d.produced > 0 || ended_) return d.produced;
            if (in.unread().size() >= max_framing_) return fail(std::errc::bad_message);
            if (const auto got = fill(1024, ctx); !got) return got;
        }
    }

    /// More bytes into the input buffer.
    result<std::size_t> fill(std::size_t room, const context* ctx) {
        const auto got = receive(wire_.in().room(room), ctx);
        if (got) wire_.in().filled(*got);
        return got;
    }

    result<std::size_t> receive(std::span<std::byte> into, const context* ctx) {
        if (continue_expected_ && !response_begun_) {
            continue_expected_ = false;
            if (const std::error_code e = wire_.send({"HTTP/1.1 100 Continue\r\n\r\n"})) return fail(e);
        } else if (const std::error_code e = wire_.send()) { // earlier responses do not wait for this one
            return fail(e);
        }
        const auto got = ctx ? wire_.below().read(into, *ctx) : wire_.below().read(into);
        if (got && *got == 0) {
            if (!until_end_) return fail(std::errc::connection_aborted);
            end();
        }
        if (!got && !(ctx && ctx->is_done()))
            return fail(got.error()); // with another context one may try again
        return got;
    }

    void end() {
        ended_ = true;
        events_.body_ended();
    }
    unexpected fail(std::error_code why) noexcept {
        error_ = why;
        events_.body_failed();
        return unexpected(why);
    }
    unexpected fail(std::errc why) noexcept { return fail(std::make_error_code(why)); }

    detail::wire& wire_;
    detail::chunk_decoder& decoder_;
    detail::body_events& events_;
    const context* ctx_ = nullptr; // where none is given
    std::error_code error_;
    std::size_t max_framing_;
    std::uint64_t remaining_, produced_ = 0, framing_ = 0;
    bool chunked_, until_end_, continue_expected_, ended_;
    bool response_begun_ = false; // the final one: nothing may be said in its midst
};

} // namespace mpg::http
