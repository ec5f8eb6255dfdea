// The pages of this room on an HTTP server.
#pragma once

#include <mpg/debug/contention.hpp>
#include <mpg/debug/cpu_profile.hpp>
#include <mpg/debug/go_trace.hpp>
#include <mpg/debug/heap.hpp>
#include <mpg/debug/leaks.hpp>
#include <mpg/debug/metrics.hpp>
#include <mpg/debug/profile_page.hpp>
#include <mpg/debug/task_profile.hpp>
#include <mpg/debug/trace.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace mpg::debug {

namespace detail {

inline void serve_tasks(const http::server& server, http::request& req, http::response& res) {
    snapshot shot;
    serve_profile(
        server, req, res, "goroutine",
        [&] {
            shot = take_snapshot();
            return tasks_by_stack(shot);
        },
        [&](const profile& p, long long debug, symbolizer& s) { return debug == 1 ? grouped_text("goroutine", p, s) : full_text(shot, s); });
}

inline void serve_cpu(const http::server& server, http::request& req, http::response& res) {
    long long seconds = number_in(req, "seconds").value_or(30);
    if (seconds <= 0) seconds = 30;
    cpu_profiler& p = cpu_profiler::instance();
    if (!p.start())
        return refuse(res, 500, "Could not enable CPU profiling: cpu profiling already in use, or SIGPROF is taken");
    struct stopper {
        cpu_profiler& p;
        profile result;
        bool stopped = false;
        profile stop() {
            stopped = true;
            return p.stop();
        }
        ~stopper() {
            if (!stopped) (void)p.stop();
        }
    } running{p, {}};
    std::optional<unhurried> preparing(std::in_place, server, res);
    const time_point end = clock::now() + at_most_years(static_cast<double>(seconds));
    while (clock::now() < end) {
        if (!wait_for_seconds(req, 0.05)) return;
        p.tick();
    }
    const std::string answer = encoded(running.stop());
    preparing.reset();
    download(res, "profile", answer);
}

/// Go's execution trace, or Chrome's and Perfetto's JSON where that is asked for (?format=json, or Accept). Without seconds:
/// what a recorder that is on has now, or else the next second.
inline void serve_trace(const http::server& server, http::request& req, http::response& res) {
    const std::string format = req.query("format").value_or("");
    const std::string_view accept = req.header("Accept");
    const bool json = format == "json" || (format.empty() && accepts(accept, "application/json") > std::max(accepts(accept, "application/octet-stream"), 0.0));
    if (!json && !format.empty() && format != "go") return refuse(res, 400, "invalid value for \"format\" - must be go or json");
    const bool ours = !tracing();
    double seconds = number_in<double>(req, "seconds").value_or(0);
    if (!(seconds > 0)) seconds = ours ? 1 : 0;
    if (ours) start_trace();
    struct stopper {
        bool on;
        ~stopper() {
            if (on) stop_trace();
        }
    } until{ours};
    const std::uint64_t since = seconds > 0 ? sched::cpu_ticks() : 0;
    std::optional<unhurried> preparing(std::in_place, server, res);
    if (seconds > 0 && !wait_for_seconds(req, seconds)) return;
    std::string answer;
    if (json) {
        std::ostringstream os;
        write_trace(os);
        answer = std::move(os).str();
    } else {
        answer = go_trace(since);
    }
    preparing.reset();
    res.header("Vary", "Accept");
    if (!json) return download(res, "trace", answer);
    res.header("Content-Type", "application/json").header("Content-Disposition", "attachment; filename=\"trace.json\"");
    (void)res.write(answer);
}

inline void serve_contention(const http::server& server, http::request& req, http::response& res, contention_profiler::kind k) {
    const bool mutex = k == contention_profiler::mutex;
    serve_profile(
        server, req, res, mutex ? "mutex" : "block", [k] { return contention_profile(k); },
        [&](const profile& p, long long, symbolizer& s) {
            return contention_text(mutex ? "mutex" : "contention", mutex ? contention_profiler::instance().rate(k) : 0, p, s);
        });
}

/// usual: the type that pprof shows.
inline void serve_heap(const http::server& server, http::request& req, http::response& res, const char* name, const char* usual) {
    heap_profiler* from = heap_profiler::get();
    if (!from)
        return refuse(res, 404, "This program does not profile its heap: MPG_PROFILE_HEAP is in none of its source files");
    serve_profile(
        server, req, res, name,
        [&] {
            profile p = heap_profile(*from);
            p.usual_type = usual;
            return p;
        },
        [](const profile& p, long long, symbolizer& s) { return heap_text(p, s); });
}

/// The machines that exist. Nobody knows where the first one's stack was when it asked for them, so there is one
/// sample without a stack, as in Go since 1.9.
inline profile threads_profile() {
    profile p;
    p.types = {{"threadcreate", "count"}};
    p.period_type = {"threadcreate", "count"};
    p.period = 1;
    p.start = std::chrono::system_clock::now();
    std::int64_t n = 0;
    pinned runtimes;
    for (sched::runtime_state* rt : runtimes) n += static_cast<std::int64_t>(static_cast<runtime*>(rt->owner)->stats().threads);
    p.samples.push_back({{}, {n}});
    return p;
}
inline void serve_threads(const http::server& server, http::request& req, http::response& res) {
    serve_profile(server, req, res, "threadcreate", threads_profile,
                  [](const profile& p, long long, symbolizer& s) { return grouped_text("threadcreate", p, s); });
}

inline void serve_command_line(http::response& res) {
    std::ifstream f("/proc/self/cmdline");
    std::string text{std::istreambuf_iterator<char>(f), {}};
    if (!text.empty() && text.back() == '\0') text.pop_back();
    plain(res, text);
}

/// pprof's protocol: GET says that there are symbols; addresses ("0x1+0x2"), in the query or the body, get a line each.
inline void serve_symbols(http::request& req, http::response& res) {
    std::string wanted(req.query());
    if (req.method() == "POST") {
        wanted.clear();
        std::byte piece[4096];
        while (wanted.size() < 1 << 20) {
            auto n = req.body().read(piece);
            if (!n || *n == 0) break;
            wanted.append(reinterpret_cast<const char*>(piece), *n);
        }
    }
    std::string out = "num_symbols: 1\n";
    out += with_symbols([&](symbolizer& s) {
        std::string lines;
        for (std::size_t at = 0; at < wanted.size();) {
            std::size_t end = std::min(wanted.find('+', at), wanted.size());
            std::string word = wanted.substr(at, end - at);
            at = end + 1;
            std::uint64_t pc = std::strtoull(word.c_str(), nullptr, 0);
            if (pc == 0) continue;
            const std::string& name = s.at(pc).back().function;
            char text[32];
            std::snprintf(text, sizeof text, "%#llx ", static_cast<unsigned long long>(pc));
            if (!name.empty()) lines += text + name + "\n";
        }
        return lines;
    });
    plain(res, out);
}

inline constexpr std::string_view index_page = R"(<html>
<head><title>/debug/pprof/</title></head>
<body>
<h1>/debug/pprof/</h1>
<ul>
<li><a href="goroutine?debug=1">goroutine</a>: stacks of all tasks, equal ones together
 (<a href="goroutine?debug=2">each</a>, <a href="goroutine">for pprof</a>)</li>
<li><a href="profile?seconds=5">profile</a>: where the CPU time goes; <code>seconds</code> says for how long it looks (30)</li>
<li><a href="block?debug=1">block</a>: where tasks wait for each other, once <code>set_block_profile_rate</code> was called</li>
<li><a href="mutex?debug=1">mutex</a>: who holds what others wait for, once <code>set_mutex_profile_fraction</code> was called</li>
<li><a href="heap?debug=1">heap</a>, <a href="allocs?debug=1">allocs</a>: who keeps memory, and who takes it, in a program that has
 <code>MPG_PROFILE_HEAP</code></li>
<li><a href="trace?seconds=1">trace</a>: what each P did, for <code>go tool trace</code>
 (<a href="trace?seconds=1&amp;format=json">for ui.perfetto.dev</a>)</li>
<li><a href="threadcreate?debug=1">threadcreate</a>: OS threads</li>
<li><a href="leaks?seconds=60">leaks</a>: tasks that have waited for <code>seconds</code> (60) or longer, by where they were started
 (<a href="leaks?seconds=60&amp;prove=1">with a search</a> for those that can never go on, which stops the process for a moment)</li>
<li><a href="cmdline">cmdline</a>: the command line</li>
<li><a href="symbol">symbol</a>: names for addresses</li>
</ul>
</body>
</html>
)";

} // namespace detail

