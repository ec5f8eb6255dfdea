// A configuration: made once, shared by any number of connections.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/io/result.hpp>
#include <mpg/tls/error.hpp>
#include <mpg/tls/handles.hpp>
#include <mpg/tls/options.hpp>
#include <mpg/tls/session_cache.hpp>
#include <mpg/tls/ticket_keys.hpp>

#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace mpg::tls {

namespace detail {

struct config_state {
    config_state(bool is_server, std::size_t sessions)
        : server(is_server)
        , kept(sessions) {}

    const bool server;
    ssl_ctx_ptr ctx;
    mutable session_cache kept;

    // Clients.
    std::string server_name;
    verification verify = verification::full;
    std::vector<certificate_source> certificates; // of a client: at most one
    // Servers.
    std::function<result<certificate>(const client_hello&)> choose;
    mutable ticket_keys tickets;

    std::string alpn; // each with its length before it
    std::function<std::error_code(const connection_state&)> check;
    std::function<void(std::string_view)> key_log;
    bool ktls = false;
    mutable base::atomic<bool> no_ktls{false}; // the system has not got it
};

/// As OpenSSL wants them. Fails for a name that is empty or longer than 255 bytes.
inline result<std::string> alpn_list(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& n : names) {
        if (n.empty() || n.size() > 255) return unexpected(std::make_error_code(std::errc::invalid_argument));
        list += static_cast<char>(static_cast<unsigned char>(n.size()));
        list += n;
    }
    return list;
}

} // namespace detail

/// Immutable; a handle: copies are the same. What it holds that changes is the sources of its certificates
/// and the sessions that can be resumed.
class config {
  public:
    /// Fails with OpenSSL's reason when something in the options is not understood. Reads the system's roots
    /// when no others are given: a file of some 200 KiB.
    static result<config> client(client_options options = {});
    static result<config> server(server_options options);

    bool is_server() const noexcept { return state_->server; }
    /// OpenSSL's object, to be looked at; it stays ours.
    SSL_CTX* native_handle() const noexcept { return state_->ctx.get(); }

    const std::shared_ptr<const detail::config_state>& state() const noexcept { return state_; }

  private:
    explicit config(std::shared_ptr<const detail::config_state> s) noexcept
        : state_(std::move(s)) {}
    /// What both sides have in common. Precondition: the error queue is empty.
    template <class Options> static std::error_code set_up(detail::config_state& to, Options& from);

    std::shared_ptr<const detail::config_state> state_;
};

template <class Options> std::error_code config::set_up(detail::config_state& to, Options& from) {
    SSL_CTX* const ctx = to.ctx.get();
    // What one write() sends stands in memory that is kept until it is sent; a retry may come from elsewhere.
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    if (SSL_CTX_set_min_proto_version(ctx, static_cast<int>(from.min_version)) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, static_cast<int>(from.max_version)) != 1)
        return detail::take_error();
    if (!from.ciphers.empty() && SSL_CTX_set_cipher_list(ctx, from.ciphers.c_str()) != 1)
        return detail::take_error();
    if (!from.suites.empty() && SSL_CTX_set_ciphersuites(ctx, from.suites.c_str()) != 1)
        return detail::take_error();
    auto alpn = detail::alpn_list(from.alpn);
    if (!alpn) return alpn.error();
    to.alpn = std::move(*alpn);
    to.check = std::move(from.check);
    to.key_log = std::move(from.key_log);
    to.ktls = from.ktls;
    return {};
}

} // namespace mpg::tls
