// debug::handlers: what the pages give, as the real tools read them.
// ctest: needs:go golang-go
// ctest: needs:promtool prometheus
// ctest: needs:dot graphviz
#include "http_support.hpp"

#include <mpg/debug.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

using namespace std::chrono_literals;

/// What a shell command writes, stdout and stderr; its exit code is in rc.
std::string shell(const std::string& command, int& rc) {
    std::string out;
    std::FILE* f = ::popen((command + " 2>&1").c_str(), "r");
    if (!f) return "popen";
    char piece[4096];
    for (std::size_t n; (n = std::fread(piece, 1, sizeof piece, f)) > 0;) out.append(piece, n);
    int status = ::pclose(f);
    rc = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return out;
}

struct folder {
    std::filesystem::path path;
    folder() {
        char name[] = "/tmp/mpg_debug_XXXXXX";
        path = ::mkdtemp(name);
    }
    ~folder() { std::filesystem::remove_all(path); }
    std::string keep(const char* name, const std::string& data) const {
        std::ofstream(path / name, std::ios::binary) << data;
        return path / name;
    }
};
std::string pprof(const std::string& arguments, int& rc) {
    return mpg::blocking([&] { return shell("PPROF_TMPDIR=/tmp go tool pprof " + arguments, rc); });
}

[[gnu::noinline]] void parked_here(mpg::chan<void>& c) {
    (void)c.recv();
    asm volatile("");
}
[[gnu::noinline]] double burns(const std::atomic<bool>& enough) {
    double x = 1;
    while (!enough.load(std::memory_order_relaxed))
        for (int i = 0; i < 1000; ++i) x += std::sqrt(x);
    return x;
}

struct debug_pages : ::testing::Test {
    // A server with the pages, and some tasks to look at. f(http_peer&).
    template <class F> void with_server(F f) {
        mpg::test::run_with_procs(4, [&] {
            mpg::test::live_server server;
            mpg::debug::handlers(*server.operator->());
            server.start();
            mpg::chan<void> never;
            mpg::wait_group g;
            for (int i = 0; i < 7; ++i) g.go([&] { parked_here(never); });
            auto peer = server.connect();
            f(peer);
            never.close();
            g.wait();
            peer.close();
            server->close();
            EXPECT_EQ(server.served(), mpg::errc::server_closed);
        });
    }
    folder dir;
};

TEST_F(debug_pages, goroutine_profile_opens_in_pprof) {
    with_server([&](mpg::test::http_peer& peer) {
        mpg::test::reply r;
        std::string file, top;
        int rc = -1;
        // The tasks need not all have come to their wait yet.
        EXPECT_TRUE(mpg::test::eventually([&] {
            r = peer.get("/debug/pprof/goroutine?debug=1");
            return r.body.find("7 @ 0x") != std::string::npos;
        })) << r.body;
        EXPECT_EQ(r.body.find("goroutine profile: total "), 0u) << r.body;
        EXPECT_NE(r.body.find("parked_here("), std::string::npos) << r.body;

        r = peer.get("/debug/pprof/goroutine");
        ASSERT_EQ(r.status, 200);
        EXPECT_EQ(r.field("Content-Type"), "application/octet-stream");
        ASSERT_GE(r.body.size(), 2u);
        EXPECT_EQ(r.body.substr(0, 2), "\x1f\x8b");
        file = dir.keep("goroutine.pb.gz", r.body);
        top = pprof("-top -cum " + file, rc);
        EXPECT_EQ(rc, 0) << top;
        EXPECT_NE(top.find("Type: goroutine"), std::string::npos) << top;
        EXPECT_NE(top.find("parked_here"), std::string::npos) << top;
        std::string traces = pprof("-traces " + file, rc);
        EXPECT_EQ(rc, 0) << traces;
        EXPECT_NE(traces.find("         7   "), std::string::npos) << traces;
        std::string raw = pprof("-raw " + file, rc);
        EXPECT_EQ(rc, 0) << raw;
        EXPECT_NE(raw.find("PeriodType: goroutine count"), std::string::npos) << raw;
        EXPECT_NE(raw.find("debug_http_test"), std::string::npos) << raw;
    });
}

