// Trace contexts and spans of requests: what the server and the client have in common. Attributes are those of
// OpenTelemetry's semantic conventions for HTTP.
#pragma once

#include <mpg/cancel/span.hpp>
#include <mpg/cancel/trace_propagator.hpp>
#include <mpg/http/field.hpp>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::http::detail {

class field_source final : public header_source {
  public:
    explicit field_source(std::span<const header_field> fields) noexcept
        : fields_(fields) {}
    std::vector<std::string_view> values(std::string_view name) const override {
        std::vector<std::string_view> found;
        for (const header_field& f : fields_)
            if (equal_fold(f.name, name)) found.push_back(f.value);
        return found;
    }

  private:
    std::span<const header_field> fields_;
};

/// Lines of a request's header. Who has set one of these fields himself wants no others beside it.
class field_lines final : public header_sink {
  public:
    using fields = std::vector<std::pair<std::string, std::string>>;

    explicit field_lines(const fields& own) noexcept
        : own_(own) {}
    void set(std::string_view name, std::string_view value) override {
        taken_ = taken_ || std::any_of(own_.begin(), own_.end(), [&](const auto& f) { return equal_fold(f.first, name); });
        if (is_token(name) && is_field_value(value)) (((text_ += name) += ": ") += value) += "\r\n";
    }
    std::string take() { return taken_ ? std::string() : std::move(text_); }

  private:
    const fields& own_;
    std::string text_;
    bool taken_ = false;
};

/// Methods that anybody may invent must not become names without bound.
constexpr std::string_view span_method(std::string_view method) noexcept {
    for (std::string_view known : {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
        if (method == known) return known;
    return "_OTHER";
}

/// Of the server. route: the pattern that matched, "" for none.
inline std::unique_ptr<span> start_server_span(span_hook& hook, const trace_context* parent, std::string_view method,
                                               std::string_view path, std::string_view host, std::string_view route,
                                               std::string_view scheme) {
    const std::string_view known = span_method(method);
    const std::size_t blank = route.find(' ');
    if (blank != std::string_view::npos) route.remove_prefix(blank + 1);
    std::string name(known == "_OTHER" ? "HTTP" : known);
    if (!route.empty()) (name += ' ') += route;
    std::unique_ptr<span> s = hook.start({span_kind::server, name, parent});
    if (!s) return s;
    s->set_attribute("http.request.method", known);
    if (known == "_OTHER") s->set_attribute("http.request.method_original", method);
    s->set_attribute("url.scheme", scheme);
    s->set_attribute("url.path", path);
    if (!host.empty()) s->set_attribute("server.address", host);
    if (!route.empty()) s->set_attribute("http.route", route);
    return s;
}

inline std::unique_ptr<span> start_client_span(span_hook& hook, const trace_context* parent, std::string_view method,
                                               std::string_view url, std::string_view host) {
    const std::string_view known = span_method(method);
    std::unique_ptr<span> s = hook.start({span_kind::client, known == "_OTHER" ? "HTTP" : known, parent});
    if (!s) return s;
    s->set_attribute("http.request.method", known);
    if (known == "_OTHER") s->set_attribute("http.request.method_original", method);
    s->set_attribute("url.full", url);
    s->set_attribute("server.address", host);
    return s;
}

/// least_error: the first status that is this side's failure (500 for a server, 400 for a client).
inline void set_span_status(span& s, int status, int least_error) {
    s.set_attribute("http.response.status_code", std::int64_t{status});
    if (status >= least_error) s.set_error(std::to_string(status));
}

} // namespace mpg::http::detail
