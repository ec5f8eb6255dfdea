// Parsing of responses.
#pragma once

#include <mpg/http/message_parser.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mpg::http::detail {

/// What a response's header says.
struct response_head : message_head {
    std::string_view reason;
    int status = 0;
    bool has_body =
        false; // of the length given by content_length or chunked, or else up to the end of the connection

    void reset() noexcept {
        message_head::reset();
        reason = {};
        status = 0;
        has_body = false;
    }
};

/// Parses one response: its head, then its chunked body if it has one.
class response_parser final : public message_parser<false> {
  public:
    /// to_head: it answers HEAD, and so has no body. See message_parser.
    response_parser(response_head& head, std::uint64_t max_body, std::size_t header_bytes, bool to_head)
        : message_parser(head, max_body, header_bytes)
        , head_(head) {
        head_.reset();
        if (to_head) skip(true);
    }

    /// bytes: a whole header. False: it is malformed, or announces a body beyond the limit.
    bool parse_head(std::string_view bytes) {
        parse_error_code ec;
        if (feed_head(bytes, ec) || finish_framing() || head_.status < 100) return false;
        head_.has_body = !is_done();
        if (head_.has_body && !head_.chunked && !head_.content_length) head_.keep_alive = false;
        return true;
    }

  private:
    void on_response_impl(int status, string_view reason, int version, parse_error_code&) override {
        head_.status = status;
        head_.reason = std_view(reason);
        head_.minor = version - 10;
    }
    int on_head_field(beast_http::field, std::string_view) override { return 0; }

    response_head& head_;
};

} // namespace mpg::http::detail
