// Parsing of requests.
#pragma once

#include <mpg/http/message_parser.hpp>
#include <mpg/http/url.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mpg::http::detail {

/// What a request's header says.
struct request_head : message_head {
    std::string_view method, target, host;
    bool expect_continue = false;

    void reset() noexcept {
        message_head::reset();
        method = target = host = {};
        expect_continue = false;
    }
};

/// Parses one request: its head, then its chunked body if it has one.
class request_parser final : public message_parser<true> {
  public:
    /// See message_parser.
    request_parser(request_head& head, std::uint64_t max_body, std::size_t header_bytes)
        : message_parser(head, max_body, header_bytes)
        , head_(head) {
        head_.reset();
    }

    /// bytes: a whole header. Returns 0, or the status to refuse the request with.
    int parse_head(std::string_view bytes) {
        parse_error_code ec;
        if (const int status = feed_head(bytes, ec))
            return ec == beast_http::error::bad_version && is_other_version(bytes) ? 505 : status;
        if (const int status = finish_framing()) return status;
        if (head_.minor == 1 && !has_host_) return 400;
        if (head_.minor == 0) head_.expect_continue = unknown_expectation_ = false;
        return unknown_expectation_ ? 417 : 0;
    }

  private:
    void on_request_impl(beast_http::verb, string_view method, string_view target, int version,
                         parse_error_code&) override {
        head_.method = std_view(method);
        head_.target = std_view(target);
        head_.minor = version - 10;
    }

    int on_head_field(beast_http::field id, std::string_view value) override {
        if (id == beast_http::field::host) {
            if (has_host_ || !is_host(value)) return 400;
            has_host_ = true;
            head_.host = value;
        } else if (id == beast_http::field::expect) {
            if (equal_fold(value, "100-continue") && !head_.expect_continue)
                head_.expect_continue = true;
            else
                unknown_expectation_ = true;
        }
        return 0;
    }

    /// Whether a request line ends with an HTTP version, which then is one that we do not speak.
    static bool is_other_version(std::string_view bytes) noexcept {
        const std::size_t end = bytes.find('\r');
        if (bytes.substr(end, 2) != "\r\n") return false; // end: a header has one
        std::string_view version = bytes.substr(0, end);
        for (int blanks = 0; blanks < 2; ++blanks) version.remove_prefix(version.find(' ') + 1);
        auto digit = [](char c) { return c >= '0' && c <= '9'; };
        return version.size() == 8 && version.substr(0, 5) == "HTTP/" && digit(version[5]) && version[6] == '.' &&
               digit(version[7]) && version != "HTTP/1.0" && version != "HTTP/1.1";
    }

    request_head& head_;
    bool has_host_ = false, unknown_expectation_ = false;
};

} // namespace mpg::http::detail
