// A response, as its handler makes it.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/http/body.hpp>
#include <mpg/http/client_watch.hpp>
#include <mpg/http/date.hpp>
#include <mpg/http/field.hpp>
#include <mpg/http/hijacked.hpp>
#include <mpg/http/request_parser.hpp>
#include <mpg/http/status.hpp>
#include <mpg/http/wire.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/tcp.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::http {

namespace detail {

class connection;

inline void append_number(std::string& s, std::uint64_t n, int base = 10) {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof digits, n, base).ptr;
    s.append(digits, static_cast<std::size_t>(end - digits));
}

/// Memory of a response that outlives it, for the next one.
struct response_buffers {
    std::string fields; // serialised, without those that the server adds
    std::string body;   // written and not sent
    std::string trailers;
};

} // namespace detail

/// Nothing is sent before flush(), 4 KiB of body, or the handler's return. A response that is whole by then
/// has a Content-Length; else, unless the handler has set one, it is chunked (HTTP/1.0: ended by the end of
/// the connection). The handler's task uses it.
class response {
  public:
    response(const response&) = delete;
    response& operator=(const response&) = delete;

    /// 200 when not called. Without effect once the header has been sent. Throws std::invalid_argument for
    /// what is no final status: 200 to 999, and 101 for one that takes the connection over.
    response& status(int code) {
        if (code != 101 && (code < 200 || code > 999))
            throw std::invalid_argument("http: no final status code");
        if (!committed_) status_ = code;
        return *this;
    }

    /// Sets a field: replaces those of the same name. "Content-Length" and "Connection: close" are obeyed,
    /// "Date" is sent instead of ours. Without effect once the header has been sent. Throws
    /// std::invalid_argument for a name or value that cannot stand in a header (a line break in it would
    /// split the response), a bad Content-Length, and for Transfer-Encoding, which is the server's business.
    response& header(std::string_view name, std::string_view value) {
        check(name, value);
        if (committed_) return *this;
        remove(name);
        return add(name, value);
    }
    /// Adds a field, also beside another of the same name: "Set-Cookie".
    response& add_header(std::string_view name, std::string_view value) {
        check(name, value);
        return committed_ ? *this : add(name, value);
    }

    /// Adds a field behind the body, which then is sent in chunks; announce it with header("Trailer", name).
    /// Until the handler returns. Dropped where it cannot be said: HTTP/1.0, HEAD, a length that was set.
    /// Throws std::invalid_argument for what header() refuses, and for names that may not stand there.
    response& trailer(std::string_view name, std::string_view value) {
        check(name, value);
        if (!detail::may_be_trailer(name)) throw std::invalid_argument("http: no name of a trailer field");
        ((((buffers_.trailers += name) += ": ") += value) += "\r\n");
        return *this;
    }

    /// Writes all of it, or fails: with the connection's error, errc::closed after hijack,
    /// std::errc::message_size beyond the Content-Length that was set, std::errc::operation_not_supported
    /// when the status has no body. What is written for HEAD is counted, not sent. May suspend.
    result<std::size_t> write(std::span<const std::byte> data) { return write(detail::as_text(data)); }
    result<std::size_t> write(std::string_view data) {
        if (hijacked_) return unexpected(make_error_code(errc::closed));
        if (!detail::status_has_body(status_)) return refuse(std::errc::operation_not_supported);
        if (length_ && data.size() > *length_ - written_) return refuse(std::errc::message_size);
        written_ += data.size();
        if (data.size() <= buffer_bytes - std::min(buffer_bytes, buffers_.body.size())) {
            buffers_.body.append(data);
            return data.size();
        }
        commit();
        if (const std::error_code e = emit(data)) return unexpected(e);
        return data.size();
    }

    /// Sends what has been written. May suspend.
    std::error_code flush() {
        if (hijacked_) return errc::closed;
        commit();
        if (const std::error_code e = emit({})) return e;
        return sent(wire_.send());
    }

    /// Until when the rest of this response must have been sent, in place of server_options::write_timeout; nullopt:
    /// for ever. For handlers that take long by their nature. Does not wait.
    void set_write_deadline(std::optional<time_point> when) {
        deadline_moved_ = true;
        wire_.below().set_write_deadline(when);
    }