TEST_F(debug_pages, text_forms_are_gos) {
    with_server([&](mpg::test::http_peer& peer) {
        mpg::test::reply r;
        EXPECT_TRUE(mpg::test::eventually([&] {
            r = peer.get("/debug/pprof/goroutine?debug=2");
            std::size_t n = 0;
            for (std::size_t at = 0; (at = r.body.find("[chan receive]:\n", at)) != std::string::npos; ++at) ++n;
            return n >= 7;
        })) << r.body;
        EXPECT_EQ(r.body.find("goroutine "), 0u);
        EXPECT_NE(r.body.find("created by "), std::string::npos);
        int rc = -1;
        std::string file = dir.keep("goroutine.txt", peer.get("/debug/pprof/goroutine?debug=1").body);
        std::string top = pprof("-top -cum -symbolize=none " + file, rc);
        EXPECT_EQ(rc, 0) << top;
    });
}

TEST_F(debug_pages, cpu_profile_shows_who_burns) {
    with_server([&](mpg::test::http_peer& peer) {
        std::atomic<bool> enough{false};
        auto hog = mpg::spawn([&] { return burns(enough); });
        mpg::test::reply r = peer.get("/debug/pprof/profile?seconds=2");
        enough = true;
        EXPECT_GT(hog.join(), 0);
        ASSERT_EQ(r.status, 200) << r.body;
        std::string file = dir.keep("cpu.pb.gz", r.body);
        int rc = -1;
        std::string top = pprof("-top -nodecount=5 " + file, rc);
        EXPECT_EQ(rc, 0) << top;
        EXPECT_NE(top.find("Type: cpu"), std::string::npos) << top;
        EXPECT_NE(top.find("burns"), std::string::npos) << top;
        std::string peek = pprof("-peek burns " + file, rc);
        EXPECT_EQ(rc, 0) << peek;
        EXPECT_NE(peek.find("run_task"), std::string::npos) << peek;
    });
}

[[gnu::noinline]] void waits_here(mpg::chan<int>& c) {
    (void)c.recv();
    asm volatile("");
}
/// Until n tasks wait for that.
void await_waiting(mpg::sched::wait_reason why, std::ptrdiff_t n) {
    EXPECT_TRUE(mpg::test::eventually([&] {
        const mpg::debug::snapshot shot = mpg::debug::take_snapshot();
        return std::count_if(shot.tasks.begin(), shot.tasks.end(), [&](const auto& t) {
                   return t.state == mpg::sched::task_state::waiting && t.reason == why;
               }) >= n;
    }));
}
[[gnu::noinline]] void holds_here(mpg::mutex& m) {
    m.unlock();
    asm volatile("");
}
[[gnu::noinline]] void wants_it(mpg::mutex& m) {
    m.lock();
    m.unlock();
    asm volatile("");
}
/// Waits and contention of known shape; n of each.
void contend(int n) {
    mpg::chan<int> c;
    mpg::mutex m;
    for (int i = 0; i < n; ++i) {
        mpg::wait_group g;
        g.go([&] { waits_here(c); });
        m.lock();
        g.go([&] { wants_it(m); });
        await_waiting(mpg::sched::wait_reason::mutex, 1);
        await_waiting(mpg::sched::wait_reason::chan_recv, 7 + 1); // with_server's, and ours
        holds_here(m);
        c.send(1);
        g.wait();
    }
}