/// Adds what Go's net/http/pprof has, with the same paths, parameters and formats, at prefix/pprof/, and the metrics at
/// /metrics, in the text format of Prometheus or of OpenMetrics, as is asked for:
///
///   go tool pprof http://localhost:8080/debug/pprof/goroutine
///   go tool pprof 'http://localhost:8080/debug/pprof/profile?seconds=10'
///
/// Before it serves. These pages tell much of a program, and asking costs it time: serve them where only those come
/// who may. Throws std::invalid_argument when a pattern is taken.
inline void handlers(http::server& server, std::string_view prefix = "/debug") {
    std::string base(prefix);
    while (!base.empty() && base.back() == '/') base.pop_back();
    base += "/pprof/";
    auto at = [&](const char* name, auto f) { server.handle("GET " + base + name, f); };
    at("{$}", [](http::request&, http::response& res) {
        res.header("Content-Type", "text/html; charset=utf-8");
        (void)res.write(detail::index_page);
    });
    at("goroutine", [&server](http::request& req, http::response& res) { detail::serve_tasks(server, req, res); });
    at("profile", [&server](http::request& req, http::response& res) { detail::serve_cpu(server, req, res); });
    at("trace", [&server](http::request& req, http::response& res) { detail::serve_trace(server, req, res); });
    at("threadcreate", [&server](http::request& req, http::response& res) { detail::serve_threads(server, req, res); });
    at("block", [&server](http::request& req, http::response& res) {
        detail::serve_contention(server, req, res, detail::contention_profiler::block);
    });
    at("mutex", [&server](http::request& req, http::response& res) {
        detail::serve_contention(server, req, res, detail::contention_profiler::mutex);
    });
    at("heap", [&server](http::request& req, http::response& res) { detail::serve_heap(server, req, res, "heap", "inuse_space"); });
    at("allocs", [&server](http::request& req, http::response& res) { detail::serve_heap(server, req, res, "allocs", "alloc_space"); });
    at("leaks", [](http::request& req, http::response& res) {
        std::ostringstream os;
        report_leaks(os, std::chrono::seconds(detail::number_in(req, "seconds").value_or(60)),
                     detail::number_in(req, "prove").value_or(0) > 0);
        detail::plain(res, os.str());
    });
    at("", [](http::request&, http::response& res) { detail::refuse(res, 404, "Unknown profile"); });
    at("cmdline", [](http::request&, http::response& res) { detail::serve_command_line(res); });
    at("symbol", [](http::request& req, http::response& res) { detail::serve_symbols(req, res); });
    server.handle("POST " + base + "symbol",
                  [](http::request& req, http::response& res) { detail::serve_symbols(req, res); });
    server.handle("GET /metrics", [&server](http::request& req, http::response& res) {
        const std::string text = metrics() + http::to_prometheus(server.stats());
        const std::string_view accept = req.header("Accept");
        const double open = detail::accepts(accept, "application/openmetrics-text");
        const bool is_open = open > 0 && open >= detail::accepts(accept, "text/plain");
        res.header("Vary", "Accept");
        res.header("Content-Type", is_open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                           : "text/plain; version=0.0.4; charset=utf-8");
        (void)res.write(is_open ? detail::to_openmetrics(text) : text);
    });
}

} // namespace mpg::debug
