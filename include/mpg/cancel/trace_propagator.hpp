// Carries trace contexts over headers, of whatever protocol: the HTTP server and client have one in their options.
#pragma once

#include <mpg/cancel/trace_formats.hpp>

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mpg {

/// The headers of a message that came.
class header_source {
  public:
    virtual ~header_source() = default;
    /// The values of all fields of that name, without regard to case, in order; valid while the message is.
    virtual std::vector<std::string_view> values(std::string_view name) const = 0;
};
/// The headers of a message that is to go.
class header_sink {
  public:
    virtual ~header_sink() = default;
    virtual void set(std::string_view name, std::string_view value) = 0;
};

/// Used by any number of strands at once.
class propagator {
  public:
    virtual ~propagator() = default;
    /// nullopt: there is nothing of this kind, or it is malformed.
    virtual std::optional<trace_context> extract(const header_source& from) const = 0;
    virtual void inject(const trace_context& t, header_sink& to) const = 0;

  protected:
    /// The value of a field that may stand there once only.
    static std::optional<std::string_view> one(const header_source& from, std::string_view name) {
        const auto all = from.values(name);
        if (all.size() != 1) return std::nullopt;
        return all[0];
    }
};

/// traceparent and tracestate.
class w3c_propagator final : public propagator {
  public:
    std::optional<trace_context> extract(const header_source& from) const override {
        const auto parent = one(from, "traceparent");
        auto t = parent ? cancel::detail::parse_traceparent(*parent) : std::nullopt;
        if (!t) return std::nullopt;
        t->state = cancel::detail::parse_tracestate(from.values("tracestate"));
        t->remote = true;
        return t;
    }
    void inject(const trace_context& t, header_sink& to) const override {
        if (!t.valid()) return;
        to.set("traceparent", cancel::detail::traceparent(t));
        if (!t.state.empty()) to.set("tracestate", t.state);
    }
};

/// The one header b3.
class b3_propagator final : public propagator {
  public:
    std::optional<trace_context> extract(const header_source& from) const override {
        const auto value = one(from, "b3");
        auto t = value ? cancel::detail::parse_b3(*value) : std::nullopt;
        if (t) t->remote = true;
        return t;
    }
    void inject(const trace_context& t, header_sink& to) const override {
        if (const std::string s = cancel::detail::b3(t); !s.empty()) to.set("b3", s);
    }
};

/// X-B3-TraceId, X-B3-SpanId, X-B3-ParentSpanId, X-B3-Sampled, X-B3-Flags.
class b3_multi_propagator final : public propagator {
  public:
    std::optional<trace_context> extract(const header_source& from) const override {
        trace_context t;
        t.remote = true;
        std::string_view trace, span, parent, sampled, flags;
        for (auto [name, value] : {std::pair("X-B3-TraceId", &trace), std::pair("X-B3-SpanId", &span),
                                   std::pair("X-B3-ParentSpanId", &parent), std::pair("X-B3-Sampled", &sampled),
                                   std::pair("X-B3-Flags", &flags)}) {
            const auto all = from.values(name);
            if (all.size() > 1 || (!all.empty() && all[0].empty())) return std::nullopt;
            if (!all.empty()) *value = all[0];
        }
        if (flags == "1") // then the other decision does not count
            t.sampling = trace_sampling::debug;
        else if (!flags.empty() && flags != "0")
            return std::nullopt;
        else if (sampled == "1" || sampled == "true") // words: early tracers wrote them, and the specification wants
            t.sampling = trace_sampling::yes;         // them to be read
        else if (sampled == "0" || sampled == "false")
            t.sampling = trace_sampling::no;
        else if (!sampled.empty())
            return std::nullopt;
        if (trace.empty() && span.empty() && parent.empty())
            return t.sampling == trace_sampling::deferred ? std::nullopt : std::optional(t);
        const auto trace_value = cancel::detail::parse_b3_trace(trace);
        const auto span_value = span_id::parse(span), parent_value = span_id::parse(parent);
        if (!trace_value || !span_value || (!parent.empty() && !parent_value)) return std::nullopt;
        t.trace = *trace_value;
        t.span = *span_value;
        t.parent = parent_value.value_or(span_id{});
        return t;
    }
    void inject(const trace_context& t, header_sink& to) const override {
        if (t.valid()) {
            to.set("X-B3-TraceId", t.trace.to_string());
            to.set("X-B3-SpanId", t.span.to_string());
            if (t.parent.valid()) to.set("X-B3-ParentSpanId", t.parent.to_string());
        }
        if (t.sampling == trace_sampling::debug)
            to.set("X-B3-Flags", "1");
        else if (t.sampling != trace_sampling::deferred)
            to.set("X-B3-Sampled", t.sampled() ? "1" : "0");
    }
};

/// Several: the first that finds something decides when a message comes; all write when one goes.
class composite_propagator final : public propagator {
  public:
    /// In order of preference. They must outlive it.
    composite_propagator(std::initializer_list<const propagator*> parts) : parts_(parts) {}

    std::optional<trace_context> extract(const header_source& from) const override {
        for (const propagator* p : parts_)
            if (auto t = p->extract(from)) return t;
        return std::nullopt;
    }
    void inject(const trace_context& t, header_sink& to) const override {
        for (const propagator* p : parts_) p->inject(t, to);
    }

  private:
    std::vector<const propagator*> parts_;
};

/// W3C, then B3 in one header, then B3 in several. Lives for ever.
inline const propagator& default_propagator() {
    static const composite_propagator& all =
        *new composite_propagator{new w3c_propagator, new b3_propagator, new b3_multi_propagator};
    return all;
}

} // namespace mpg
