// A request, as its handler sees it.
#pragma once

#include <mpg/http/body.hpp>
#include <mpg/http/client_watch.hpp>
#include <mpg/http/field.hpp>
#include <mpg/http/pattern.hpp>
#include <mpg/http/request_parser.hpp>
#include <mpg/http/router.hpp>
#include <mpg/http/tracing.hpp>
#include <mpg/http/url.hpp>
#include <mpg/net/endpoint.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace mpg::http {

/// Valid until its handler returns, and so is every view that it gives; used by the handler's task, but for
/// ctx()'s result, which may be copied and kept.
class request {
  public:
    request(const request&) = delete;
    request& operator=(const request&) = delete;

    /// As sent, case and all: "GET".
    std::string_view method() const noexcept { return head_.method; }
    /// The request target as sent: "/a%20b?c=d".
    std::string_view target() const noexcept { return head_.target; }
    /// Its path, unescaped: "/a b". "*" for `OPTIONS *`, "" for CONNECT, whose target is host().
    std::string_view path() const noexcept { return path_; }
    /// Behind the '?', as sent; "" when there is none.
    std::string_view query() const noexcept { return parts_.query; }
    /// The first value of a parameter of the query, unescaped.
    std::optional<std::string> query(std::string_view name) const {
        return detail::query_parameter(parts_.query, name);
    }
    /// The host that is asked, with its port if it has one: of the target, or else of the Host field.
    std::string_view host() const noexcept {
        return parts_.authority.empty() ? head_.host : parts_.authority;
    }
    /// 10 or 11.
    int version() const noexcept { return 10 + head_.minor; }

    /// The first field of that name, without regard to case; "" when there is none. Linear in the number of
    /// fields.
    std::string_view header(std::string_view name) const noexcept { return head_.field(name); }
    bool has_header(std::string_view name) const noexcept { return head_.find(name) != nullptr; }
    /// All fields, in order.
    std::span<const header_field> headers() const noexcept { return head_.fields; }

    /// nullopt: chunked, or no body was announced.
    std::optional<std::uint64_t> content_length() const noexcept { return head_.content_length; }
    body_reader& body() noexcept { return body_; }

    /// Done when the client goes away, the handler returns or the server is closed. The first call may start
    /// a task that watches the connection; a handler that does not ask pays nothing. It carries the trace context
    /// that came with the request, or the server's span (server_options).
    const context& ctx() {
        const context& watched = watch_.ctx(body_.ended());
        if (!propagator_ && !trace_) return watched;
        if (!ctx_) {
            const trace_context* t = trace();
            ctx_.emplace(t ? with_trace(watched, *t) : watched);
        }
        return *ctx_;
    }

    net::endpoint remote_endpoint() const { return wire_.below().remote_endpoint(); }
    /// The connection that it came by: for tls::state_of.
    detail::link& transport() const noexcept { return wire_.below(); }

    /// What a wildcard of the pattern matched, unescaped; "" when it has none of that name.
    std::string path_value(std::string_view name) const {
        std::string value;
        if (!pattern_) return value;
        std::size_t wildcard = 0;
        for (const detail::segment& s : pattern_->segments) {
            if (s.what == detail::segment::kind::literal) continue;
            if (s.text == name && wildcard < values_.size()) {
                detail::decode_to(value, values_[wildcard]);
                break;
            }
            ++wildcard;
        }
        return value;
    }
    /// The pattern that matched, as it was given to handle(): a name for metrics and logs.
    std::string_view pattern() const noexcept { return pattern_ ? std::string_view(pattern_->text) : ""; }

  private:
    friend class detail::connection;

    request(const detail::request_head& head, const detail::target_parts& parts, std::string_view path,
            const detail::pattern* pattern, const detail::path_values& values, body_reader& body,
            detail::client_watch& watch, detail::wire& wire, const propagator* p) noexcept
        : head_(head)
        , parts_(parts)
        , path_(path)
        , pattern_(pattern)
        , values_(values)
        , body_(body)
        , watch_(watch)
        , wire_(wire)
        , propagator_(p) {}

    /// What came, looked for once; null: nothing.
    const trace_context* trace() {
        if (propagator_) trace_ = std::exchange(propagator_, nullptr)->extract(detail::field_source(head_.fields));
        return trace_ ? &*trace_ : nullptr;
    }
    /// Before the handler.
    std::unique_ptr<span> start_span(span_hook& hook) {
        auto s = detail::start_server_span(hook, trace(), method(), path_, host(), pattern(),
                                           transport().is_secure() ? "https" : "http");
        if (s)
            if (trace_context t = s->context(); t.valid()) trace_ = std::move(t);
        return s;
    }

    const detail::request_head& head_;
    const detail::target_parts& parts_;
    std::string_view path_;
    const detail::pattern* pattern_;
    const detail::path_values& values_;
    body_reader& body_;
    detail::client_watch& watch_;
    detail::wire& wire_;
    const propagator* propagator_;       // null: nothing is looked for, or it has been
    std::optional<trace_context> trace_; // what ctx() is to carry
    std::optional<context> ctx_;         // with that
};

} // namespace mpg::http
