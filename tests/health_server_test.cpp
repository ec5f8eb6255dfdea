// The program examples/health_server, in a child process: its options, its answers, its signals, its exit
// status.
//
// ctest: own-macros
// ctest: label:concurrent
// ctest: needs:prometheus prometheus
#include "http_support.hpp"

#define HEALTH_SERVER_DEBUG 1
#define main health_server_main
#include "../examples/health_server/main.cpp"
#undef main

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using mpg::test::http_peer;

/// The program as a child, its stdout and stderr in one pipe.
class program {
  public:
    explicit program(std::vector<std::string> args) {
        int fds[2];
        if (::pipe(fds) != 0) std::abort();
        std::cout.flush();
        std::fflush(nullptr);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::alarm(100); // a watchdog
            ::dup2(fds[1], 1);
            ::dup2(fds[1], 2);
            ::close(fds[0]);
            ::close(fds[1]);
            args.insert(args.begin(), "health_server");
            std::vector<char*> argv;
            for (std::string& a : args) argv.push_back(a.data());
            argv.push_back(nullptr);
            const int status = health_server_main(static_cast<int>(args.size()), argv.data());
            std::fflush(nullptr);
            ::_exit(status);
        }
        ::close(fds[1]);
        out_ = fds[0];
    }
    program(const program&) = delete;
    program& operator=(const program&) = delete;
    ~program() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            (void)wait();
        }
        ::close(out_);
    }

    /// Up to and with the next line end.
    std::string line() {
        std::string s;
        char c;
        while ((s.empty() || s.back() != '\n') && ::read(out_, &c, 1) == 1) s += c;
        return s;
    }
    std::string rest() {
        std::string s;
        char c;
        while (::read(out_, &c, 1) == 1) s += c;
        return s;
    }
    /// The address it says it listens on.
    mpg::net::endpoint address() {
        const std::string first = line();
        const std::string prefix = "listening on ";
        EXPECT_EQ(first.substr(0, prefix.size()), prefix) << first;
        const auto e =
            mpg::net::endpoint::parse(first.substr(prefix.size(), first.find('\n') - prefix.size()));
        EXPECT_TRUE(e) << first;
        return e ? *e : mpg::net::endpoint();
    }
    void signal(int number) { ::kill(pid_, number); }
    /// Its exit status; -1: it was killed.
    int wait() {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

  private:
    ::pid_t pid_;
    int out_;
};

/// Active requests, and connections in all, of what it says that it has drained. (For a moment after its
/// response a connection still counts as active.)
std::pair<int, int> drained(const std::string& said) {
    const std::size_t at = said.find("drained ");
    int active = -1, idle = 0;
    if (at != std::string::npos)
        (void)std::sscanf(said.c_str() + at, "drained %d active requests and %d idle connections", &active,
                          &idle);
    return {active, active + idle};
}

/// Waits until the server is at work for n connections, that of the one who asks among them.
bool eventually_active(http_peer& who_asks, int n) {
    const std::string wanted = "\nhttp_server_connections{state=\"active\"} " + std::to_string(n) + "\n";
    return mpg::test::eventually([&] { return who_asks.get("/metrics").body.find(wanted) != std::string::npos; });
}

/// The clients run on plain threads, which the library serves as well.
TEST(health_server, answers) {
    program p({"--addr", "127.0.0.1:0", "--procs=2"});
    const auto at = p.address();
    http_peer c(at);
    const auto health = c.get("/healthz");
    EXPECT_EQ(health.status, 200);
    EXPECT_EQ(health.field("content-type"), "application/json");
    const std::string before = "{\"status\":\"ok\",\"timestamp\":";
    ASSERT_EQ(health.body.substr(0, before.size()), before);
    EXPECT_EQ(health.body.back(), '}');
    EXPECT_NEAR(std::stod(health.body.substr(before.size())), static_cast<double>(std::time(nullptr)), 5);
    EXPECT_EQ(c.get("/readyz").status, 200);
    EXPECT_EQ(c.get("/slow?ms=1").body, "done\n");
    EXPECT_EQ(c.get("/slow?ms=x").status, 400);
    EXPECT_EQ(c.get("/").status, 404);
    EXPECT_EQ(c.get("/healthz/").status, 404);
    const auto heap = c.get("/debug/pprof/heap"); // it has no MPG_PROFILE_HEAP
    EXPECT_EQ(heap.status, 404);
    EXPECT_NE(heap.body.find("MPG_PROFILE_HEAP"), std::string::npos) << heap.body;
    ASSERT_TRUE(c.send("POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n"));
    EXPECT_EQ(c.read().status, 405);
    p.signal(SIGTERM);
    EXPECT_TRUE(c.ends());
    EXPECT_EQ(p.wait(), 0);
    const std::string said = p.rest();
    EXPECT_EQ(drained(said).second, 1) << said;
}

