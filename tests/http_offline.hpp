// A connection of the HTTP server on a link that is a script, without a socket: for tests and fuzzing.
#pragma once

#include <mpg/http.hpp>
#include <mpg/mpg.hpp>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::test {

/// What came of a script.
struct outcome {
    std::string sent; // by the server
    unsigned writes = 0;
    bool closed_for_writing = false;
};

/// Reads return the pieces, then `end` (an error, or the end). Writes fail from the n-th on, if asked.
class script_link final : public http::detail::link {
  public:
    script_link(std::deque<std::string> pieces, outcome& out, std::error_code end = {},
                unsigned writes_that_work = ~0u)
        : pieces_(std::move(pieces))
        , out_(out)
        , end_(end)
        , writes_left_(writes_that_work) {}

    mpg::result<std::size_t> read(std::span<std::byte> buffer) override {
        while (!pieces_.empty() && pieces_.front().empty()) pieces_.pop_front();
        if (pieces_.empty()) {
            if (end_) return mpg::unexpected(end_);
            return std::size_t{0};
        }
        std::string& piece = pieces_.front();
        const std::size_t n = std::min(piece.size(), buffer.size());
        std::memcpy(buffer.data(), piece.data(), n);
        piece.erase(0, n);
        return n;
    }
    mpg::result<std::size_t> read(std::span<std::byte> buffer, const mpg::context&) override {
        return read(buffer);
    }
    mpg::result<std::size_t> writev(std::span<const ::iovec> pieces) override {
        if (writes_left_ == 0) return mpg::unexpected(std::make_error_code(std::errc::broken_pipe));
        --writes_left_;
        std::size_t n = 0;
        for (const ::iovec& p : pieces) {
            out_.sent.append(static_cast<const char*>(p.iov_base), p.iov_len);
            n += p.iov_len;
        }
        ++out_.writes;
        return n;
    }
    mpg::result<std::size_t> writev(std::span<const ::iovec> pieces, const mpg::context&) override {
        return writev(pieces);
    }
    void set_read_deadline(std::optional<mpg::time_point>) override {}
    void set_write_deadline(std::optional<mpg::time_point>) override {}
    bool has_input() noexcept override { return !pieces_.empty(); }
    bool is_quiet() noexcept override { return pieces_.empty(); }
    void shutdown_write() noexcept override { out_.closed_for_writing = true; }
    void close() noexcept override {}
    mpg::net::endpoint remote_endpoint() const override { return {}; }
    mpg::net::tcp_stream release() override { return {}; }

  private:
    std::deque<std::string> pieces_;
    outcome& out_;
    std::error_code end_;
    unsigned writes_left_;
};

/// A server without a socket. Its connections run on the test's thread; the runtime serves their timers.
struct offline {
    mpg::runtime runtime{{.procs = 1}};
    http::detail::core core;
    int thrown = 0;
    explicit offline(http::server_options o = {})
        : core(o) {
        core.on_exception = [this](const http::request&, std::exception_ptr) { ++thrown; };
    }

    template <class F> void handle(std::string_view pattern, F f) {
        core.table.add(pattern, std::make_unique<http::detail::handler<F>>(std::move(f)));
    }
    outcome talk(std::deque<std::string> pieces, std::error_code end = {}, unsigned writes_that_work = ~0u) {
        outcome out;
        auto c = std::make_unique<http::detail::connection>(
            core, std::make_unique<script_link>(std::move(pieces), out, end, writes_that_work));
        if (core.connections.add(*c)) c->run();
        return out;
    }
};

/// Removes the Date fields, which change.
inline std::string dateless(std::string s) {
    for (std::size_t at; (at = s.find("Date: ")) != std::string::npos;)
        s.erase(at, s.find('\n', at) + 1 - at);
    return s;
}

} // namespace mpg::test
