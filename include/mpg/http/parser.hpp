// Parsing of HTTP/1 messages by Boost.Beast's basic_parser, without any of its (or Asio's) I/O.
//
// Beast is lenient in places where RFC 9112 lets a server be, and where a proxy in front may disagree with
// it. What it accepts and we do not: obsolete line folding; a Transfer-Encoding other than exactly "chunked",
// or in HTTP/1.0; several Host fields, or none in HTTP/1.1; control characters in chunk extensions. And it is
// given whole pieces only: a header when its empty line has come (then a result depends on the bytes, not on
// how they were cut into packets), a chunk's header when five bytes are there (Beast 1.81 asserts that for
// the last chunk).
#pragma once

#include <mpg/http/field.hpp>
#include <mpg/http/url.hpp>

#include <boost/beast/http/basic_parser.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::http::detail {

namespace beast_http = boost::beast::http;
using parse_error_code = boost::beast::error_code;

inline std::string_view std_view(boost::beast::string_view s) noexcept { return {s.data(), s.size()}; }

/// Looks for the end of a header, incrementally.
class header_scanner {
  public:
    enum class result { incomplete, complete, malformed };

    /// bytes: all that has come since the header's first byte (the same ones as before, and more).
    result scan(std::string_view bytes) noexcept {
        while (scanned_ < bytes.size()) {
            const void* found = std::memchr(bytes.data() + scanned_, '\n', bytes.size() - scanned_);
            if (!found) {
                scanned_ = bytes.size();
                break;
            }
            const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - bytes.data());
            if (at == 0 || bytes[at - 1] != '\r') return result::malformed; // a line must end with CRLF
            scanned_ = at + 1;
            ++lines_;
            if (at == line_ + 1 && lines_ > 1) return result::complete;
            line_ = at + 1;
        }
        return result::incomplete;
    }
    /// After complete: the header's length, its empty line included.
    std::size_t length() const noexcept { return scanned_; }
    /// Whole lines seen.
    std::size_t lines() const noexcept { return lines_; }

  private:
    std::size_t scanned_ = 0, line_ = 0, lines_ = 0;
};

/// What a request's header says. Views into the buffer that was parsed.
struct request_head {
    std::string_view method, target, host;
    std::vector<header_field> fields; // in order; its memory is reused
    int minor = 1;                    // HTTP/1.minor
    bool keep_alive = false;          // the client's wish
    bool chunked = false;
    bool expect_continue = false;
    std::optional<std::uint64_t> content_length;

    void reset() noexcept {
        method = target = host = {};
        fields.clear();
        minor = 1;
        keep_alive = chunked = expect_continue = false;
        content_length.reset();
    }
    /// The first of that name.
    std::string_view field(std::string_view name) const noexcept {
        for (const header_field& f : fields)
            if (equal_fold(f.name, name)) return f.value;
        return {};
    }
};

/// Parses one request: its head, then its chunked body if it has one. The length-delimited body needs no
/// parser.
class request_parser final : private beast_http::basic_parser<true> {
  public:
    /// max_body: 0 for no limit. header_bytes: what the header may have (the caller has checked it;
    /// trailers).
    request_parser(request_head& head, std::uint64_t max_body, std::size_t header_bytes)
        : head_(head) {
        head_.reset();
        body_limit(max_body ? boost::optional<std::uint64_t>(max_body) : boost::none);
        header_limit(static_cast<std::uint32_t>(std::min<std::size_t>(header_bytes, UINT32_MAX)));
    }

    /// bytes: a whole header. Returns 0, or the status to refuse the request with.
    int parse_head(std::string_view bytes) {
        buffer_ = bytes;
        parse_error_code ec;
        const std::size_t used = put(boost::asio::const_buffer(bytes.data(), bytes.size()), ec);
        if (status_) return status_;
        if (ec) return status_of(ec, bytes);
        if (used != bytes.size() || !is_header_done()) return 400;
        return finish_head();
    }

    /// Decodes a chunked body from raw into out. Returns how many raw bytes were used and how many came out;
    /// both 0: more raw bytes are needed. After done() nothing more may be fed. An error is a status: the
    /// body is bad (400) or too large (413).
    struct decoded {
        std::size_t used = 0, produced = 0;
        int status = 0;
    };
    decoded decode_chunked(std::string_view raw, std::span<std::byte> out) {
        decoded d;
        out_ = out;
        while (!is_done() && !out_.empty()) {
            const std::string_view rest = raw.substr(d.used);
            if (rest.empty() || (!in_chunk_ && rest.size() < 5)) break;
            buffer_ = rest;
            parse_error_code ec;
            const std::size_t used = put(boost::asio::const_buffer(rest.data(), rest.size()), ec);
            d.used += used;
            if (status_) d.status = status_;
            if (ec == beast_http::error::need_more) break;
            if (ec && !d.status) d.status = ec == beast_http::error::body_limit ? 413 : 400;
            if (d.status) break;
        }
        d.produced = out.size() - out_.size();
        return d;
    }
    bool done() const { return is_done(); }
    /// What waits in front of the parser is the framing of chunks (or trailers), not data.
    bool in_framing() const noexcept { return !in_chunk_; }