TEST(health_server, drains_active_requests) {
    program p({"--addr=127.0.0.1:0"});
    const auto at = p.address();
    http_peer active(at), idle(at), other(at);
    EXPECT_EQ(idle.get("/readyz").status, 200);
    EXPECT_TRUE(eventually_active(other, 1));
    ASSERT_TRUE(active.send("GET /slow?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n"));
    EXPECT_TRUE(eventually_active(other, 2));
    p.signal(SIGINT);
    EXPECT_TRUE(idle.ends());
    EXPECT_TRUE(other.ends());
    EXPECT_FALSE(http_peer(at).connected());
    const auto done = active.read();
    EXPECT_EQ(done.body, "done\n");
    EXPECT_EQ(done.field("connection"), "close");
    EXPECT_EQ(p.wait(), 0);
    const std::string said = p.rest();
    EXPECT_GE(drained(said).first, 1) << said;
    EXPECT_EQ(drained(said).second, 3) << said;
}

TEST(health_server, exits_with_1_when_the_time_runs_out) {
    program p({"--addr=127.0.0.1:0", "--drain-timeout=100ms"});
    http_peer c(p.address());
    http_peer other(c.stream().remote_endpoint());
    ASSERT_TRUE(c.send("GET /slow?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n"));
    EXPECT_TRUE(eventually_active(other, 2));
    p.signal(SIGTERM);
    EXPECT_EQ(p.wait(), 1);
    const std::string said = p.rest();
    EXPECT_NE(said.find("1 requests did not end in time"), std::string::npos) << said;
}

TEST(health_server, a_second_signal_ends_the_wait) {
    program p({"--addr=127.0.0.1:0", "--drain-timeout=1h"});
    http_peer c(p.address());
    http_peer other(c.stream().remote_endpoint());
    ASSERT_TRUE(c.send("GET /slow?ms=3600000 HTTP/1.1\r\nHost: a\r\n\r\n"));
    EXPECT_TRUE(eventually_active(other, 2));
    p.signal(SIGTERM);
    EXPECT_TRUE(other.ends());
    p.signal(SIGTERM);
    EXPECT_EQ(p.wait(), 1);
}

TEST(health_server, serves_on_during_the_drain_delay_but_is_not_ready) {
    program p({"--addr=127.0.0.1:0", "--drain-delay=1h"});
    const auto at = p.address();
    http_peer c(at);
    EXPECT_EQ(c.get("/readyz").status, 200);
    p.signal(SIGTERM);
    EXPECT_EQ(p.line(), "shutting down: serving on for the drain delay\n");
    EXPECT_EQ(c.get("/readyz").status, 503);
    EXPECT_EQ(c.get("/healthz").status, 200);
    EXPECT_EQ(http_peer(at).get("/healthz").status, 200) << "new connections too";
    p.signal(SIGTERM); // ends the delay
    EXPECT_EQ(p.wait(), 0);
}

TEST(health_server, an_address_in_use_is_said) {
    program first({"--addr=127.0.0.1:0"});
    const std::string addr = first.address().to_string();
    program second({"--addr", addr});
    EXPECT_EQ(second.line(), "health_server: cannot listen on " + addr + ": Address already in use\n");
    EXPECT_EQ(second.wait(), 1);
}

TEST(health_server, bad_options_are_said) {
    const std::pair<std::vector<std::string>, const char*> bad[] = {
        {{"--port=1"}, "unknown option --port=1"},
        {{"x"}, "unknown option x"},
        {{"--addr"}, "--addr needs a value"},
        {{"--addr=localhost"}, "--addr: localhost: write HOST:PORT"},
        {{"--drain-timeout=3"}, "--drain-timeout: 3: not a duration"},
        {{"--drain-timeout=-1s"}, "--drain-timeout: -1s: not a duration"},
        {{"--drain-timeout="}, "--drain-timeout: : not a duration"},
        {{"--drain-delay", "1.2.3s"}, "--drain-delay: 1.2.3s: not a duration"},
        {{"--drain-delay", "99999999999h"}, "--drain-delay: 99999999999h: not a duration"},
        {{"--procs=0"}, "--procs: 0: not a number from 1 to 1024"},
        {{"--procs=2x"}, "--procs: 2x: not a number from 1 to 1024"},
    };
    for (const auto& [args, message] : bad) {
        program p(args);
        EXPECT_EQ(p.line(), std::string("health_server: ") + message + "\n");
        EXPECT_EQ(p.rest().substr(0, 7), "usage: ");
        EXPECT_EQ(p.wait(), 2);
    }
    program p({"--addr=127.0.0.1:99999"});
    const std::string said = p.line(), prefix = "health_server: cannot listen on 127.0.0.1:99999: ";
    EXPECT_EQ(said.substr(0, prefix.size()), prefix);
    EXPECT_GT(said.size(), prefix.size() + 1) << "and why";
    EXPECT_EQ(p.wait(), 1);
}

