// mpg::span_hook over OpenTelemetry's C++ API, as docs/observability.md shows it.
#pragma once

#include <mpg/trace_context.hpp>
#include <opentelemetry/trace/tracer.h>

#include <utility>

namespace otel = opentelemetry;

inline otel::trace::SpanContext span_context_of(const mpg::trace_context& t) {
    const std::uint8_t flags = (t.sampled() ? otel::trace::TraceFlags::kIsSampled : 0) | (t.random ? 2 : 0);
    return {otel::trace::TraceId(t.trace.bytes), otel::trace::SpanId(t.span.bytes), otel::trace::TraceFlags(flags), t.remote,
            otel::trace::TraceState::FromHeader(t.state)};
}

class otel_span final : public mpg::span {
  public:
    explicit otel_span(otel::nostd::shared_ptr<otel::trace::Span> s) : span_(std::move(s)) {}
    ~otel_span() override { span_->End(); }
    mpg::trace_context context() const override {
        const otel::trace::SpanContext c = span_->GetContext();
        mpg::trace_context t;
        c.trace_id().CopyBytesTo(t.trace.bytes);
        c.span_id().CopyBytesTo(t.span.bytes);
        t.sampling = c.trace_flags().IsSampled() ? mpg::trace_sampling::yes : mpg::trace_sampling::no;
        t.random = (c.trace_flags().flags() & 2) != 0;
        t.state = c.trace_state()->ToHeader();
        return t;
    }
    void set_attribute(std::string_view key, std::string_view value) override { span_->SetAttribute(text(key), text(value)); }
    void set_attribute(std::string_view key, std::int64_t value) override { span_->SetAttribute(text(key), value); }
    void set_error(std::string_view what) override { span_->SetStatus(otel::trace::StatusCode::kError, text(what)); }

    static otel::nostd::string_view text(std::string_view s) { return {s.data(), s.size()}; }

  private:
    otel::nostd::shared_ptr<otel::trace::Span> span_;
};

class otel_hook final : public mpg::span_hook {
  public:
    explicit otel_hook(otel::nostd::shared_ptr<otel::trace::Tracer> t) : tracer_(std::move(t)) {}
    std::unique_ptr<mpg::span> start(const mpg::span_info& what) override {
        otel::trace::StartSpanOptions o;
        o.kind = static_cast<otel::trace::SpanKind>(what.kind); // the same order
        if (what.parent && what.parent->valid())
            o.parent = span_context_of(*what.parent);
        else // else it would be OpenTelemetry's "current span", which belongs to an OS thread
            o.parent = otel::context::Context().SetValue(otel::trace::kIsRootSpanKey, true);
        return std::make_unique<otel_span>(tracer_->StartSpan(otel_span::text(what.name), o));
    }

  private:
    otel::nostd::shared_ptr<otel::trace::Tracer> tracer_;
};
