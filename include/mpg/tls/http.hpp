// HTTPS: <mpg/http.hpp>'s server and client over TLS.
#pragma once

#include <mpg/http/link.hpp>
#include <mpg/http/secure.hpp>
#include <mpg/tls/config.hpp>
#include <mpg/tls/stream.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace mpg::tls {

namespace detail {

class http_link final : public http::detail::link {
  public:
    explicit http_link(stream s) noexcept
        : stream_(std::move(s)) {}

    result<std::size_t> read(std::span<std::byte> to) override { return stream_.read(to); }
    result<std::size_t> read(std::span<std::byte> to, const context& ctx) override {
        return stream_.read(to, ctx);
    }
    result<std::size_t> writev(std::span<const ::iovec> pieces) override { return stream_.writev(pieces); }
    result<std::size_t> writev(std::span<const ::iovec> pieces, const context& ctx) override {
        return stream_.writev(pieces, ctx);
    }
    void set_read_deadline(std::optional<time_point> when) override { (void)stream_.set_read_deadline(when); }
    void set_write_deadline(std::optional<time_point> when) override {
        (void)stream_.set_write_deadline(when);
    }
    bool has_input() noexcept override { return peek() == transport::coming::bytes; }
    bool is_quiet() noexcept override { return peek() == transport::coming::nothing; }
    void shutdown_write() noexcept override {
        if (connection* c = stream_access::of(stream_)) {
            c->close_write_now();
            c->below().shutdown_write();
        }
    }
    void close() noexcept override { stream_.close(); }
    bool is_secure() const noexcept override { return true; }
    bool is_open() const noexcept override { return stream_.is_open(); }
    const connection_state* state() const noexcept { return stream_.state(); }
    net::endpoint remote_endpoint() const override { return stream_.remote_endpoint(); }
    net::tcp_stream release() override { return {}; }
    std::unique_ptr<link> release_other() override { return std::make_unique<http_link>(std::move(stream_)); }

  private:
    transport::coming peek() noexcept {
        connection* c = stream_access::of(stream_);
        return c ? c->peek() : transport::coming::end;
    }
    stream stream_;
};

class http_transport final : public http::secure_transport {
  public:
    explicit http_transport(config c) noexcept
        : config_(std::move(c)) {}
    result<std::unique_ptr<http::detail::link>> secure(net::tcp_stream below, std::string_view host,
                                                       const context& ctx) const override {
        stream s(std::move(below), config_, config_.state()->server_name.empty() ? host : std::string_view());
        if (const std::error_code e = s.handshake(ctx)) return unexpected(e);
        return std::make_unique<http_link>(std::move(s));
    }

  private:
    const config config_;
};

} // namespace detail

/// For http::client_options::tls. What the configuration says of ALPN should be nothing or "http/1.1".
inline std::shared_ptr<const http::secure_transport> for_http(config c) {
    return std::make_shared<detail::http_transport>(std::move(c));
}

/// What was agreed on with the client of an http::request; null when it came without TLS. Valid as long as
/// the request.
template <class Request> const connection_state* state_of(const Request& r) noexcept {
    const auto* l = dynamic_cast<const detail::http_link*>(&r.transport());
    return l ? l->state() : nullptr;
}

/// For http::server::serve.
inline std::unique_ptr<http::detail::link> make_link(stream s) {
    return std::make_unique<detail::http_link>(std::move(s));
}

} // namespace mpg::tls
