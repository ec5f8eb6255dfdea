// A service that knows how to live under an orchestrator: says whether it is alive and ready, and stops
// gracefully.
//
//   health_server [--addr HOST:PORT] [--drain-timeout 3s] [--drain-delay 0s] [--procs N]
//
//   /healthz     200 {"status":"ok","timestamp":<unix seconds>}
//   /readyz      200, and 503 as soon as shutdown begins
//   /slow?ms=N   answers after N milliseconds: an active request
//
// On SIGINT or SIGTERM: /readyz turns 503; after the drain delay, in which everything is still served, it
// stops accepting, closes idle connections and lets active requests finish within the drain timeout. Exit
// status: 0, 1 when the time ran out (or nothing could be served), 2 for bad options. A second signal ends
// the wait.
//
// With -DHEALTH_SERVER_DEBUG it is larger, and also gives /metrics and /debug/pprof/ (see docs/observability.md).
#include <mpg/http.hpp>
#include <mpg/mpg.hpp>
#include <mpg/net.hpp>
#include <mpg/signal.hpp>
#if defined(HEALTH_SERVER_DEBUG)
#include <mpg/debug.hpp>
#endif

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace {

using std::chrono::nanoseconds;

constexpr std::chrono::seconds answer_within{30};

struct settings {
    std::string addr = ":8080";
    nanoseconds drain_timeout = std::chrono::seconds(3);
    nanoseconds drain_delay{0};
    unsigned procs = 0; // as many as there are CPUs
};

constexpr char usage[] = "usage: health_server [--addr HOST:PORT] [--drain-timeout DURATION] "
                         "[--drain-delay DURATION] [--procs N]\n"
                         "       DURATION: a number with a unit, as in 500ms, 3s, 1.5m\n";

[[noreturn]] void bad_usage(const std::string& why) {
    std::fprintf(stderr, "health_server: %s\n%s", why.c_str(), usage);
    std::exit(2);
}

template <class Number> std::optional<Number> parse_number(std::string_view text) {
    Number n{};
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, n);
    if (error != std::errc{} || rest != end) return std::nullopt;
    return n;
}