TEST_F(debug_pages, block_and_mutex_profiles_open_in_pprof) {
    with_server([&](mpg::test::http_peer& peer) {
        contend(1); // off: not seen
        mpg::debug::set_block_profile_rate(1);
        EXPECT_EQ(mpg::debug::set_mutex_profile_fraction(1), 0);
        contend(10);
        mpg::debug::set_block_profile_rate(0);
        EXPECT_EQ(mpg::debug::set_mutex_profile_fraction(-1), 1);
        EXPECT_EQ(mpg::debug::set_mutex_profile_fraction(0), 1);
        contend(1); // off again

        struct {
            const char *page, *leaf, *not_there;
        } const pages[] = {{"block", "waits_here", "holds_here"}, {"mutex", "holds_here", "waits_here"}};
        for (const auto& [page, leaf, not_there] : pages) {
            mpg::test::reply r = peer.get(std::string("/debug/pprof/") + page);
            ASSERT_EQ(r.status, 200);
            const std::string file = dir.keep(page, r.body);
            int rc = -1;
            std::string raw = pprof("-raw " + file, rc);
            EXPECT_EQ(rc, 0) << raw;
            EXPECT_NE(raw.find("contentions/count delay/nanoseconds"), std::string::npos) << raw;
            std::string top = pprof("-top -cum -unit=ms " + file, rc);
            EXPECT_EQ(rc, 0) << top;
            EXPECT_NE(top.find("Type: delay"), std::string::npos) << top;
            EXPECT_NE(top.find(leaf), std::string::npos) << top;
            EXPECT_EQ(top.find("mpg::debug::"), std::string::npos) << top; // our own frames are not shown
            std::string times = pprof("-traces -sample_index=contentions -focus=" + std::string(leaf) + " " + file, rc);
            EXPECT_EQ(rc, 0) << times;
            EXPECT_NE(times.find("        10   "), std::string::npos) << times;
            std::string svg = pprof("-svg -output=" + file + ".svg " + file, rc);
            EXPECT_EQ(rc, 0) << svg;
            std::ifstream in(file + ".svg");
            const std::string image{std::istreambuf_iterator<char>(in), {}};
            EXPECT_NE(image.find("<svg"), std::string::npos);
            EXPECT_NE(image.find(leaf), std::string::npos);
            EXPECT_EQ(image.find(not_there), std::string::npos);

            // The text form, which pprof reads too.
            r = peer.get(std::string("/debug/pprof/") + page + "?debug=1");
            const std::string head = page == std::string("block") ? "--- contention:\ncycles/second=1000000000\n" : "--- mutex:\ncycles/second=1000000000\n";
            EXPECT_EQ(r.body.find(head), 0u) << r.body;
            EXPECT_NE(r.body.find(" 10 @ 0x"), std::string::npos) << r.body;
            top = pprof("-raw " + dir.keep("text", r.body), rc);
            EXPECT_EQ(rc, 0) << top;

            // What comes within a second: nothing.
            r = peer.get(std::string("/debug/pprof/") + page + "?seconds=1");
            raw = pprof("-raw " + dir.keep("delta", r.body), rc);
            EXPECT_EQ(rc, 0) << raw;
            EXPECT_EQ(raw.find(leaf), std::string::npos) << raw;
        }
    });
}

TEST_F(debug_pages, only_one_profiles_at_a_time) {
    with_server([&](mpg::test::http_peer& peer) {
        ASSERT_TRUE(mpg::debug::detail::cpu_profiler::instance().start());
        EXPECT_EQ(peer.get("/debug/pprof/profile?seconds=1").status, 500);
        (void)mpg::debug::detail::cpu_profiler::instance().stop();
        EXPECT_EQ(peer.get("/debug/pprof/profile?seconds=1").status, 200);
    });
}

TEST_F(debug_pages, threads_symbols_command_line_and_index) {
    with_server([&](mpg::test::http_peer& peer) {
        int rc = -1;
        std::string file = dir.keep("threads.pb.gz", peer.get("/debug/pprof/threadcreate").body);
        std::string top = pprof("-raw " + file, rc);
        EXPECT_EQ(rc, 0) << top;
        EXPECT_NE(top.find("threadcreate"), std::string::npos) << top;
        EXPECT_NE(peer.get("/debug/pprof/cmdline").body.find("debug_http_test"), std::string::npos);
        char address[32];
        std::snprintf(address, sizeof address, "%p", reinterpret_cast<void*>(&parked_here));
        std::string names = peer.get(std::string("/debug/pprof/symbol?") + address).body;
        EXPECT_EQ(names.find("num_symbols: 1\n"), 0u);
        EXPECT_NE(names.find("parked_here"), std::string::npos) << names;
        EXPECT_NE(peer.get("/debug/pprof/").body.find("<a href=\"goroutine?debug=1\">"), std::string::npos);
    });
}

