// Where a tracing library is plugged in. This library makes no spans; it tells one when a piece of work begins and ends.
#pragma once

#include <mpg/cancel/trace_context.hpp>

#include <cstdint>
#include <memory>
#include <string_view>

namespace mpg {

enum class span_kind : std::uint8_t { internal, server, client, producer, consumer };

/// A piece of work that is being recorded; its destructor ends it. One strand at a time uses it, but it may begin on
/// one OS thread and end on another.
class span {
  public:
    virtual ~span() = default;
    /// What children of it refer to; injected into requests that are sent on its behalf. Not valid: pass on what came.
    virtual trace_context context() const = 0;
    virtual void set_attribute(std::string_view key, std::string_view value) = 0;
    virtual void set_attribute(std::string_view key, std::int64_t value) = 0;
    virtual void set_error(std::string_view what) = 0;
};

struct span_info {
    span_kind kind = span_kind::internal;
    std::string_view name;
    const trace_context* parent = nullptr; // null: none, it is a root
};

/// Starts spans: for example over an OpenTelemetry Tracer (docs/observability.md shows one). Used by any number of
/// strands at once.
class span_hook {
  public:
    virtual ~span_hook() = default;
    /// Null: nothing is to be recorded here.
    virtual std::unique_ptr<span> start(const span_info& what) = 0;
};

/// Starts a span as a child of what ctx carries; ctx then carries the span.
inline std::unique_ptr<span> start_span(span_hook& hook, context& ctx, std::string_view name,
                                        span_kind kind = span_kind::internal) {
    std::unique_ptr<span> s = hook.start({kind, name, trace_of(ctx)});
    if (s)
        if (trace_context t = s->context(); t.valid()) ctx = with_trace(ctx, std::move(t));
    return s;
}

} // namespace mpg
