// One request of the client and its response, on one connection.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/http/body.hpp>
#include <mpg/http/link.hpp>
#include <mpg/http/response_parser.hpp>
#include <mpg/http/wire.hpp>
#include <mpg/io/result.hpp>
#include <mpg/sched/wait.hpp>
#include <mpg/sync/wait_group.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::http::detail {

/// What is expected of a response.
struct response_limits {
    std::size_t header;
    std::uint64_t body; // 0: no limit
    bool to_head;       // it answers HEAD, and so has no body
};

class client_exchange final : body_events {
  public:
    client_exchange(std::unique_ptr<link> l, context ctx)
        : ctx_(std::move(ctx))
        , link_(std::move(l))
        , wire_(*link_) {}

    /// Sends a request and reads the response's header.
    std::error_code run(std::string_view head, std::string_view body, const response_limits& limits) {
        if (body.size() > most_sent_blindly) {
            early_answer answer(*this, limits);
            return answer.after(put({head, body}, answer.while_wanted()));
        }
        const std::error_code sent = put({head, body}, ctx_);
        return settle(sent, read_head(limits, ctx_));
    }

    /// The same with a body that is read as it is sent; in chunks unless its length is known. Its first error
    /// is returned, as is errno's message_size when it is not as long as was said.
    template <class Source>
    std::error_code run_streaming(std::string_view head, Source& source, std::optional<std::uint64_t> length,
                                  const response_limits& limits) {
        early_answer answer(*this, limits);
        const context& ctx = answer.while_wanted();
        std::error_code sent = put({head}, ctx);
        std::uint64_t total = 0;
        const auto buffer = std::make_unique_for_overwrite<std::byte[]>(piece_bytes);
        while (!sent) {
            const result<std::size_t> n = source(std::span<std::byte>(buffer.get(), piece_bytes));
            if (!n) return n.error();
            total += *n;
            if (length && (*n == 0 ? total != *length : total > *length))
                return std::make_error_code(std::errc::message_size);
            if (*n == 0) {
                if (!length) sent = put({"0\r\n\r\n"}, ctx);
                break;
            }
            const std::string_view data(reinterpret_cast<const char*>(buffer.get()), *n);
            if (length) {
                sent = put({data}, ctx);
                continue;
            }
            char size[20];
            const auto end = std::to_chars(size, size + sizeof size, *n, 16).ptr;
            sent = put({std::string_view(size, static_cast<std::size_t>(end - size)), "\r\n", data, "\r\n"}, ctx);
        }
        return answer.after(sent);
    }

    /// The request has said that it is the last one.
    void no_more() noexcept { last_ = true; }
    const response_head& head() const noexcept { return response_; }
    body_reader& body() noexcept { return *body_; }
    /// The server has sent something.
    bool has_begun() const noexcept { return begun_; }
    /// A further request may go over this connection.
    bool is_reusable() const noexcept {
        return body_ && body_->ended() && !failed_ && !last_ && response_.keep_alive &&
               response_.status != 101 && wire_.in().empty();
    }
    std::unique_ptr<link> take_link() noexcept { return std::move(link_); }

  private:
    static constexpr std::size_t piece_bytes = 32 << 10;
    static constexpr std::size_t most_sent_blindly = 32 << 10; // the system's buffers take that

    /// Reads the response's header in a task of its own while the request is sent: a server may refuse a
    /// request before it has read all of it, and not read on (RFC 9112, 9.5).
    class early_answer {
      public:
        early_answer(client_exchange& of, const response_limits& limits)
            : of_(of)
            , sending_(with_cancel(of.ctx_))
            , reading_(with_cancel(of.ctx_)) {
            try {
                reader_.go([this, limits] {
                    error_ = of_.read_head(limits, reading_);
                    if (!error_ && of_.response_.status < 300) return;
                    unwanted_ = true;
                    sending_.cancel();
                });
            } catch (const std::logic_error&) { // a plain thread, and no runtime to run tasks
                read_later_ = &limits;
            }
        }
        early_answer(const early_answer&) = delete;
        early_answer& operator=(const early_answer&) = delete;
        ~early_answer() {
            sched::no_unwind whatever_happens; // the task uses this object
            reading_.cancel();
            reader_.wait();
        }

        /// Done when nothing more needs to be sent.
        const context& while_wanted() const noexcept { return sending_; }
        /// Waits for the header, and says how the whole went. sent: how the sending did.
        std::error_code after(std::error_code sent) {
            reader_.wait();
            if (read_later_) error_ = of_.read_head(*read_later_, of_.ctx_);
            // What made us stop was not the sending.
            if (unwanted_ && error_) return error_;
            return of_.settle(sent, error_);
        }

      private:
        client_exchange& of_;
        const response_limits* read_later_ = nullptr; // the caller's
        cancel_context sending_, reading_;
        std::error_code error_; // the task's own until it has ended, as the next one
        bool unwanted_ = false;
        wait_group reader_;
    };

    /// When a request was not sent to its end, its response counts nevertheless.
    std::error_code settle(std::error_code sent, std::error_code read) noexcept {
        if (!read && sent) response_.keep_alive = false;
        return read && sent ? sent : read;
    }
    std::error_code put(std::initializer_list<std::string_view> texts, const context& ctx) {
        ::iovec pieces[4];
        std::size_t n = 0;
        for (std::string_view t : texts)
            if (!t.empty()) pieces[n++] = {const_cast<char*>(t.data()), t.size()};
        const auto sent = link_->writev(std::span(pieces).first(n), ctx);
        return sent ? std::error_code{} : sent.error();
    }
    std::error_code read_head(const response_limits& limits, const context& ctx) {
        std::size_t left = limits.header; // for interim responses, too: else they might never end
        input_buffer& in = wire_.in();
        header_scanner scanner;
        while (true) {
            const std::string_view bytes = in.unread();
            const auto found = scanner.scan(bytes);
            if (found == header_scanner::result::malformed)
                return std::make_error_code(std::errc::bad_message);
            if (found == header_scanner::result::incomplete) {
                if (bytes.size() > left) return std::make_error_code(std::errc::message_size);
                const auto got = link_->read(in.room(1024), ctx);
                if (!got) return got.error();
                if (*got == 0) return std::make_error_code(std::errc::connection_aborted);
                begun_ = true;
                in.filled(*got);
                continue;
            }
            if (scanner.length() > left) return std::make_error_code(std::errc::message_size);
            left -= scanner.length();
            parser_.emplace(response_, limits.body, limits.header, limits.to_head);
            if (!parser_->parse_head(bytes.substr(0, scanner.length())))
                return std::make_error_code(std::errc::bad_message);
            in.consume(scanner.length());
            if (response_.status >= 200 || response_.status == 101) break;
            scanner = {}; // an interim response
        }
        in.pin();
        body_.reset(new body_reader(wire_, *parser_, response_, response_.has_body && !limits.to_head, false,
                                    limits.header, *this, limits.body));
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
    bool begun_ = false, failed_ = false, last_ = false;
};

} // namespace mpg::http::detail
