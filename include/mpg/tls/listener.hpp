// A socket that accepts connections with TLS.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/tcp_listener.hpp>
#include <mpg/tls/config.hpp>
#include <mpg/tls/stream.hpp>

#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::tls {

/// A net::tcp_listener, which see, whose connections are servers of TLS. accept() does not wait for the
/// handshake, which the first read or write makes: so a slow client holds nobody else up. Set a deadline
/// before.
class listener {
  public:
    listener() noexcept = default;
    listener(net::tcp_listener below, config c)
        : below_(std::move(below))
        , config_(std::move(c)) {}
    /// As net::tcp_listener::bind.
    static result<listener> bind(std::string_view address, config c, net::listen_options options = {}) {
        auto below = net::tcp_listener::bind(address, options);
        if (!below) return unexpected(below.error());
        return listener(std::move(*below), std::move(c));
    }

    result<stream> accept(const context& ctx = context::background()) {
        auto below = below_.accept(ctx);
        if (!below) return unexpected(below.error());
        return stream(std::move(*below), *config_);
    }

    net::endpoint local_endpoint() const noexcept { return below_.local_endpoint(); }
    void close() noexcept { below_.close(); }
    bool is_open() const noexcept { return below_.is_open(); }
    int native_handle() const noexcept { return below_.native_handle(); }
    std::error_code set_deadline(std::optional<time_point> when) noexcept {
        return below_.set_deadline(when);
    }
    std::error_code set_read_deadline(std::optional<time_point> when) noexcept {
        return below_.set_read_deadline(when);
    }

  private:
    net::tcp_listener below_;
    std::optional<config> config_;
};

} // namespace mpg::tls