    /// Takes the connection over: the server forgets it, and what was written to this response is dropped.
    /// Deadlines are cleared. Throws std::logic_error after a flush, and when called twice.
    hijacked hijack() {
        if (committed_ || hijacked_) throw std::logic_error("http: hijack after the response has begun");
        watch_.stop();
        (void)wire_.send(); // earlier responses
        hijacked_ = true;
        hijacked h = take_stream_(owner_);
        h.buffered = wire_.in().unread();
        wire_.in().consume(h.buffered.size());
        return h;
    }

    /// Whether the header has been sent, or will be and can no longer be changed.
    bool committed() const noexcept { return committed_; }
    /// What has been set so far.
    int status() const noexcept { return status_; }
    /// Bytes of the body so far.
    std::uint64_t written() const noexcept { return written_; }

  private:
    friend class detail::connection;
    static constexpr std::size_t buffer_bytes = 4096;
    static constexpr std::size_t copy_bytes = 16 << 10; // what is larger is sent from where it is

    using take_stream = hijacked (*)(detail::connection&);

    response(detail::wire& wire, detail::client_watch& watch, detail::date_cache& date,
             detail::response_buffers& buffers, const base::atomic<bool>& last_ones,
             const detail::request_head& head, body_reader* body, detail::connection& owner,
             take_stream take) noexcept
        : wire_(wire)
        , watch_(watch)
        , date_(date)
        , buffers_(buffers)
        , last_ones_(last_ones)
        , request_body_(body)
        , owner_(owner)
        , take_stream_(take)
        , head_only_(head.method == "HEAD")
        , to_connect_(head.method == "CONNECT")
        , keep_alive_(head.keep_alive)
        , minor_(head.minor) {
        buffers_.fields.clear();
        buffers_.body.clear();
        buffers_.trailers.clear();
    }

    static unexpected refuse(std::errc e) noexcept { return unexpected(std::make_error_code(e)); }
    static bool is(std::string_view name, std::string_view other) noexcept {
        return detail::equal_fold(name, other);
    }

    static void check(std::string_view name, std::string_view value) {
        if (!detail::is_token(name)) throw std::invalid_argument("http: bad name of a header field");
        if (!detail::is_field_value(value)) throw std::invalid_argument("http: bad value of a header field");
        if (is(name, "transfer-encoding"))
            throw std::invalid_argument("http: Transfer-Encoding cannot be set");
    }

    response& add(std::string_view name, std::string_view value) {
        if (is(name, "content-length")) {
            std::uint64_t n = 0;
            const auto [end, e] = std::from_chars(value.data(), value.data() + value.size(), n);
            if (e != std::errc{} || end != value.data() + value.size() || written_ > n)
                throw std::invalid_argument("http: bad Content-Length");
            length_ = n;
            return *this;
        }
        if (is(name, "connection")) {
            detail::for_each_element(
                value, [&](std::string_view o) { keep_alive_ = keep_alive_ && !is(o, "close"); });
            if (is(detail::trim(value), "close") || is(detail::trim(value), "keep-alive"))
                return *this; // we add it
        }
        own_date_ = own_date_ || is(name, "date");
        ((((buffers_.fields += name) += ": ") += value) += "\r\n");
        return *this;
    }

    void remove(std::string_view name) {
        std::string& f = buffers_.fields;
        for (std::size_t at = 0; at < f.size();) {
            const std::size_t end = f.find('\n', at) + 1;
            if (f.size() - at > name.size() && f[at + name.size()] == ':' &&
                is(std::string_view(f).substr(at, name.size()), name))
                f.erase(at, end - at);
            else
                at = end;
        }
    }

