// The floor of the echo benchmarks: an edge-triggered epoll loop on one thread, without a runtime, without a
// task, with nothing that a program could be written in. `echo_raw_epoll --addr HOST:PORT --procs 1`.
#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

void watch(int poller, int fd, unsigned events) {
    ::epoll_event e{};
    e.events = events;
    e.data.fd = fd;
    if (::epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) != 0) fail("epoll_ctl");
}

// The peer has at most one short line outstanding, so a write never meets a full buffer: whoever sends more
// is let go.
void echo(int fd) {
    char buffer[4096];
    for (;;) {
        const ::ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0 || ::send(fd, buffer, static_cast<std::size_t>(n), MSG_NOSIGNAL) != n) {
            ::close(fd);
            return;
        }
        if (n < static_cast<::ssize_t>(sizeof buffer))
            return; // nothing was left: edges tell of what comes later
    }
}

} // namespace

int main(int argc, char** argv) {
    const char* colon = argc == 5 ? std::strrchr(argv[2], ':') : nullptr;
    if (!colon) return std::fprintf(stderr, "usage: %s --addr HOST:PORT --procs 1\n", argv[0]), 2;
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(static_cast<in_port_t>(std::atoi(colon + 1)));
    if (::bind(listener, reinterpret_cast<::sockaddr*>(&a), sizeof a) != 0) fail("bind");
    if (::listen(listener, SOMAXCONN) != 0) fail("listen");
    const int poller = ::epoll_create1(0);
    watch(poller, listener, EPOLLIN);
    for (;;) {
        ::epoll_event events[512];
        const int n = ::epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < n; ++i) {
            if (events[i].data.fd != listener) {
                echo(events[i].data.fd);
                continue;
            }
            for (int fd; (fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
                ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                watch(poller, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
            }
        }
    }
}
