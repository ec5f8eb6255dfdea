// What a server counts, and its text for Prometheus.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mpg::http {

/// Upper ends of the classes into which the duration of requests is counted, in nanoseconds; one more class
/// has none.
inline constexpr std::array<std::int64_t, 16> latency_bounds = {
    100'000,       250'000,       500'000,       1'000'000,     2'500'000,   5'000'000,
    10'000'000,    25'000'000,    50'000'000,    100'000'000,   250'000'000, 500'000'000,
    1'000'000'000, 2'500'000'000, 5'000'000'000, 10'000'000'000};

/// What a server has done so far, and does now.
struct server_stats {
    std::uint64_t connections_accepted = 0;
    std::size_t connections_active = 0; // a request is being read or served
    std::size_t connections_idle = 0;
    std::uint64_t responses[6] =
        {};                    // of handlers and of the server itself, by the first digit of their status
    std::uint64_t refused = 0; // of these, to what was no request that a handler could have
    std::uint64_t hijacked = 0;
    std::uint64_t exceptions = 0;       // thrown by handlers
    std::uint64_t requests_started = 0; // given to a handler
    std::uint64_t requests_ended = 0;
    /// From the end of a request's header to the handler's return; counted when
    /// server_options::measure_latency is set.
    std::uint64_t latency[latency_bounds.size() + 1] = {};
    std::uint64_t latency_sum_ns = 0;

    std::uint64_t in_flight() const noexcept { return requests_started - requests_ended; }
};

namespace detail {

/// Counted by one strand at a time, read by anybody: a load and a store, no locked operation.
class counter {
  public:
    void add(std::uint64_t n = 1) noexcept {
        n_.store(n_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    std::uint64_t get() const noexcept { return n_.load(std::memory_order_relaxed); }

  private:
    base::atomic<std::uint64_t> n_{0};
};

/// Stands in an exchange, so that no cache line is shared by the connections of different processors.
struct exchange_counters {
    counter responses[6], refused, hijacked, exceptions, started, ended;
    counter latency[latency_bounds.size() + 1], latency_sum;

    void count_latency(base::nanos took) noexcept {
        std::size_t i = 0;
        while (i < latency_bounds.size() && took > latency_bounds[i]) ++i;
        latency[i].add();
        latency_sum.add(static_cast<std::uint64_t>(took));
    }
    void take(const exchange_counters& other) noexcept {
        for (std::size_t i = 0; i < std::size(responses); ++i) responses[i].add(other.responses[i].get());
        refused.add(other.refused.get());
        hijacked.add(other.hijacked.get());
        exceptions.add(other.exceptions.get());
        started.add(other.started.get());
        ended.add(other.ended.get());
        for (std::size_t i = 0; i < std::size(latency); ++i) latency[i].add(other.latency[i].get());
        latency_sum.add(other.latency_sum.get());
    }
    void add_to(server_stats& s) const noexcept {
        // The end before the beginning: a request that begins meanwhile cannot be seen as ended only.
        s.requests_ended += ended.get();
        s.requests_started += started.get();
        for (std::size_t i = 0; i < std::size(responses); ++i) s.responses[i] += responses[i].get();
        s.refused += refused.get();
        s.hijacked += hijacked.get();
        s.exceptions += exceptions.get();
        for (std::size_t i = 0; i < std::size(latency); ++i) s.latency[i] += latency[i].get();
        s.latency_sum_ns += latency_sum.get();
    }
};

} // namespace detail

/// As Prometheus reads it (text format 0.0.4). prefix: of each name.
inline std::string to_prometheus(const server_stats& s, std::string_view prefix = "http_server") {
    std::string text;
    auto type = [&](std::string_view name, std::string_view what, std::string_view help) {
        (((((text += "# HELP ") += prefix) += '_') += name) += ' ') += help;
        text += '\n';
        (((((text += "# TYPE ") += prefix) += '_') += name) += ' ') += what;
        text += '\n';
    };
    auto line = [&](std::string_view name, std::string_view labels, const std::string& value) {
        (((((text += prefix) += '_') += name) += labels) += ' ') += value;
        text += '\n';
    };
    auto one = [&](std::string_view name, std::string_view what, std::string_view help, std::uint64_t value) {
        type(name, what, help);
        line(name, "", std::to_string(value));
    };
    one("connections_accepted_total", "counter", "Total number of connections accepted.", s.connections_accepted);
    type("connections", "gauge", "Number of open connections, by state.");
    line("connections", "{state=\"active\"}", std::to_string(s.connections_active));
    line("connections", "{state=\"idle\"}", std::to_string(s.connections_idle));
    type("responses_total", "counter", "Total number of responses, by class of status.");
    for (std::size_t i = 1; i < std::size(s.responses); ++i)
        line("responses_total", "{code=\"" + std::to_string(i) + "xx\"}", std::to_string(s.responses[i]));
    one("requests_refused_total", "counter", "Total number of requests that were answered without a handler.", s.refused);
    one("requests_hijacked_total", "counter", "Total number of connections that a handler took over.", s.hijacked);
    one("handler_exceptions_total", "counter", "Total number of exceptions that left a handler.", s.exceptions);
    one("requests_in_flight", "gauge", "Number of requests that a handler works on.", s.in_flight());
    type("request_duration_seconds", "histogram", "Time from a request's header to the end of its response.");
    std::uint64_t below = 0;
    auto seconds = [](std::uint64_t ns) {
        std::string digits = std::to_string(ns % 1'000'000'000 + 1'000'000'000).substr(1);
        while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
        return std::to_string(ns / 1'000'000'000) + '.' + digits;
    };
    for (std::size_t i = 0; i < std::size(s.latency); ++i) {
        below += s.latency[i];
        const std::string end =
            i < latency_bounds.size() ? seconds(static_cast<std::uint64_t>(latency_bounds[i])) : "+Inf";
        line("request_duration_seconds_bucket", "{le=\"" + end + "\"}", std::to_string(below));
    }
    line("request_duration_seconds_sum", "", seconds(s.latency_sum_ns));
    line("request_duration_seconds_count", "", std::to_string(below));
    return text;
}

} // namespace mpg::http
