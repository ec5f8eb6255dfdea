// A client for the tests of the HTTP server: sends bytes as given, reads one response at a time.
#pragma once

#include "io_support.hpp"

#include <mpg/http.hpp>
#include <mpg/mpg.hpp>

#include <cctype>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mpg::test {

struct reply {
    int status = 0; // 0: the connection ended before a whole response came
    std::string head, body;

    /// A field's value, "" for none.
    std::string field(std::string_view name) const {
        for (std::size_t at = head.find("\r\n"); at != std::string::npos; at = head.find("\r\n", at + 2)) {
            const std::string_view line = std::string_view(head).substr(at + 2);
            if (line.size() > name.size() && line[name.size()] == ':' &&
                http::detail::equal_fold(line.substr(0, name.size()), name))
                return std::string(
                    http::detail::trim(line.substr(name.size() + 1, line.find('\r') - name.size() - 1)));
        }
        return "";
    }
};

class http_peer {
  public:
    explicit http_peer(const net::endpoint& server) {
        auto s = net::tcp_stream::connect(server);
        if (!s) return;
        stream_ = std::move(*s);
        watch();
    }
    bool connected() const { return stream_.is_open(); }
    bool send(std::string_view text) { return stream_.write(bytes(text)).has_value(); }
    void close() { stream_.close(); }
    net::tcp_stream& stream() { return stream_; }

    reply read(bool to_head = false) {
        reply r;
        while (!find_head(r))
            if (!more()) return r;
        const int status = std::stoi(r.head.substr(9, 3));
        if (to_head || status < 200 || status == 204 || status == 304) {
            r.status = status;
        } else if (const std::string n = r.field("Content-Length"); !n.empty()) {
            if (take(r.body, std::stoul(n))) r.status = status;
        } else if (r.field("Transfer-Encoding") == "chunked") {
            if (read_chunks(r.body)) r.status = status;
        } else {
            while (more()) {
            }
            r.body = std::exchange(buffer_, "");
            r.status = status;
        }
        return r;
    }
    reply get(std::string_view path, std::string_view fields = "") {
        std::string text = "GET ";
        ((text += path) += " HTTP/1.1\r\nHost: test\r\n") += fields;
        watch();
        return send(text += "\r\n") ? read() : reply{};
    }
    /// Whether the server closes now, without a further byte.
    bool ends() { return buffer_.empty() && !more(); }

  private:
    /// So that a test whose server does not answer fails.
    void watch() { (void)stream_.set_read_deadline(clock::now() + std::chrono::seconds(60)); }
    bool more() {
        std::byte piece[16 << 10];
        const auto n = stream_.read(piece);
        if (!n || *n == 0) return false;
        buffer_ += text(std::span(piece).first(*n));
        return true;
    }
    bool find_head(reply& r) {
        const std::size_t end = buffer_.find("\r\n\r\n");
        if (end == std::string::npos) return false;
        r.head = buffer_.substr(0, end + 2);
        buffer_.erase(0, end + 4);
        return true;
    }
    bool take(std::string& into, std::size_t n) {
        while (buffer_.size() < n)
            if (!more()) return false;
        into.append(buffer_, 0, n);
        buffer_.erase(0, n);
        return true;
    }
    bool read_chunks(std::string& into) {
        while (true) {
            std::size_t end;
            while ((end = buffer_.find("\r\n")) == std::string::npos)
                if (!more()) return false;
            const std::size_t n = std::stoul(buffer_.substr(0, end), nullptr, 16);
            buffer_.erase(0, end + 2);
            std::string crlf;
            if (!take(into, n) || !take(crlf, 2)) return false;
            if (n == 0) return true;
        }
    }

    net::tcp_stream stream_;
    std::string buffer_;
};

/// A server on a port of its own, with the task that serves.
class live_server {
  public:
    explicit live_server(http::server_options o = {})
        : listener_(listen_local())
        , address_(listener_.local_endpoint())
        , server_(o) {}
    http::server* operator->() { return &server_; }
    void start() {
        serving_ = spawn([this] { return server_.serve(listener_); });
    }
    http_peer connect() { return http_peer(address_); }
    const net::endpoint& address() const { return address_; }
    /// What serve() returned.
    std::error_code served() { return serving_.join(); }

  private:
    net::tcp_listener listener_; // outlives the server, which uses it
    net::endpoint address_;
    http::server server_;
    task<std::error_code> serving_;
};

} // namespace mpg::test