    /// The header, behind what waits to be sent. whole: the body ends with what is in the buffer.
    void commit(bool whole = false) {
        using namespace std::string_view_literals;
        if (committed_) return;
        committed_ = true;
        // Of a 304 it would be the length of what GET gives.
        if (whole && !length_ && status_ != 304 && !(head_only_ && written_ == 0)) length_ = written_;
        if (request_body_) {
            request_body_->response_begun_ = true;
            // A client that still waits for its 100 may send the body, or not.
            if (request_body_->continue_expected_ && !request_body_->ended_) keep_alive_ = false;
        }
        // Its client may take what is on the way for a tunnel.
        if (to_connect_) keep_alive_ = false;
        std::string& out = wire_.out();
        if (status_ == 200) {
            const std::string_view ok = date_.ok_and_line();
            out += own_date_ ? ok.substr(0, ok.find('\n') + 1) : ok;
        } else {
            out += "HTTP/1.1 "sv;
            detail::append_number(out, static_cast<std::uint64_t>(status_));
            ((out += ' ') += reason_phrase(status_)) += "\r\n"sv;
            if (!own_date_) out += date_.line();
        }
        out += buffers_.fields;
        if (status_ == 101) {
            keep_alive_ = false;
            out += "\r\n"sv;
            return;
        }
        if (to_connect_ && status_ < 300) {
            // What follows is the tunnel, whose end is its length (RFC 9110, 9.3.6).
        } else if (status_ == 304 || detail::status_has_body(status_)) {
            if (length_) {
                append_length(out);
            } else if (detail::status_has_body(status_) && !whole) {
                if (minor_ >= 1) {
                    chunked_ = !head_only_;
                    out += "Transfer-Encoding: chunked\r\n"sv;
                } else {
                    keep_alive_ = false;
                }
            }
        }
        if (last_ones_.load(std::memory_order_relaxed)) keep_alive_ = false;
        if (!keep_alive_)
            out += "Connection: close\r\n"sv;
        else if (minor_ == 0)
            out += "Connection: keep-alive\r\n"sv;
        out += "\r\n"sv;
    }
    void append_length(std::string& out) const {
        constexpr std::string_view name = "Content-Length: ";
        char line[name.size() + 20 + 2];
        std::copy(name.begin(), name.end(), line);
        char* end = std::to_chars(line + name.size(), line + sizeof line - 2, *length_).ptr;
        *end++ = '\r';
        *end++ = '\n';
        out.append(line, static_cast<std::size_t>(end - line));
    }

    /// What is in the buffer and then `data`, as one chunk if chunked. Large data is sent at once.
    std::error_code emit(std::string_view data) {
        std::string &out = wire_.out(), &body = buffers_.body;
        const std::size_t n = body.size() + data.size();
        if (n == 0) return wire_.broken();
        if (head_only_) {
            body.clear();
            return wire_.broken();
        }
        if (chunked_) {
            detail::append_number(out, n, 16);
            out += "\r\n";
        }
        const std::string_view end = chunked_ ? "\r\n" : "";
        std::error_code e;
        if (out.size() + n <= copy_bytes) {
            ((out += body) += data) += end;
        } else {
            e = sent(wire_.send({body, data, end}));
        }
        body.clear();
        return e;
    }

    /// The handler has returned.
    void finish() {
        commit(buffers_.trailers.empty() || minor_ == 0);
        (void)emit({});
        if (chunked_) ((wire_.out() += "0\r\n") += buffers_.trailers) += "\r\n";
        if (length_ && written_ != *length_ && !head_only_ && detail::status_has_body(status_))
            keep_alive_ = false;
    }

    std::error_code sent(std::error_code e) noexcept {
        if (e) watch_.gone();
        return e;
    }

    detail::wire& wire_;
    detail::client_watch& watch_;
    detail::date_cache& date_;
    detail::response_buffers& buffers_;
    const base::atomic<bool>& last_ones_; // the server is shutting down
    body_reader* const request_body_;     // null: of what is no request
    detail::connection& owner_;
    take_stream take_stream_;
    std::optional<std::uint64_t> length_;
    std::uint64_t written_ = 0;
    int status_ = 200;
    bool head_only_, to_connect_, keep_alive_;
    int minor_;
    bool committed_ = false, chunked_ = false, hijacked_ = false, deadline_moved_ = false, own_date_ = false;
};

} // namespace mpg::http
