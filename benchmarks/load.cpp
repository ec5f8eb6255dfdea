// Measures a server, a program of any language that takes `--addr HOST:PORT --procs N`:
//
//   load MODE [options] -- SERVER ARGUMENTS...
//
//   closed      highest rate of --request, and the server's CPU time for each
//   open        latency of --request at a fixed --rate
//   wrk         the same as closed by the program of that name, which prints its own figures
//   first-200   from exec to the first answer, the median of 20 starts
//   resident    memory with --connections, each of which has made one request and stays open
//
//   --request   echo | healthz | burn | block. burn, block: echo, but each 16th line asks the server to
//   compute for
//               1 ms or to sleep in the kernel for 10 ms; the latencies are those of the others
//   --connections N   --rate R   --seconds S   --procs N
//
// Prints figures, "name,value" a line. With --procs 1 the server has CPU 0 and the client CPU 1, where there
// are two; with more nothing is confined.
#include "load.hpp"
#include "server_process.hpp"

#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <thread>
#include <vector>

namespace {

constexpr std::string_view get_healthz = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

// With what the answer ends: the JSON of /healthz, or the line that comes back.
char last_of(std::string_view request) { return request == get_healthz ? '}' : '\n'; }

struct options {
    std::string mode, request = "echo";
    int connections = 64;
    double rate = 0, seconds = 2;
    unsigned procs = 1;
    std::vector<std::string> server;
};

options parse(std::span<char*> arguments) {
    options o;
    std::size_t i = 1;
    if (i < arguments.size()) o.mode = arguments[i++];
    for (; i + 1 < arguments.size() && std::string_view(arguments[i]) != "--"; i += 2) {
        const std::string name = arguments[i], value = arguments[i + 1];
        if (name == "--request")
            o.request = value;
        else if (name == "--connections")
            o.connections = std::stoi(value);
        else if (name == "--rate")
            o.rate = std::stod(value);
        else if (name == "--seconds")
            o.seconds = std::stod(value);
        else if (name == "--procs")
            o.procs = static_cast<unsigned>(std::stoul(value));
        else
            throw std::runtime_error("unknown option " + name);
    }
    for (++i; i < arguments.size(); ++i) o.server.push_back(arguments[i]);
    if (o.server.empty()) throw std::runtime_error("no server is named");
    return o;
}

void print(const char* figure, double value) { std::printf("%s,%.9g\n", figure, value); }

std::string line(char kind) { return kind + std::string(62, 'x') + '\n'; }

/// A server on CPU 0 and this thread on CPU 1, if it is to be so.
class placed_server {
  public:
    explicit placed_server(const options& o)
        : confined_(o.procs == 1 && std::thread::hardware_concurrency() > 1) {
        if (confined_) cpu_.emplace(0);
        server_.emplace(o.server, o.procs);
        cpu_.reset();
        if (confined_) cpu_.emplace(1);
    }
    const bench::server_process* operator->() const { return &*server_; }
    bool confined() const { return confined_; }

  private:
    bool confined_;
    std::optional<bench::server_process> server_;
    std::optional<bench::on_cpu> cpu_;
};

/// Connections each of which has asked once; all answers were as long as `answer`.
class connected {
  public:
    connected(const placed_server& server, int count, std::string_view request) {
        for (int i = 0; i < count; ++i) {
            fds.push_back(server->connect());
            const auto got = fds.back() < 0 ? 0 : bench::ask(fds.back(), request, last_of(request)).size();
            if (got == 0) throw std::runtime_error("the server did not answer");
            answer = got;
        }
    }
    connected(const connected&) = delete;
    connected& operator=(const connected&) = delete;
    ~connected() {
        for (int fd : fds)
            if (fd >= 0) ::close(fd);
    }

    std::vector<int> fds;
    std::size_t answer = 0;
};

void ask(const options& o) {
    const std::string special = line(o.request == "burn" ? 'b' : 'w');
    const std::string request = o.request == "healthz" ? std::string(get_healthz) : line('x');
    placed_server server(o);
    connected all(server, o.connections, request);
    bench::load_plan plan;
    plan.rate = o.mode == "open" ? o.rate : 0;
    plan.length = std::chrono::duration<double>(o.seconds);
    plan.special_each = o.request == "burn" || o.request == "block" ? 16 : 0;
    plan.special = special;
    plan.spin = server.confined();
    std::vector<double> cpu;
    bench::load load(all.fds, request, all.answer);
    const bench::load_result r = load.run(plan, [&] { cpu.push_back(server->cpu_seconds()); });
    const double server_cpu = cpu.at(1) - cpu.at(0);
    print("rate", r.requests / r.seconds);
    print("cpu_us", 1e6 * server_cpu / r.requests);
    print("p50_us", r.p50_us);
    print("p99_us", r.p99_us);
    print("p999_us", r.p999_us);
    print("max_us", r.max_us);
    print("server_cpu", server_cpu / r.seconds);
    print("client_cpu", r.client_cpu);
    if (plan.rate > 0) {
        print("late_p99_us", r.late_p99_us);
        print("unanswered", r.unanswered);
    }
    print("client_is_bottleneck", r.client_is_bottleneck(plan, server_cpu / r.seconds, o.procs));
}

void wrk(const options& o) {
    placed_server server(o);
    connected one(server, 1, get_healthz);
    const std::string command = "wrk -t1 -c" + std::to_string(o.connections) + " -d" +
                                std::to_string(std::max(1, static_cast<int>(o.seconds))) +
                                "s --latency http://127.0.0.1:" + std::to_string(server->port()) + "/healthz";
    const double before = server->cpu_seconds();
    std::fflush(stdout);
    if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
    print("server_cpu_seconds", server->cpu_seconds() - before);
}

bool is_healthy(int fd) {
    return fd >= 0 && bench::ask(fd, get_healthz, last_of(get_healthz)).rfind("HTTP/1.1 200", 0) == 0;
}

void first_200(const options& o) {
    std::vector<double> all;
    for (int i = 0; i < 20; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        bench::server_process server(o.server, o.procs);
        const int fd = server.connect();
        const bool ok = is_healthy(fd);
        all.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
        if (fd >= 0) ::close(fd);
        if (!ok) throw std::runtime_error("the server did not answer");
    }
    std::nth_element(all.begin(), all.begin() + 10, all.end());
    print("time", 1e9 * all[10]);
}

void resident(const options& o) {
    placed_server server(o);
    connected all(server, o.connections, get_healthz);
    print("mib", server->resident_kib() / 1024);
}

} // namespace

int main(int argc, char** argv) try {
    const options o = parse({argv, static_cast<std::size_t>(argc)});
    ::rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files); // the server inherits it
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1UL); // for the children of servers that have been killed
    if (o.mode == "closed" || o.mode == "open")
        ask(o);
    else if (o.mode == "wrk")
        wrk(o);
    else if (o.mode == "first-200")
        first_200(o);
    else if (o.mode == "resident")
        resident(o);
    else
        throw std::runtime_error("unknown mode: " + o.mode);
} catch (const std::exception& e) {
    std::cerr << argv[0] << ": " << e.what() << '\n';
    return 1;
}
