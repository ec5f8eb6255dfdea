// A server under measurement: a program of any language that takes `--addr HOST:PORT --procs N`, as a child
// process, with the children that it may have.
#pragma once

#include <arpa/inet.h>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <spawn.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace bench {

/// Confines this thread, and the children that it starts, to one CPU, for its own lifetime.
class on_cpu {
  public:
    explicit on_cpu(int cpu) {
        ::sched_getaffinity(0, sizeof before_, &before_);
        ::cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        ::sched_setaffinity(0, sizeof one, &one);
    }
    on_cpu(const on_cpu&) = delete;
    on_cpu& operator=(const on_cpu&) = delete;
    ~on_cpu() { ::sched_setaffinity(0, sizeof before_, &before_); }

  private:
    ::cpu_set_t before_;
};

/// A running server; the destructor ends it.
class server_process {
  public:
    /// Starts `arguments... --addr 127.0.0.1:PORT --procs N` on a port that was free a moment ago.
    server_process(std::vector<std::string> arguments, unsigned procs)
        : port_(free_port()) {
        for (std::string s : {std::string("--addr"), "127.0.0.1:" + std::to_string(port_),
                              std::string("--procs"), std::to_string(procs)})
            arguments.push_back(s);
        std::vector<char*> argv;
        for (auto& a : arguments) argv.push_back(a.data());
        argv.push_back(nullptr);
        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        ::posix_spawnattr_t attributes; // a process group of its own: to find its children, and to end them
        ::posix_spawnattr_init(&attributes);
        ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
        if (::posix_spawnp(&pid_, argv[0], &actions, &attributes, argv.data(), environ) != 0) pid_ = -1;
        ::posix_spawnattr_destroy(&attributes);
        ::posix_spawn_file_actions_destroy(&actions);
    }
    server_process(const server_process&) = delete;
    server_process& operator=(const server_process&) = delete;
    ~server_process() {
        if (pid_ < 0) return;
        ::kill(-pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        while (::waitpid(-pid_, nullptr, 0) > 0) {
        } // its children are ours now, see main()
    }

    /// Connects as soon as somebody listens. -1: the server has not started, or has ended.
    int connect() const {
        while (pid_ >= 0) {
            int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            ::sockaddr_in a = loopback(port_);
            if (::connect(fd, reinterpret_cast<::sockaddr*>(&a), sizeof a) == 0) {
                int on = 1;
                ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                return fd;
            }
            ::close(fd);
            ::siginfo_t ended{};
            if (::waitid(P_PID, static_cast<::id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 ||
                ended.si_pid != 0)
                break;
        }
        return -1;
    }
    double resident_kib() const {
        double sum = 0;
        for (::pid_t pid : group()) {
            std::ifstream status("/proc/" + std::to_string(pid) + "/status");
            double kib = 0;
            for (std::string word; status >> word;)
                if (word == "VmRSS:" && status >> kib) sum += kib;
        }
        return sum;
    }
    double cpu_seconds() const {
        double sum = 0;
        for (::pid_t pid : group()) {
            ::clockid_t id;
            ::timespec t{};
            if (::clock_getcpuclockid(pid, &id) == 0 && ::clock_gettime(id, &t) == 0)
                sum += static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
        }
        return sum;
    }
    std::uint16_t port() const { return port_; }

  private:
    /// The server and its children.
    std::vector<::pid_t> group() const {
        std::vector<::pid_t> all;
        std::error_code ignored;
        for (auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
            const ::pid_t pid = std::atoi(entry.path().filename().c_str());
            if (pid > 0 && ::getpgid(pid) == pid_) all.push_back(pid);
        }
        return all;
    }
    static ::sockaddr_in loopback(std::uint16_t port) {
        ::sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
        a.sin_port = ::htons(port);
        return a;
    }
    static std::uint16_t free_port() {
        int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ::sockaddr_in a = loopback(0);
        ::socklen_t length = sizeof a;
        if (::bind(fd, reinterpret_cast<::sockaddr*>(&a), length) != 0 ||
            ::getsockname(fd, reinterpret_cast<::sockaddr*>(&a), &length) != 0)
            std::abort();
        ::close(fd);
        return ::ntohs(a.sin_port);
    }

    std::uint16_t port_;
    ::pid_t pid_ = -1;
};

/// Sends a request and reads until the answer ends with `last`; "" on any error. Blocks.
inline std::string ask(int fd, std::string_view request, char last) {
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<::ssize_t>(request.size()))
        return {};
    std::string answer;
    do {
        char buffer[1024];
        ::ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
        if (n <= 0) return {};
        answer.append(buffer, static_cast<std::size_t>(n));
    } while (answer.back() != last);
    return answer;
}

} // namespace bench
