// What the client needs for https: another room's TLS.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/http/link.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/tcp_stream.hpp>

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace mpg::http {

/// Turns a TCP connection into a secure one; <mpg/tls.hpp> has it: tls::for_http. Any strand may call it.
class secure_transport {
  public:
    virtual ~secure_transport() = default;
    /// To the server of that name (or address, without brackets). May suspend.
    virtual result<std::unique_ptr<detail::link>> secure(net::tcp_stream below, std::string_view host,
                                                         const context& ctx) const = 0;
};

namespace detail {

/// Makes a proxy connect the stream with "host:port" (RFC 9110, 9.3.6). std::errc::connection_refused: it
/// will not; bad_message: its answer is none.
inline std::error_code open_tunnel(net::tcp_stream& s, std::string_view address,
                                   std::string_view authorization, const context& ctx) {
    std::string text = "CONNECT ";
    ((text += address) += " HTTP/1.1\r\nHost: ") += address;
    if (!authorization.empty()) (text += "\r\nProxy-Authorization: ") += authorization;
    text += "\r\n\r\n";
    if (const auto n = s.write(std::as_bytes(std::span(text)), ctx); !n) return n.error();
    std::string answer;
    std::size_t end = answer.npos;
    while ((end = answer.find("\r\n\r\n")) == answer.npos) {
        std::byte piece[1024];
        const auto n = s.read(piece, ctx);
        if (!n) return n.error();
        if (*n == 0) return std::make_error_code(std::errc::connection_aborted);
        answer.append(reinterpret_cast<const char*>(piece), *n);
        if (answer.size() > (16 << 10)) return std::make_error_code(std::errc::message_size);
    }
    if (answer.compare(0, 7, "HTTP/1.") != 0 || answer.size() < 12 || answer[8] != ' ')
        return std::make_error_code(std::errc::bad_message);
    if (answer[9] != '2') return std::make_error_code(std::errc::connection_refused);
    // The server behind it waits for us to speak first.
    return end + 4 == answer.size() ? std::error_code{} : std::make_error_code(std::errc::bad_message);
}

} // namespace detail
} // namespace mpg::http