TEST(health_server, durations) {
    EXPECT_EQ(parse_duration("3s"), 3s);
    EXPECT_EQ(parse_duration("1.5m"), 90s);
    EXPECT_EQ(parse_duration("0"), 0s);
    EXPECT_EQ(parse_duration("250ms"), 250ms);
    EXPECT_EQ(parse_duration("0.25ms"), 250us);
    EXPECT_EQ(parse_duration("1"), std::nullopt);
    EXPECT_EQ(parse_duration("s"), std::nullopt);
    EXPECT_EQ(parse_duration(".5s"), std::nullopt);
}

/// A Prometheus that scrapes one target every second.
class prometheus {
  public:
    explicit prometheus(const mpg::net::endpoint& target) {
        char name[] = "/tmp/mpg_prometheus_XXXXXX";
        folder_ = ::mkdtemp(name);
        std::ofstream(folder_ / "config.yml") << "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
                                                 "scrape_configs: [{job_name: health, static_configs: [{targets: ['"
                                              << target.to_string() << "']}]}]\n";
        { // a port that is free now
            auto probe = mpg::net::tcp_listener::bind("127.0.0.1:0");
            if (probe) address_ = probe->local_endpoint();
        }
        const std::string config = "--config.file=" + (folder_ / "config.yml").string(),
                          listen = "--web.listen-address=" + address_.to_string(),
                          storage = "--storage.tsdb.path=" + (folder_ / "data").string(),
                          log = (folder_ / "log").string();
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            const int to = ::open(log.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            ::dup2(to, 1);
            ::dup2(to, 2);
            ::execlp("prometheus", "prometheus", config.c_str(), listen.c_str(), storage.c_str(), nullptr);
            ::_exit(127);
        }
    }
    prometheus(const prometheus&) = delete;
    prometheus& operator=(const prometheus&) = delete;
    ~prometheus() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        std::filesystem::remove_all(folder_);
    }
    /// What it answers; "" while it does not.
    std::string get(const std::string& path) const {
        http_peer p(address_);
        return p.connected() ? p.get(path).body : "";
    }
    std::string log() const {
        std::ifstream in(folder_ / "log");
        return {std::istreambuf_iterator<char>(in), {}};
    }

  private:
    std::filesystem::path folder_;
    mpg::net::endpoint address_;
    ::pid_t pid_ = -1;
};

TEST(health_server, is_scraped_by_prometheus) {
    program p({"--addr", "127.0.0.1:0", "--procs=2"});
    const auto at = p.address();
    prometheus server(at);
    std::string answer; // two scrapes
    EXPECT_TRUE(mpg::test::eventually([&] {
        answer = server.get("/api/v1/query?query=count_over_time(go_goroutines%5B1m%5D)");
        const std::size_t value = answer.rfind(",\"");
        if (value != std::string::npos && std::atoi(answer.c_str() + value + 2) >= 2) return true;
        std::this_thread::sleep_for(50ms); // it has others to serve
        return false;
    })) << answer << server.log();
    const std::string targets = server.get("/api/v1/targets");
    EXPECT_NE(targets.find("\"health\":\"up\""), std::string::npos) << targets;
    EXPECT_NE(targets.find("\"lastError\":\"\""), std::string::npos) << targets;
    // It asked for OpenMetrics, and knows what kind each is.
    const std::string kinds = server.get("/api/v1/targets/metadata");
    for (const char* one : {"\"metric\":\"mpg_tasks\",\"type\":\"gauge\"", "\"metric\":\"mpg_tasks_created\",\"type\":\"counter\"",
                            "\"metric\":\"http_server_request_duration_seconds\",\"type\":\"histogram\""})
        EXPECT_NE(kinds.find(one), std::string::npos) << one << kinds;
    EXPECT_NE(server.get("/api/v1/query?query=mpg_procs").find(",\"2\"]"), std::string::npos);
    p.signal(SIGTERM);
    EXPECT_EQ(p.wait(), 0);
}

} // namespace
