// What a connection of a server reads, and how long it waits for it: the next request, its head, what a handler has left.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/http/body.hpp>
#include <mpg/http/core.hpp>
#include <mpg/http/exchange.hpp>
#include <mpg/http/header_scanner.hpp>
#include <mpg/http/registry.hpp>
#include <mpg/http/wire.hpp>
#include <mpg/sched/stack_trim.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

namespace mpg::http::detail {

/// The half of a connection that knows no handler. All of it belongs to the connection's task.
class connection_input : public registry::entry {
  protected:
    using nanoseconds = std::chrono::nanoseconds;
    static constexpr std::size_t most_drained = 256 << 10; // of a body that the handler has left, as in Go

    connection_input(core& c, std::unique_ptr<link> l)
        : entry(std::move(l))
        , core_(c)
        , wire_(below()) {}
    ~connection_input() = default;

    /// Waits for the first bytes of a request. False: the connection ends. One that has served and then is
    /// left alone for a while first gives back the stack that its handlers have used.
    bool await_request() {
        const server_options& o = core_.options;
        wire_.in().release();
        const nanoseconds limit = !served_                 ? o.read_header_timeout
                                  : o.idle_timeout.count() ? o.idle_timeout
                                                           : o.read_timeout;
        const bool may_rest = served_ && (limit.count() == 0 || limit > rest_after);
        read_within(may_rest ? rest_after : limit);
        bool may_wait = core_.connections.go_idle(*this);
        result<std::size_t> got = std::size_t{0};
        if (may_wait) got = wire_.fill(1);
        bool swept = !core_.connections.go_active(*this);
        if (may_rest && may_wait && !swept && !got && got.error() == errc::deadline_exceeded) {
            sched::trim_stack();
            read_within(limit.count() > 0 ? limit - rest_after : limit);
            may_wait = core_.connections.go_idle(*this);
            if (may_wait) got = wire_.fill(1);
            swept = !core_.connections.go_active(*this);
        }
        if (swept) deadline_set_ = true;
        if (swept || !may_wait) read_within(o.read_header_timeout);
        if (got && *got > 0) return true;
        // A shutdown ends the wait, but not what has come already.
        if ((may_wait && !swept) || !below().has_input()) return false;
        got = wire_.fill(1);
        return got && *got > 0;
    }

    /// 0: for ever.
    void read_within(nanoseconds limit) {
        if (limit.count() > 0) {
            below().set_read_deadline(base::to_time_point(base::deadline_after(limit)));
            deadline_set_ = true;
        } else if (deadline_set_) {
            below().set_read_deadline(std::nullopt);
            deadline_set_ = false;
        }
    }

    /// Reads and parses one head. 0, or the status to refuse it with, or -1 when there is nobody to answer.
    int read_head(exchange& x) {
        const std::size_t limit = core_.options.max_header_bytes;
        input_buffer& in = wire_.in();
        x.head.reset();
        header_scanner scanner;
        std::size_t skipped = 0;
        first_wait_ = 0;
        while (true) {
            // Empty lines before a request are passed over (RFC 9112, 2.2).
            while (scanner.lines() == 0 && in.unread().substr(0, 2) == "\r\n") {
                in.consume(2);
                skipped += 2;
                scanner = {};
            }
            const std::string_view bytes = in.unread();
            if (!bytes.empty() && !is_token_char(bytes[0]) && bytes != "\r") return 400;
            switch (scanner.scan(bytes)) {
            case header_scanner::result::malformed:
                return 400;
            case header_scanner::result::complete:
                if (limit && skipped + scanner.length() > limit) return too_large(bytes, limit);
                x.parser.emplace(x.head, core_.options.max_body_bytes, limit ? limit : scanner.length());
                if (const int status = x.parser->parse_head(bytes.substr(0, scanner.length()))) return status;
                in.consume(scanner.length());
                return 0;
            case header_scanner::result::incomplete:
                break;
            }
            if (limit && skipped + bytes.size() > limit) return too_large(bytes, limit);

            if (wire_.send()) return -1;
            if (first_wait_ == 0) {
                first_wait_ = base::now();
                const server_options& o = core_.options;
                if (served_ || !deadline_set_)
                    read_within(o.read_header_timeout.count() ? o.read_header_timeout : o.read_timeout);
            }
            const auto got = wire_.fill(512);
            if (!got) return got.error() == errc::deadline_exceeded && !in.empty() ? 408 : -1;
            if (*got == 0) return -1;
        }
    }

    /// The request line alone is too long, or all of it.
    static int too_large(std::string_view bytes, std::size_t limit) noexcept {
        return bytes.substr(0, limit).find('\n') == std::string_view::npos ? 414 : 431;
    }

    /// Reads what the handler has left of the body. False: it is long, or bad.
    bool drain(body_reader& body) {
        if (body.ended()) return true;
        if (wire_.send()) return false; // the client may wait for the response before it sends the rest
        if (core_.options.read_timeout.count() == 0) read_within(core_.options.read_header_timeout);
        std::byte piece[4096];
        for (std::size_t total = 0; total <= most_drained;) {
            const auto n = body.read(piece);
            if (!n) break;
            if (*n == 0) return true;
            total += *n;
        }
        linger_ = true;
        return false;
    }

    /// Closing a socket with unread bytes resets the connection, and the client may lose our last words: so
    /// first say that they were the last, and read on for a moment.
    void linger() {
        below().shutdown_write();
        below().set_read_deadline(base::to_time_point(base::deadline_after(linger_time)));
        std::byte piece[4096];
        while (true) {
            const auto n = below().read(piece);
            if (!n || *n == 0) return;
        }
    }

    core& core_;
    wire wire_;
    base::nanos first_wait_ = 0; // when the header that is being read was found incomplete; 0: it was not
    bool served_ = false;        // a head has been read
    bool deadline_set_ = false;  // for reading
    bool linger_ = false;        // the client may still be sending

  private:
    static constexpr std::chrono::milliseconds linger_time{500};
    static constexpr nanoseconds rest_after = std::chrono::milliseconds(500);
};

} // namespace mpg::http::detail
