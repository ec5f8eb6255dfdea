// The stream below TLS, of any type.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/cancel/context.hpp>
#include <mpg/io/result.hpp>
#include <mpg/io/syscall.hpp>
#include <mpg/io/turn.hpp>
#include <mpg/net/endpoint.hpp>
#include <mpg/net/stream_socket.hpp>
#include <mpg/net/tcp.hpp>
#include <mpg/tls/kernel_tls.hpp>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

namespace mpg::tls {

/// What TLS can stand on: sockets, another TLS stream, whatever reads and writes as they do.
template <class S>
concept byte_stream = std::move_constructible<S> &&
    requires(S& s, std::span<std::byte> to, std::span<const std::byte> from, const context& ctx,
             std::optional<time_point> when) {
    { s.read(to, ctx) } -> std::same_as<result<std::size_t>>;
    { s.write_some(from, ctx) } -> std::same_as<result<std::size_t>>;
    s.set_read_deadline(when);
    s.set_write_deadline(when);
    s.close();
};

namespace detail {

class transport {
  public:
    virtual ~transport() = default;
    virtual result<std::size_t> read(std::span<std::byte> to, const context& ctx) = 0;
    virtual result<std::size_t> write_some(std::span<const std::byte> from, const context& ctx) = 0;
    virtual std::error_code set_read_deadline(std::optional<time_point> when) noexcept = 0;
    virtual std::error_code set_write_deadline(std::optional<time_point> when) noexcept = 0;
    virtual void close() noexcept = 0;
    virtual void shutdown_write() noexcept = 0;
    /// Lets the kernel encrypt what is written from now on. no_kernel_tls: it never does.
    virtual io::outcome encrypt_by(const kernel_keys& keys) noexcept = 0;
    static constexpr io::outcome no_kernel_tls = -ENOENT;
    /// An alert, where the kernel encrypts. Takes the two bytes or fails.
    virtual std::error_code write_alert(std::span<const std::byte> alert, const context& ctx) = 0;
    /// Where the kernel encrypts: for copy.
    virtual io::descriptor* descriptor() noexcept = 0;
    virtual bool try_alert(std::span<const std::byte> alert) noexcept = 0;
    /// How much could be written without waiting.
    virtual std::size_t try_write(std::span<const std::byte> from) noexcept = 0;
    /// Throws away what has come and is not read. Does not wait.
    virtual void discard_input() noexcept = 0;
    enum class coming { nothing, bytes, end };
    /// What a read would find right now. Does not wait.
    virtual coming peek() noexcept = 0;
    virtual net::endpoint local_endpoint() const = 0;
    virtual net::endpoint remote_endpoint() const = 0;
    virtual int native_handle() const noexcept = 0;
};

template <class S> class transport_over final : public transport {
  public:
    explicit transport_over(S s)
        : stream_(std::move(s)) {}

    result<std::size_t> read(std::span<std::byte> to, const context& ctx) override {
        return stream_.read(to, ctx);
    }
    result<std::size_t> write_some(std::span<const std::byte> from, const context& ctx) override {
        return stream_.write_some(from, ctx);
    }
    std::error_code set_read_deadline(std::optional<time_point> when) noexcept override {
        return stream_.set_read_deadline(when);
    }
    std::error_code set_write_deadline(std::optional<time_point> when) noexcept override {
        return stream_.set_write_deadline(when);
    }
    void close() noexcept override { stream_.close(); }
    void shutdown_write() noexcept override {
        if constexpr (is_socket) (void)stream_.shutdown_write();
    }
    std::size_t try_write(std::span<const std::byte> from) noexcept override {
        if constexpr (is_socket) {
            const io::outcome n = use([&](int fd) noexcept {
                return io::sys::send(fd, from.data(), from.size(), MSG_DONTWAIT);
            });
            return n < 0 ? 0 : static_cast<std::size_t>(n);
        }
        return 0;
    }
    io::outcome encrypt_by(const kernel_keys& keys) noexcept override {
        if constexpr (is_tcp) {
            if (descriptor())
                return use([&](int fd) noexcept {
                    const io::outcome e = io::sys::set_tls(fd);
                    return e < 0 ? e : io::sys::set_tls_keys(fd, keys.data(), keys.size());
                });
        }
        return -EOPNOTSUPP;
    }
    std::error_code write_alert(std::span<const std::byte> alert, const context& ctx) override {
        io::descriptor* const d = descriptor();
        if (!d) return mpg::errc::closed;
        io::turn t(*d, io::direction::write, sched::wait_reason::io_write, sched::source_of(ctx));
        io::outcome e = t.begin();
        while (e >= 0) {
            t.worth_a_try();
            e = io::sys::send_alert(t.fd(), alert);
            if (e != io::try_again) break;
            t.used_up(true);
            if ((e = t.wait(io::op_code::ready)) == io::try_again) e = 0;
        }
        return e < 0 ? io::error_of(e) : std::error_code{};
    }
    bool try_alert(std::span<const std::byte> alert) noexcept override {
        if constexpr (is_socket)
            return use([&](int fd) noexcept { return io::sys::send_alert(fd, alert); }) >= 0;
        return false;
    }
    io::descriptor* descriptor() noexcept override {
        if constexpr (is_socket) return io::descriptor_access::of(stream_);
        return nullptr;
    }
    void discard_input() noexcept override {
        if constexpr (is_socket) {
            std::byte piece[512];
            for (std::size_t total = 0; total < most_discarded;) {
                const io::outcome n = use([&](int fd) noexcept {
                    return io::sys::recv(fd, piece, sizeof piece, MSG_DONTWAIT);
                });
                if (n <= 0) return;
                total += static_cast<std::size_t>(n);
            }
        }
    }
    coming peek() noexcept override {
        if constexpr (is_socket) {
            char byte;
            const io::outcome n = use([&](int fd) noexcept {
                return io::sys::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
            });
            if (n == -EAGAIN) return coming::nothing;
            return n > 0 ? coming::bytes : coming::end;
        }
        return coming::nothing;
    }
    net::endpoint local_endpoint() const override {
        if constexpr (requires { stream_.local_endpoint(); }) return stream_.local_endpoint();
        return {};
    }
    net::endpoint remote_endpoint() const override {
        if constexpr (requires { stream_.remote_endpoint(); }) return stream_.remote_endpoint();
        return {};
    }
    int native_handle() const noexcept override {
        if constexpr (requires { stream_.native_handle(); }) return stream_.native_handle();
        return -1;
    }

  private:
    static constexpr std::size_t most_discarded = 16 << 10;
    static constexpr bool is_tcp = std::derived_from<S, net::tcp_stream>;
    static constexpr bool is_socket = std::derived_from<S, net::stream_socket>;

    /// Calls f with the number, which is not closed meanwhile, whoever calls close(). f must not wait.
    template <class F> io::outcome use(F f) noexcept {
        io::descriptor* const d = descriptor();
        return d ? d->use(f) : io::outcome_of(mpg::errc::closed);
    }
    S stream_;
};

} // namespace detail
} // namespace mpg::tls