  private:
    using string_view = boost::beast::string_view;

    void fail(int status, parse_error_code& ec) {
        status_ = status;
        ec = beast_http::error::bad_value; // any: status_ goes first
    }

    void on_request_impl(beast_http::verb, string_view method, string_view target, int version,
                         parse_error_code&) override {
        head_.method = std_view(method);
        head_.target = std_view(target);
        head_.minor = version - 10;
    }
    void on_response_impl(int, string_view, int, parse_error_code&) override {}

    void on_field_impl(beast_http::field id, string_view beast_name, string_view beast_value,
                       parse_error_code& ec) override {
        const std::string_view name = std_view(beast_name), value = std_view(beast_value);
        if (is_folded(name, value)) return fail(400, ec);
        if (trailers_) return; // checked, and dropped: RFC 9110, 6.5.1
        switch (id) {
        case beast_http::field::host:
            if (has_host_ || !is_host(value)) return fail(400, ec);
            has_host_ = true;
            head_.host = value;
            break;
        case beast_http::field::transfer_encoding:
            if (encodings_++) return fail(400, ec);
            encoding_ = value;
            break;
        case beast_http::field::content_length:
            has_length_ = true;
            break;
        case beast_http::field::expect:
            if (equal_fold(value, "100-continue") && !head_.expect_continue)
                head_.expect_continue = true;
            else if (!value.empty() || head_.expect_continue)
                unknown_expectation_ = true;
            break;
        default:
            break;
        }
        head_.fields.push_back({name, value});
    }
    void on_header_impl(parse_error_code&) override {}
    void on_body_init_impl(const boost::optional<std::uint64_t>&, parse_error_code&) override {}
    std::size_t on_body_impl(string_view, parse_error_code&) override { return 0; }
    void on_chunk_header_impl(std::uint64_t size, string_view extensions, parse_error_code& ec) override {
        if (!is_field_value(std_view(extensions))) return fail(400, ec);
        in_chunk_ = size > 0;
        trailers_ = size == 0;
    }
    std::size_t on_chunk_body_impl(std::uint64_t remain, string_view data, parse_error_code&) override {
        const std::size_t n = std::min(data.size(), out_.size());
        std::memcpy(out_.data(), data.data(), n);
        out_ = out_.subspan(n);
        if (remain == n) in_chunk_ = false;
        return n;
    }
    void on_finish_impl(parse_error_code&) override {}

    /// Beast unfolds a value into a buffer of its own, or steps over a line end in front of it.
    bool is_folded(std::string_view name, std::string_view value) const noexcept {
        const char *begin = buffer_.data(), *end = begin + buffer_.size();
        const char* after_name = name.data() + name.size() + 1;
        const std::less<const char*> less;
        if (less(value.data(), after_name) || less(end, value.data() + value.size())) return true;
        for (const char* p = after_name; p != value.data(); ++p)
            if (*p != ' ' && *p != '\t') return true;
        return false;
    }

    int finish_head() {
        if (encodings_) {
            if (head_.minor == 0 || has_length_) return 400;
            if (!equal_fold(encoding_, "chunked")) return encoding_status();
        }
        if (head_.minor == 1 && !has_host_) return 400;
        if (head_.minor == 0) head_.expect_continue = unknown_expectation_ = false;
        if (unknown_expectation_) return 417;
        head_.chunked = encodings_ != 0;
        if (const auto length = content_length()) head_.content_length = *length;
        head_.keep_alive = keep_alive();
        return 0;
    }

    /// Of a Transfer-Encoding that is not just "chunked": 400 when the length of the body cannot be told (RFC
    /// 9112, 6.3) or chunked is there twice, else a coding that we do not have.
    int encoding_status() const {
        unsigned chunked_seen = 0;
        bool chunked_last = false, any = false;
        for_each_element(encoding_, [&](std::string_view coding) {
            any = true;
            chunked_last = equal_fold(coding, "chunked");
            chunked_seen += chunked_last;
        });
        return !any || chunked_seen > 1 || (chunked_seen == 1 && !chunked_last) ? 400 : 501;
    }

    static int status_of(const parse_error_code& ec, std::string_view bytes) {
        if (ec == beast_http::error::header_limit) return 431;
        if (ec == beast_http::error::body_limit) return 413;
        if (ec == beast_http::error::bad_version) {
            // Another version, or not a version at all?
            std::string_view version = bytes.substr(0, bytes.find('\r'));
            for (int blanks = 0; blanks < 2; ++blanks) version.remove_prefix(version.find(' ') + 1);
            auto digit = [](char c) { return c >= '0' && c <= '9'; };
            if (version.size() == 8 && version.substr(0, 5) == "HTTP/" && digit(version[5]) &&
                version[6] == '.' && digit(version[7]))
                return 505;
        }
        return 400;
    }

    request_head& head_;
    std::string_view buffer_; // what is being parsed
    std::span<std::byte> out_;
    std::string_view encoding_;
    unsigned encodings_ = 0;
    int status_ = 0;
    bool has_host_ = false, has_length_ = false, unknown_expectation_ = false;
    bool in_chunk_ = false, trailers_ = false;
};

} // namespace mpg::http::detail
