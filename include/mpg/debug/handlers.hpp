// The pages of this room on an HTTP server.
#pragma once

#include <mpg/debug/contention.hpp>
#include <mpg/debug/cpu_profile.hpp>
#include <mpg/debug/heap.hpp>
#include <mpg/debug/leaks.hpp>
#include <mpg/debug/metrics.hpp>
#include <mpg/debug/task_profile.hpp>
#include <mpg/debug/trace.hpp>
#include <mpg/http/request.hpp>
#include <mpg/http/response.hpp>
#include <mpg/http/server.hpp>
#include <mpg/sched/sleep.hpp>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

namespace mpg::debug {

namespace detail {

inline long long number_in(http::request& req, std::string_view name, long long otherwise) {
    std::optional<std::string> text = req.query(name);
    long long n = otherwise;
    if (text) std::from_chars(text->data(), text->data() + text->size(), n);
    return n;
}
inline void plain(http::response& res, std::string_view text) {
    res.header("Content-Type", "text/plain; charset=utf-8").header("X-Content-Type-Options", "nosniff");
    (void)res.write(text);
}
inline void download(http::response& res, std::string_view name, std::string_view data) {
    res.header("Content-Type", "application/octet-stream").header("X-Content-Type-Options", "nosniff");
    res.header("Content-Disposition", "attachment; filename=\"" + std::string(name) + "\"");
    (void)res.write(data);
}

/// profile.proto, compressed. On another thread, for it asks libraries for names.
inline std::string encoded(const profile& p) {
    std::string out;
    aside([&] {
        on_a_thread([&] {
            symbolizer symbols;
            out = gzip(profile_writer(symbols).encode(p));
        });
    });
    return out;
}
template <class F> std::string with_symbols(F f) {
    std::string out;
    aside([&] {
        on_a_thread([&] {
            symbolizer symbols;
            out = f(symbols);
        });
    });
    return out;
}

inline void serve_tasks(http::request& req, http::response& res) {
    snapshot shot = take_snapshot();
    switch (number_in(req, "debug", 0)) {
    case 0: return download(res, "goroutine", encoded(tasks_by_stack(shot)));
    case 1:
        return plain(res, with_symbols([&](symbolizer& s) { return grouped_text("goroutine", tasks_by_stack(shot), s); }));
    default: return plain(res, with_symbols([&](symbolizer& s) { return full_text(shot, s); }));
    }
}

inline void serve_cpu(http::request& req, http::response& res) {
    long long seconds = number_in(req, "seconds", 30);
    if (seconds <= 0) seconds = 30;
    cpu_profiler& p = cpu_profiler::instance();
    if (!p.start()) {
        res.status(500);
        return plain(res, "Could not enable CPU profiling: cpu profiling already in use, or SIGPROF is taken\n");
    }
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
    const time_point end = clock::now() + std::chrono::seconds(seconds);
    const context& gone = req.ctx();
    while (clock::now() < end && !gone.is_done()) {
        sleep_for(std::chrono::milliseconds(50));
        p.tick();
    }
    profile result = running.stop();
    if (!gone.is_done()) download(res, "profile", encoded(result));
}

/// Chrome's and Perfetto's JSON, not Go's binary trace. Without seconds: what a recorder that is on has now, or else the
/// next second.
inline void serve_trace(http::request& req, http::response& res) {
    long long seconds = number_in(req, "seconds", tracing() ? 0 : 1);
    bool ours = !tracing();
    if (ours) start_trace();
    struct stopper {
        bool on;
        ~stopper() {
            if (on) stop_trace();
        }
    } until{ours};
    const time_point end = clock::now() + std::chrono::seconds(seconds);
    const context& gone = req.ctx();
    while (clock::now() < end && !gone.is_done()) sleep_for(std::chrono::milliseconds(50));
    std::ostringstream os;
    write_trace(os);
    res.header("Content-Type", "application/json").header("Content-Disposition", "attachment; filename=\"trace.json\"");
    (void)res.write(os.str());
}

/// With `seconds`: what comes in that time, else since the process began.
inline void serve_contention(http::request& req, http::response& res, contention_profiler::kind k) {
    contention_profiler& p = contention_profiler::instance();
    contention_profiler::counts before;
    if (const long long seconds = number_in(req, "seconds", 0); seconds > 0) {
        before = p.take(k);
        if (req.ctx().done().recv_for(std::chrono::seconds(seconds)) == chan_status::closed) return;
    }
    const profile result = contention_profile(k, p.take(k), before);
    if (number_in(req, "debug", 0) > 0)
        return plain(res, with_symbols([&](symbolizer& s) {
                         return contention_text(k == contention_profiler::mutex ? "mutex" : "contention",
                                                k == contention_profiler::mutex ? p.rate(k) : 0, result, s);
                     }));
    download(res, k == contention_profiler::mutex ? "mutex" : "block", encoded(result));
}

/// With `seconds`: what changes in that time, else since the process began. usual: the type that pprof shows.
inline void serve_heap(http::request& req, http::response& res, const char* name, const char* usual) {
    heap_profiler* p = heap_profiler::get();
    if (!p) {
        res.status(404);
        return plain(res, "This program does not profile its heap: MPG_PROFILE_HEAP is in none of its source files\n");
    }
    heap_profiler::counts before;
    if (const long long seconds = number_in(req, "seconds", 0); seconds > 0) {
        before = p->take();
        if (req.ctx().done().recv_for(std::chrono::seconds(seconds)) == chan_status::closed) return;
    }
    profile result = heap_profile(*p, p->take(), before);
    result.usual_type = usual;
    if (number_in(req, "debug", 0) > 0)
        return plain(res, with_symbols([&](symbolizer& s) { return heap_text(result, s); }));
    download(res, name, encoded(result));
}

/// The machines that exist. Nobody knows where the first one's stack was when it asked for them, so there is one
/// sample without a stack, as in Go since 1.9.
inline void serve_threads(http::request& req, http::response& res) {
    profile p;
    p.types = {{"threadcreate", "count"}};
    p.period_type = {"threadcreate", "count"};
    p.period = 1;
    p.start = std::chrono::system_clock::now();
    std::int64_t n = 0;
    {
        pinned runtimes;
        for (sched::runtime_state* rt : runtimes) n += static_cast<std::int64_t>(static_cast<runtime*>(rt->owner)->stats().threads);
    }
    p.samples.push_back({{}, {n}});
    if (number_in(req, "debug", 0) > 0)
        plain(res, with_symbols([&](symbolizer& s) { return grouped_text("threadcreate", p, s); }));
    else
        download(res, "threadcreate", encoded(p));
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
<li><a href="trace?seconds=1">trace</a>: what each P did, for ui.perfetto.dev</li>
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
    at("goroutine", [](http::request& req, http::response& res) { detail::serve_tasks(req, res); });
    at("profile", [](http::request& req, http::response& res) { detail::serve_cpu(req, res); });
    at("trace", [](http::request& req, http::response& res) { detail::serve_trace(req, res); });
    at("threadcreate", [](http::request& req, http::response& res) { detail::serve_threads(req, res); });
    at("block", [](http::request& req, http::response& res) {
        detail::serve_contention(req, res, detail::contention_profiler::block);
    });
    at("mutex", [](http::request& req, http::response& res) {
        detail::serve_contention(req, res, detail::contention_profiler::mutex);
    });
    at("heap", [](http::request& req, http::response& res) { detail::serve_heap(req, res, "heap", "inuse_space"); });
    at("allocs", [](http::request& req, http::response& res) { detail::serve_heap(req, res, "allocs", "alloc_space"); });
    at("leaks", [](http::request& req, http::response& res) {
        std::ostringstream os;
        report_leaks(os, std::chrono::seconds(detail::number_in(req, "seconds", 60)), detail::number_in(req, "prove", 0) > 0);
        detail::plain(res, os.str());
    });
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
