// What a server's or client's connection needs of the transport below it: the seam for TLS, and for tests.
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/io/descriptor.hpp>
#include <mpg/io/result.hpp>
#include <mpg/io/syscall.hpp>
#include <mpg/net/tcp.hpp>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include <sys/socket.h>
#include <sys/uio.h>

namespace mpg::http::detail {

/// As net::stream_socket, but virtual. One virtual call for each system call.
class link {
  public:
    virtual ~link() = default;
    virtual result<std::size_t> read(std::span<std::byte> buffer) = 0;
    virtual result<std::size_t> read(std::span<std::byte> buffer, const context& ctx) = 0;
    virtual result<std::size_t> writev(std::span<const ::iovec> pieces) = 0;
    virtual result<std::size_t> writev(std::span<const ::iovec> pieces, const context& ctx) = 0;
    virtual void set_read_deadline(std::optional<time_point> when) = 0;
    virtual void set_write_deadline(std::optional<time_point> when) = 0;
    /// Whether a read would find bytes right now (the end does not count). Does not wait.
    virtual bool has_input() noexcept = 0;
    /// Whether nothing has come, not even the end: what an idle connection of a client should say. Does not
    /// wait.
    virtual bool is_quiet() noexcept = 0;
    virtual void shutdown_write() noexcept = 0;
    /// Also from other strands, as set_read_deadline, but not concurrently with the destructor or release.
    virtual void close() noexcept = 0;
    virtual net::endpoint remote_endpoint() const = 0;
    virtual bool is_secure() const noexcept { return false; }
    virtual bool is_open() const noexcept { return true; }
    /// Gives the TCP connection away; empty where there is none.
    virtual net::tcp_stream release() = 0;
    /// The same where the connection is another one: what goes on in this one's place. Null for TCP.
    virtual std::unique_ptr<link> release_other() { return nullptr; }
};

class tcp_link final : public link {
  public:
    explicit tcp_link(net::tcp_stream stream) noexcept
        : stream_(std::move(stream)) {}

    result<std::size_t> read(std::span<std::byte> buffer) override { return stream_.read(buffer); }
    result<std::size_t> read(std::span<std::byte> buffer, const context& ctx) override {
        return stream_.read(buffer, ctx);
    }
    result<std::size_t> writev(std::span<const ::iovec> pieces) override {
        if (pieces.size() == 1) // send is a little cheaper than sendmsg
            return stream_.write({static_cast<const std::byte*>(pieces[0].iov_base), pieces[0].iov_len});
        return stream_.writev(pieces);
    }
    result<std::size_t> writev(std::span<const ::iovec> pieces, const context& ctx) override {
        return stream_.writev(pieces, ctx);
    }
    void set_read_deadline(std::optional<time_point> when) override { (void)stream_.set_read_deadline(when); }
    void set_write_deadline(std::optional<time_point> when) override {
        (void)stream_.set_write_deadline(when);
    }
    bool has_input() noexcept override { return peek() > 0; }
    bool is_quiet() noexcept override { return peek() == -EAGAIN; }
    void shutdown_write() noexcept override { (void)stream_.shutdown_write(); }
    void close() noexcept override { stream_.close(); }
    bool is_open() const noexcept override { return stream_.is_open(); }
    net::endpoint remote_endpoint() const override { return stream_.remote_endpoint(); }
    net::tcp_stream release() override { return std::move(stream_); }

  private:
    /// 1: bytes are there; 0: the end; else negative. While it looks the number is not closed, whoever calls close().
    io::outcome peek() noexcept {
        io::descriptor* const d = io::descriptor_access::of(stream_);
        if (!d) return 0;
        return d->use([](int fd) noexcept {
            char byte;
            return io::sys::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        });
    }

    net::tcp_stream stream_;
};

/// How a server gets at the connections of a listener: found by the stream's type.
inline std::unique_ptr<link> make_link(net::tcp_stream stream) {
    return std::make_unique<tcp_link>(std::move(stream));
}

} // namespace mpg::http::detail
