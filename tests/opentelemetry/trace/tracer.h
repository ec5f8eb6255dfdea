// What otel_hook.hpp uses of OpenTelemetry's C++ API (1.x), with the same names and signatures, and a tracer that keeps
// what it is told. Not Debian's: there is no package of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace opentelemetry {

namespace nostd {
template <class T> using shared_ptr = std::shared_ptr<T>;
using string_view = std::string_view;
template <class... T> using variant = std::variant<T...>;
template <class T, std::size_t N> struct span {
    T* data;
    span(std::array<std::remove_const_t<T>, N>& a) noexcept : data(a.data()) {}
    span(const std::array<std::remove_const_t<T>, N>& a) noexcept requires std::is_const_v<T> : data(a.data()) {}
};
} // namespace nostd

namespace common {
using AttributeValue = nostd::variant<bool, std::int32_t, std::int64_t, std::uint32_t, double, const char*, nostd::string_view>;
}

namespace context {
class Context {
  public:
    Context SetValue(nostd::string_view key, nostd::variant<std::monostate, bool> value) const {
        Context c;
        c.root_ = key == "is_root_span" && std::get<bool>(value);
        return c;
    }
    bool is_root() const { return root_; }

  private:
    bool root_ = false;
};
} // namespace context

namespace trace {
constexpr char kIsRootSpanKey[] = "is_root_span";
enum class SpanKind { kInternal, kServer, kClient, kProducer, kConsumer };
enum class StatusCode { kUnset, kOk, kError };

template <std::size_t N> class Id {
  public:
    Id() = default;
    explicit Id(nostd::span<const std::uint8_t, N> from) noexcept { std::copy_n(from.data, N, bytes_.begin()); }
    void CopyBytesTo(nostd::span<std::uint8_t, N> to) const noexcept { std::copy_n(bytes_.begin(), N, to.data); }
    bool IsValid() const noexcept { return bytes_ != decltype(bytes_){}; }

  private:
    std::array<std::uint8_t, N> bytes_{};
};
using TraceId = Id<16>;
using SpanId = Id<8>;

class TraceFlags {
  public:
    static constexpr std::uint8_t kIsSampled = 1;
    TraceFlags() = default;
    explicit TraceFlags(std::uint8_t flags) noexcept : flags_(flags) {}
    bool IsSampled() const noexcept { return flags_ & kIsSampled; }
    std::uint8_t flags() const noexcept { return flags_; }

  private:
    std::uint8_t flags_ = 0;
};

class TraceState {
  public:
    static nostd::shared_ptr<TraceState> GetDefault() { return FromHeader(""); }
    static nostd::shared_ptr<TraceState> FromHeader(nostd::string_view header) {
        auto s = std::make_shared<TraceState>();
        s->header_ = header;
        return s;
    }
    std::string ToHeader() const { return header_; }

  private:
    std::string header_;
};

class SpanContext final {
  public:
    SpanContext(TraceId trace, SpanId span, TraceFlags flags, bool remote,
                nostd::shared_ptr<TraceState> state = TraceState::GetDefault()) noexcept
        : trace_(trace), span_(span), flags_(flags), remote_(remote), state_(std::move(state)) {}
    bool IsValid() const noexcept { return trace_.IsValid() && span_.IsValid(); }
    bool IsRemote() const noexcept { return remote_; }
    const TraceId& trace_id() const noexcept { return trace_; }
    const SpanId& span_id() const noexcept { return span_; }
    const TraceFlags& trace_flags() const noexcept { return flags_; }
    const nostd::shared_ptr<TraceState>& trace_state() const noexcept { return state_; }

  private:
    TraceId trace_;
    SpanId span_;
    TraceFlags flags_;
    bool remote_;
    nostd::shared_ptr<TraceState> state_;
};

struct StartSpanOptions {
    nostd::variant<SpanContext, context::Context> parent = context::Context{};
    SpanKind kind = SpanKind::kInternal;
};

/// What has been done with a tracer's spans.
struct Log {
    std::mutex mutex;
    std::vector<std::string> lines; // guarded by mutex
    void say(std::string line) {
        std::lock_guard hold(mutex);
        lines.push_back(std::move(line));
    }
};

class Span {
  public:
    Span(nostd::shared_ptr<Log> log, SpanContext c) : log_(std::move(log)), context_(std::move(c)) {}
    void SetAttribute(nostd::string_view key, const common::AttributeValue& value) noexcept {
        auto* text = std::get_if<nostd::string_view>(&value);
        log_->say(std::string(key) + "=" + (text ? std::string(*text) : std::to_string(std::get<std::int64_t>(value))));
    }
    void SetStatus(StatusCode code, nostd::string_view what = "") noexcept {
        log_->say((code == StatusCode::kError ? "error " : "ok ") + std::string(what));
    }
    void End() noexcept { log_->say("end"); }
    SpanContext GetContext() const noexcept { return context_; }

  private:
    nostd::shared_ptr<Log> log_;
    SpanContext context_;
};

/// Its spans have their parent's trace, state and flags, and the ids 1, 2, ...; those without one are sampled, of trace 7.
class Tracer {
  public:
    nostd::shared_ptr<Span> StartSpan(nostd::string_view name, const StartSpanOptions& o = {}) noexcept {
        std::array<std::uint8_t, 8> id{};
        id[7] = ++last_;
        std::array<std::uint8_t, 16> trace{};
        trace[15] = 7;
        SpanContext c(TraceId(trace), SpanId(id), TraceFlags(TraceFlags::kIsSampled), false);
        std::string line = "start " + std::string(name) + " kind " + std::to_string(static_cast<int>(o.kind));
        if (auto* parent = std::get_if<SpanContext>(&o.parent)) {
            c = SpanContext(parent->trace_id(), SpanId(id), parent->trace_flags(), false, parent->trace_state());
            line += parent->IsRemote() ? " below a remote one" : " below one";
        } else if (std::get<context::Context>(o.parent).is_root()) {
            line += " root";
        }
        log->say(line);
        return std::make_shared<Span>(log, std::move(c));
    }
    const nostd::shared_ptr<Log> log = std::make_shared<Log>();

  private:
    std::uint8_t last_ = 0;
};
} // namespace trace
} // namespace opentelemetry
