// What a request carries from process to process so that its spans form one trace: ids and the decision whether to
// record it. The model is that of OpenTelemetry's SpanContext; W3C Trace Context and B3 are ways to write it down
// (trace_formats.hpp).
#pragma once

#include <mpg/cancel/context.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mpg {

namespace cancel::detail {

/// An id of N bytes, written as 2 N hexadecimal digits in lower case; all zeros means none.
template <std::size_t N> struct hex_id {
    std::array<std::uint8_t, N> bytes{};

    static constexpr std::size_t digits = 2 * N;

    /// Exactly 2 N digits, lower case, not all zero.
    static constexpr std::optional<hex_id> parse(std::string_view text) noexcept {
        if (text.size() != digits) return std::nullopt;
        hex_id id;
        for (std::size_t i = 0; i < N; ++i) {
            const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
            if (high < 0 || low < 0) return std::nullopt;
            id.bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
        }
        if (!id.valid()) return std::nullopt;
        return id;
    }
    constexpr bool valid() const noexcept { return *this != hex_id{}; }
    void append_to(std::string& out) const {
        for (std::uint8_t b : bytes) {
            out += "0123456789abcdef"[b >> 4];
            out += "0123456789abcdef"[b & 15];
        }
    }
    std::string to_string() const {
        std::string s;
        append_to(s);
        return s;
    }
    friend constexpr auto operator<=>(const hex_id&, const hex_id&) = default;

    /// -1: none.
    static constexpr int digit(char c) noexcept {
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        return -1;
    }
};

} // namespace cancel::detail

using trace_id = cancel::detail::hex_id<16>;
using span_id = cancel::detail::hex_id<8>;

/// Whether a trace is recorded. W3C knows no and yes; B3 also knows "whoever comes next decides", and "yes, and tell
/// me all".
enum class trace_sampling : std::uint8_t { deferred, no, yes, debug };

/// A span, as others may refer to it.
struct trace_context {
    trace_id trace;
    span_id span;                                       // the parent of what is done on its behalf
    span_id parent = {};                                // of this span, where B3 told
    trace_sampling sampling = trace_sampling::deferred;
    bool random = false;                                // the trace's id is random (W3C level 2)
    std::string state = {};                             // tracestate: what vendors have added, in its canonical form
    bool remote = false;                                // it came from another process

    /// Both ids are there. Without them it can carry a decision only (B3's "0").
    bool valid() const noexcept { return trace.valid() && span.valid(); }
    bool sampled() const noexcept { return sampling == trace_sampling::yes || sampling == trace_sampling::debug; }

    friend bool operator==(const trace_context&, const trace_context&) = default;
};

namespace cancel::detail {
struct trace_key {
    using type = trace_context;
};
} // namespace cancel::detail

/// A child of ctx that carries a trace context.
[[nodiscard]] inline context with_trace(const context& ctx, trace_context t) {
    return with_value<cancel::detail::trace_key>(ctx, std::move(t));
}
/// The nearest trace context on the way to the root, or null. It lives as long as ctx.
inline const trace_context* trace_of(const context& ctx) noexcept { return ctx.value<cancel::detail::trace_key>(); }

} // namespace mpg
