// One request of the client and its response, on one connection.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/http/body.hpp>
#include <mpg/http/link.hpp>
#include <mpg/http/response_parser.hpp>
#include <mpg/http/wire.hpp>
#include <mpg/io/result.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::http::detail {

class client_exchange final : body_events {
  public:
    client_exchange(std::unique_ptr<link> l, context ctx)
        : ctx_(std::move(ctx))
        , link_(std::move(l))
        , wire_(*link_) {}

    /// Sends a request and reads the response's header.
    std::error_code run(std::string_view head, std::string_view body, bool to_head, std::size_t max_header,
                        std::uint64_t max_body) {
        ::iovec pieces[2] = {{const_cast<char*>(head.data()), head.size()},
                             {const_cast<char*>(body.data()), body.size()}};
        const auto sent = link_->writev(std::span(pieces).first(body.empty() ? 1 : 2), ctx_);
        // A server may refuse a request before it has read all of it, and close: then its answer counts.
        const std::error_code e = read_head(to_head, max_header, max_body);
        if (!e && !sent) response_.keep_alive = false;
        return e && !sent ? sent.error() : e;
    }

    /// The same with a body that is read as it is sent; in chunks unless its length is known. Its first error
    /// is returned, as is errno's message_size when it is not as long as was said.
    template <class Source>
    std::error_code run_streaming(std::string_view head, Source& source, std::optional<std::uint64_t> length,
                                  std::size_t max_header, std::uint64_t max_body) {
        std::error_code sent = put({head});
        std::uint64_t total = 0;
        const auto buffer = std::make_unique_for_overwrite<std::byte[]>(piece_bytes);
        while (!sent) {
            const result<std::size_t> n = source(std::span<std::byte>(buffer.get(), piece_bytes));
            if (!n) return n.error();
            total += *n;
            if (length && (*n == 0 ? total != *length : total > *length))
                return std::make_error_code(std::errc::message_size);
            if (*n == 0) {
                if (!length) sent = put({"0\r\n\r\n"});
                break;
            }
            const std::string_view data(reinterpret_cast<const char*>(buffer.get()), *n);
            if (length) {
                sent = put({data});
                continue;
            }
            char size[20];
            const auto end = std::to_chars(size, size + sizeof size, *n, 16).ptr;
            sent = put({std::string_view(size, static_cast<std::size_t>(end - size)), "\r\n", data, "\r\n"});
        }
        const std::error_code e = read_head(false, max_header, max_body);
        if (!e && sent) response_.keep_alive = false;
        return e && sent ? sent : e;
    }

    const response_head& head() const noexcept { return response_; }
    body_reader& body() noexcept { return *body_; }
    /// The server has sent something.
    bool has_begun() const noexcept { return begun_; }
    /// A further request may go over this connection.
    bool is_reusable() const noexcept {
        return body_ && body_->ended() && !failed_ && response_.keep_alive && response_.status != 101 &&
               wire_.in().empty();
    }
    std::unique_ptr<link> take_link() noexcept { return std::move(link_); }

  private:
    static constexpr std::size_t piece_bytes = 32 << 10;

    std::error_code put(std::initializer_list<std::string_view> texts) {
        ::iovec pieces[4];
        std::size_t n = 0;
        for (std::string_view t : texts) pieces[n++] = {const_cast<char*>(t.data()), t.size()};
        const auto sent = link_->writev(std::span(pieces).first(n), ctx_);
        return sent ? std::error_code{} : sent.error();
    }
    std::error_code read_head(bool to_head, std::size_t max_header, std::uint64_t max_body) {
        input_buffer& in = wire_.in();
        header_scanner scanner;
        while (true) {
            const std::string_view bytes = in.unread();
            const auto found = scanner.scan(bytes);
            if (found == header_scanner::result::malformed)
                return std::make_error_code(std::errc::bad_message);
            if (found == header_scanner::result::incomplete) {
                if (bytes.size() > max_header) return std::make_error_code(std::errc::message_size);
                const auto got = link_->read(in.room(1024), ctx_);
                if (!got) return got.error();
                if (*got == 0) return std::make_error_code(std::errc::connection_aborted);
                begun_ = true;
                in.filled(*got);
                continue;
            }
            if (scanner.length() > max_header) return std::make_error_code(std::errc::message_size);
            parser_.emplace(response_, max_body, max_header, to_head);
            if (!parser_->parse_head(bytes.substr(0, scanner.length())))
                return std::make_error_code(std::errc::bad_message);
            in.consume(scanner.length());
            if (response_.status >= 200 || response_.status == 101) break;
            scanner = {}; // an interim response
        }
        in.pin();
        body_.reset(new body_reader(wire_, *parser_, response_, response_.has_body && !to_head, false,
                                    max_header, *this));
        body_->ctx_ = &ctx_;
        return {};
    }
    void body_ended() override {}
    void body_failed() noexcept override { failed_ = true; }

    const context ctx_;
    std::unique_ptr<link> link_;
    wire wire_;
    response_head response_;
    std::optional<response_parser> parser_;
    std::unique_ptr<body_reader> body_;
    bool begun_ = false, failed_ = false;
};

} // namespace mpg::http::detail
