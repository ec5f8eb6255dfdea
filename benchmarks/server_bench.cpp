// A health server as its operator sees it: time from exec to the first 200, resident memory with 64
// connections, size of the program. It measures any program that takes `--addr HOST:PORT` and answers GET
// /healthz, in whatever language: $MPG_BENCH_SERVER names it (compare.py runs this once with ours and once
// with the twin's, twins/go/health); without it, the example's static server of this build.
//
// No task runs here: plain blocking sockets, so that nothing of ours is measured but the server.
#include <benchmark/benchmark.h>

#include <arpa/inet.h>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <spawn.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

std::string server_path() {
    if (const char* given = std::getenv("MPG_BENCH_SERVER")) return given;
    return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() /
           "examples/health_server_static";
}

::sockaddr_in loopback(std::uint16_t port) {
    ::sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    a.sin_port = ::htons(port);
    return a;
}

/// A port that was free a moment ago.
std::uint16_t free_port() {
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ::sockaddr_in a = loopback(0);
    ::socklen_t length = sizeof a;
    if (::bind(fd, reinterpret_cast<::sockaddr*>(&a), length) != 0 ||
        ::getsockname(fd, reinterpret_cast<::sockaddr*>(&a), &length) != 0)
        std::abort();
    ::close(fd);
    return ::ntohs(a.sin_port);
}

/// A connection, or -1 while nobody listens.
int try_connect(std::uint16_t port) {
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ::sockaddr_in a = loopback(port);
    if (::connect(fd, reinterpret_cast<::sockaddr*>(&a), sizeof a) == 0) return fd;
    ::close(fd);
    return -1;
}

/// One request over a connection; true: 200.
bool get_healthz(int fd) {
    static constexpr std::string_view request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<::ssize_t>(request.size()))
        return false;
    std::string answer;
    while (answer.find('}') == std::string::npos) {
        char buffer[1024];
        ::ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
        if (n <= 0) return false;
        answer.append(buffer, static_cast<std::size_t>(n));
    }
    return answer.rfind("HTTP/1.1 200", 0) == 0;
}

/// A running server; the destructor ends it.
class server {
  public:
    server()
        : port_(free_port()) {
        std::string path = server_path(), address = "127.0.0.1:" + std::to_string(port_);
        char addr_option[] = "--addr";
        char* arguments[] = {path.data(), addr_option, address.data(), nullptr};
        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        if (::posix_spawn(&pid_, path.c_str(), &actions, nullptr, arguments, environ) != 0) pid_ = -1;
        ::posix_spawn_file_actions_destroy(&actions);
    }
    server(const server&) = delete;
    server& operator=(const server&) = delete;
    ~server() {
        if (pid_ < 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    bool started() const { return pid_ >= 0; }
    /// Connects as soon as somebody listens; -1: the server has ended.
    int connect() const {
        for (;;) {
            if (int fd = try_connect(port_); fd >= 0) return fd;
            ::siginfo_t ended{};
            if (::waitid(P_PID, static_cast<::id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 ||
                ended.si_pid != 0)
                return -1;
        }
    }
    double resident_kib() const {
        std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
        double kib = 0;
        for (std::string word; status >> word;)
            if (word == "VmRSS:") status >> kib;
        return kib;
    }

  private:
    std::uint16_t port_;
    ::pid_t pid_ = -1;
};

// One iteration: exec, until a 200 for the first GET /healthz has come.
void first_200(benchmark::State& state) {
    for (auto _ : state) {
        auto begin = std::chrono::steady_clock::now();
        server s;
        int fd = s.started() ? s.connect() : -1;
        bool ok = fd >= 0 && get_healthz(fd);
        std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        if (fd >= 0) ::close(fd);
        if (!ok) return state.SkipWithError("the server did not answer");
        state.SetIterationTime(took.count());
    }
}
BENCHMARK(first_200)
    ->Name("server/first_200")
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(50);

// 64 connections, each of which has made one request and stays open. The figure is the counter `mib`.
void resident(benchmark::State& state) {
    for (auto _ : state) {
        server s;
        std::vector<int> connections;
        bool ok = s.started();
        for (int i = 0; ok && i < 64; ++i) {
            connections.push_back(s.connect());
            ok = connections.back() >= 0 && get_healthz(connections.back());
        }
        state.counters["mib"] = s.resident_kib() / 1024;
        for (int fd : connections) ::close(fd);
        if (!ok) return state.SkipWithError("the server did not answer");
    }
}
BENCHMARK(resident)->Name("server/resident/connections:64")->Unit(benchmark::kMillisecond)->Iterations(1);

// The size of the program's file. The figure is the counter `bytes`.
void size(benchmark::State& state) {
    std::error_code error;
    for (auto _ : state)
        state.counters["bytes"] = static_cast<double>(std::filesystem::file_size(server_path(), error));
    if (error) state.SkipWithError("no such server");
}
BENCHMARK(size)->Name("server/size")->Iterations(1);

} // namespace