TEST_F(debug_pages, promtool_accepts_the_metrics) {
    with_server([&](mpg::test::http_peer& peer) {
        mpg::chan<int> one(4), other(5);
        for (int i = 0; i < 2; ++i) one.send(i);
        other.send(1);
        mpg::debug::named_channel first("a \"queue\"", one), second("a \"queue\"", other);
        mpg::elastic_chan<int> news({.low = 0, .high = 1, .max = 2}, mpg::overflow::drop_oldest);
        for (int i = 0; i < 5; ++i) EXPECT_EQ(news.try_send(i), mpg::chan_status::ok);
        mpg::debug::named_channel third("news", news);
        mpg::test::reply r = peer.get("/metrics");
        ASSERT_EQ(r.status, 200);
        EXPECT_EQ(r.field("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
        std::string file = dir.keep("metrics", r.body);
        int rc = -1;
        std::string said = mpg::blocking([&] { return shell("promtool check metrics < " + file, rc); });
        EXPECT_EQ(rc, 0) << said;
        EXPECT_EQ(said, "") << r.body;
        for (const char* name : {"mpg_sched_latency_seconds_bucket{le=\"+Inf\"} ", "mpg_wait_seconds_count ", "mpg_stalls_total ",
                                 "mpg_threads{state=\"running\"} ", "mpg_timers ", "mpg_stacks{state=\"cached\"} ", "mpg_stack_cached_bytes ",
                                 "mpg_poller_polls_total ", "mpg_channel_length{name=\"a \\\"queue\\\"\"} 3\n",
                                 "mpg_channel_capacity{name=\"a \\\"queue\\\"\"} 9\n",
                                 "mpg_channel_accepted_total{name=\"news\"} 5\n", "mpg_channel_dropped_total{name=\"news\"} 3\n",
                                 "mpg_channel_rejected_total{name=\"news\"} 0\n", "mpg_channel_grown_total{name=\"news\"} 1\n",
                                 "mpg_channel_high_water{name=\"news\"} 2\n", "mpg_tasks{state=\"waiting\"} ", "mpg_procs 4\n", "mpg_run_queue_tasks{p=\"3\"} ",
                                 "mpg_poller_info{kind=\"", "http_server_requests_in_flight 1\n", "process_cpu_seconds_total "})
            EXPECT_NE(r.body.find(name), std::string::npos) << name << r.body;
    });
}

TEST_F(debug_pages, metrics_are_given_in_the_format_asked_for) {
    with_server([&](mpg::test::http_peer& peer) {
        const std::pair<const char*, bool> cases[] = {
            {"", false},
            {"Accept: */*\r\n", false},
            {"Accept: text/plain\r\n", false},
            {"Accept: application/openmetrics-text\r\n", true},
            {"Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n", true},
            {"Accept: text/plain, Application/OpenMetrics-Text ; q=0.5\r\n", false},
            {"Accept: application/openmetrics-text;q=0\r\n", false},
        };
        for (const auto& [accept, open] : cases) {
            const mpg::test::reply r = peer.get("/metrics", accept);
            EXPECT_EQ(r.field("Content-Type"), open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8") << accept;
            EXPECT_EQ(r.body.size() > 6 && r.body.substr(r.body.size() - 6) == "# EOF\n", open) << accept;
            EXPECT_NE(r.body.find(open ? "# TYPE mpg_tasks_created counter\n" : "# TYPE mpg_tasks_created_total counter\n"), std::string::npos) << r.body;
            EXPECT_NE(r.body.find("\nmpg_tasks_created_total "), std::string::npos) << r.body;
        }
    });
}

} // namespace