std::optional<nanoseconds> parse_duration(std::string_view text) {
    constexpr struct {
        std::string_view name;
        std::int64_t nanoseconds;
    } units[] = {{"ns", 1},
                 {"us", 1'000},
                 {"ms", 1'000'000},
                 {"s", 1'000'000'000},
                 {"m", 60'000'000'000},
                 {"h", 3'600'000'000'000}};
    const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
    const std::string_view number = text.substr(0, digits), unit = text.substr(digits);
    if (text == "0") return nanoseconds(0);
    for (const auto& u : units) {
        if (u.name != unit) continue;
        const std::size_t dot = std::min(number.find('.'), number.size());
        const auto whole = parse_number<std::int64_t>(number.substr(0, dot));
        if (!whole || *whole > 1'000'000'000'000'000'000 / u.nanoseconds) return std::nullopt;
        std::int64_t total = *whole * u.nanoseconds, place = u.nanoseconds;
        for (char c : number.substr(std::min(dot + 1, number.size()))) {
            if (c == '.') return std::nullopt;
            place /= 10;
            total += (c - '0') * place;
        }
        return nanoseconds(total);
    }
    return std::nullopt;
}

settings parse(int argc, char** argv) {
    settings s;
    for (int i = 1; i < argc; ++i) {
        std::string name = argv[i], value;
        if (name == "--help" || name == "-h") {
            std::fputs(usage, stdout);
            std::exit(0);
        }
        const bool known = name.rfind("--", 0) == 0 && [&] {
            const std::string bare = name.substr(0, name.find('='));
            return bare == "--addr" || bare == "--drain-timeout" || bare == "--drain-delay" ||
                   bare == "--procs";
        }();
        if (!known) bad_usage("unknown option " + name);
        if (const std::size_t equals = name.find('='); equals != std::string::npos) {
            value = name.substr(equals + 1);
            name.resize(equals);
        } else if (++i < argc) {
            value = argv[i];
        } else {
            bad_usage(name + " needs a value");
        }
        if (name == "--addr") {
            s.addr = value;
            if (value.find(':') == std::string::npos) bad_usage("--addr: " + value + ": write HOST:PORT");
        } else if (name == "--procs") {
            const auto n = parse_number<unsigned>(value);
            if (!n || *n < 1 || *n > 1024) bad_usage("--procs: " + value + ": not a number from 1 to 1024");
            s.procs = *n;
        } else {
            const auto d = parse_duration(value);
            if (!d) bad_usage(name + ": " + value + ": not a duration");
            (name == "--drain-delay" ? s.drain_delay : s.drain_timeout) = *d;
        }
    }
    return s;
}

void add_handlers(mpg::http::server& server, const std::atomic<bool>& ready) {
    using mpg::http::request;
    using mpg::http::response;

    server.handle("GET /healthz", [](request&, response& res) {
        constexpr std::string_view before = "{\"status\":\"ok\",\"timestamp\":";
        char text[64];
        char* end = std::copy(before.begin(), before.end(), text);
        end = std::to_chars(end, text + sizeof text, static_cast<std::int64_t>(std::time(nullptr))).ptr;
        *end++ = '}';
        res.header("content-type", "application/json");
        (void)res.write(std::string_view(text, static_cast<std::size_t>(end - text)));
    });
    server.handle("GET /readyz", [&ready](request&, response& res) {
        const bool yes = ready.load(std::memory_order_relaxed);
        res.status(yes ? 200 : 503).header("content-type", "text/plain; charset=utf-8");
        (void)res.write(yes ? "ready\n" : "shutting down\n");
    });
    server.handle("/slow", [](request& req, response& res) {
        const auto ms = parse_number<unsigned>(req.query("ms").value_or("1000"));
        res.header("content-type", "text/plain; charset=utf-8");
        if (!ms || *ms > 3'600'000) {
            (void)res.status(400).write("ms: not a number of milliseconds up to an hour\n");
            return;
        }
        res.set_write_deadline(mpg::clock::now() + std::chrono::milliseconds(*ms) + answer_within);
        // A client that goes away, or a server that is closed, ends the wait.
        mpg::select(mpg::on_timeout(std::chrono::milliseconds(*ms), [] {}), mpg::on_done(req.ctx(), [] {}));
        (void)res.write("done\n");
    });
}

int serve(const settings& s) {
    auto listener = mpg::net::tcp_listener::bind(s.addr);
    if (!listener) {
        std::fprintf(stderr, "health_server: cannot listen on %s: %s\n", s.addr.c_str(),
                     listener.error().message().c_str());
        return 1;
    }
    const mpg::recv_chan<int> signals = mpg::notify({SIGINT, SIGTERM});
    std::atomic<bool> ready{true};
    mpg::http::server server({
        .read_timeout = std::chrono::seconds(30),
        .write_timeout = answer_within, // a client that does not read holds nothing for longer
        .idle_timeout = std::chrono::seconds(75),
    });
    add_handlers(server, ready);
#if defined(HEALTH_SERVER_DEBUG)
    mpg::debug::handlers(server);
#endif
    mpg::task<std::error_code> serving = mpg::spawn([&] { return server.serve(*listener); });

    std::printf("listening on %s\n", listener->local_endpoint().to_string().c_str());
    std::fflush(stdout);

    bool stop = false;
    mpg::select(mpg::on_recv(signals, [&](std::optional<int>) { stop = true; }),
                mpg::on_recv(serving.done()));
    if (!stop) {
        std::fprintf(stderr, "health_server: %s\n", serving.join().message().c_str());
        return 1;
    }

    ready = false;
    if (s.drain_delay.count() > 0) {
        std::printf("shutting down: serving on for the drain delay\n");
        std::fflush(stdout);
        mpg::select(mpg::on_timeout(s.drain_delay), mpg::on_recv(signals));
    }

    const auto began = std::chrono::steady_clock::now();
    const auto before = server.connections();
    std::printf("shutting down: %zu active requests, %zu idle connections\n", before.active, before.idle);
    std::fflush(stdout);
    auto limit = mpg::with_timeout(mpg::context::background(), s.drain_timeout);
    mpg::task<std::error_code> draining = mpg::spawn([&] { return server.shutdown(limit); });
    mpg::select(mpg::on_recv(draining.done()),
                mpg::on_recv(signals, [&](std::optional<int>) { limit.cancel(); }));
    const std::error_code failed = draining.join();

    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    const std::size_t left = server.connections().active;
    std::printf("drained %zu active requests and %zu idle connections in %.3f s",
                before.active - std::min(left, before.active), before.idle, took.count());
    if (failed) std::printf("; %zu requests did not end in time", left);
    std::printf("\n");
    std::fflush(stdout);
    server.close();
    return failed ? 1 : 0;
}

} // namespace

int main(int argc, char** argv) {
    const settings s = parse(argc, argv);
    mpg::options options;
    options.procs = s.procs;
    return mpg::run(options, [&] { return serve(s); });
}
