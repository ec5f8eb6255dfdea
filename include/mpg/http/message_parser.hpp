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
#include <mpg/http/header_scanner.hpp>

#include <boost/beast/http/basic_parser.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::http::detail {

namespace beast_http = boost::beast::http;
using parse_error_code = boost::beast::error_code;

inline std::string_view std_view(boost::beast::string_view s) noexcept { return {s.data(), s.size()}; }

/// What the header of a message says, whichever it is. Views into the buffer that was parsed.
struct message_head {
    std::vector<header_field> fields; // in order; its memory is reused
    int minor = 1;                    // HTTP/1.minor
    bool keep_alive = false;          // what the sender wants
    bool chunked = false;
    std::optional<std::uint64_t> content_length;

    void reset() noexcept {
        fields.clear();
        minor = 1;
        keep_alive = chunked = false;
        content_length.reset();
    }
    /// The first of that name; null: there is none.
    const header_field* find(std::string_view name) const noexcept {
        for (const header_field& f : fields)
            if (equal_fold(f.name, name)) return &f;
        return nullptr;
    }
    std::string_view field(std::string_view name) const noexcept {
        const header_field* f = find(name);
        return f ? f->value : std::string_view();
    }
};

/// Takes the framing off a chunked body.
class chunk_decoder {
  public:
    struct decoded {
        std::size_t used = 0, produced = 0;
        int status = 0;
    };
    /// Decodes from raw into out. Returns how many raw bytes were used and how many came out; both 0: more
    /// raw bytes are needed. After done() nothing more may be fed. A status is an error: the body is bad
    /// (400) or too large (413).
    virtual decoded decode_chunked(std::string_view raw, std::span<std::byte> out) = 0;
    virtual bool done() const = 0;
    /// The fields behind the body, once it is done; without those that may not stand there.
    const std::vector<std::pair<std::string, std::string>>& trailers() const noexcept {
        return trailer_fields_;
    }

  protected:
    ~chunk_decoder() = default;

    std::vector<std::pair<std::string, std::string>> trailer_fields_;
};

/// What requests and responses have in common. Of a body only the chunked form is parsed here: the others
/// need no parser. Errors are statuses, also of responses.
template <bool IsRequest>
class message_parser : public chunk_decoder, protected beast_http::basic_parser<IsRequest> {
    using parser = beast_http::basic_parser<IsRequest>;

  public:
    decoded decode_chunked(std::string_view raw, std::span<std::byte> out) final {
        decoded d;
        out_ = out;
        while (!this->is_done() && !out_.empty()) {
            const std::string_view rest = raw.substr(d.used);
            if (rest.empty() || (!in_chunk_ && rest.size() < 5)) break;
            parse_error_code ec;
            d.used += feed(rest, ec);
            if (status_) d.status = status_;
            if (ec == beast_http::error::need_more) break;
            if (ec && !d.status) d.status = ec == beast_http::error::body_limit ? 413 : 400;
            if (d.status) break;
        }
        d.produced = out.size() - out_.size();
        return d;
    }
    bool done() const final { return this->is_done(); }

  protected:
    using string_view = boost::beast::string_view;

    /// max_body: 0 for no limit. header_bytes: what the header may have (the caller has checked it).
    message_parser(message_head& head, std::uint64_t max_body, std::size_t header_bytes)
        : head_(head) {
        this->body_limit(max_body ? boost::optional<std::uint64_t>(max_body) : boost::none);
        this->header_limit(static_cast<std::uint32_t>(std::min<std::size_t>(header_bytes, UINT32_MAX)));
    }
    ~message_parser() = default;

    std::size_t feed(std::string_view bytes, parse_error_code& ec) {
        buffer_ = bytes;
        return this->put(boost::asio::const_buffer(bytes.data(), bytes.size()), ec);
    }
    /// A whole header. 0, or a status.
    int feed_head(std::string_view bytes, parse_error_code& ec) {
        const std::size_t used = feed(bytes, ec);
        if (status_) return status_;
        if (ec == beast_http::error::header_limit) return 431;
        if (ec == beast_http::error::body_limit) return 413;
        if (ec || used != bytes.size() || !this->is_header_done()) return 400;
        return 0;
    }

    void fail(int status, parse_error_code& ec) {
        status_ = status;
        ec = beast_http::error::bad_value; // any: status_ goes first
    }

    /// Called for each field of the header, after it was added. 0, or a status.
    virtual int on_head_field(beast_http::field id, std::string_view value) = 0;

    /// The last checks of a header, on how its body is framed. 0, or a status.
    int finish_framing() {
        if (encodings_) {
            if (head_.minor == 0 || has_length_) return 400;
            if (!equal_fold(encoding_, "chunked")) return encoding_status();
        }
        head_.chunked = encodings_ != 0;
        if (const auto length = this->content_length()) head_.content_length = *length;
        head_.keep_alive = this->keep_alive();
        return 0;
    }

  private:
    void on_request_impl(beast_http::verb, string_view, string_view, int, parse_error_code&) override {}
    void on_response_impl(int, string_view, int, parse_error_code&) override {}
    void on_header_impl(parse_error_code&) final {}
    void on_body_init_impl(const boost::optional<std::uint64_t>&, parse_error_code&) final {}
    std::size_t on_body_impl(string_view, parse_error_code&) final { return 0; }
    void on_finish_impl(parse_error_code&) final {}

    void on_field_impl(beast_http::field id, string_view beast_name, string_view beast_value,
                       parse_error_code& ec) final {
        const std::string_view name = std_view(beast_name), value = std_view(beast_value);
        if (is_folded(name, value)) return fail(400, ec);
        if (trailers_) {
            if (may_be_trailer(name)) this->trailer_fields_.emplace_back(name, value);
            return;
        }
        if (id == beast_http::field::transfer_encoding) {
            if (encodings_++) return fail(400, ec);
            encoding_ = value;
        } else if (id == beast_http::field::content_length) {
            has_length_ = true;
        }
        head_.fields.push_back({name, value});
        if (const int status = on_head_field(id, value)) fail(status, ec);
    }
    void on_chunk_header_impl(std::uint64_t size, string_view extensions, parse_error_code& ec) final {
        if (!is_field_value(std_view(extensions))) return fail(400, ec);
        in_chunk_ = size > 0;
        trailers_ = size == 0;
    }
    std::size_t on_chunk_body_impl(std::uint64_t remain, string_view data, parse_error_code&) final {
        const std::size_t n = std::min(data.size(), out_.size());
        std::memcpy(out_.data(), data.data(), n);
        out_ = out_.subspan(n);
        if (remain == n) in_chunk_ = false;
        return n;
    }

    /// Beast unfolds a value into a buffer of its own, or steps over a line end in front of it.
    bool is_folded(std::string_view name, std::string_view value) const noexcept {
        const char* end = buffer_.data() + buffer_.size();
        const char* after_name = name.data() + name.size() + 1;
        const std::less<const char*> less;
        if (less(value.data(), after_name) || less(end, value.data() + value.size())) return true;
        for (const char* p = after_name; p != value.data(); ++p)
            if (*p != ' ' && *p != '\t') return true;
        return false;
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

    message_head& head_;
    std::string_view buffer_; // what is being parsed
    std::span<std::byte> out_;
    std::string_view encoding_;
    unsigned encodings_ = 0;
    int status_ = 0;
    bool has_length_ = false;
    bool in_chunk_ = false; // the parser waits for data, not for framing
    bool trailers_ = false;
};

} // namespace mpg::http::detail
